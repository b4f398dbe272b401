"""A Gaussian process on transformed weights: Matérn 5/2 with a length scale for every task, plus a linear trend.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2, 4 and 5. Weights enter as w^0.35:
what the first hundredth of a task does is worth more than what the last one does. The noise is Student's t, fitted by
reweighting (a scale mixture of Gaussians), since rounded weights and diverged runs leave outliers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, cholesky, lapack
from scipy.optimize import minimize

from mixer.tables import Array, Integers

SOURCE = "Rasmussen and Williams 2006; transformed weights and Student-t noise are ours"
POWER = 0.35
FREEDOM = 4.0  # of Student's t
ROUNDS = (60, 25, 25)  # iterations of the optimiser between reweightings
PRIOR = (1.0, 1.5)  # mean and standard deviation of a log length scale
BOUNDS = {"length": (-3.0, 6.0), "signal": (-4.0, 4.0), "noise": (-7.0, 1.0), "trend": (-8.0, 3.0)}
JITTER = 1e-8


def fit(inputs_NxD: Array, values_N: Array, tasks: int) -> dict[str, Any]:
    """Hyperparameters by maximum posterior likelihood, and the weight of every run."""
    moved = _transformed(inputs_NxD, tasks)
    centre, spread = moved.mean(axis=0), moved.std(axis=0)
    spread[spread < 1e-9] = 1.0
    z = (moved - centre) / spread
    theta = np.concatenate([np.full(z.shape[1], 0.7), [0.0, -2.0, -1.0]])
    trust = np.ones(len(z))
    for iterations in ROUNDS:
        theta = _optimised(theta, z, values_N, trust, iterations)
        signal = _kernel(theta, z, z)
        inverse = np.linalg.inv(signal + _noise(theta, trust))
        mean = signal @ (inverse @ values_N)
        variance = np.maximum(np.diag(signal) - np.einsum("ij,ji->i", signal, inverse @ signal), 0)
        squared = ((values_N - mean) ** 2 + variance) / np.exp(2 * theta[-2])
        trust = (FREEDOM + 1) / (FREEDOM + squared)
    return {
        "tasks": tasks,
        "centre": centre,
        "spread": spread,
        "theta": theta,
        "trust": trust,
        "inputs": inputs_NxD,
        "values": values_N,
        "pulled": np.linalg.solve(_kernel(theta, z, z) + _noise(theta, trust), values_N),
    }


def predict(memory: Mapping[str, Any], inputs_MxD: Array) -> tuple[Array, Array]:
    """Posterior mean and standard deviation of a new run, noise included."""
    known, values, theta, trust = _remembered(memory)
    z = _standard(memory, inputs_MxD)
    lower = cholesky(_kernel(theta, known, known) + _noise(theta, trust), lower=True)
    across = _kernel(theta, z, known)
    mean = across @ cho_solve((lower, True), values)
    half = lapack.dtrtrs(lower, across.T, lower=1)[0]
    own = np.exp(2 * theta[-3]) + np.exp(2 * theta[-1]) * (z**2).sum(axis=1)
    variance = np.maximum(own - (half**2).sum(axis=0), 0) + np.exp(2 * theta[-2])
    return mean, np.sqrt(variance)


def uncertainty(memory: Mapping[str, Any], inputs_MxD: Array) -> tuple[Array, float]:
    """(M, M) posterior covariance of the law itself, and the variance of a run's noise."""
    known, _, theta, trust = _remembered(memory)
    z = _standard(memory, inputs_MxD)
    lower = cholesky(_kernel(theta, known, known) + _noise(theta, trust), lower=True)
    half = lapack.dtrtrs(lower, _kernel(theta, z, known).T, lower=1)[0]
    return _kernel(theta, z, z) - half.T @ half, float(np.exp(2 * theta[-2]))


def mean(memory: Mapping[str, Any], inputs_MxD: Array) -> Array:
    """The posterior mean alone, which takes a tenth of the time."""
    known, _, theta, _ = _remembered(memory)
    return np.asarray(_kernel(theta, _standard(memory, inputs_MxD), known) @ memory["pulled"])


