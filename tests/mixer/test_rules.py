"""What every rule promises: it is pure, its weights are a mixture, order means nothing, its state is JSON."""

from __future__ import annotations

import copy
import json
import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer import rules, schedule
from mixer.errors import MixerError
from mixer.observations import Observation

TASKS = ["deblur", "dehaze", "low_light", "sr"]
INITIAL = {"deblur": 0.1, "dehaze": 0.2, "low_light": 0.7, "sr": 0.0}

score = st.floats(-200, 200)
runs = st.lists(st.tuples(score, score, score, score), min_size=1, max_size=5)
sizes = st.tuples(*[st.integers(0, 10**7)] * 4).filter(any)
every_rule = pytest.mark.parametrize("name", rules.names())


def observe(scores, size_K, tasks=TASKS):
    given_ = zip(TASKS, scores, size_K, strict=True)
    found = {
        t: {"task": t, "score": s, "task_size": n, "train_loss": 10 ** (-s / 50), "reference_loss": 0.1}
        for t, s, n in given_
    }
    return [found[task] for task in tasks]


def begun(name, tasks=TASKS):
    """The state of a rule; what a rule has to be given, it is given."""
    rows = [
        {"interval": i, "task": t, "weight": w}
        for i in range(2)
        for t, w in zip(TASKS, (0.1, 0.2, 0.3, 0.4), strict=True)
    ]
    file = Path(tempfile.gettempdir()) / f"schedule-{os.getpid()}.parquet"
    if name == "schedule" and not file.exists():
        schedule.write(str(file), rows)
    params = {"file": str(file)} if name == "schedule" else {}
    return rules.start(name, tasks, params, INITIAL if rules.takes_initial(name) else None)


def test_the_rules_are_the_files_of_the_folder():
    assert rules.names() == sorted(path.stem for path in Path(rules.__file__).parent.glob("[a-z]*.py"))


@every_rule
@given(run=runs, size_K=sizes)
@settings(max_examples=25, deadline=None)
def test_a_rule_is_pure_and_its_weights_are_a_mixture(name, run, size_K):
    state = begun(name)
    for interval, scores in enumerate(run):
        rows = observe(scores, size_K)
        before = copy.deepcopy((state, rows))
        after, weights = rules.update(state, rows)
        again, weights_again = rules.update(state, rows)
        assert (state, rows) == before
        assert (after, weights) == (again, weights_again)
        assert list(weights) == TASKS and list(weights.values()) == after["weights"]
        assert abs(math.fsum(weights.values()) - 1) <= 1e-12 and min(weights.values()) >= 0
        assert after["interval"] == interval + 1
        assert after["weights"] is not state["weights"] and after["tasks"] is not state["tasks"]
        state = after


@every_rule
@given(run=runs, size_K=sizes, order=st.permutations(TASKS))
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_tasks_means_nothing(name, run, size_K, order):
    one, other = (begun(name, tasks) for tasks in (TASKS, order))
    for scores in run:
        one, weights = rules.update(one, observe(scores, size_K))
        other, permuted = rules.update(other, observe(scores, size_K, order))
        assert list(permuted) == list(order) and permuted == weights  # to the bit
        shuffled = rules.update({**one}, observe(scores, size_K, order))[1]
        assert shuffled == rules.update(one, observe(scores, size_K))[1]


@every_rule
@given(run=runs, size_K=sizes)
@settings(max_examples=25, deadline=None)
def test_the_state_survives_json_bit_for_bit(name, run, size_K):
    kept = saved = begun(name)
    for scores in run:
        kept, weights = rules.update(kept, observe(scores, size_K))
        saved, from_json = rules.update(json.loads(json.dumps(saved)), observe(scores, size_K))
        assert from_json == weights and json.dumps(saved) == json.dumps(kept)


@every_rule
def test_observations_may_be_objects(name):
    state = begun(name)
    rows = observe((20, 21, 22, 23), (1, 2, 3, 4))
    assert rules.update(state, [Observation(**row) for row in rows]) == rules.update(state, rows)


