"""What a running stage says: a progress bar for people, `run.jsonl` for machines."""

from __future__ import annotations

import json
import os
import time
from contextlib import AbstractContextManager
from typing import Any

from manifests import files
from manifests.progress import Tick, counted


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


def bar(label: str, total: int) -> AbstractContextManager[Tick]:
    """Progress on stderr; call the value with the rows just finished and the rows that failed so far."""
    return counted(label, total, "rows")
