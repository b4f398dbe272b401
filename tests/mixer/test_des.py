"""DES against eq. 3 of FoundIR-v2 as it is written, evaluated independently, and against its closed form."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer import rules
from mixer.errors import MixerError

TASKS = ["deblur", "dehaze", "low_light", "sr"]


def rows(scores):
    return [{"task": task, "score": float(score)} for task, score in zip(TASKS, scores, strict=False)]


def equation_3(p_K, before_K, now_K, eta):
    """One update, in 50 digits."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 50, 10**9, -(10**9)
        terms = [
            Decimal(p) * (-Decimal(eta) * (Decimal(float(now)) - Decimal(float(before)))).exp()
            for p, before, now in zip(p_K, before_K, now_K, strict=True)
        ]
        return [float(term / sum(terms)) for term in terms]


def closed_form(p0_K, s0_K, s_K, eta):
    """softmax(log p(0) - eta (s(t) - s(0))), in numpy's extended precision."""
    logit_K = np.log(np.array(p0_K, np.longdouble)) - eta * (np.array(s_K, np.longdouble) - np.array(s0_K))
    exp_K = np.exp(logit_K - logit_K.max())
    return exp_K / exp_K.sum()


def test_an_update_by_hand():
    state, first = rules.update(rules.start("des", TASKS[:2], {"eta": 1.0}), rows([20.0, 20.0]))
    _, second = rules.update(state, rows([20.0 + np.log(3), 20.0]))
    assert first == {"deblur": 0.5, "dehaze": 0.5}
    assert second == pytest.approx({"deblur": 0.25, "dehaze": 0.75}, abs=1e-15)


def test_twenty_musiq_points_are_a_factor_of_e_to_the_minus_six():
    state, _ = rules.update(rules.start("des", TASKS[:2], {"eta": 0.3}), rows([40.0, 25.0]))
    _, weights = rules.update(state, rows([60.0, 25.0]))
    assert weights["deblur"] / weights["dehaze"] == pytest.approx(np.exp(-6), rel=1e-14)


def test_a_task_that_got_worse_gains_weight():
    state, _ = rules.update(rules.start("des", TASKS), rows([25, 25, 25, 25]))
    _, weights = rules.update(state, rows([25, 24.5, 25.5, 25]))
    assert weights["dehaze"] > 0.25 > weights["low_light"]


@given(
    scores=st.lists(st.lists(st.floats(-100, 100), min_size=4, max_size=4), min_size=2, max_size=6),
    raw=st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    eta=st.floats(0.01, 2),
)
@settings(max_examples=60, deadline=None)
def test_each_step_is_equation_3(scores, raw, eta):
    state = rules.start("des", TASKS, {"eta": eta}, dict(zip(TASKS, raw, strict=True)))
    state, weights = rules.update(state, rows(scores[0]))
    assert list(weights.values()) == state["initial"]
    for before, now in itertools.pairwise(scores):
        expected = equation_3(list(weights.values()), before, now, eta)
        start = list(weights.values())
        state, weights = rules.update(state, rows(now))
        if min(start) > 1e-290:  # the equation itself loses weights that underflow
            np.testing.assert_allclose(list(weights.values()), expected, rtol=0, atol=1e-12)


def test_a_thousand_updates_are_the_closed_form():
    rng = np.random.default_rng(0)
    score_TxK = 20 + np.cumsum(rng.normal(0, 0.5, (1001, 4)), axis=0)
    initial = {"deblur": 0.4, "dehaze": 0.3, "low_light": 0.2, "sr": 0.1}
    state = rules.start("des", TASKS, {"eta": 0.35}, initial)
    recursion_K = list(initial.values())
    for index, score_K in enumerate(score_TxK):
        state, weights = rules.update(json.loads(json.dumps(state)), rows(score_K))
        found_K = list(weights.values())
        np.testing.assert_allclose(found_K, closed_form(state["initial"], score_TxK[0], score_K, 0.35), 0, 1e-14)
        if index:
            recursion_K = equation_3(recursion_K, score_TxK[index - 1], score_K, 0.35)
    assert state["interval"] == 1001
    np.testing.assert_allclose(found_K, recursion_K, rtol=0, atol=1e-12)


@given(scores=st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4), min_size=3))
@settings(max_examples=60, deadline=None)
def test_no_finite_score_overflows(scores):
    state = rules.start("des", TASKS, {"eta": 1e4})
    for now in scores:
        state, weights = rules.update(state, rows(now))
        assert all(0 <= weight <= 1 for weight in weights.values())
        assert abs(sum(weights.values()) - 1) <= 1e-12


def test_a_weight_that_underflowed_comes_back():
    state, _ = rules.update(rules.start("des", TASKS[:2], {"eta": 1.0}), rows([0, 0]))
    state, gone = rules.update(state, rows([10_000, 0]))
    _, back = rules.update(state, rows([0, 0]))
    assert gone["deblur"] == 0.0 and back == {"deblur": 0.5, "dehaze": 0.5}


def test_a_zero_weight_stays_zero():
    state = rules.start("des", TASKS[:3], {"eta": 1.0}, {"deblur": 0.0, "dehaze": 0.5, "low_light": 0.5})
    for score in (20.0, -500.0, -50_000.0):
        state, weights = rules.update(state, rows([score, 20, 21]))
    assert weights["deblur"] == 0.0 and weights["dehaze"] == weights["low_light"] == 0.5


def test_one_task_keeps_all():
    state, _ = rules.update(rules.start("des", ["sr"]), [{"task": "sr", "score": 3.0}])
    assert rules.update(state, [{"task": "sr", "score": 9.0}])[1] == {"sr": 1.0}


@pytest.mark.parametrize("eta", [0, -1, float("nan"), float("inf"), "0.3", True])
def test_eta_must_be_a_number_above_0(eta):
    with pytest.raises(MixerError, match=r"eta is .*, a number above 0 is needed"):
        rules.start("des", TASKS, {"eta": eta})


def test_the_first_evaluations_may_be_averaged():
    state = rules.start("des", TASKS[:2], {"eta": 1.0, "first": 3})
    for score in (20.0, 21.0, 22.0):
        state, weights = rules.update(state, rows([score, 20.0]))
        assert weights == {"deblur": 0.5, "dehaze": 0.5}
    _, weights = rules.update(state, rows([21.0 + np.log(3), 20.0]))
    assert weights == pytest.approx({"deblur": 0.25, "dehaze": 0.75}, abs=1e-15)