def held_out(
    memory: Mapping[str, Any], inputs_NxD: Array, values_N: Array, tasks: int, folds_N: Integers
) -> tuple[Array, Array]:
    """Every run predicted from the other folds with the hyperparameters of all (Rasmussen and Williams, 5.4.2)."""
    z, values, theta, trust = _remembered(memory)
    inverse = np.linalg.inv(_kernel(theta, z, z) + _noise(theta, trust))
    pulled = inverse @ values
    mean, sd = np.empty(len(values)), np.empty(len(values))
    for fold in np.unique(folds_N):
        rows = np.flatnonzero(folds_N == fold)
        block = np.linalg.inv(inverse[np.ix_(rows, rows)])
        mean[rows] = values[rows] - block @ pulled[rows]
        noise = np.exp(2 * theta[-2])
        sd[rows] = np.sqrt(np.maximum(np.diag(block) - noise / trust[rows], 0) + noise)
    return mean, sd


def _transformed(inputs: Array, tasks: int) -> Array:
    return np.column_stack([np.maximum(inputs[:, :tasks], 0) ** POWER, inputs[:, tasks:]])


def _standard(memory: Mapping[str, Any], inputs: Array) -> Array:
    moved = _transformed(inputs, memory["tasks"])
    return np.asarray((moved - memory["centre"]) / memory["spread"])


def _remembered(memory: Mapping[str, Any]) -> tuple[Array, Array, Array, Array]:
    z = _standard(memory, memory["inputs"])
    return z, memory["values"], memory["theta"], memory["trust"]


def _noise(theta: Array, trust: Array) -> Array:
    return np.asarray(np.diag(np.exp(2 * theta[-2]) / trust + JITTER))


def _kernel(theta: Array, a: Array, b: Array) -> Array:
    lengths = np.exp(theta[:-3])
    r = _distance(a / lengths, b / lengths)
    matern = np.exp(2 * theta[-3]) * (1 + r + r * r / 3) * np.exp(-r)
    return np.asarray(matern + np.exp(2 * theta[-1]) * (a @ b.T))


def _distance(a: Array, b: Array) -> Array:
    """sqrt(5) times the Euclidean distances."""
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2 * a @ b.T
    return np.asarray(np.sqrt(5 * np.maximum(squared, 0)))


def _optimised(theta: Array, z: Array, values: Array, trust: Array, iterations: int) -> Array:
    bounds = [BOUNDS["length"]] * z.shape[1] + [BOUNDS["signal"], BOUNDS["noise"], BOUNDS["trend"]]
    options = {"maxiter": iterations}
    linear = z @ z.T
    found = minimize(_loss, theta, (z, linear, values, trust), "L-BFGS-B", jac=True, bounds=bounds, options=options)
    return np.asarray(found.x)


def _loss(theta: Array, z: Array, linear: Array, values: Array, trust: Array) -> tuple[float, Array]:
    """Negative log marginal likelihood with the prior on length scales, and its gradient."""
    count, dimensions = z.shape
    signal, noise, trend = np.exp(2 * theta[dimensions:])
    scaled = z / np.exp(theta[:dimensions])
    r = _distance(scaled, scaled)
    decay = signal * np.exp(-r)
    matern = decay * (1 + r + r * r / 3)
    covariance = matern + trend * linear
    covariance[np.diag_indices(count)] += noise / trust + JITTER
    lower, info = lapack.dpotrf(covariance, lower=1, clean=1, overwrite_a=1)
    if info:
        return 1e10, np.zeros_like(theta)
    pulled = cho_solve((lower, True), values)
    loss = 0.5 * values @ pulled + np.log(np.diag(lower)).sum()
    inverse = lapack.dpotri(lower, lower=1)[0]
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    weight = inverse - np.outer(pulled, pulled)
    steep = (5 / 3) * (1 + r) * decay * weight
    gradient = np.empty_like(theta)
    rows = steep.sum(axis=1)
    gradient[:dimensions] = (scaled**2 * rows[:, None]).sum(axis=0) - np.einsum("id,id->d", scaled, steep @ scaled)
    gradient[dimensions] = np.vdot(weight, matern)
    gradient[dimensions + 1] = (noise / trust * np.diag(weight)).sum()
    gradient[dimensions + 2] = trend * np.vdot(weight, linear)
    away = (theta[:dimensions] - PRIOR[0]) / PRIOR[1]
    gradient[:dimensions] += away / PRIOR[1]
    return float(loss + 0.5 * (away**2).sum()), gradient
