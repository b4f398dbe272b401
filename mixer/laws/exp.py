"""The exponential law L = c ± exp(k + Σ_j t_j r_j) (Ye et al. 2024, arXiv 2403.16952), one for every score.

The sign is free, so that scores to be maximised have their law as well. A column of steps or samples is not read: that
is what `power` is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixer.laws import _curves
from mixer.tables import Array, Integers

SOURCE = "Ye et al. 2024, arXiv 2403.16952"
LIMIT = 30.0  # of the exponent


def fit(inputs_NxD: Array, values_N: Array, tasks: int) -> dict[str, Any]:
    """Parameters sign, c, k, t_1 … t_K by robust least squares from several starts."""
    weights = inputs_NxD[:, :tasks]
    fits = []
    for sign in (1.0, -1.0):
        found = _curves.fit(_curve(sign), _starts(sign, weights, values_N), slice(2, None), weights, values_N)
        fits.append({**found, "sign": sign})
    return {**min(fits, key=lambda one: one["noise"]), "tasks": tasks}


def predict(memory: Mapping[str, Any], inputs_MxD: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of a new run."""
    return _curves.predict(_curve(memory["sign"]), memory, inputs_MxD[:, : memory["tasks"]])


def held_out(
    memory: Mapping[str, Any], inputs_NxD: Array, values_N: Array, tasks: int, folds_N: Integers
) -> tuple[Array, Array]:
    """Every run predicted from the other folds; the sign is that of the whole fit."""
    curve, start, weights = _curve(memory["sign"]), memory["parameters"], inputs_NxD[:, :tasks]

    def refit(inputs: Array, values: Array) -> Mapping[str, Any]:
        return _curves.fit(curve, [start], slice(2, None), inputs, values)

    return _curves.held_out(refit, curve, weights, values_N, folds_N)


def _curve(sign: float) -> _curves.Curve:
    def curve(parameters: Array, weights: Array) -> tuple[Array, Array]:
        exponent = np.minimum(parameters[1] + weights @ parameters[2:], LIMIT)
        part = sign * np.exp(exponent)
        return parameters[0] + part, np.column_stack([np.ones(len(part)), part, part[:, None] * weights])

    return curve


def _starts(sign: float, weights: Array, values: Array) -> list[Array]:
    """For several asymptotes c, the rest by a linear fit of log|L - c|."""
    starts = []
    edge = (values * sign).min()
    span = float(np.ptp(values))
    for beyond in (0.05, 0.3, 1.0):
        c = edge - beyond * span
        logs = np.log(np.maximum(values * sign - c, 1e-6))
        design = np.column_stack([np.ones(len(weights)), weights])
        solved = np.linalg.lstsq(design.T @ design + 1e-3 * np.eye(design.shape[1]), design.T @ logs, rcond=None)[0]
        starts.append(np.concatenate([[sign * c], solved]))
    return starts
