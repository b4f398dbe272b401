"""Curves of a few parameters by robust least squares: what `exp` and `power` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from mixer.tables import Array, Integers

Curve = Callable[[Array, Array], tuple[Array, Array]]  # parameters, inputs -> values_N, jacobian_NxP
ROBUST = 0.3  # of the scores' standard deviation: beyond it an error counts linearly
RIDGE = 1e-3  # pulls slopes that the runs do not determine to zero


def fit(curve: Curve, starts: list[Array], slopes: slice, inputs: Array, values: Array) -> dict[str, Any]:
    """The best of several starts. `slopes`: the parameters that are pulled towards zero."""
    best: Any = None
    weight = np.zeros(len(starts[0]))
    weight[slopes] = np.sqrt(RIDGE)

    def residuals(parameters: Array) -> Array:
        return np.concatenate([curve(parameters, inputs)[0] - values, weight * parameters])

    def jacobian(parameters: Array) -> Array:
        return np.concatenate([curve(parameters, inputs)[1], np.diag(weight)])

    for start in starts:
        found = least_squares(residuals, start, jacobian, method="trf", loss="soft_l1", f_scale=ROBUST, max_nfev=400)
        if best is None or found.cost < best.cost:
            best = found
    slope = curve(best.x, inputs)[1]
    freedom = max(1, len(values) - len(best.x))
    noise = float(np.sqrt(((curve(best.x, inputs)[0] - values) ** 2).sum() / freedom))
    covariance = np.linalg.pinv(slope.T @ slope + np.diag(weight**2)) * noise**2
    return {"parameters": best.x, "noise": max(noise, 1e-6), "covariance": covariance}


def predict(curve: Curve, memory: Mapping[str, Any], inputs: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of a new run, by the delta method."""
    mean, slope = curve(memory["parameters"], inputs)
    variance = np.einsum("ij,jk,ik->i", slope, memory["covariance"], slope)
    return mean, np.sqrt(np.maximum(variance, 0) + memory["noise"] ** 2)


def held_out(
    refit: Callable[[Array, Array], Mapping[str, Any]], curve: Curve, inputs: Array, values: Array, folds: Integers
) -> tuple[Array, Array]:
    """Every run predicted by the curve that was fitted to the other folds."""
    mean, sd = np.empty(len(values)), np.empty(len(values))
    for fold in np.unique(folds):
        out = folds == fold
        mean[out], sd[out] = predict(curve, refit(inputs[~out], values[~out]), inputs[out])
    return mean, sd
