"""Tasks join one by one every `intervals` intervals, in `order`, with equal shares (FoundIR-v2, table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixer.observations import Seen
from mixer.rules import _check
from mixer.tables import Array

NEEDS: tuple[str, ...] = ()
PARAMETERS: Mapping[str, Any] = {"intervals": 10, "order": None}
TAKES_INITIAL = False
SEES_MISSING = True  # it does not look at scores


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """Memory: each task's place. Raises MixerError unless `order` names every task once (by name when not given)."""
    _check.above("incremental", params, "intervals")
    return {"place": _check.places("incremental", tasks, params["order"])[None]}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """Equal shares for the tasks that have joined."""
    turn = min(int(seen.interval / params["intervals"]), seen.tasks - 1)
    joined_SxK = (memory["place"] <= turn).astype(float)
    return memory, joined_SxK / joined_SxK.sum(axis=1, keepdims=True)
