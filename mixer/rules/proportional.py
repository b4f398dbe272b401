"""Each task by its size: p_j in proportion to n_j^(1/temperature).

Temperature 1 is plain mixing of all data, above 1 flattens (Arivazhagan et al., arXiv 1907.05019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixer.errors import MixerError
from mixer.observations import Seen
from mixer.rules import _check
from mixer.tables import Array

NEEDS: tuple[str, ...] = ("task_size",)
PARAMETERS: Mapping[str, Any] = {"temperature": 1.0}
TAKES_INITIAL = False
SEES_MISSING = True  # it does not look at scores


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """No memory. Raises MixerError unless the temperature is a finite number above 0."""
    _check.above("proportional", params, "temperature")
    return {}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """Weights by task_size (distinct pairs), from interval 0 on; a task without pairs has weight 0."""
    largest_S = seen.task_size.max(axis=1, keepdims=True)
    if not (largest_S > 0).all():
        raise MixerError("proportional: every task has size 0")
    return memory, np.power(seen.task_size / largest_S, 1.0 / params["temperature"])
