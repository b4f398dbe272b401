"""A joint law over mixture and scale: L = c ± S^(-a) · exp(k + Σ_j t_j r_j), S the steps or samples of the run.

The exponential law of Ye et al. (arXiv 2403.16952) whose distance to the asymptote falls as a power of the scale, as
in the additive and joint laws of Shukor et al. (arXiv 2507.09404): short runs predict long ones. Without a column of
steps or samples it is the exponential law.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixer.laws import exp
from mixer.tables import Array, Integers

SOURCE = "Ye et al. 2024, arXiv 2403.16952; Shukor et al. 2025, arXiv 2507.09404"


def fit(inputs_NxD: Array, values_N: Array, tasks: int) -> dict[str, Any]:
    """Parameters sign, c, k, t_1 … t_K, -a; the scale is taken relative to the geometric mean of the runs'."""
    centre = float(inputs_NxD[:, tasks].mean()) if inputs_NxD.shape[1] > tasks else 0.0
    moved = _moved(inputs_NxD, tasks, centre)
    return {**exp.fit(moved, values_N, moved.shape[1]), "centre": centre, "weights": tasks}


def predict(memory: Mapping[str, Any], inputs_MxD: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of a new run."""
    return exp.predict(memory, _moved(inputs_MxD, memory["weights"], memory["centre"]))


def held_out(
    memory: Mapping[str, Any], inputs_NxD: Array, values_N: Array, tasks: int, folds_N: Integers
) -> tuple[Array, Array]:
    """Every run predicted from the other folds."""
    moved = _moved(inputs_NxD, tasks, memory["centre"])
    return exp.held_out(memory, moved, values_N, moved.shape[1], folds_N)


def _moved(inputs: Array, tasks: int, centre: float) -> Array:
    return np.column_stack([inputs[:, :tasks], inputs[:, tasks:] - centre])
