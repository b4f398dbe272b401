"""A mixture: K weights, none negative, that sum to 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mixer.errors import MixerError
from mixer.tables import Array

TOLERANCE = 1e-12
ROUNDING = 1e-15


def normalised(values: Sequence[float]) -> list[float]:
    """Finite values >= 0, one of them above, divided by their sum; what sums to 1 but for rounding stays as it is."""
    largest = max(values)
    if largest <= 1.0 and abs(math.fsum(values) - 1.0) <= ROUNDING:
        return list(values)
    scaled = [value / largest for value in values]  # the sum of finite values may not be finite
    total = math.fsum(scaled)
    return [value / total for value in scaled]


def normalise(weights_SxK: Array) -> Array:
    """Rows of finite weights >= 0 divided by their sums; a row that sums to 1 but for rounding stays as it is."""
    total_S = weights_SxK.sum(axis=1, keepdims=True)
    return np.where(np.abs(total_S - 1.0) <= ROUNDING, weights_SxK, weights_SxK / total_S)


def named(weights: Mapping[str, float], tasks: Sequence[str]) -> list[float]:
    """A person's weights as a mixture in the order of `tasks`. Raises MixerError unless there is one for each."""
    if missing := [task for task in tasks if task not in weights]:
        raise MixerError(f"no weight for task {missing[0]!r}", exit_code=2)
    if unknown := [task for task in weights if task not in tasks]:
        raise MixerError(f"weight for unknown task {unknown[0]!r}; the tasks are {', '.join(tasks)}", exit_code=2)
    values = [float(weights[task]) for task in tasks]
    if any(not math.isfinite(value) or value < 0 for value in values) or not any(values):
        raise MixerError(f"weights must be finite, not negative and not all zero: {dict(weights)}", exit_code=2)
    return normalised(values)
