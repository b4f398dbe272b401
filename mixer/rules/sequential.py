"""One task after the other, each for `intervals` intervals, in `order`; the last one stays (FoundIR-v2, table 2)."""

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
    _check.above("sequential", params, "intervals")
    return {"place": _check.places("sequential", tasks, params["order"])[None]}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """All of the data from the task whose turn it is."""
    turn = min(int(seen.interval / params["intervals"]), seen.tasks - 1)
    return memory, (memory["place"] == turn).astype(float)
