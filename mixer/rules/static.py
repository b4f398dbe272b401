"""The weights that were given, for ever (uniform ones when none were)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixer.observations import Seen
from mixer.tables import Array

NEEDS: tuple[str, ...] = ()
PARAMETERS: Mapping[str, Any] = {}
TAKES_INITIAL = True
SEES_MISSING = True  # it does not look at scores


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """No memory: the initial weights are the rule."""
    return {}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """The initial weights."""
    return memory, seen.initial