def test_uniform_static_and_proportional():
    rows = observe((20, 21, 22, 23), (100, 200, 700, 0))

    def weights(name, params=None, initial=None):
        state = rules.start(name, TASKS, params, initial)
        state, first = rules.update(state, rows)
        _, second = rules.update(state, observe((1, 50, -3, 4), (100, 200, 700, 0)))
        assert first == second
        return list(first.values())

    assert weights("uniform") == weights("static") == [0.25] * 4
    assert weights("static", None, INITIAL) == list(INITIAL.values())
    assert weights("static", None, {"deblur": 2, "dehaze": 1, "low_light": 1, "sr": 0}) == [0.5, 0.25, 0.25, 0.0]
    assert weights("proportional") == pytest.approx([0.1, 0.2, 0.7, 0.0], abs=1e-15)
    root = [10.0, math.sqrt(200), math.sqrt(700), 0.0]
    assert weights("proportional", {"temperature": 2.0}) == pytest.approx([r / sum(root) for r in root], abs=1e-15)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nonesuch", TASKS), "unknown rule 'nonesuch'; known: ado, des, "),
        (("des", TASKS, {"beta": 1}), "rule 'des' has no parameter 'beta'; it has eta, first"),
        (("proportional", TASKS, {"temperature": 0}), "temperature is 0"),
        (("des", []), "one task or more"),
        (("des", ["sr", "sr"]), "each named once"),
        (("des", TASKS, None, {"sr": 1.0}), "no weight for task 'deblur'"),
        (("des", TASKS, None, {**INITIAL, "derain": 1}), "weight for unknown task 'derain'"),
        (("des", TASKS, None, {**INITIAL, "sr": -0.1}), "not negative"),
        (("des", TASKS, None, {**INITIAL, "sr": math.nan}), "finite"),
        (("static", TASKS, None, dict.fromkeys(TASKS, 0.0)), "not all zero"),
        (("uniform", TASKS, None, INITIAL), "sets its own weights; initial ones are for des, doremi"),
    ],
)
def test_a_start_that_cannot_be_is_said(arguments, said):
    with pytest.raises(MixerError) as error:
        rules.start(*arguments)
    assert said in str(error.value) and error.value.exit_code == 2


def test_weights_too_large_to_add_up_are_a_mixture_still():
    state = rules.start("static", ["a", "b"], None, {"a": 1e308, "b": 1e308})
    assert state["weights"] == [0.5, 0.5]


def test_a_rule_refuses_what_lacks_a_field_that_it_needs():
    rows = observe((20, 21, 22, 23), (1, 2, 3, 4))
    del rows[2]["task_size"]
    with pytest.raises(MixerError, match="'proportional' needs task_size of every task; 'low_light' has none"):
        rules.update(rules.start("proportional", TASKS), rows)
    with pytest.raises(MixerError, match="every task has size 0"):
        rules.update(rules.start("proportional", TASKS), observe((20, 21, 22, 23), (0, 0, 0, 0)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s.pop("weights"),
        lambda s: s["memory"].pop("first_scores"),
        lambda s: s.update(weights=[0.5, 0.5]),
        lambda s: s.update(weights=["a", "b", "c", "d"]),
        lambda s: s.update(weights=[0.5, 0.5, 0.5, -0.5]),
        lambda s: s.update(interval="3"),
    ],
)
def test_what_is_no_state_is_said(spoil):
    state = rules.start("des", TASKS)
    spoil(state)
    with pytest.raises(MixerError, match="not the state of"):
        rules.update(state, observe((1, 2, 3, 4), (1, 1, 1, 1)))


def losses(values, interval_tasks=TASKS):
    return [
        {"task": t, "score": 20.0, "train_loss": v, "reference_loss": 0.1}
        for t, v in zip(interval_tasks, values, strict=True)
    ]


def played(name, table, params=None, initial=None):
    """Weights (I, 4) of a rule that sees a table of losses."""
    state, out = rules.start(name, TASKS, params, initial), []
    for values in table:
        state, weights = rules.update(state, losses(values))
        out.append(list(weights.values()))
    return out


def softmax(values):
    power = [math.exp(v) for v in values]
    return [p / sum(power) for p in power]


def test_dwa_by_hand():
    found = played("dwa", [(None,) * 4, (0.4, 0.4, 0.4, 0.4), (0.2, 0.4, 0.3, 0.4)])
    assert found[0] == found[1] == [0.25] * 4
    assert found[2] == pytest.approx(softmax([0.5 / 2, 1 / 2, 0.75 / 2, 1 / 2]), abs=1e-15)


def test_doremi_by_hand():
    found = played("doremi", [(None,) * 4, (0.4, 0.1, 0.05, 0.2)], {"eta": 2.0, "smoothing": 0.1})
    plain = softmax([2 * 0.3, 0, 0, 2 * 0.1])  # what is below its reference counts as 0
    assert found[1] == pytest.approx([0.9 * p + 0.025 for p in plain], abs=1e-15)
    averaged = played("doremi", [(None,) * 4, (0.4, 0.1, 0.05, 0.2)], {"eta": 2.0, "smoothing": 0.1, "average": 1})
    assert averaged[1] == pytest.approx([(0.25 + w) / 2 for w in found[1]], abs=1e-15)


