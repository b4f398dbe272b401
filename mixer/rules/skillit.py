"""Skill-It: p_j in proportion to p_j(0) exp(eta sum_i A_ji sum over a window of L_i): tasks that serve lossy ones gain.

Chen et al. 2023 (arXiv 2307.14430), algorithm 1. `graph` is A, as {"deblur": {"sr": 0.3}}: how much training on deblur
lowers the loss of sr; its diagonal is 1. Without one, tasks stand alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixer.errors import MixerError
from mixer.observations import Seen
from mixer.rules import _check
from mixer.tables import Array

NEEDS: tuple[str, ...] = ("train_loss",)
PARAMETERS: Mapping[str, Any] = {"eta": 0.2, "window": 3, "graph": None}
TAKES_INITIAL = True
SEES_MISSING = True  # it looks at losses


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """Memory: the losses of the window, and the graph. Raises MixerError for impossible parameters."""
    _check.above("skillit", params, "eta")
    window = int(_check.above("skillit", params, "window", at_most=1000))
    graph = np.eye(len(tasks))
    for one, others in (params["graph"] or {}).items():
        for other, value in others.items():
            if one not in tasks or other not in tasks:
                raise MixerError(f"skillit: graph names {one!r} and {other!r}; the tasks are {', '.join(tasks)}")
            graph[tasks.index(one), tasks.index(other)] = float(value)
    return {"losses": np.full((1, max(1, window), len(tasks)), np.nan), "graph": graph[None]}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """Weights from the losses of the last intervals; the initial ones at interval 0."""
    losses = np.concatenate([memory["losses"][:, 1:], seen.train_loss[:, None]], axis=1)
    if seen.interval == 0:
        return {**memory, "losses": losses}, seen.initial
    use_SxK = np.einsum("sjk,sk->sj", memory["graph"], np.nansum(losses, axis=1))
    return {**memory, "losses": losses}, _check.softmax(_check.log(seen.initial) + params["eta"] * use_SxK)
