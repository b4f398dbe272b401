"""Ours: share the data so that one more sample brings the same to every task, as far as that can be known.

Of every task the learning curve s = a - g (1 + x / tau)^-beta is estimated from its own scores while the model trains:
Bayesian regression for the attainable score a and the gap g under each hypothesis of a grid over tau, beta, what a
change of the task's weight does to its practice x (kappa: above 1 where other tasks' data hurt it, below where they
help), and forgetting (phi, one for the model: all tasks vote on it). From these follows what each weight would bring
until the run is twice as long; the mixture is sought where a little more weight is worth the same everywhere.

- Units: a task's gain counts as a share of its own gap, corrected by its own noise; a metric times 5 changes nothing.
- Caution: leaving the initial weights is charged by the uncertainty of those gains, so that noise alone moves little.
- Probing: after `start` intervals each task in turn gets `probe` times more for `turn` intervals; without a change of
  weights nothing could be learnt about kappa and phi. Left out above 12 tasks.
- Regressions: two scores in a row far below what was expected take practice away from the estimate; a task that stays
  `guard` standard errors below its own best has at least its initial weight again.
- Floors and ceilings are exact (multiples of 1/K); weights move by at most `churn` (total variation) per interval, but
  for probing and guarding. A score that is missing teaches nothing, and its task keeps its weight.

`targets` = {task: score} replaces the estimate of what is attainable. The evaluation's standard error over images is
not used: on a fixed D_ref the images' spread is no noise. What jitters from one evaluation to the next is estimated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixer.errors import MixerError
from mixer.observations import Seen
from mixer.rules import _check
from mixer.simplex import Box
from mixer.tables import Array

NEEDS: tuple[str, ...] = ()
PARAMETERS: Mapping[str, Any] = {
    "floor": 0.25, "ceiling": 4.0, "churn": 0.1, "caution": 1.5, "start": 5, "probe": 0.5, "turn": 5, "guard": 2.0,
    "targets": None,
}  # fmt: skip
TAKES_INITIAL = True
SEES_MISSING = True

# Axes of the hypotheses: tau (T), beta (B), and kappa with phi (C); arrays are (S, K, T, B, C).
TAU = np.geomspace(0.5, 256, 11)[:, None, None]  # intervals of a uniform mixture
BETA = np.geomspace(0.3, 1.8, 5)[:, None]
KAPPA, PHI = (one.ravel() for one in np.meshgrid([0.8, 1.3, 2.2, 4.5], [0.0, 0.012, 0.04, 0.12], indexing="ij"))
RARE = np.log(np.repeat([1.0, 1.0, 0.6, 0.2], 4))  # before anything is seen: strong harm is less likely (C)
FORGETTING = 4  # values of phi
MEMORY = 0.98  # what an observation still weighs one interval later: no curve holds for ever
APPROACH = 0.2  # of the way to the mixture that is sought, per interval
LIKELY = 16  # hypotheses per task that are asked what a weight would bring
PATIENCE = 15.0  # epochs after which a repeated pair is worth 1/e (Muennighoff et al. 2023, arXiv 2305.16264)
SURPRISE = 3.5  # standard errors
OUTLYING = 3.0  # standard errors; beyond, an observation is down-weighted
POOLED = 0.5  # how much of the tasks' evidence on phi counts: they are not independent
NOISE_RANGE = 3.0  # how far a task's noise may move its unit from the median task's
PROBED = 12  # tasks; with more, probing them all takes too long
LARGEST = 1e100  # of a score: its squares stay finite
LEAST = 1e-300
QUIET = 8.0  # standard errors of a task's mean score: what a change must bring where nothing is known to be gained
GRID = 25


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """Memory: the regressions' sums, practice, and what the guard watches. Raises MixerError for bad parameters."""
    for name in ("churn", "turn", "guard"):
        _check.above("equilibrium", params, name)
    _check.share("equilibrium", params, "floor")
    _check.above("equilibrium", params, "ceiling", 1 - 1e-12)
    for name in ("caution", "start", "probe"):
        _check.above("equilibrium", params, name, -1e-300)
    count, grid = len(tasks), (TAU * BETA * KAPPA).shape
    return {
        "target": _targets(tasks, params["targets"])[None],
        "goal": np.full((1, count), np.nan),  # the weights that are held, without probing
        "practice": np.zeros((1, count, len(KAPPA))),
        "by_curve": np.zeros((1, count, *grid, 3)),  # sums of r, r r and r s, where s = a - g r
        "sums": np.zeros((1, count, 3)),  # of 1, s, s s
        "first": np.full((1, count), np.nan),  # score; all others are counted from it
        "last_two": np.full((1, count, 2), np.nan),
        "jitter": np.zeros((1, count, 2)),  # sums of squared second differences / 6, and of 1
        "range": np.zeros((1, count, 2)),
        "surprise": np.zeros((1, count)),
        "smooth": np.full((1, count), np.nan),
        "best": np.full((1, count), np.nan),
    }


