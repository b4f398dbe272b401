"""Spot machines and Ctrl-C: SIGTERM and SIGINT ask a run to write a checkpoint and leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Asked:
    """Whether a signal has asked the run to leave. Call it to know; `interrupted`: it was Ctrl-C."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.interrupted = False

    def __call__(self) -> bool:
        return self._asked.is_set()

    def note(self, number: int, _frame: FrameType | None) -> None:
        """A signal handler. A second Ctrl-C ends the run at once."""
        if number == signal.SIGINT:
            self.interrupted = True
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._asked.set()


class StopAsked(Exception):  # noqa: N818  # no error: the run is told to leave
    """Raised between two images of an evaluation, so that it need not be waited for."""


@contextmanager
def asked_to_stop() -> Iterator[Asked]:
    """Yields what tells whether SIGTERM or SIGINT has come since; the handlers from before are back afterwards.

    Python delivers signals to the main thread alone; in another one the answer is always no.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, asked.note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
