"""A world fitted to closed-loop runs: learning curves, transfer, forgetting and noise from scores and weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from mixer import files, schedule
from mixer.errors import MixerError
from mixer.noise import jitter_of
from mixer.tables import Array
from mixer.worlds import MUSIQ_PER_DB, load

FORGETTING = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08)
TRANSFER = 0.2  # standard deviation that transfer has before anything is seen
GAP = 0.3  # the same of the logarithm of the gap, around 1.3 times what was gained
TAU, BETA = (np.log(8.0), 1.5), (np.log(0.8), 0.7)  # the same of the logarithms of tau and beta
FEWEST = 6  # intervals


@dataclass(frozen=True)
class Log:
    """One run: scores and weights (I, K), each score before its interval, higher is better."""

    name: str
    score: Array
    weight: Array


@dataclass(frozen=True)
class Curve:
    """One task as fitted; transfer_K: what a sample of each task is worth to it (its own: 1). miss: rms residual."""

    start: float
    attainable: float
    tau: float
    beta: float
    transfer_K: Array
    miss: float
    cost: float


def world_from(runs: Sequence[str], output: str, *, overwrite: bool = False) -> list[str]:
    """Write the world of `runs` as YAML to `output`; returns a line on each task, and on what cannot be told.

    Least squares with priors: without changes of weights transfer stays at 0, and with few intervals the asymptote at
    what is usual. Forgetting is the value of a grid at which all tasks fit best. Raises MixerError for runs that do not
    fit together or are too short, and for an output that exists.
    """
    files.refuse_existing(output, overwrite=overwrite, inputs=runs)
    tasks, logs, units = _read(runs)
    noise_K = np.array([np.mean([jitter_of(log.score[:, k]) for log in logs]) for k in range(len(tasks))])
    spread_K = np.array([max(np.ptp(log.score[:, k]) for log in logs) for k in range(len(tasks))])
    noise_K = np.maximum(noise_K, 1e-3 * np.maximum(spread_K, 1e-6))
    fits = {phi: [_curve(logs, k, phi, float(noise_K[k])) for k in range(len(tasks))] for phi in FORGETTING}
    phi = min(fits, key=lambda one: sum(curve.cost for curve in fits[one]))
    said = _world(tasks, fits[phi], phi, noise_K, units)
    text = f"# Fitted to {', '.join(os.path.basename(os.path.abspath(run)) for run in runs)} by 'mixer world-from'.\n"
    files.write(output, (text + yaml.safe_dump(said, sort_keys=False)).encode())
    load(output)  # it must be a world
    return _lines(tasks, fits[phi], phi, noise_K, logs)


def _read(runs: Sequence[str]) -> tuple[list[str], list[Log], dict[str, float]]:
    logs, tasks, units = [], list[str](), dict[str, float]()
    for run in runs:
        path = run if run.endswith((".parquet", ".csv")) else os.path.join(run, "schedule.parquet")
        found = schedule.read(path)
        if found.strata_column != "task" or found.scores_IxK is None:
            raise MixerError(f"{path}: needs weights and scores of tasks; a run that replayed shards has none")
        tasks = tasks or sorted(found.names)
        if sorted(found.names) != tasks:
            raise MixerError(
                f"{path}: has the tasks {', '.join(sorted(found.names))}, the first run {', '.join(tasks)}"
            )
        if found.intervals < FEWEST or np.isnan(found.scores_IxK).any():
            raise MixerError(f"{path}: {FEWEST} intervals or more with a score of every task are needed")
        order = [found.names.index(task) for task in tasks]
        logs.append(Log(run, found.scores_IxK[:, order], found.weights_IxK[:, order]))
        units |= _units(run)
    return tasks, logs, units


def _units(run: str) -> dict[str, float]:
    """Task -> units to the dB, by the metric that the run was scored with; 1 where that is not known."""
    path = os.path.join(run, "metrics.parquet")
    if not os.path.isfile(path):
        return {}
    rows = files.read_rows(path, text=("task", "metric"))
    return {row["task"]: MUSIQ_PER_DB for row in rows if str(row.get("metric", "")).startswith("musiq")}


def _practice(weight: Array, task: int, transfer_K: Array, phi: float) -> Array:
    """(I,) practice of one task before each interval."""
    practice, out = 0.0, []
    taught = weight @ transfer_K * weight.shape[1]
    for own, gain in zip(weight[:, task], taught, strict=True):
        out.append(practice)
        practice = max(practice * (1 - phi * (1 - own)) + gain, 0.0)
    return np.array(out)


def _curve(logs: Sequence[Log], task: int, phi: float, noise: float) -> Curve:
    from scipy.optimize import least_squares

    tasks = logs[0].weight.shape[1]
    others = [k for k in range(tasks) if k != task]
    first = float(np.mean([log.score[0, task] for log in logs]))
    gained = max(float(np.mean([log.score[-3:, task].mean() for log in logs])) - first, 2 * noise)

    def unpack(x: Array) -> tuple[float, float, float, float, Array]:
        transfer_K = np.ones(tasks)
        transfer_K[others] = x[4:]
        gap, tau, beta = (float(np.exp(np.clip(one, -20, 20))) for one in x[1:4])
        return float(x[0]), gap, tau, beta, transfer_K

    def misses(x: Array, unit: float) -> Array:
        start, gap, tau, beta, transfer_K = unpack(x)
        parts = []
        for log in logs:
            left = (1 + _practice(log.weight, task, transfer_K, phi) / tau) ** -beta
            parts.append((start + gap * (1 - left) - log.score[:, task]) / unit)
        prior = [(x[1] - np.log(1.3 * gained)) / GAP, (x[2] - TAU[0]) / TAU[1], (x[3] - BETA[0]) / BETA[1]]
        return np.concatenate([*parts, prior, x[4:] / TRANSFER])

    begin = np.concatenate([[first, np.log(1.3 * gained), TAU[0], BETA[0]], np.zeros(len(others))])
    unit, miss = noise, 0.0
    for _ in range(2):  # where the curve does not fit to within the noise, what it misses counts as noise: priors hold
        found = least_squares(misses, begin, loss="soft_l1", x_scale="jac", args=(unit,)).x
        miss = float(np.sqrt(np.mean((misses(found, unit)[: -3 - len(others)] * unit) ** 2)))
        unit = max(noise, miss)
    cost = float(np.sum(misses(found, noise)[: -3 - len(others)] ** 2))
    start, gap, tau, beta, transfer_K = unpack(found)
    return Curve(start, start + gap, tau, beta, transfer_K, miss, cost)


def _world(
    tasks: Sequence[str], curves: Sequence[Curve], phi: float, noise_K: Array, units: dict[str, float]
) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for task, one, noise in zip(tasks, curves, noise_K, strict=True):
        numbers = {"start": one.start, "attainable": one.attainable, "tau": one.tau, "beta": one.beta}
        said[task] = {name: float(f"{value:.5g}") for name, value in {**numbers, "noise": float(noise)}.items()}
        said[task] |= {"unit": units.get(task, 1.0), "size": 1e12}
    pairs: dict[str, dict[str, float]] = {}
    for j, (task, one) in enumerate(zip(tasks, curves, strict=True)):
        for i, other in enumerate(tasks):
            if i != j and abs(one.transfer_K[i]) >= 1e-3:
                pairs.setdefault(other, {})[task] = float(f"{one.transfer_K[i]:.3g}")
    return {
        "name": "fitted",
        "about": "fitted to closed-loop runs; no task runs out of pairs in it",
        "tasks": said,
        "transfer": {"pairs": pairs},
        "forgetting": phi,
    }


def _lines(tasks: Sequence[str], curves: Sequence[Curve], phi: float, noise_K: Array, logs: Sequence[Log]) -> list[str]:
    out = [
        f"{task}: {one.start:.2f} -> {one.attainable:.2f}, tau {one.tau:.3g}, beta {one.beta:.2f}; "
        f"noise {noise:.3f}, rms miss {one.miss:.3f}"
        for task, one, noise in zip(tasks, curves, noise_K, strict=True)
    ]
    out.append(f"forgetting {phi:g}")
    moved = max(float(np.abs(log.weight - log.weight[:1]).max()) for log in logs)
    if moved < 0.05 and len(logs) < 2:
        out.append("the weights hardly moved: transfer and forgetting are what was assumed, not what was measured")
    return out