def evaluations(tasks: int, params: Mapping[str, Any]) -> int:
    """Twice what it takes to begin and to probe every task once, so that half of the run is steered; 20 at least."""
    probing = params["turn"] * tasks if params["probe"] > 0 and tasks <= PROBED else 0
    needed: float = 2 * (max(1.0, params["start"]) + probing)
    return max(20, math.ceil(needed))


def _targets(tasks: Sequence[str], given: Mapping[str, float] | None) -> Array:
    unknown = [task for task in given or {} if task not in tasks]
    if unknown:
        raise MixerError(
            f"equilibrium: target of unknown task {unknown[0]!r}; the tasks are {', '.join(tasks)}", exit_code=2
        )
    return np.array([(given or {}).get(task, math.nan) for task in tasks], float)


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """Learn from the scores, then take a step towards the mixture that is sought."""
    memory = _learn(seen, memory)
    held = np.where(np.isnan(memory["goal"]), seen.initial, memory["goal"])
    if seen.interval < max(1, params["start"]):
        return {**memory, "goal": held}, seen.initial
    curves = _Curves(memory)
    step = APPROACH * (_sought(seen, memory, curves, params) - held)
    length = np.abs(step).sum(axis=1, keepdims=True) / 2
    held = held + step * np.minimum(1.0, params["churn"] / np.maximum(length, LEAST))
    fallen = (memory["best"] - memory["smooth"]) / np.sqrt(curves.variance) > params["guard"]
    held = _at_least(held, np.where(fallen, seen.initial, 0.0))
    weights = _within(_probing(seen, held, params), seen, params)
    return {**memory, "goal": held}, weights


def _learn(seen: Seen, memory: dict[str, Array]) -> dict[str, Array]:
    """The memory after an evaluation."""
    known = np.isfinite(seen.score)
    score = np.clip(seen.score, -LARGEST, LARGEST)
    first = np.where(np.isnan(memory["first"]), score, memory["first"])
    s = np.where(known, score - first, 0.0)
    memory = {**memory, "first": first, "practice": _practised(seen, memory["practice"])}
    memory, trust = _surprised(memory, s, known) if seen.interval > 3 else (memory, known.astype(float))
    r = _left(memory["practice"])
    terms = np.stack([r, r * r, r * s[..., None, None, None]], axis=-1)
    last_two = memory["last_two"]
    second = np.where(known, score, np.nan) - 2 * last_two[..., 1] + last_two[..., 0]
    jitter = np.stack([np.nan_to_num(second) ** 2 / 6, np.isfinite(second)], axis=-1)
    smooth = np.where(np.isnan(memory["smooth"]), s, memory["smooth"] + 0.3 * (s - memory["smooth"]))
    smooth = np.where(known, smooth, memory["smooth"])
    return {
        **memory,
        "by_curve": MEMORY * memory["by_curve"] + trust[..., None, None, None, None] * terms,
        "sums": MEMORY * memory["sums"] + trust[..., None] * np.stack([np.ones_like(s), s, s * s], axis=-1),
        "last_two": np.where(known[..., None], np.stack([last_two[..., 1], score], axis=-1), last_two),
        "jitter": MEMORY * memory["jitter"] + jitter,
        "range": np.stack([np.minimum(memory["range"][..., 0], s), np.maximum(memory["range"][..., 1], s)], axis=-1),
        "smooth": smooth,
        "best": np.fmax(memory["best"], smooth),
    }


