"""Every task the same share, for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixer.observations import Observation

NEEDS: tuple[str, ...] = ()
PARAMETERS: Mapping[str, Any] = {}
TAKES_INITIAL = False


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """No memory."""
    return {}


def update(state: Mapping[str, Any], observations: Sequence[Observation]) -> tuple[dict[str, Any], list[float]]:
    """1/K for every task."""
    return dict(state), [1.0 / len(observations)] * len(observations)
