"""Means over seeds with their intervals, and whether two rules on the same seeds differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixer.tables import Array

LEVEL = 0.95
TIED = 0.05  # of the distance from the initial to the attainable score


@dataclass(frozen=True)
class Paired:
    """A difference over the same seeds: its mean, half its 95 % interval, the two-sided p of a paired t test.

    verdict: "better" or "worse" (p < .05), else "tied" where the interval lies within a twentieth of the distance from
    the initial to the attainable score, else "open".
    """

    mean: float
    half: float
    p: float
    verdict: str


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
    if p < 1 - LEVEL:
        return Paired(mean, half, p, "better" if mean > 0 else "worse")
    return Paired(mean, half, p, "tied" if within else "open")