def _practised(seen: Seen, practice: Array) -> Array:
    """(S, K, C) practice after the interval that ends now: a uniform mixture without repetition adds 1."""
    if not seen.interval:
        return practice
    weight, worth = seen.weights[..., None], _worth(seen)[..., None]
    others = (weight * worth).sum(axis=1, keepdims=True)
    grown = KAPPA * seen.tasks * weight * worth + (1 - KAPPA) * others
    return np.asarray(np.maximum(practice * (1 - PHI * (1 - weight)) + grown, 0.0))


def _worth(seen: Seen) -> Array:
    """(S, K) what one more sample is worth, given how often its pairs have been seen; 1 where that is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        epochs = np.nan_to_num(seen.samples_seen / seen.task_size, nan=0.0, posinf=0.0)
    return np.asarray(np.exp(-np.maximum(epochs - 1, 0) / PATIENCE))


def _left(practice: Array) -> Array:
    """(S, K, T, B, C) share of the gap that is left after (S, K, C) practice."""
    return np.asarray(np.exp(-BETA * np.log1p(practice[..., None, None, :] / TAU)))


def _surprised(memory: dict[str, Array], s: Array, known: npt.NDArray[np.bool_]) -> tuple[dict[str, Array], Array]:
    """The memory, with practice taken back where a task has really fallen, and how far each score is trusted (S, K)."""
    curves = _Curves(memory)
    r = _left(memory["practice"])
    expected = curves.attainable - curves.gap * r
    mean = curves.mean(expected)
    doubt = np.maximum(curves.mean(expected**2) - mean**2, 0.0)
    z = np.where(known, (s - mean) / np.sqrt(1.5 * curves.variance + doubt), 0.0)
    trust = known * (OUTLYING / np.maximum(np.abs(z), OUTLYING)) ** 2
    fell = (z < -SURPRISE) & (memory["surprise"] < -SURPRISE)
    practice = memory["practice"]
    if fell.any():
        share = np.clip((curves.attainable - s[..., None, None, None]) / np.maximum(curves.gap, 1e-30), 1e-9, 1.0)
        now = np.minimum(TAU * (share ** (-1 / BETA) - 1), practice[..., None, None, :])
        inner = curves.posterior.sum(axis=(2, 3))
        now = (curves.posterior * now).sum(axis=(2, 3)) / np.maximum(inner, LEAST)
        practice = np.where(fell[..., None], np.where(inner > 1e-12, now, practice), practice)
    surprise = np.where(known, np.where(fell, 0.0, z), memory["surprise"])
    return {**memory, "practice": practice, "surprise": surprise}, np.where(fell, 1.0, trust)


class _Curves:
    """Posterior (S, K, T, B, C) of the hypotheses, gap and attainable score under each; noise variance (S, K)."""

    def __init__(self, memory: dict[str, Array]) -> None:
        n, total, squares = (memory["sums"][..., i, None, None, None] for i in range(3))
        n = np.maximum(n, 1e-9)
        r, rr, rs = (memory["by_curve"][..., i] for i in range(3))
        r_var, s_var = np.maximum(rr - r * r / n, 1e-12 * n), squares - total * total / n
        both = rs - r * total / n
        self.gap = np.maximum(-both / r_var, 0.0)
        missed = s_var + self.gap * (2 * both + self.gap * r_var)
        self.attainable = (total + self.gap * r) / n
        target = (memory["target"] - memory["first"])[..., None, None, None]
        if np.isfinite(target).any():
            below = target * r - rs
            gap = np.maximum(below / np.maximum(rr, 1e-12 * n), 0.0)
            known = np.isfinite(target)
            off = n * target**2 - 2 * target * total + squares - gap * (2 * below - gap * rr)
            self.gap, missed = np.where(known, gap, self.gap), np.where(known, off, missed)
            self.attainable = np.where(known, target, self.attainable)
        missed = np.maximum(missed, 0.0)
        spread = memory["range"][..., 1] - memory["range"][..., 0]
        jitter = memory["jitter"][..., 0] / np.maximum(memory["jitter"][..., 1], 1e-9)
        fitted = (missed.min(axis=(2, 3, 4)) + 4 * jitter) / np.maximum(n[..., 0, 0, 0] + 1, 1.0)
        self.variance = np.maximum(np.minimum(fitted, 4 * jitter), 1e-8 * spread**2) + LEAST
        self.posterior = self._posterior(missed, r_var, spread)

    def _posterior(self, missed: Array, r_var: Array, spread: Array) -> Array:
        """A gap like what has been gained so far is likely before (log-normal); phi is shared by the tasks."""
        variance = self.variance[..., None, None, None]
        scale = np.maximum(spread[..., None, None, None], 2 * np.sqrt(variance))
        odds = np.log(np.maximum(self.gap / scale, 1e-3))
        log_p = RARE - 0.5 * (missed / variance + odds**2 + np.log1p(r_var / variance * scale**2))
        shape = log_p.shape
        log_p = np.moveaxis(log_p.reshape(*shape[:4], -1, FORGETTING), -1, 2).reshape(*shape[:2], FORGETTING, -1)
        top = log_p.max(axis=3, keepdims=True)
        power = np.exp(log_p - top)
        inner = power.sum(axis=3, keepdims=True)
        evidence = POOLED * (np.log(inner) + top).sum(axis=1, keepdims=True)
        by_phi = np.exp(evidence - evidence.max(axis=2, keepdims=True))
        power = power / inner * (by_phi / by_phi.sum(axis=2, keepdims=True))
        power = np.moveaxis(power.reshape(*shape[:2], FORGETTING, *shape[2:4], -1), 2, -1)
        return np.asarray(power.reshape(shape))

    def mean(self, values: Array) -> Array:
        """(S, K) expectation of values (S, K, T, B, C)."""
        return np.asarray((self.posterior * values).sum(axis=(2, 3, 4)))


def _sought(seen: Seen, memory: dict[str, Array], curves: _Curves, params: Mapping[str, Any]) -> Array:
    """(S, K) the mixture at which a little more weight is worth the same to every task."""
    low, high = _bounds(seen.tasks, params)
    if seen.tasks == 1 or high - low < 1e-9:
        return seen.initial
    grid = np.geomspace(max(low, 1e-3 / seen.tasks), high, GRID)
    middle = np.sqrt(grid[1:] * grid[:-1])
    slope, chance = _slopes(seen, memory, curves, grid)
    unit = _units(curves)
    slope = slope / unit[..., None]
    mean = (chance * slope).sum(axis=3)
    here = int(np.abs(middle - 1 / seen.tasks).argmin())
    variance = (chance * (slope[here] - mean[here][..., None]) ** 2).sum(axis=2)
    unsure = (np.sqrt(curves.variance / np.maximum(memory["sums"][..., 0], 1.0)) / unit).mean(axis=1) * seen.tasks
    charge = params["caution"] * np.sqrt(variance.mean(axis=1) + (QUIET * unsure) ** 2) + LEAST
    prior = np.clip(seen.initial, grid[0], 1.0)
    price = mean - charge[:, None] * np.log(middle[:, None, None] / prior)
    price = np.maximum.accumulate(price[::-1], axis=0)[::-1]  # a cliff below counts for all that leads to it
    return _balanced(price, grid)


def _slopes(seen: Seen, memory: dict[str, Array], curves: _Curves, grid: Array) -> tuple[Array, Array]:
    """(G - 1, S, K, H) what weight brings between neighbours of the grid; the chance (S, K, H) of the likeliest H."""
    many = curves.posterior.reshape(*seen.weights.shape, -1)
    place = np.argpartition(-many, LIKELY, axis=2)[..., :LIKELY]

    def likely(values: Array) -> Array:
        whole = np.broadcast_to(values, curves.posterior.shape).reshape(many.shape)
        return np.take_along_axis(whole, place, axis=2)

    practice = likely(memory["practice"][..., None, None, :])
    gap, tau, beta, kappa, phi = (likely(one) for one in (curves.gap, TAU, BETA, KAPPA, PHI))
    chance = likely(curves.posterior)
    ahead = max(10.0, float(seen.interval))
    weight = grid[:, None, None, None]
    rate = phi * (1 - weight)
    kept = np.exp(ahead * np.log1p(-rate))
    intervals = np.where(rate > 1e-9, (1 - kept) / np.maximum(rate, 1e-9), ahead)
    worth = _worth_ahead(seen, grid[:, None, None], ahead)
    others = (seen.weights * _worth_ahead(seen, seen.weights, ahead)).sum(axis=1)[:, None, None]
    grown = kappa * seen.tasks * weight * worth[..., None] + (1 - kappa) * others
    end = np.maximum(practice * kept + grown * intervals, 0.0)
    value = -gap * np.exp(-beta * np.log1p(end / tau))
    return np.diff(value, axis=0) / np.diff(weight, axis=0), chance / chance.sum(axis=2, keepdims=True)


def _worth_ahead(seen: Seen, weight: Array, ahead: float) -> Array:
    """What a sample of each task is worth on average over the intervals ahead; weight: as (S, K), or (G, 1, 1)."""
    per_interval = np.nan_to_num(seen.samples_seen).sum(axis=1, keepdims=True) / max(1, seen.interval)
    size = np.where(seen.task_size > 0, seen.task_size, np.inf)
    tired = weight * (per_interval / size) * ahead / PATIENCE
    fresh = np.where(tired > 1e-9, -np.expm1(-tired) / np.maximum(tired, 1e-9), 1.0)
    return np.asarray(_worth(seen) * fresh)


def _units(curves: _Curves) -> Array:
    """(S, K) what counts as one of a task's own units: between its gap and its noise, the latter limited."""
    gap = np.sqrt(curves.mean(curves.gap) ** 2 + 25 * curves.variance)
    ratio = np.log(np.sqrt(curves.variance) / gap)
    ratio = ratio - np.median(ratio, axis=1, keepdims=True)
    return np.asarray(gap * np.exp(0.5 * np.clip(ratio, -math.log(NOISE_RANGE), math.log(NOISE_RANGE))))


