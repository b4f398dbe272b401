"""Mixtures under floors and ceilings: exact projection, points that fill the space, and the search for the best one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mixer.errors import MixerError
from mixer.tables import Array

Objective = Callable[[Array], Array]  # (M, K) mixtures -> (M,), lower is better
ROUNDING = 1e-12
INNER = (0.5, 2.0)


@dataclass(frozen=True)
class Box:
    """low_K <= w <= high_K with the sum of w at 1. Raises MixerError when no mixture fits."""

    low: Array
    high: Array

    def __post_init__(self) -> None:
        if (self.low > self.high + ROUNDING).any():
            task = int((self.low - self.high).argmax())
            raise MixerError(
                f"task {task + 1}: its floor {self.low[task]:.4g} is above its ceiling {self.high[task]:.4g}"
            )
        if self.low.sum() > 1 + ROUNDING:
            raise MixerError(f"the floors sum to {self.low.sum():.4g}, above 1: no mixture fits")
        if self.high.sum() < 1 - ROUNDING:
            raise MixerError(f"the ceilings sum to {self.high.sum():.4g}, below 1: no mixture fits")

    def project(self, points_MxK: Array) -> Array:
        """The nearest mixtures (Euclidean): w less one shift, clipped; the shift is exact, between its breakpoints."""
        points = np.atleast_2d(np.asarray(points_MxK, float))
        knots = np.sort(np.concatenate([points - self.low, points - self.high], axis=1), axis=1)
        sums = np.clip(points[:, None, :] - knots[:, :, None], self.low, self.high).sum(axis=2)  # falls along the knots
        at = np.clip((sums >= 1).sum(axis=1) - 1, 0, knots.shape[1] - 2)
        rows = np.arange(len(points))
        left, right = knots[rows, at], knots[rows, at + 1]
        above, below = sums[rows, at], sums[rows, at + 1]
        share = np.where(above > below, (above - 1) / np.where(above > below, above - below, 1), 0)
        shift = left + np.clip(share, 0, 1) * (right - left)
        return self.exact(np.clip(points - shift[:, None], self.low, self.high))

    def exact(self, points_MxK: Array) -> Array:
        """Rounding taken out of the sum, within floors and ceilings: from the weight that has most room for it."""
        points = points_MxK.copy()
        for _ in range(4):
            missing = 1 - points.sum(axis=1)
            room = np.where(missing[:, None] > 0, self.high - points, points - self.low)
            most = room.argmax(axis=1)
            rows = np.arange(len(points))
            points[rows, most] = np.clip(points[rows, most] + missing, self.low[most], self.high[most])
        return points

    def sample(self, count: int, rng: np.random.Generator, strengths: tuple[float, float] = (0.05, 5.0)) -> Array:
        """(count, K) mixtures that fill the box: Dirichlet, of concentrations between the two of `strengths`."""
        tasks = len(self.low)
        strength_M = np.exp(rng.uniform(np.log(strengths[0]), np.log(strengths[1]), count))
        gamma = rng.gamma(np.repeat(strength_M[:, None], tasks, axis=1)) + 1e-300
        free = 1 - self.low.sum()
        return self.project(self.low + free * gamma / gamma.sum(axis=1, keepdims=True))


def minimise(objective: Objective, box: Box, starts_MxK: Array, *, seed: int = 0, samples: int = 4096) -> Array:
    """The mixture of the lowest objective: the best of many, then exchanges of ever smaller amounts between tasks.

    Needs no gradient, so that trees and the worst of several scores are searched as well as smooth laws.
    """
    rng = np.random.default_rng(seed)
    points = np.concatenate([box.project(starts_MxK), box.sample(samples, rng)])
    values = objective(points)
    found = [_refined(objective, box, points[i], float(values[i]), rng) for i in np.argsort(values)[:6]]
    return min(found, key=lambda one: one[1])[0]


def _refined(
    objective: Objective, box: Box, point: Array, value: float, rng: np.random.Generator
) -> tuple[Array, float]:
    tasks = len(point)
    pairs = np.array([(i, j) for i in range(tasks) for j in range(tasks) if i != j]).reshape(-1, 2)
    moves = np.zeros((len(pairs), tasks))
    moves[np.arange(len(pairs)), pairs[:, 0]] = 1
    moves[np.arange(len(pairs)), pairs[:, 1]] = -1
    step = 0.25
    while step > 1e-7 and len(pairs):
        slanted = rng.normal(size=(4 * tasks, tasks))  # along ridges, where no exchange of two helps
        slanted -= slanted.mean(axis=1, keepdims=True)
        slanted /= np.abs(slanted).max(axis=1, keepdims=True)
        trial = box.project(point + step * np.concatenate([moves, slanted]))
        values = objective(trial)
        best = int(values.argmin())
        if values[best] < value - 1e-13 * max(1.0, abs(value)):
            point, value = trial[best], float(values[best])
        else:
            step /= 2
    return point, value


def spread(count: int, box: Box, *, seed: int = 0, taken_MxK: Array | None = None) -> Array:
    """(count, K) mixtures far from each other and from `taken`: each the farthest of many candidates (maximin)."""
    rng = np.random.default_rng(seed)
    tasks = len(box.low)
    many = box.sample(max(2000, 40 * count), rng, INNER)  # not the corners, which teach little of what lies between
    candidates = np.concatenate([box.project(np.full((1, tasks), 1 / tasks)), many])
    nearest = np.full(len(candidates), np.inf)
    for one in taken_MxK if taken_MxK is not None else ():
        nearest = np.minimum(nearest, _apart(candidates, one))
    chosen: list[int] = []
    for _ in range(count):
        place = 0 if not chosen and taken_MxK is None else int(nearest.argmax())
        chosen.append(place)
        nearest = np.minimum(nearest, _apart(candidates, candidates[place]))
    return candidates[chosen]


def _apart(candidates: Array, one: Array) -> Array:
    """Hellinger distance, in which a first percent of a task counts for more than a last one."""
    return np.asarray(np.sqrt(((np.sqrt(candidates) - np.sqrt(one)) ** 2).sum(axis=1)))
