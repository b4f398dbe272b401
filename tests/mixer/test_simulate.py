"""Simulations: pure, the same for one seed and for many, with oracles that nothing beats and files that say it all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mixer import oracles, rules, schedule, worlds
from mixer.errors import MixerError
from mixer.replay import replay
from mixer.simulate import simulate
from mixer.statistics import interval, paired

SEVERAL = [name for name in rules.names() if name != "schedule"]


@pytest.mark.parametrize("name", ["mild", "regressing"])
def test_a_simulation_is_a_pure_function_of_its_seed(name: str) -> None:
    first, again = (simulate(name, intervals=9, seeds=[3, 4]) for _ in range(2))
    assert [one.rule for one in first.outcomes] == SEVERAL
    for one, other in zip(first.outcomes, again.outcomes, strict=True):
        assert np.array_equal(one.weights, other.weights) and np.array_equal(one.final, other.final)
    alone = simulate(name, ["des"], intervals=9, seeds=[4]).outcomes[0]  # neither rules nor seeds disturb each other
    np.testing.assert_array_equal(alone.weights[:, 0], first.outcomes[SEVERAL.index("des")].weights[:, 1])


@pytest.mark.parametrize("rule", SEVERAL)
def test_many_seeds_at_once_are_single_updates(rule: str) -> None:
    """What `simulate` plays for many seeds is what `rules.update` does for one run."""
    done = simulate("conflict", [rule], intervals=12, seeds=3).outcomes[0]
    world = worlds.draw(worlds.load("conflict"), [2])
    state, drawn = rules.start(rule, done.tasks), np.zeros(4)
    uniform = simulate("conflict", ["uniform"], intervals=12, seeds=[2]).outcomes[0]
    for t in range(12):
        rows = [
            {"task": task, "score": done.scores[t, 2, k], "samples_seen": int(drawn[k]),
             "task_size": int(world.size[0, k]), "reference_loss": 10 ** (-uniform.final[0, k] / world.unit[0, k] / 20)}
            for k, task in enumerate(done.tasks)
        ]  # fmt: skip
        if "train_loss" in rules.needs(rule):
            pytest.skip("losses are not kept in an outcome")
        state, weights = rules.update(state, rows)
        np.testing.assert_allclose([weights[task] for task in done.tasks], done.weights[t, 2], rtol=0, atol=1e-9)
        drawn += done.weights[t, 2] * world.samples


def test_numbers_of_an_outcome() -> None:
    done = simulate("mild", ["des", "uniform"], 20, seeds=5, params={"eta": 1.0})
    des, uniform = done.outcomes
    unit = np.array([1, 1, 1, 5])
    np.testing.assert_allclose(des.mean, (des.final / unit).mean(axis=1))
    gap = (done.world.attainable - des.final) / unit
    np.testing.assert_allclose(des.worst, -gap.max(axis=1))
    assert des.worst_task == tuple(des.tasks[k] for k in gap.argmax(axis=1))
    assert (uniform.entropy == 1).all() and (uniform.churn == 0).all() and (uniform.starved == 0).all()
    assert (des.starved == (des.weights[-1] < 0.025).sum(axis=1)).all() and (des.churn > 0).all()
    assert np.abs(des.weights.sum(axis=2) - 1).max() <= 1e-12
    assert (des.area < des.mean).all()  # curves rise


def test_larger_eta_starves_and_costs_more_as_is_known_of_eq_3() -> None:
    """The order found in 200 simulated worlds: uniform above DES, and worse with eta and with conflict."""
    cost = {}
    for name in ("mild", "conflict"):
        for eta in (0.1, 1.0):
            done = simulate(name, ["des"], 60, seeds=32, params={"eta": eta})
            one = done.outcomes[0]
            cost[name, eta] = float((one.mean - done.uniform["mean"]).mean()), float((one.starved > 0).mean())
    assert cost["mild", 1.0][0] < -0.1 and cost["conflict", 1.0][0] < cost["mild", 1.0][0]
    assert cost["mild", 1.0][0] < cost["mild", 0.1][0] and cost["conflict", 1.0][0] < cost["conflict", 0.1][0]
    assert cost["mild", 0.1][1] < 0.1 and cost["mild", 1.0][1] > 0.6


@pytest.mark.parametrize("name", ["conflict", "regressing", "tiny_task", "late_task"])
def test_the_oracles_slope_is_exact(name: str) -> None:
    world, rng = worlds.draw(worlds.load(name), [0, 1]), np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(4), (60, 2))
    _, slope = oracles.value_and_slope(world, weights)
    for where in [(3, 0, 1), (50, 1, 3), (31, 0, 3), (59, 1, 0)]:
        up, down = weights.copy(), weights.copy()
        up[where] += 1e-6
        down[where] -= 1e-6
        step = [oracles.value_and_slope(world, one)[0][where[1]] for one in (up, down)]
        assert slope[where] == pytest.approx((step[0] - step[1]) / 2e-6, abs=1e-7, rel=1e-4)


def test_nothing_beats_the_oracles() -> None:
    done = simulate("one_conflicting", ["des", "uniform", "equilibrium"], 30, seeds=6, with_oracles=True)
    static, dynamic = done.oracle["static oracle"], done.oracle["dynamic oracle"]
    assert (dynamic >= static - 1e-9).all() and (static >= done.uniform["mean"] - 1e-9).all()
    assert all((one.mean <= dynamic + 1e-3).all() for one in done.outcomes)
    alike = simulate("equal_headroom", ["uniform"], 30, seeds=4, with_oracles=True)
    assert alike.oracle["static oracle"] - alike.uniform["mean"] == pytest.approx(0, abs=0.02)


def test_intervals_and_paired_tests() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    one, other = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    found, theirs = paired(one, other, 10.0), ttest_rel(one, other)
    low, high = theirs.confidence_interval(0.95)
    assert found.p == pytest.approx(theirs.pvalue) and (
        found.mean - found.half,
        found.mean + found.half,
    ) == pytest.approx((low, high))
    assert interval(np.array([3.0])) == (3.0, 0.0)
    assert paired(one + 1, other, 1.0).verdict == "better" and paired(other, one + 1, 1.0).verdict == "worse"
    assert paired(one, one, 1.0).verdict == "tied" and paired(one[:3], other[:3], 0.1).verdict == "open"


def test_the_folder_holds_results_schedules_and_pictures(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "sim"
    tasks = ("deblur", "derain", "jpeg")
    done = simulate("mild", ["des", "static"], 6, 3, tasks=tasks, initial={"deblur": 2, "derain": 1, "jpeg": 1},
                    output=str(output))  # fmt: skip
    assert sorted(path.name for path in output.iterdir()) == [
        "des", "results.parquet", "simulation.html", "simulation.png", "static",
    ]  # fmt: skip
    assert [path.name for path in output.parent.iterdir()] == ["sim"]  # no temporary folder stays
    found = schedule.read(str(output / "des" / "schedule.parquet"))
    assert found.names == tasks and np.array_equal(found.weights_IxK, done.outcomes[0].weights[:, 0])
    assert replay(str(output / "des" / "schedule.parquet"), "des", initial=found.weights(0)) == found.rows()
    table = pq.read_table(output / "results.parquet").to_pylist()
    assert len(table) == 6 and {row["seed"] for row in table} == {0, 1, 2}
    assert [row["mean"] for row in table if row["rule"] == "static"] == done.outcomes[1].mean.tolist()
    page = (output / "simulation.html").read_text()
    assert "plotly.js v" in page and "<script src=" not in page and all(task in page for task in tasks)
    assert (output / "simulation.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(MixerError, match="sim: exists already"):
        simulate("mild", ["des"], 6, output=str(output))


def test_a_folder_that_cannot_be_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mixer.plots.page", fails)
    with pytest.raises(OSError, match="No space"):
        simulate("mild", ["des"], 3, output=str(tmp_path / "sim"))
    assert not list(tmp_path.iterdir())


def test_the_same_simulation_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        simulate("conflict", ["des"], 4, output=str(tmp_path / name))
    for file in ("des/schedule.parquet", "simulation.html", "simulation.png", "results.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"world": "mars"}, "unknown world 'mars'; known: conflict"),
        ({"rules": ["nonesuch"]}, "unknown rule"),
        ({"tasks": ("a", "a")}, "each named once"),
        ({"tasks": ("a", "")}, "each named once"),
        ({"intervals": 0}, "1 or more"),
        ({"seeds": [-1]}, "seeds count from 0"),
        ({"rules": ["uniform"], "params": {"eta": 1.0}}, "none of the rules uniform has a parameter 'eta'"),
        ({"rules": ["uniform"], "initial": {}}, "none of the rules uniform takes initial weights"),
    ],
)
def test_what_cannot_be_played_is_said(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(MixerError) as error:
        simulate(**arguments)  # type: ignore[arg-type]
    assert said in str(error.value) and error.value.exit_code == 2