def _balanced(price: Array, grid: Array) -> Array:
    """(S, K) weights of one price, with sum 1; (G - 1, S, K) prices fall along the grid (G,)."""
    step = np.diff(grid)[:, None, None]
    low, high = price.min(axis=(0, 2)), price.max(axis=(0, 2))
    for _ in range(50):
        middle = (low + high) / 2
        too_much = (grid[0] + (step * (price > middle[:, None])).sum(axis=0)).sum(axis=1) > 1
        low, high = np.where(too_much, middle, low), np.where(too_much, high, middle)
    many, few = (grid[0] + (step * (price > one[:, None])).sum(axis=0) for one in (low, high))
    sum_many, sum_few = many.sum(axis=1, keepdims=True), few.sum(axis=1, keepdims=True)
    share = np.where(sum_many > sum_few, (1 - sum_few) / np.maximum(sum_many - sum_few, LEAST), 0.0)
    weights = few + np.clip(share, 0, 1) * (many - few)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _at_least(weights: Array, floor: Array) -> Array:
    """The weights, raised to the floor (sum at most 1), what lies above it shrunk to make room."""
    above = np.maximum(weights - floor, 0.0)
    total = above.sum(axis=1, keepdims=True)
    room = 1 - floor.sum(axis=1, keepdims=True)
    return np.where(total > 1e-12, floor + above * room / np.maximum(total, LEAST), weights)


