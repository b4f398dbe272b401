"""Progress on stderr: a bar on a terminal, a plain line now and then where stderr is a file or a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

SECONDS = 10.0  # between two lines, at most
SHARE = 0.1  # of the work between two lines, at most
LEAST = 2.0  # seconds between two lines: short work says nothing


class Tick(Protocol):
    """Reports progress: items just finished, and items that failed so far."""

    def __call__(self, done: int = 1, failed: int = 0) -> None: ...


def is_terminal() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


class Lines:
    """Progress as plain lines: every 10 s or 10 % of the work, whichever comes first, and not within 2 s.

    label, unit: `score`, `rows`. total: items in all. done: those that were finished before.
    write: takes the lines, stderr by default. clock: seconds.
    """

    def __init__(
        self,
        label: str,
        total: int,
        unit: str = "",
        *,
        done: int = 0,
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._write, self._clock = write or _to_stderr, clock
        self._first, self._began = done, clock()
        self._last, self._share, self._wrote = self._began, done / max(total, 1), False

    def advance(self, items: int = 1, facts: str = "") -> None:
        """Count `items` more; write a line, with `facts` at its end, when one is due."""
        self.done += items
        now, share = self._clock(), self.done / max(self.total, 1)
        since = now - self._last
        ended = self.done >= self.total and self._wrote
        if ended or since >= SECONDS or (since >= LEAST and share >= self._share + SHARE):
            self._last, self._share, self._wrote = now, share, True
            self._write(self.text(now, facts))

    def text(self, now: float, facts: str = "") -> str:
        """The line: how far, at what rate, how much longer."""
        unit = f" {self.unit}" if self.unit else ""
        seconds, items = now - self._began, self.done - self._first
        line = f"{self.label}: {self.done:,} of {self.total:,}{unit} ({self.done / max(self.total, 1):.0%})"
        if items and seconds > 0:
            line += f", {_rate(items / seconds)}"
            if self.done < self.total:
                line += f", {_duration((self.total - self.done) * seconds / items)} left"
        return f"{line}, {facts}" if facts else line


@contextmanager
def counted(label: str, total: int, unit: str = "") -> Iterator[Tick]:
    """Progress over `total` items. Call the value with the items just finished and those that failed so far."""
    if total == 0:
        yield lambda done=1, failed=0: None
    elif is_terminal():
        with _bar(label, total, unit) as tick:
            yield tick
    else:
        lines = Lines(label, total, unit)
        yield lambda done=1, failed=0: lines.advance(done, f"{failed:,} errors" if failed else "")


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(f"{label:<10}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as shown:
        task = shown.add_task(label, total=total, rate="", failed="")

        def tick(done: int = 1, failed: int = 0) -> None:
            speed = shown.tasks[0].speed
            rate = f"{_rate(speed, unit)}" if speed else ""
            shown.update(task, advance=done, rate=rate, failed=f"{failed:,} errors" if failed else "")

        yield tick


def _rate(each_second: float, unit: str = "") -> str:
    """Items a second, or seconds an item where that is below one."""
    name = f" {unit}" if unit else ""
    if each_second >= 1:
        return f"{each_second:,.0f}{name}/s" if each_second >= 10 else f"{each_second:.1f}{name}/s"
    return f"{1 / each_second:,.1f} s each"


def _duration(seconds: float) -> str:
    """`42 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
