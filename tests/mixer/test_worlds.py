"""Worlds: their files, what they draw, and that they behave as their words say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixer import worlds
from mixer.errors import MixerError

NAMES = worlds.zoo()


def test_the_zoo_has_what_is_hard() -> None:
    assert len(NAMES) >= 10
    assert {"mild", "conflict", "tiny_task", "noisy_task", "hopeless", "equal_headroom", "regressing"} <= set(NAMES)
    assert len(worlds.load("many").tasks) == 50


@pytest.mark.parametrize("name", NAMES)
def test_a_world_is_a_pure_function_of_its_seed(name: str) -> None:
    world = worlds.load(name)
    several, one = worlds.draw(world, [3, 7]), worlds.draw(world, [7])
    assert world.about and (several.attainable > several.start).all() and several.start.shape == (2, len(world.tasks))
    for field in ("start", "attainable", "tau", "beta", "noise", "transfer", "forgetting"):
        np.testing.assert_array_equal(getattr(several, field)[1:], getattr(one, field))
    assert (several.transfer.diagonal(axis1=1, axis2=2) == 1).all()


def test_learning_curves_rise_ever_slower_to_the_attainable_score() -> None:
    world = worlds.draw(worlds.load("mild"), [1])
    score = np.array([world.score(np.full((1, 4), u))[0] for u in np.linspace(0, 200, 50)])
    gain = np.diff(score, axis=0)
    assert np.array_equal(score[0], world.start[0]) and (score < world.attainable).all()
    assert (gain > 0).all() and (np.diff(gain, axis=0) < 0).all()
    np.testing.assert_allclose(world.score(np.full((1, 4), 1e30)), world.attainable, rtol=1e-6)


def test_practice_transfer_forgetting_and_repetition() -> None:
    none, alone = np.zeros((1, 4)), np.array([[1.0, 0, 0, 0]])
    mild, conflict = (worlds.draw(worlds.load(name), [2]) for name in ("mild", "conflict"))
    helped, drawn = mild.practise(np.ones((1, 4)), none, alone, 0)
    assert helped[0, 0] == 5.0 and (helped[0, 1:] > 1.0).all()  # four intervals' worth of a uniform mixture
    assert drawn.tolist() == [[4000.0, 0, 0, 0]]
    hurt, _ = conflict.practise(np.ones((1, 4)), none, alone, 0)
    assert hurt[0, 1:].mean() < 1.0 and (hurt >= 0).all()
    apart = replace(conflict, transfer=np.eye(4)[None])
    np.testing.assert_allclose(apart.practise(np.ones((1, 4)), none, alone, 0)[0], [[5.0, 0.98, 0.98, 0.98]])
    known = replace(apart, size=np.full((1, 4), 1000.0), patience=15.0)
    seen_16_times = np.full((1, 4), 16_000.0)
    np.testing.assert_allclose(known.worth(seen_16_times), np.exp(-1.0))
    np.testing.assert_allclose(known.practise(none, seen_16_times, alone, 0)[0][0, 0], 4 * np.exp(-1.0))


def test_late_tasks_and_regressions() -> None:
    late = worlds.draw(worlds.load("late_task"), [0])
    uniform, none = np.full((1, 4), 0.25), np.zeros((1, 4))
    before, after = (late.practise(none, none, uniform, t)[0][0, 3] for t in (29, 30))
    assert late.tasks[3] == "desnow" and before == 0 and after > 0
    regressing = worlds.draw(worlds.load("regressing"), [0])
    assert (regressing.survives(39) == 1).all() and (regressing.survives(1000) == 1).all()
    assert 0.3 <= regressing.survives(40)[0, 0] <= 0.6 and (regressing.survives(40)[0, 1:] == 1).all()


def test_one_metric_beside_another() -> None:
    world = worlds.draw(worlds.load("two_metrics"), range(9))
    assert world.unit[0].tolist() == [1, 1, 5, 5]
    assert (world.start[:, 2:] >= 31).all() and (world.attainable[:, 2:] <= 73).all()


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ntasks: {a: {start: 20, attainable: [25, 30]}, b: {}}\ntransfer: {pairs: {a: {b: -0.5}}}\n"
    )
    world = worlds.draw(worlds.load(str(path)), [0, 1])
    assert world.tasks == ("a", "b") and (world.start[:, 0] == 20).all()
    assert world.transfer[0].tolist() == [[1.0, -0.5], [0.0, 1.0]]
    renamed = worlds.load(str(path), ["c", "a"])
    assert list(renamed.tasks) == ["c", "a"] and renamed.tasks["a"].start == 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\ntasks: {a: {}}\nspeed: 3\n", "speed: Extra inputs are not permitted"),
        ("name: x\ntasks: {a: {gap: 3}}\n", "tasks.a.gap: Extra inputs are not permitted"),
        ("name: x\ntasks: {}\n", "tasks: "),
        ("name: x\ntasks: {a: {tau: -1}}\n", "tasks.a.tau"),
        ("name: x\ntasks: {a: {start: [3, 1]}}\n", "must be [low, high]"),
        ("name: x\ntasks: {a: {start: 30, attainable: 20}}\n", "'a': attainable must be above start"),
        ("name: x\ntasks: {a: {}}\ntransfer: {to: {b: 1}}\n", "transfer names 'b'"),
        ("- 1\n", "the file: "),
        ("a: [\n", "is no YAML"),
    ],
)
def test_what_is_no_world_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(text)
    with pytest.raises(MixerError) as error:
        worlds.draw(worlds.load(str(path)), [0])
    assert said in str(error.value)


def test_the_schema_is_of_json_and_refuses_unknown_keys() -> None:
    schema = json.loads(json.dumps(worlds.schema()))
    assert schema["additionalProperties"] is False and "tasks" in schema["required"]
    assert set(schema["$defs"]["Task"]["properties"]) == set(worlds.Task.model_fields)
