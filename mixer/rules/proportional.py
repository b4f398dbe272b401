"""Each task by its size: p_j in proportion to n_j^(1/temperature).

Temperature 1 is plain mixing of all data, above 1 flattens (Arivazhagan et al., arXiv 1907.05019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mixer import mixture
from mixer.errors import MixerError
from mixer.observations import Observation

NEEDS: tuple[str, ...] = ("task_size",)
PARAMETERS: Mapping[str, Any] = {"temperature": 1.0}
TAKES_INITIAL = False


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """No memory. Raises MixerError unless the temperature is a finite number above 0."""
    temperature = params["temperature"]
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not math.isfinite(temperature) or temperature <= 0:
        raise MixerError(f"proportional: temperature is {temperature}, a number above 0 is needed", exit_code=2)
    return {}


def update(state: Mapping[str, Any], observations: Sequence[Observation]) -> tuple[dict[str, Any], list[float]]:
    """Weights by task_size (distinct pairs), from interval 0 on; a task without pairs has weight 0."""
    size_K = [row.task_size or 0 for row in observations]
    largest = max(size_K)
    if not largest:
        raise MixerError("proportional: every task has size 0")
    power = 1.0 / state["params"]["temperature"]
    return dict(state), mixture.normalised([(size / largest) ** power for size in size_K])
