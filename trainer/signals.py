"""Spot machines: SIGTERM asks a run to write a checkpoint and leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Asked = Callable[[], bool]


class StopAsked(Exception):  # noqa: N818  # no error: the run is told to leave
    """Raised between two images of an evaluation, so that it need not be waited for."""


@contextmanager
def asked_to_stop() -> Iterator[Asked]:
    """Yields what tells whether SIGTERM has come since; the handler from before is back afterwards.

    Python delivers signals to the main thread alone; in another one the answer is always no.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
