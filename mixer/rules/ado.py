"""Adaptive data optimization: a scaling law for each task, fitted while it is trained; data go where losses fall.

Jiang et al. 2024 (arXiv 2410.11820): L_j(n) = e_j + b_j n^(-a_j), n the samples seen in all (here: intervals); the
speed at which it falls, a_j (L_j - e_j) / n, times what task j's own data had to do with it, h_j^(1/2) (h: running
mean of its weight), times its natural share, gives the preferred shares rho; p = 0.9 pbar + 0.1 rho with pbar the
running mean of p, at least `least` each. The law is fitted in logarithms over a grid of asymptotes, the largest
residuals down-weighted (Huber). Uniform for the first `warm_up` intervals; natural shares are by task_size where
`natural` = 1, else equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixer.observations import Seen
from mixer.rules import _check
from mixer.tables import Array

NEEDS: tuple[str, ...] = ("train_loss",)
PARAMETERS: Mapping[str, Any] = {"warm_up": 5, "least": 0.01, "natural": 0}
TAKES_INITIAL = False
SEES_MISSING = True  # it looks at losses

ASYMPTOTES = np.array([0.0, 0.2, 0.4, 0.6, 0.75, 0.85, 0.92, 0.97])  # as shares of the least loss so far
KEPT = 512  # losses that are remembered; older ones are thinned out


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """Memory: the losses so far, their intervals, running means. Raises MixerError for impossible parameters."""
    _check.above("ado", params, "warm_up", at_most=KEPT)
    _check.share("ado", params, "least")
    _check.share("ado", params, "natural")
    tasks_ = len(tasks)
    mean = np.full((1, tasks_), 1.0 / tasks_)
    return {"losses": np.zeros((1, 0, tasks_)), "at": np.zeros((1, 0)), "mean": mean, "preferred": mean}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """Fit, prefer, and lean a tenth towards what is preferred."""
    if seen.interval == 0:
        return memory, np.full_like(seen.weights, 1.0 / seen.tasks)
    at = np.concatenate([memory["at"], np.full((len(seen.weights), 1), float(seen.interval))], axis=1)
    before = memory["losses"].reshape(len(seen.weights), memory["at"].shape[1], seen.tasks)  # none at first
    losses = np.concatenate([before, seen.train_loss[:, None]], axis=1)
    if at.shape[1] > KEPT:
        at, losses = at[:, ::2], losses[:, ::2]
    mean_SxK = memory["mean"] + (seen.weights - memory["mean"]) / (seen.interval + 1)
    memory = {"losses": losses, "at": at, "mean": mean_SxK, "preferred": memory["preferred"]}
    if seen.interval <= params["warm_up"]:
        return memory, np.full_like(seen.weights, 1.0 / seen.tasks)
    _, scale_SxK, power_SxK = _law(np.log(at[0]), losses)
    count = float(seen.interval)
    speed_SxK = np.maximum(power_SxK, 0.05) * scale_SxK * count**-power_SxK / count
    natural_SxK = seen.task_size if params["natural"] else np.ones_like(speed_SxK)
    preferred_SxK = np.nan_to_num(natural_SxK * np.sqrt(mean_SxK) * speed_SxK, nan=0.0, posinf=0.0) + 1e-300
    preferred_SxK = preferred_SxK / preferred_SxK.sum(axis=1, keepdims=True)
    weights_SxK = np.maximum(0.9 * mean_SxK + 0.1 * preferred_SxK, params["least"])
    return {**memory, "preferred": preferred_SxK}, weights_SxK


def _law(log_n: Array, losses_SxTxK: Array) -> tuple[Array, Array, Array]:
    """Asymptote, scale and power of each run and task (S, K), by least squares in logarithms, twice (Huber)."""
    least = np.nanmin(np.where(np.isfinite(losses_SxTxK), losses_SxTxK, np.nan), axis=1)[:, None]
    best: list[Array] = []
    for share in ASYMPTOTES:
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.log(losses_SxTxK - share * least)
        known = np.isfinite(y)
        y, weight = np.where(known, y, 0.0), known.astype(float)
        for _ in range(2):
            total = np.maximum(weight.sum(axis=1), 1e-9)
            x_mean = np.einsum("t,stk->sk", log_n, weight) / total
            y_mean = (y * weight).sum(axis=1) / total
            x, z = log_n[None, :, None] - x_mean[:, None], y - y_mean[:, None]
            slope = (weight * x * z).sum(axis=1) / np.maximum((weight * x * x).sum(axis=1), 1e-9)
            residual = z - slope[:, None] * x
            spread = np.sqrt((weight * residual**2).sum(axis=1) / total)[:, None]
            weight = known * np.minimum(1.0, 1.345 * np.maximum(spread, 1e-9) / np.maximum(np.abs(residual), 1e-12))
        fitted = share * least + np.exp((y_mean - slope * x_mean)[:, None] + slope[:, None] * log_n[None, :, None])
        miss = np.where(known, np.abs(np.log(np.maximum(losses_SxTxK, 1e-300) / np.maximum(fitted, 1e-300))), 0).sum(
            axis=1
        )
        power = np.clip(-slope, 0.0, 5.0)
        row = [miss, (share * least)[:, 0], np.exp(np.clip(y_mean - slope * x_mean, -600, 600)), power]
        best = row if not best else [np.where(row[0] < best[0], new, old) for new, old in zip(row, best, strict=True)]
    return best[1], best[2], best[3]
