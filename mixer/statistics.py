"""Means over seeds with their intervals, and whether two rules on the same seeds differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixer.tables import Array

LEVEL = 0.95
TIED = 0.05  # of the distance from the initial to the attainable score


@dataclass(frozen=True)
class Paired:
    """A difference over the same seeds: its mean, half its 95 % interval, the two-sided p of a paired t test.

    within: whether the interval lies within a twentieth of the distance from the initial to the attainable score.
    """

    mean: float
    half: float
    p: float
    within: bool

    @property
    def verdict(self) -> str:
        """ "better" or "worse" (p < .05), else "tied" where the interval is `within`, else "open"."""
        if self.p < 1 - LEVEL:
            return "better" if self.mean > 0 else "worse"
        return "tied" if self.within else "open"


def interval(values: Array) -> tuple[float, float]:
    """Mean and half the 95 % interval of the mean (Student's t); a half of 0 for one value."""
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return float(values.mean()), 0.0
    return float(values.mean()), float(t.ppf((1 + LEVEL) / 2, count - 1) * values.std(ddof=1) / np.sqrt(count))


def paired(ours: Array, theirs: Array, distance: float) -> Paired:
    """Ours less theirs, seed by seed; `distance`: from the initial to the attainable score, in the same unit."""
    from scipy.stats import t

    difference = ours - theirs
    mean, half = interval(difference)
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    error = spread / np.sqrt(len(difference))
    p = float(2 * t.sf(abs(mean) / error, len(difference) - 1)) if spread > 0 else 1.0
    within = max(abs(mean - half), abs(mean + half)) <= TIED * distance
    return Paired(mean, half, p, bool(within))


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm, Scandinavian Journal of Statistics 1979), in the same order."""
    order = np.argsort(values, kind="stable")
    scaled = np.asarray(values, float)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in corrected]


def corrected(found: Sequence[Paired]) -> list[Paired]:
    """The same differences with p corrected for how many there are (Holm)."""
    return [replace(one, p=p) for one, p in zip(found, holm([one.p for one in found]), strict=True)]
