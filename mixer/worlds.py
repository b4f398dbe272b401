"""Synthetic worlds: tasks with concave learning curves that help or hurt each other. They show failure modes of rules,
and are no evidence about real training.

Task j has practice u_j >= 0; its true score is a_j - (a_j - s_j) (1 + u_j / tau_j)^-beta_j. An interval with weights w
takes the share phi (1 - w_j) of u_j away (forgetting) and adds K sum_i w_i A_ij (A: transfer, its diagonal 1): under
uniform weights and without transfer, a task gains one unit of practice an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixer.errors import MixerError

Array = npt.NDArray[np.float64]
TASKS = ("deblur", "dehaze", "low_light", "sr")
MUSIQ_PER_DB = 5.0
MUSIQ_SCALE = 2.2  # puts a task in MUSIQ's usual range: about 31-44 before training, 53-73 at best


@dataclass(frozen=True)
class Preset:
    """What a named world draws from: transfer between two tasks, uniform; the share that is forgotten."""

    transfer: tuple[float, float]
    forgetting: float


PRESETS = {
    "mild": Preset(transfer=(0.05, 0.15), forgetting=0.0),
    "conflict": Preset(transfer=(-0.25, 0.05), forgetting=0.02),
}


@dataclass(frozen=True)
class World:
    """K tasks. Scores are in the metric's units; `unit_K` is how many of them count as one dB.

    start_K, attainable_K: scores without practice and with endless practice. tau_K: practice, in intervals of a uniform
    mixture; beta_K: power of the curve. transfer_KxK: row i is what a sample of task i is worth to each task.
    forgetting: share of practice lost in an interval without the task. noise_K: standard error of an evaluation.
    """

    tasks: tuple[str, ...]
    start_K: Array
    attainable_K: Array
    tau_K: Array
    beta_K: Array
    transfer_KxK: Array
    forgetting: float
    noise_K: Array
    unit_K: Array

    def practise(self, practice_K: Array, weight_K: Array) -> Array:
        """Practice after one more interval with these weights."""
        kept_K = practice_K * (1 - self.forgetting * (1 - weight_K))
        grown_K: Array = np.maximum(kept_K + weight_K @ self.transfer_KxK * len(self.tasks), 0.0)
        return grown_K

    def score(self, practice_K: Array) -> Array:
        """True scores, without the noise of an evaluation."""
        gap_K = self.attainable_K - self.start_K
        score_K: Array = self.attainable_K - gap_K * (1 + practice_K / self.tau_K) ** -self.beta_K
        return score_K


def make(preset: str = "mild", tasks: Sequence[str] = TASKS, seed: int = 0, *, musiq: str | None = "sr") -> World:
    """A random world of a preset: `mild` (small positive transfer), `conflict` (negative transfer and forgetting).

    tasks: their names. musiq: the task, if it is one of them, that is scored in MUSIQ (5 units to the dB); the rest
    are scored in dB. A pure function of its arguments.
    """
    if preset not in PRESETS:
        raise MixerError(f"unknown world {preset!r}; known: {', '.join(PRESETS)}", exit_code=2)
    if not tasks or not all(tasks) or len(set(tasks)) != len(tasks):
        raise MixerError("a world needs one task or more, each named once", exit_code=2)
    if seed < 0:
        raise MixerError(f"seed {seed}: seeds count from 0", exit_code=2)
    rng = np.random.default_rng([seed, len(tasks), sorted(PRESETS).index(preset)])
    count = len(tasks)
    musiq_K = np.array([task == musiq for task in tasks])
    transfer_KxK = rng.uniform(*PRESETS[preset].transfer, (count, count))
    np.fill_diagonal(transfer_KxK, 1.0)
    unit_K, scale_K = np.where(musiq_K, MUSIQ_PER_DB, 1.0), np.where(musiq_K, MUSIQ_SCALE, 1.0)
    return World(
        tasks=tuple(tasks),
        start_K=rng.uniform(14, 20, count) * scale_K,
        attainable_K=rng.uniform(24, 33, count) * scale_K,
        tau_K=rng.uniform(2, 20, count),
        beta_K=rng.uniform(0.4, 1.2, count),
        transfer_KxK=transfer_KxK,
        forgetting=PRESETS[preset].forgetting,
        noise_K=rng.uniform(0.05, 0.2, count) * unit_K,
        unit_K=unit_K,
    )
