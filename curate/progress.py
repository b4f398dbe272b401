"""What a running stage says: a progress bar for people, `run.jsonl` for machines."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from manifests import files


class Tick(Protocol):
    """Reports progress: rows just finished, and rows that failed so far."""

    def __call__(self, rows: int, failed: int = 0) -> None: ...


class Log:
    """`run.jsonl` beside the manifest: a line per unit for machines. The only file of an output that holds times."""

    def __init__(self, output: str, label: str) -> None:
        self.path, self.label = None if files.is_url(output) else os.path.join(output, "run.jsonl"), label
        self.start = time.perf_counter()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.write(event="stopped")

    def write(self, **facts: Any) -> None:
        """Append one line with the stage's name and the seconds since it began."""
        if self.path:
            line = {"stage": self.label, "at": round(time.perf_counter() - self.start, 3), **facts}
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


@contextmanager
def bar(label: str, total: int) -> Iterator[Tick]:
    """A progress bar on stderr; call the value with the rows just finished and the rows that failed so far."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(f"{label:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=total == 0, refresh_per_second=4) as shown:
        task = shown.add_task(label, total=total, rate="", failed="")

        def tick(rows: int, failed: int = 0) -> None:
            speed = shown.tasks[0].speed
            rate = f"{speed:,.0f} rows/s" if speed else ""
            shown.update(task, advance=rows, rate=rate, failed=f"{failed} errors" if failed else "")

        yield tick
