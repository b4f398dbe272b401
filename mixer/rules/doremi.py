"""DoReMi: group DRO on the excess loss over a reference model: log w_j += eta max(L_j - L_ref_j, 0), then smoothed.

Xie et al. 2023 (arXiv 2305.10429), algorithm 1: w = (1 - smoothing) softmax(log w) + smoothing / K. The paper
then trains on the mean of the weights over the proxy's run; with `average` = 1 that running mean is what is given out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixer.observations import Seen
from mixer.rules import _check
from mixer.tables import Array

NEEDS: tuple[str, ...] = ("train_loss", "reference_loss")
PARAMETERS: Mapping[str, Any] = {"eta": 1.0, "smoothing": 1e-3, "average": 0}
TAKES_INITIAL = True
SEES_MISSING = True  # it looks at losses


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """Memory: log weights, and the sum of the weights so far. Raises MixerError for impossible parameters."""
    _check.above("doremi", params, "eta")
    _check.share("doremi", params, "smoothing")
    _check.share("doremi", params, "average")
    return {"log_weights": np.full((1, len(tasks)), np.nan), "total": np.zeros((1, len(tasks)))}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """One ascent step; interval 0 keeps the initial weights, since nothing has been trained yet."""
    if seen.interval == 0 or np.isnan(memory["log_weights"]).all():
        log_SxK = _check.log(seen.initial)
    else:
        log_SxK = memory["log_weights"]
    excess_SxK = np.nan_to_num(np.clip(seen.train_loss - seen.reference_loss, 0.0, 1e6), nan=0.0)
    if seen.interval:
        log_SxK = log_SxK + params["eta"] * excess_SxK
        log_SxK = log_SxK - log_SxK.max(axis=1, keepdims=True)
    smoothing = params["smoothing"] if seen.interval else 0.0
    weights_SxK = (1 - smoothing) * _check.softmax(log_SxK) + smoothing / seen.tasks
    log_SxK = np.maximum(log_SxK, -1e300)  # JSON knows no infinity
    total_SxK = memory["total"] + weights_SxK
    given_SxK = total_SxK / total_SxK.sum(axis=1, keepdims=True) if params["average"] else weights_SxK
    return {"log_weights": log_SxK, "total": total_SxK}, given_SxK
