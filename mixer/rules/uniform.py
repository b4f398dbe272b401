"""Every task the same share, for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixer.observations import Seen
from mixer.tables import Array

NEEDS: tuple[str, ...] = ()
PARAMETERS: Mapping[str, Any] = {}
TAKES_INITIAL = False
SEES_MISSING = True  # it does not look at scores


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """No memory."""
    return {}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """1/K for every task."""
    return memory, np.full_like(seen.weights, 1.0 / seen.tasks)
