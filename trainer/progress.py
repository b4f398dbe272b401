"""What a person sees while training runs: a bar on a terminal, a line now and then in a log. All on stderr."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from manifests.progress import Lines, is_terminal


class Steps:
    """Progress of a training run; use as a context manager. shown: False says nothing, in all processes but one."""

    def __init__(self, total: int, done: int, *, shown: bool = True) -> None:
        self.total, self.done, self._shown = total, done, shown
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._lines: Lines | None = None
        self._since, self._at = time.monotonic(), done

    def __enter__(self) -> Steps:
        if self._shown and is_terminal():
            columns = (TextColumn("step"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
            self._task = self._bar.add_task("train", total=self.total, completed=self.done, facts="")
            self._bar.start()
        elif self._shown:
            self._lines = Lines("train", self.total, "steps", done=self.done, write=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def since(self) -> int:
        """Steps since the last `restart`."""
        return self.done - self._at

    @property
    def speed(self) -> float:
        """Steps per second since the last `restart`."""
        return (self.done - self._at) / max(time.monotonic() - self._since, 1e-9)

    def step(self, loss: float) -> None:
        """One more step, of this mean loss."""
        self.done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, facts=f"loss {loss:.4f}  {self.speed:.1f} it/s")
        elif self._lines is not None:
            self._lines.advance(self.done - self._lines.done, f"loss {loss:.4f}")  # back after a rollback

    def say(self, text: str) -> None:
        """A line that stays, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            self._log(text)

    def restart(self) -> None:
        """Measure speed from now on: an evaluation is over."""
        self._since, self._at = time.monotonic(), self.done

    def _log(self, text: str) -> None:
        if self._shown:
            print(text, file=sys.stderr, flush=True)
