"""The weights that were given, for ever (uniform ones when none were)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixer.observations import Observation

NEEDS: tuple[str, ...] = ()
PARAMETERS: Mapping[str, Any] = {}
TAKES_INITIAL = True


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """No memory: the initial weights are the rule."""
    return {}


def update(state: Mapping[str, Any], observations: Sequence[Observation]) -> tuple[dict[str, Any], list[float]]:
    """The initial weights."""
    return dict(state), list(state["initial"])