def test_odm_by_hand():
    found = played("odm", [(None,) * 4, (0.4, 0.1, 0.2, 0.2)])
    rate = min(1 / 4, math.sqrt(math.log(4) / 4))
    plain = softmax([rate * loss / (10 * 0.25) for loss in (0.4, 0.1, 0.2, 0.2)])
    assert found[1] == pytest.approx([(1 - 4 * rate) * p + rate for p in plain], abs=1e-15)


def test_skillit_by_hand():
    graph = {"deblur": {"sr": 0.5}}
    table = [(None,) * 4, (0.4, 0.1, 0.2, 0.3), (0.3, 0.1, 0.2, 0.2)]
    found = played("skillit", table, {"eta": 1.0, "window": 2, "graph": graph}, INITIAL | {"sr": 0.1, "low_light": 0.6})
    use = [0.7 + 0.5 * 0.5, 0.2, 0.4, 0.5]
    plain = [p * math.exp(u) for p, u in zip((0.1, 0.2, 0.6, 0.1), use, strict=True)]
    assert found[2] == pytest.approx([p / sum(plain) for p in plain], abs=1e-15)


def test_grape_by_hand():
    found = played("grape", [(None,) * 4, (0.4, 0.4, 0.4, 0.4), (0.2, 0.4, 0.3, 0.4)], {"eta": 2.0, "smoothing": 0.0})
    assert found[2] == pytest.approx(softmax([-1.0, 0.0, -0.5, 0.0]), abs=1e-15)


def test_ado_prefers_the_task_whose_loss_falls_fastest():
    table = [(None,) * 4] + [
        (0.1 + 0.5 * t**-0.8, 0.3 + 0.01 * t**-0.2, 0.3, 0.3 + 0.1 * t**-0.1) for t in range(1, 60)
    ]
    found = played("ado", table)
    assert found[5] == [0.25] * 4
    assert found[-1][0] == max(found[-1]) and found[-1][0] > 0.26 and min(found[-1]) >= 0.01


def test_sequential_and_incremental():
    assert [row.index(1.0) for row in played("sequential", [(1,) * 4] * 9, {"intervals": 2})] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
        3,
    ]
    joined = played("incremental", [(1,) * 4] * 5, {"intervals": 1, "order": ["sr", "deblur", "low_light", "dehaze"]})
    assert joined[0] == [0, 0, 0, 1] and joined[1] == [0.5, 0, 0, 0.5] and joined[3] == joined[4] == [0.25] * 4
    with pytest.raises(MixerError, match="order is a, b; the tasks are"):
        rules.start("sequential", TASKS, {"order": "a,b"})


def test_a_schedule_is_replayed_and_its_last_row_holds(tmp_path):
    path = str(tmp_path / "s.parquet")
    rows = [{"interval": i, "task": t, "weight": w} for i, pair in enumerate([(1, 0), (0.3, 0.7)])
            for t, w in zip("ba", pair, strict=True)]  # fmt: skip
    schedule.write(path, rows)
    state, found = rules.start("schedule", ["a", "b"], {"file": path}), []
    Path(path).unlink()  # the state holds it
    for _ in range(3):
        state, weights = rules.update(state, [])
        found.append(weights)
    assert found == [{"a": 0.0, "b": 1.0}, {"a": 0.7, "b": 0.3}, {"a": 0.7, "b": 0.3}]
    with pytest.raises(MixerError, match="say which"):
        rules.start("schedule", ["a", "b"])


@every_rule
def test_a_missing_score_keeps_the_weights_where_scores_count(name):
    state, _ = rules.update(begun(name), observe((20, 21, 22, 23), (1, 2, 3, 4)))
    rows = [{**row, "score": None} for row in observe((25, 21, 22, 23), (1, 2, 3, 4))]
    after, weights = rules.update(state, rows)
    assert after["missing"] == dict.fromkeys(TASKS, 1) and after["interval"] == 2
    if name == "des":
        assert weights == dict(zip(TASKS, state["weights"], strict=True)) and after["memory"] == state["memory"]


def test_losses_are_needed_once_something_was_trained():
    state, _ = rules.update(rules.start("dwa", TASKS), losses((None,) * 4))
    with pytest.raises(MixerError, match="'dwa' needs train_loss of every task; 'deblur' has none"):
        rules.update(state, losses((None,) * 4))


def test_mixing_is_another_name_of_proportional() -> None:
    state = rules.start("mixing", ["a", "b"])
    assert state == rules.start("proportional", ["a", "b"])
    rows = [{"task": task, "score": 1.0, "task_size": size} for task, size in (("a", 30), ("b", 10))]
    assert rules.update(state, rows)[1] == {"a": 0.75, "b": 0.25}
    assert "mixing" not in rules.names()
