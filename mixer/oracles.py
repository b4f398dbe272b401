"""What could have been reached in a world by somebody who knows it: the best static and the best moving mixture.

Gradient ascent on the mean final score in dB, by exponentiated gradients on the simplex; the gradient of every weight
is exact (the world's recursion, run backwards). The best point that was seen counts, so an oracle is never below its
start; it is a lower bound of the true optimum.
"""

from __future__ import annotations

import numpy as np

from mixer.tables import Array
from mixer.worlds import Drawn

STEPS = 120
FIRST, LAST = 0.5, 0.02  # length of a step, in nats of the largest weight's change


def best(world: Drawn, intervals: int, *, moving: bool) -> tuple[Array, Array]:
    """(weights_IxSxK, mean_S): each seed's best mixture found, constant unless `moving`, and its final mean in dB.

    The moving one starts at the best static one.
    """
    count, tasks = world.start.shape
    weights = np.full((intervals, count, tasks), 1.0 / tasks)
    if moving:
        weights, _ = best(world, intervals, moving=False)
    found, top_S = weights.copy(), np.full(count, -np.inf)
    for step in range(STEPS):
        mean_S, slope = value_and_slope(world, weights)
        better_S = mean_S > top_S
        found[:, better_S], top_S = weights[:, better_S], np.maximum(mean_S, top_S)
        if not moving:
            slope = np.broadcast_to(slope.sum(axis=0), slope.shape)
        slope = slope - (slope * weights).sum(axis=2, keepdims=True)
        largest = np.abs(slope).max(axis=(0, 2), keepdims=True)
        length = FIRST * (LAST / FIRST) ** (step / STEPS)
        weights = weights * np.exp(length * slope / np.maximum(largest, 1e-300))
        weights = np.maximum(weights, 1e-6)
        weights = weights / weights.sum(axis=2, keepdims=True)
    return found, top_S


def value_and_slope(world: Drawn, weights: Array) -> tuple[Array, Array]:
    """mean_S, the final mean in dB of weights (I, S, K), and its derivative by each of them (I, S, K)."""
    intervals, count, tasks = weights.shape
    practice, drawn = np.zeros((intervals + 1, count, tasks)), np.zeros((intervals + 1, count, tasks))
    for t in range(intervals):
        before = practice[t] * world.survives(t)
        practice[t + 1], drawn[t + 1] = world.practise(before, drawn[t], weights[t], t)
    gap = world.attainable - world.start
    mean_S = (world.score(practice[-1]) / world.unit).mean(axis=1)
    rise = gap * world.beta / world.tau * (1 + practice[-1] / world.tau) ** (-world.beta - 1)
    by_practice, by_drawn = rise / world.unit / tasks, np.zeros((count, tasks))
    slope = np.empty_like(weights)
    for t in reversed(range(intervals)):
        here_K = world.arrives <= t
        by_practice = by_practice * (practice[t + 1] > 0)
        worth = world.worth(drawn[t])
        taught = np.einsum("sij,sj->si", world.transfer, by_practice * here_K) * here_K * tasks
        survives = world.survives(t)
        before = practice[t] * survives
        slope[t] = by_practice * before * world.forgetting + taught * worth + by_drawn * world.samples
        stale = np.where(drawn[t] > world.size, -worth / (world.size * world.patience), 0.0)
        by_drawn = by_drawn + taught * weights[t] * stale
        by_practice = by_practice * (1 - world.forgetting * (1 - weights[t])) * survives
    return mean_S, slope
