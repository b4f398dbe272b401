"""Data equilibrium scheduling (FoundIR-v2, arXiv 2512.09282, eq. 3 and algorithm 1), exactly.

p_j(t+T) = p_j(t) exp(-eta ds_j) / sum_i p_i(t) exp(-eta ds_i), with ds_j = s_j(t) - s_j(t-T): a task that got worse
gains weight. The product telescopes to softmax(log p(0) - eta (s(t) - s(0))): `eta` is per unit of the score.

That form is what is evaluated, with every rounding error of the exponent carried along (Dekker 1971): nothing
overflows, a weight that underflows to 0 can come back, and after any number of updates the error is that of one. A
weight that starts at 0 stays there. Scores beyond 1e100 count as 1e100.

The noise of s(0) stays in the weights for ever. With `first` = n the first n evaluations keep the initial weights and
their mean is s(0), which is no longer the paper's rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixer.observations import Seen
from mixer.rules import _check
from mixer.tables import Array

NEEDS: tuple[str, ...] = ()
PARAMETERS: Mapping[str, Any] = {"eta": 0.1, "first": 1}
TAKES_INITIAL = True

LARGEST = 1e100  # of a score: its products stay finite
SPLIT = 2.0**27 + 1


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """Memory: the first scores, and of how many evaluations they are the mean. Raises MixerError for bad parameters."""
    _check.above("des", params, "eta")
    _check.above("des", params, "first")
    return {"first_scores": np.zeros((1, len(tasks))), "averaged": np.zeros((1, 1))}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """One step of algorithm 1; the first `first` evaluations record the scores and keep the weights."""
    score_SxK = np.clip(seen.score, -LARGEST, LARGEST)
    first_SxK, count = memory["first_scores"], memory["averaged"]
    begins = count < params["first"]
    if begins.any():
        count = count + begins
        first_SxK = np.where(begins, first_SxK + (score_SxK - first_SxK) / np.maximum(count, 1), first_SxK)
    gain, gain_error = _sum(score_SxK, -first_SxK)
    fall, fall_error = _product(np.full_like(gain, min(params["eta"], LARGEST)), gain)
    logit, error = _sum(_check.log(np.where(seen.initial > 0, seen.initial, 1.0)), -fall)
    error -= fall_error + min(params["eta"], LARGEST) * gain_error
    place = np.where(seen.initial > 0, logit, -np.inf).argmax(axis=1)[:, None]
    top, top_error = (np.take_along_axis(one, place, axis=1) for one in (logit, error))
    below, below_error = _sum(logit, -top)
    exponent_SxK = below + (below_error + error - top_error)
    weights_SxK = _check.softmax(np.where(seen.initial > 0, exponent_SxK, -np.inf))
    still = begins | (score_SxK == first_SxK).all(axis=1, keepdims=True)
    return {"first_scores": first_SxK, "averaged": count}, np.where(still, seen.initial, weights_SxK)


def _sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b, and its rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _product(a: Array, b: Array) -> tuple[Array, Array]:
    """a * b, and its rounding error (Dekker)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: Array) -> tuple[Array, Array]:
    scaled = a * SPLIT
    high = scaled - (scaled - a)
    return high, a - high
