"""Parameters of rules, checked; and the softmax that they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixer.errors import MixerError
from mixer.tables import Array


def above(rule: str, params: Mapping[str, Any], name: str, low: float = 0.0, *, at_most: float = math.inf) -> float:
    """The parameter as a number above `low`. Raises MixerError for anything else."""
    value = params[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= at_most or math.isinf(value):
        limit = "" if math.isinf(at_most) else f", at most {at_most:g}"
        raise MixerError(f"{rule}: {name} is {value}, a number above {low:g}{limit} is needed", exit_code=2)
    return float(value)


def share(rule: str, params: Mapping[str, Any], name: str) -> float:
    """The parameter as a number from 0 to 1. Raises MixerError for anything else."""
    value = params[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise MixerError(f"{rule}: {name} is {value}, a number from 0 to 1 is needed", exit_code=2)
    return float(value)


def places(rule: str, tasks: Sequence[str], order: Any) -> Array:
    """(K,) each task's place in `order`, from 0; None: as they stand. Raises MixerError unless it has each once."""
    if order is None:
        return np.arange(len(tasks), dtype=float)
    named = [one.strip() for one in order.split(",")] if isinstance(order, str) else list(order)
    if sorted(named) != sorted(tasks):
        raise MixerError(
            f"{rule}: order is {', '.join(map(str, named))}; the tasks are {', '.join(tasks)}", exit_code=2
        )
    return np.array([named.index(task) for task in tasks], float)


def softmax(logit_SxK: Array) -> Array:
    """exp(logit), each row divided by its sum; -inf is a weight of 0."""
    power_SxK = np.exp(np.maximum(logit_SxK - logit_SxK.max(axis=1, keepdims=True), -750.0))
    power_SxK = np.where(np.isneginf(logit_SxK), 0.0, power_SxK)
    return np.asarray(power_SxK / power_SxK.sum(axis=1, keepdims=True))


def log(weight_SxK: Array) -> Array:
    """Natural logarithm, -inf of 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(weight_SxK))
