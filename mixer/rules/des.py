"""Data equilibrium scheduling (FoundIR-v2, arXiv 2512.09282, eq. 3 and algorithm 1), exactly.

p_j(t+T) = p_j(t) exp(-eta ds_j) / sum_i p_i(t) exp(-eta ds_i), with ds_j = s_j(t) - s_j(t-T): a task that got worse
gains weight. The product telescopes to softmax(log p(0) - eta (s(t) - s(0))): `eta` is per unit of the score.

That form is what is evaluated, in rational numbers up to the last exponential: nothing overflows, a weight that
underflows to 0 can come back, and after any number of updates the error is that of one. A weight that starts at 0
stays there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from mixer import mixture
from mixer.errors import MixerError
from mixer.observations import Observation

NEEDS: tuple[str, ...] = ()
PARAMETERS: Mapping[str, Any] = {"eta": 0.1}
TAKES_INITIAL = True

UNDERFLOW = Fraction(-1000)  # exp of less is 0.0


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """Memory: the scores of interval 0. Raises MixerError unless eta is a finite number above 0."""
    eta = params["eta"]
    if not isinstance(eta, int | float) or isinstance(eta, bool) or not math.isfinite(eta) or eta <= 0:
        raise MixerError(f"des: eta is {eta}, a number above 0 is needed", exit_code=2)
    return {"first_scores": None}


def update(state: Mapping[str, Any], observations: Sequence[Observation]) -> tuple[dict[str, Any], list[float]]:
    """One step of algorithm 1; the first records the scores before training and keeps the weights."""
    score_K = [row.score for row in observations]
    if state["interval"] == 0:
        return {**state, "first_scores": score_K}, list(state["initial"])
    eta = Fraction(state["params"]["eta"])
    logit_K = [
        Fraction(math.log(initial)) - eta * (Fraction(score) - Fraction(first)) if initial > 0 else None
        for initial, score, first in zip(state["initial"], score_K, state["first_scores"], strict=True)
    ]
    top = max(logit for logit in logit_K if logit is not None)
    exp_K = [0.0 if logit is None else math.exp(max(logit - top, UNDERFLOW)) for logit in logit_K]
    return dict(state), mixture.normalised(exp_K)
