"""Loss spikes: when a run has left the road, so that it may go back to its last checkpoint and take other samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

WINDOW, LEAST = 200, 50  # steps that the present ones are compared with, at most and at least
IN_A_ROW = 3  # steps off the road that make a spike
LIMIT = 8  # times that a run goes back before it gives up


def is_off(recent: Sequence[float], loss: float, factor: float) -> bool:
    """Whether a step's mean loss is off: no number, or `factor` deviations above the median of recent ones.

    The deviation is 1.4826 times the median absolute one, which is the standard deviation of a normal distribution
    and is not moved by the spike itself. A psnr loss in dB, below zero, is as good as any other.
    """
    if not math.isfinite(loss):
        return True
    if len(recent) < LEAST:
        return False
    middle = statistics.median(recent)
    deviation = 1.4826 * statistics.median(abs(value - middle) for value in recent)
    return loss > middle + factor * max(deviation, 1e-9 * abs(middle), 1e-12)


def note(recent: list[float], off: int, loss: float, factor: float) -> tuple[list[float], int]:
    """The recent losses and the steps off in a row, after one more step."""
    if is_off(recent, loss, factor):
        return recent, off + 1
    return [*recent, loss][-WINDOW:], 0
