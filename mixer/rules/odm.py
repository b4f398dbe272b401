"""Online data mixing: an EXP3 bandit whose reward is the training loss of the task that is drawn.

Albalak et al. 2023 (arXiv 2312.02406): R_j += L_j / (scale p_j), exploration e(t) = min(1/K, sqrt(ln K / (K t))),
p = (1 - K e(t)) softmax(e(t-1) R) + e(t). All tasks are drawn in an interval here, so each is rewarded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixer.observations import Seen
from mixer.rules import _check
from mixer.tables import Array

NEEDS: tuple[str, ...] = ("train_loss",)
PARAMETERS: Mapping[str, Any] = {"scale": 10.0}
TAKES_INITIAL = False
SEES_MISSING = True  # it looks at losses


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """Memory: the rewards so far. Raises MixerError unless the scale is a number above 0."""
    _check.above("odm", params, "scale")
    return {"reward": np.zeros((1, len(tasks)))}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """One update of the bandit; uniform at interval 0."""
    if seen.interval == 0:
        return memory, np.full_like(seen.weights, 1.0 / seen.tasks)
    gained_SxK = seen.train_loss / (params["scale"] * np.maximum(seen.weights, 1e-6))
    reward_SxK = memory["reward"] + np.nan_to_num(gained_SxK, nan=0.0, posinf=0.0, neginf=0.0)
    now, before = _explore(seen.tasks, seen.interval), _explore(seen.tasks, max(1, seen.interval - 1))
    reward_SxK = np.clip(reward_SxK, -1e12, 1e12)
    return {"reward": reward_SxK}, (1 - seen.tasks * now) * _check.softmax(before * reward_SxK) + now


def _explore(tasks: int, step: int) -> float:
    return float(min(1.0 / tasks, np.sqrt(np.log(tasks) / (tasks * step)))) if tasks > 1 else 1.0
