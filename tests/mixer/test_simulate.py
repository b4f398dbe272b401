"""Worlds are pure functions of their seed and behave as their words say; simulations show what is known of DES."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mixer import rules, schedule, worlds
from mixer.errors import MixerError
from mixer.replay import replay
from mixer.simulate import simulate


def same(one: object, other: object) -> bool:
    """Equality of dataclasses that hold arrays."""
    values = (dataclasses.astuple(item) for item in (one, other))  # type: ignore[call-overload]
    return all(np.array_equal(a, b) for a, b in zip(*values, strict=True))


@pytest.mark.parametrize("preset", sorted(worlds.PRESETS))
def test_a_simulation_is_a_pure_function_of_its_seed(preset: str) -> None:
    first, again, other = (simulate(preset, intervals=8, seed=seed) for seed in (3, 3, 4))
    assert [one.rule for one in first] == rules.names()
    assert all(map(same, first, again)) and not any(map(same, first, other))
    alone = simulate(preset, ["des"], intervals=8, seed=3)  # rules do not disturb each other
    assert same(alone[0], first[0])


@pytest.mark.parametrize("preset", sorted(worlds.PRESETS))
def test_learning_curves_rise_ever_slower_to_the_attainable_score(preset: str) -> None:
    world = worlds.make(preset, seed=1)
    score_NxK = np.array([world.score(np.full(4, u)) for u in np.linspace(0, 200, 50)])
    gain = np.diff(score_NxK, axis=0)
    assert np.array_equal(score_NxK[0], world.start_K) and (score_NxK < world.attainable_K).all()
    assert (gain > 0).all() and (np.diff(gain, axis=0) < 0).all()
    np.testing.assert_allclose(world.score(np.full(4, 1e30)), world.attainable_K, rtol=1e-6)


def test_practice_transfer_and_forgetting() -> None:
    mild, conflict = worlds.make("mild", seed=2), worlds.make("conflict", seed=2)
    one_task = np.array([1.0, 0.0, 0.0, 0.0])
    helped_K = mild.practise(np.ones(4), one_task)
    assert helped_K[0] == 5.0 and (helped_K[1:] > 1.0).all()  # four intervals' worth of a uniform mixture
    hurt_K = conflict.practise(np.ones(4), one_task)
    assert hurt_K[1:].mean() < 1.0 and (hurt_K >= 0).all()
    alone = dataclasses.replace(conflict, transfer_KxK=np.eye(4))
    np.testing.assert_allclose(alone.practise(np.ones(4), one_task), [5.0, 0.98, 0.98, 0.98])
    np.testing.assert_allclose(dataclasses.replace(alone, forgetting=0.0).practise(np.zeros(4), np.full(4, 0.25)), 1.0)


def test_one_task_may_be_scored_in_musiq() -> None:
    world, plain = worlds.make(seed=5), worlds.make(seed=5, musiq=None)
    assert world.unit_K.tolist() == [1, 1, 1, 5] and plain.unit_K.tolist() == [1, 1, 1, 1]
    assert 30 < world.start_K[3] < world.attainable_K[3] < 100 and plain.attainable_K.max() < 34
    assert np.array_equal(world.start_K[:3], plain.start_K[:3])


def test_numbers_of_an_outcome() -> None:
    world = worlds.make(seed=6)
    one, uniform = simulate(world, ["des", "uniform"], 20, params={"eta": 1.0})
    assert uniform.versus_uniform == 0.0 and one.versus_uniform == pytest.approx(one.mean - uniform.mean)
    assert one.mean == pytest.approx(float((one.final_K / [1, 1, 1, 5]).mean()))
    gap_K = (world.attainable_K - one.final_K) / [1, 1, 1, 5]
    assert one.worst_gap == gap_K.max() and one.worst_task == world.tasks[gap_K.argmax()]
    assert one.starved == tuple(t for t, w in zip(one.tasks, one.weights_IxK[-1], strict=True) if w < 0.025)
    assert np.array_equal(one.weights_IxK[0], np.full(4, 0.25))
    assert np.abs(one.weights_IxK.sum(axis=1) - 1).max() <= 1e-12


def test_larger_eta_starves_and_costs_more_as_is_known_of_eq_3() -> None:
    """The order found in 200 simulated worlds: uniform above DES, and worse with eta and with conflict."""
    cost = {}
    for preset in worlds.PRESETS:
        for eta in (0.1, 1.0):
            played = [simulate(preset, ["des"], seed=seed, params={"eta": eta})[0] for seed in range(16)]
            starving = sum(bool(one.starved) for one in played)
            cost[preset, eta] = np.mean([one.versus_uniform for one in played]), starving
    assert cost["mild", 1.0][0] < -0.15 and cost["conflict", 1.0][0] < cost["mild", 1.0][0]
    assert cost["mild", 1.0][0] < cost["mild", 0.1][0] and cost["conflict", 1.0][0] < cost["conflict", 0.1][0]
    assert cost["mild", 0.1][1] == 0 and cost["mild", 1.0][1] > 12


def test_the_folder_holds_schedules_that_replay_and_a_page_that_opens_offline(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "sim"
    tasks = ("deblur", "derain", "jpeg")
    played = simulate("mild", ["des", "static"], 6, tasks=tasks, initial={"deblur": 2, "derain": 1, "jpeg": 1},
                      output=str(output))  # fmt: skip
    assert sorted(path.name for path in output.iterdir()) == ["des", "simulation.html", "static"]
    assert [path.name for path in output.parent.iterdir()] == ["sim"]  # no temporary folder stays
    found = schedule.read(str(output / "des" / "schedule.parquet"))
    assert found.names == tasks and np.array_equal(found.weights_IxK, played[0].weights_IxK)
    assert found.scores_IxK is not None and np.array_equal(found.scores_IxK, played[0].scores_IxK)
    again = replay(str(output / "des" / "schedule.parquet"), "des", initial=found.weights(0))
    assert again == found.rows()
    page = (output / "simulation.html").read_text()
    assert "plotly.js v" in page and "<script src=" not in page and all(task in page for task in tasks)
    with pytest.raises(MixerError, match="sim: exists already"):
        simulate("mild", ["des"], 6, output=str(output))


def test_a_folder_that_cannot_be_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mixer.show.page", fails)
    with pytest.raises(OSError, match="No space"):
        simulate("mild", ["des"], 3, output=str(tmp_path / "sim"))
    assert not list(tmp_path.iterdir())


def test_the_same_simulation_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        simulate("conflict", ["des"], 4, output=str(tmp_path / name))
    for file in ("des/schedule.parquet", "simulation.html"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"world": "mars"}, "unknown world 'mars'; known: mild, conflict"),
        ({"rules": ["nonesuch"]}, "unknown rule"),
        ({"tasks": ("a", "a")}, "each named once"),
        ({"tasks": ("a", "")}, "each named once"),
        ({"intervals": 0}, "1 or more"),
        ({"seed": -1}, "seeds count from 0"),
        ({"rules": ["uniform"], "params": {"eta": 1.0}}, "none of the rules uniform has a parameter 'eta'"),
        ({"rules": ["uniform"], "initial": {}}, "none of the rules uniform takes initial weights"),
    ],
)
def test_what_cannot_be_played_is_said(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(MixerError) as error:
        simulate(**arguments)  # type: ignore[arg-type]
    assert said in str(error.value) and error.value.exit_code == 2
