"""Dynamic weight average: softmax((L(t-1) / L(t-2)) / temperature), a task whose loss falls slowly gains weight.

Liu, Johns and Davison, "End-to-end multi-task learning with attention", CVPR 2019 (arXiv 1803.10704), eq. 7; there the
weights multiply losses and sum to K, here they are shares of the data. Uniform until two losses are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixer.observations import Seen
from mixer.rules import _check
from mixer.tables import Array

NEEDS: tuple[str, ...] = ("train_loss",)
PARAMETERS: Mapping[str, Any] = {"temperature": 2.0}
TAKES_INITIAL = False
SEES_MISSING = True  # it looks at losses


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """Memory: the last loss. Raises MixerError unless the temperature is a number above 0."""
    _check.above("dwa", params, "temperature")
    return {"last_loss": np.full((1, len(tasks)), np.nan)}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """The ratio of the last two losses; a ratio that is not known, or not finite, counts as 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_SxK = seen.train_loss / memory["last_loss"]
    ratio_SxK = np.where(np.isfinite(ratio_SxK), ratio_SxK, 1.0)
    return {"last_loss": seen.train_loss}, _check.softmax(ratio_SxK / params["temperature"])