def _probing(seen: Seen, held: Array, params: Mapping[str, Any]) -> Array:
    """The weights, with more for the task whose turn it is to be probed."""
    turn = int((seen.interval - max(1, params["start"])) / params["turn"])
    if not 1 < seen.tasks <= PROBED or turn >= seen.tasks:
        return held
    more = held * np.where(np.arange(seen.tasks) == turn, 1 + params["probe"], 1.0)
    return np.asarray(more / more.sum(axis=1, keepdims=True))


def _bounds(tasks: int, params: Mapping[str, Any]) -> tuple[float, float]:
    return params["floor"] / tasks, min(1.0, params["ceiling"] / tasks)


def _within(weights: Array, seen: Seen, params: Mapping[str, Any]) -> Array:
    """Weights between floor and ceiling; tasks without a score keep the weight that they had."""
    low, high = (np.full(seen.tasks, bound) for bound in _bounds(seen.tasks, params))
    weights = Box(low, high).project(weights)
    known = np.isfinite(seen.score)
    for run in np.flatnonzero(~known.all(axis=1)):
        before = seen.weights[run]
        kept_low, kept_high = (np.where(known[run], bound, before) for bound in (low, high))
        room = 1 - before[~known[run]].sum()
        fits = kept_low[known[run]].sum() <= room <= kept_high[known[run]].sum()
        weights[run] = Box(kept_low, kept_high).project(weights[run])[0] if fits else before
    return weights
