"""Simulations: pure, the same for one seed and for many, with oracles that nothing beats and files that say it all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mixer import comparisons, oracles, page, rules, schedule, worlds
from mixer.errors import MixerError
from mixer.replay import replay
from mixer.simulate import simulate
from mixer.statistics import Paired, corrected, holm, interval, paired
from tests.manifests.test_pages import check_page

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


def test_p_values_are_corrected_for_their_number() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") gives 0.03 0.06 0.06 0.02
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []
    found = [Paired(1.0, 0.5, p, False) for p in (0.03, 0.04, 0.001)]
    assert [one.verdict for one in found] == ["better"] * 3
    assert [one.verdict for one in corrected(found)] == ["open", "open", "better"]


def test_the_page_gives_each_unit_an_axis_and_says_how_many_comparisons_there_are() -> None:
    done = simulate("two_metrics", ["equilibrium", "des", "uniform"], 5, 4)
    text = page.simulation(done)
    check_page(text)
    figures = json.loads(re.findall(r'id="figures">(.*?)</script>', text, re.DOTALL)[0])
    titles = {name: figure["layout"]["yaxis"]["title"]["text"] for name, figure in figures.items()}
    assert titles["w0"] == "weight, share of the batch" and titles["s0-0"] == "score, dB"
    assert titles["s0-1"] == "score, units of the metric, 5 to the dB as of MUSIQ"
    drawn = {name: [trace["name"] for trace in figures[name]["data"]] for name in ("w0", "s0-0", "s0-1")}
    assert drawn == {
        "w0": ["deblur", "denoise", "sr", "faces"], "s0-0": ["deblur", "denoise"], "s0-1": ["sr", "faces"]
    }  # fmt: skip
    colors = {trace["name"]: trace["line"]["color"] for trace in figures["w0"]["data"]}
    assert [colors[trace["name"]] == trace["line"]["color"] for trace in figures["s0-1"]["data"]] == [True, True]
    assert "corrected for 4 comparisons (Holm)" in text
    against = comparisons.against(done)
    raw = [paired(getattr(done.outcomes[0], measure), getattr(other, measure), done.distance).p
           for other in done.outcomes[1:] for measure in ("mean", "worst")]  # fmt: skip
    assert [one.p for measures in against.values() for one in measures.values()] == holm(raw)
    alone = page.simulation(simulate("mild", ["des"], 3, 1))
    assert "(Holm)" not in alone and " ± " not in alone.split("</style>")[1].split("<script")[0]


def test_a_schedule_has_a_panel_for_each_score() -> None:
    scores = np.array([[20, 50], [21, np.nan], [22, 60.0]])
    strange = schedule.Schedule("task", ("<b>", "sr"), np.full((3, 2), 0.5), scores)
    text = page.schedule("s.parquet", strange)
    check_page(text)
    figures = json.loads(re.findall(r'id="figures">(.*?)</script>', text, re.DOTALL)[0])
    assert [len(figure["data"]) for figure in figures.values()] == [1, 1, 2]
    assert figures["score-1"]["data"][0]["y"] == [50, None, 60] and "&lt;b&gt;" in text
    bare = page.schedule("s.parquet", schedule.Schedule("task", ("a",), np.ones((2, 1))))
    assert "the schedule has no scores" in bare


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

    monkeypatch.setattr("mixer.page.simulation", fails)
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
