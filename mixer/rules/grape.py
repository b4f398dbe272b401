"""Robust on the rate of improvement: log w_j -= eta times task j's relative fall of loss; the slowest task gains.

After GRAPE (arXiv 2505.20380), which runs group DRO over tasks on the normalised rate of improvement: the closest
published relative of DES, free of units. r_j = (L_j(t-1) - L_j(t)) / L_j(t-1);
w = (1 - smoothing) softmax(log w - eta r) +
smoothing / K.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixer.observations import Seen
from mixer.rules import _check
from mixer.tables import Array

NEEDS: tuple[str, ...] = ("train_loss",)
PARAMETERS: Mapping[str, Any] = {"eta": 1.0, "smoothing": 0.05}
TAKES_INITIAL = True
SEES_MISSING = True  # it looks at losses


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """Memory: log weights and the last loss. Raises MixerError for impossible parameters."""
    _check.above("grape", params, "eta")
    _check.share("grape", params, "smoothing")
    return {"log_weights": np.full((1, len(tasks)), np.nan), "last_loss": np.full((1, len(tasks)), np.nan)}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """One step; a rate that is not known counts as 0."""
    log_SxK = np.where(np.isnan(memory["log_weights"]), _check.log(seen.initial), memory["log_weights"])
    with np.errstate(divide="ignore", invalid="ignore"):
        rate_SxK = (memory["last_loss"] - seen.train_loss) / memory["last_loss"]
    log_SxK = log_SxK - params["eta"] * np.clip(np.where(np.isfinite(rate_SxK), rate_SxK, 0.0), -1e3, 1e3)
    log_SxK = np.maximum(log_SxK - log_SxK.max(axis=1, keepdims=True), -1e300)
    smoothing = params["smoothing"] if seen.interval else 0.0
    weights_SxK = (1 - smoothing) * _check.softmax(log_SxK) + smoothing / seen.tasks
    return {"log_weights": log_SxK, "last_loss": seen.train_loss}, weights_SxK
