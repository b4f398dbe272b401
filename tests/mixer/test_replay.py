"""replay is step after step is the rule itself; a state file is never half written and nothing is counted twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer import rules, schedule
from mixer.errors import MixerError
from mixer.replay import replay, step

TASKS = ("deblur", "sr")


def table(score_IxK):
    return [
        {"interval": interval, "task": task, "score": float(score)}
        for interval, score_K in enumerate(score_IxK)
        for task, score in zip(TASKS, score_K, strict=True)
    ]


@given(
    score_IxK=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=6),
    lower=st.sampled_from([(), True, ("sr",)]),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_replay_is_step_by_step(tmp_path: Path, score_IxK, lower) -> None:
    csv, state, one = tmp_path / "scores.csv", tmp_path / "state.json", tmp_path / "one.json"
    rows = table(score_IxK)
    csv.write_text("interval,task,score\n" + "".join(f"{r['interval']},{r['task']},{r['score']!r}\n" for r in rows))
    initial, params = {"deblur": 0.75, "sr": 0.25}, {"eta": 0.35}
    made = replay(str(csv), "des", params=params, initial=initial, lower_is_better=lower)
    state.unlink(missing_ok=True)
    for interval, score_K in enumerate(score_IxK):
        one.write_text(json.dumps(dict(zip(TASKS, score_K, strict=True))))
        again = {"rule": "des", "params": params, "initial": initial}  # the same command line every time
        result = step(str(state), str(one), **again, lower_is_better=lower)
        expected = {row["task"]: row["weight"] for row in made if row["interval"] == interval}
        assert result == {"interval": interval, "weights": expected}
    sign = {task: -1 if lower is True or task in (lower or ()) else 1 for task in TASKS}
    assert [row["score"] for row in made] == [sign[row["task"]] * row["score"] for row in rows]


def test_replay_of_a_schedule_is_the_schedule(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path, again = str(tmp_path / "one.parquet"), str(tmp_path / "again.parquet")
    rows = replay(table(rng.uniform(20, 30, (8, 2))), "des", output=path)
    assert schedule.read(path).rows() == rows
    assert replay(path, "des", output=again) == rows
    assert Path(path).read_bytes() == Path(again).read_bytes()
    with pytest.raises(MixerError, match=r"again\.parquet: exists already"):
        replay(path, output=again)


def test_a_rule_gets_the_columns_that_it_needs(tmp_path: Path) -> None:
    csv = tmp_path / "scores.csv"
    csv.write_text("interval,task,score,task_size\n0,deblur,27,300\n0,sr,60,100\n")
    assert [row["weight"] for row in replay(str(csv), "proportional")] == [0.75, 0.25]
    csv.write_text("interval,task,score\n0,deblur,27\n0,sr,60\n")
    with pytest.raises(MixerError, match=r"scores.csv: interval 0: rule 'proportional' needs task_size"):
        replay(str(csv), "proportional")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("task,score\nsr,1\n", "a row has no interval"),
        ("interval,task,score\n0,sr,1\n2,sr,1\n", r"without a gap; found \[0, 2\]"),
        ("interval,task,score\n1,sr,1\n2,sr,1\n", r"without a gap; found \[1, 2\]"),
        ("interval,task,score\n0,sr,1\n0,sr,2\n", "interval 0: task 'sr' has more than one"),
        ("interval,task,score\n0,sr,1\n1,sr,2\n1,x,2\n", "interval 1: unknown task 'x'"),
        ("interval,task,score\n0,sr,much\n", "task 'sr': its score is much"),
    ],
)
def test_scores_that_cannot_be_replayed_are_said(tmp_path: Path, content: str, said: str) -> None:
    csv = tmp_path / "scores.csv"
    csv.write_text(content)
    with pytest.raises(MixerError, match=said) as error:
        replay(str(csv), output=str(tmp_path / "out.parquet"))
    assert str(error.value).startswith(str(csv)) and not (tmp_path / "out.parquet").exists()


def test_step_refuses_to_count_twice_or_to_change_its_mind(tmp_path: Path) -> None:
    state, scores = tmp_path / "state.json", tmp_path / "scores.csv"
    scores.write_text("interval,task,score\n0,deblur,27\n0,sr,60\n")
    given_ = str(state), str(scores)
    assert step(*given_, "des")["weights"] == {"deblur": 0.5, "sr": 0.5}
    before = state.read_text()
    assert rules.checked(json.loads(before))["params"] == {"eta": 0.1, "first": 1}
    with pytest.raises(MixerError, match=r"is of interval 0, but .* awaits interval 1"):
        step(*given_)
    scores.write_text('task,score\n"deblur",27\nsr,60\n')
    for other, said in [
        ({"rule": "uniform"}, "goes on with rule 'des', not 'uniform'"),
        ({"params": {"eta": 0.2}}, "not eta=0.2"),
        ({"params": {"beta": 0.2}}, "not beta=0.2"),
        ({"initial": {"deblur": 1, "sr": 3}}, "began with other weights"),
    ]:
        with pytest.raises(MixerError, match=said):
            step(*given_, **other)
    scores.write_text("task,score\ndeblur,27\nderain,60\n")
    with pytest.raises(MixerError, match=r"scores.csv: unknown task 'derain'"):
        step(*given_)
    assert state.read_text() == before


def test_a_damaged_state_is_said_and_kept(tmp_path: Path) -> None:
    state, scores = tmp_path / "state.json", tmp_path / "scores.json"
    scores.write_text('{"sr": 60}')
    for content, said in [('{"rule": "des"', "is no JSON"), ("[]", "not the state of a rule"), ("{}", "not the state")]:
        state.write_text(content)
        with pytest.raises(MixerError, match=said):
            step(str(state), str(scores))
        assert state.read_text() == content
