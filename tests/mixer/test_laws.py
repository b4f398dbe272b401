"""Laws: they find what made the data, their intervals hold, and they say when they know nothing."""

import json

import numpy as np
import pytest

from mixer import design, directions, laws, simplex, tables, validation
from mixer.errors import MixerError
from mixer.optimize import bounds, optimize, pareto

TASKS = ("blur", "haze", "noise")


def table_of(weights, names=TASKS, label="run"):
    return tables.Mixtures(label, tuple(str(i) for i in range(len(weights))), names, weights)


def scores_of(columns):
    values = np.stack(list(columns.values()), axis=1)
    return tables.Table("run", tuple(str(i) for i in range(len(values))), tuple(columns), values)


def weights_of(count, tasks=3, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(tasks), count)


def losses(weights, noise=0.0, seed=1):
    """Two losses with a known law of the exponential form."""
    rng = np.random.default_rng(seed)
    first = 2 + np.exp(0.5 + weights @ np.array([-3.0, 0.2, 0.4]))
    second = 1 + np.exp(0.1 + weights @ np.array([0.5, -1.0, -2.0]))
    return {"a": first + noise * rng.normal(size=len(first)), "b": second + noise * rng.normal(size=len(second))}


@pytest.fixture(scope="module")
def fitted():
    """form -> a law fitted to 80 runs with a little noise."""
    weights = weights_of(80)
    return {form: laws.fit(table_of(weights), scores_of(losses(weights, 0.02)), form, "min") for form in laws.names()}


@pytest.mark.parametrize("form", ["exp", "gp", "lgbm", "power"])
def test_a_law_ranks_what_it_has_not_seen(fitted, form):
    later = weights_of(200, seed=5)
    verdicts = validation.validate(fitted[form], table_of(later), scores_of(losses(later, 0.02, seed=6)))
    assert all(one.spearman > (0.9 if form == "lgbm" else 0.98) for one in verdicts)
    assert 0.8 < validation.mean(verdicts).covered < 0.98
    assert all(target.informative for target in fitted[form].targets)


def test_the_exponential_law_finds_its_parameters():
    weights = weights_of(60)
    law = laws.fit(table_of(weights), scores_of(losses(weights)), "exp", "min")
    mean, _ = law.predict(np.eye(3))
    np.testing.assert_allclose(mean, np.stack(list(losses(np.eye(3)).values()), axis=1), atol=0.02)


def test_scores_to_be_maximised_have_a_law_too():
    weights = weights_of(60)
    negated = {name: -value for name, value in losses(weights, 0.01).items()}
    law = laws.fit(table_of(weights), scores_of(negated), "exp", "max")
    down = laws.fit(table_of(weights), scores_of({n: -v for n, v in negated.items()}), "exp", "min")
    assert optimize(law).weights == pytest.approx(optimize(down).weights, abs=1e-3)


def test_short_runs_predict_long_ones():
    weights = np.repeat(weights_of(30), 3, axis=0)
    steps = np.tile([1000.0, 2000.0, 4000.0], 30)
    rng = np.random.default_rng(3)

    def loss(w, s):
        return 1 + (s / 2000) ** -0.4 * np.exp(0.2 + w @ np.array([-1.0, 0.3, 0.8]))

    runs = tables.Mixtures("run", tuple(map(str, range(90))), TASKS, weights, "steps", steps)
    law = laws.fit(runs, scores_of({"a": loss(weights, steps) + 0.01 * rng.normal(size=90)}), "power", "min")
    later = weights_of(50, seed=9)
    mean, _ = law.predict(law.inputs(later, 32_000))
    assert np.abs(mean[:, 0] - loss(later, 32_000)).max() < 0.05
    assert law.scale_default == 4000


def test_a_file_holds_the_whole_law(fitted, tmp_path):
    for form, law in fitted.items():
        path = str(tmp_path / f"{form}.json")
        laws.save(path, law)
        again = laws.load(path)
        points = weights_of(7, seed=8)
        for one, other in zip(law.predict(points), again.predict(points), strict=True):
            np.testing.assert_array_equal(one, other)
        assert again.direction == "min"


@pytest.mark.parametrize("content", ["", "{}", '{"equimix_law": 1}', "[1]"])
def test_what_is_no_law_is_one_line(tmp_path, content):
    (tmp_path / "law.json").write_text(content)
    with pytest.raises(MixerError, match="not a law that 'mixer fit' wrote"):
        laws.load(str(tmp_path / "law.json"))


def test_a_law_that_knows_nothing_says_so_and_proposes_the_prior():
    rng = np.random.default_rng(0)
    weights = weights_of(40)
    law = laws.fit(table_of(weights), scores_of({"a": rng.normal(size=40), "b": rng.normal(size=40)}), "gp", "min")
    assert not law.informative
    found = optimize(law, prior={"blur": 2, "haze": 1, "noise": 1})
    assert found.weights == pytest.approx({"blur": 0.5, "haze": 0.25, "noise": 0.25})
    assert "no score is predicted better than by a constant" in found.reason
    mixed = laws.fit(table_of(weights), scores_of({**losses(weights), "z": rng.normal(size=40)}), "exp", "min")
    assert "left out" in optimize(mixed).reason


def test_runs_that_went_wrong_are_named_and_do_not_widen_the_intervals():
    weights = weights_of(80)
    columns = {**losses(weights, 0.02), **{f"{n}2": v for n, v in losses(weights, 0.02, seed=4).items()}}
    for values in columns.values():
        values[[7, 30]] += 3.0
    law = laws.fit(table_of(weights), scores_of(columns), "gp", "min")
    assert law.odd_runs == ("7", "30")
    _, half = law.predict(weights_of(20, seed=2))
    assert half.max() < 0.15


@pytest.mark.parametrize("tasks", [2, 3, 4])
@pytest.mark.parametrize("objective", ["mean", "worst"])
def test_the_optimum_is_that_of_a_dense_grid(tasks, objective):
    rng = np.random.default_rng(tasks)
    weights = weights_of(60, tasks)
    names = tuple("abcd"[:tasks])
    slopes = rng.normal(size=(2, tasks)) * 2
    law = laws.fit(
        table_of(weights, names), scores_of({f"s{i}": 1 + np.exp(weights @ slopes[i]) for i in range(2)}), "gp", "min"
    )
    steps = 200 if tasks < 4 else 60
    grid = np.array(list(_grid(tasks, steps))) / steps
    values = law.predict(grid)[0]
    best = (values.mean(axis=1) if objective == "mean" else values.max(axis=1)).min()
    assert optimize(law, objective).objective <= best + 1e-4


def _grid(tasks, total):
    if tasks == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _grid(tasks - 1, total - first):
            yield (first, *rest)


def test_floors_ceilings_and_repetition_caps_are_exact(fitted):
    law = fitted["exp"]
    found = optimize(law, min_weight=0.1, max_weight={"blur": 0.3})
    values = np.array(list(found.weights.values()))
    assert values.min() >= 0.1
    assert found.weights["blur"] <= 0.3
    assert abs(values.sum() - 1) < 1e-12
    capped = optimize(law, available={"blur": 100, "haze": 4000, "noise": 4000}, samples=10_000, max_epochs=4)
    assert capped.weights["blur"] <= 0.04
    with pytest.raises(MixerError, match=r"allow 12\.5 epochs or more"):
        optimize(law, available={"blur": 100, "haze": 100, "noise": 600}, samples=10_000)
    with pytest.raises(MixerError, match=r"floors sum to 1\.2"):
        bounds(law, 0.4, 1.0, None, None, 4)


def test_the_prior_pulls(fitted):
    prior = {"blur": 0.2, "haze": 0.2, "noise": 0.6}
    near, far = (optimize(fitted["exp"], prior=prior, kl=kl) for kl in (10.0, 0.0))
    assert near.kl < 0.02 < far.kl
    assert near.objective > far.objective


def test_sensitivity_has_the_sign_of_the_slope(fitted):
    found = optimize(fitted["exp"])
    for moved in found.sensitivity.values():
        assert moved["more"] > -1e-6  # nothing near the optimum is better
        assert moved["less"] > -1e-6


def test_a_pareto_front_holds_no_mixture_that_another_beats(fitted):
    front = pareto(fitted["exp"], count=7)
    values = np.array([[one.predicted[name]["mean"] for name in ("a", "b")] for one in front])
    assert len(front) >= 4
    order = values[:, 0].argsort()
    assert (np.diff(values[order, 1]) <= 1e-9).all()


def test_projection_is_the_nearest_mixture():
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    box = simplex.Box(np.array([0.05, 0.0, 0.1, 0.0]), np.array([0.3, 0.6, 1.0, 0.25]))
    points = rng.normal(size=(50, 4))
    found = box.project(points)
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-15
    assert (found >= box.low).all()
    assert (found <= box.high).all()
    for point, ours in zip(points[:10], found, strict=False):
        theirs = minimize(
            lambda w, point=point: ((w - point) ** 2).sum(),
            np.full(4, 0.25),
            bounds=list(zip(box.low, box.high, strict=True)),
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        ).x
        assert ((ours - point) ** 2).sum() <= ((theirs - point) ** 2).sum() + 1e-8


def nearest(points):
    """The mean distance of a point to the one nearest to it."""
    apart = np.abs(points[:, None] - points[None]).sum(axis=2)
    apart[np.diag_indices(len(points))] = np.inf
    return apart.min(axis=1).mean()


def test_designs_fill_the_simplex_and_learn():
    made = design.design(TASKS, 20, min_weight=0.05)
    assert made.values_NxM.min() >= 0.05
    assert np.abs(made.values_NxM.sum(axis=1) - 1).max() < 1e-12
    np.testing.assert_allclose(made.values_NxM[0], 1 / 3)
    nearest = [
        min(np.abs(a - b).sum() for j, b in enumerate(made.values_NxM) if j != i) for i, a in enumerate(made.values_NxM)
    ]
    random = weights_of(20, seed=3)
    theirs = [min(np.abs(a - b).sum() for j, b in enumerate(random) if j != i) for i, a in enumerate(random)]
    assert np.mean(nearest) > np.mean(theirs)
    corner = np.array([w for w in weights_of(200) if w[0] > 0.5][:30])
    law = laws.fit(table_of(corner), scores_of(losses(corner, 0.01)), "gp", "min")
    told = design.design(TASKS, 4, law=law).values_NxM
    assert told[:, 0].min() < 0.1  # where no run has been


def test_tables_are_checked_in_one_line(tmp_path):
    def written(text):
        (tmp_path / "t.csv").write_text(text)
        return str(tmp_path / "t.csv")

    with pytest.warns(UserWarning, match="1 rows do not sum to 1"):
        made = tables.mixtures(written("run,a,b\n1,0.5,0.5\n2,0.402,0.6\n"))
    assert np.abs(made.weights_NxK.sum(axis=1) - 1).max() < 1e-15
    for text, message in (
        ("run,a,b\n1,0.5,0.4\n", "weights of row 1 sum to 0.9"),
        ("run,a,b\n1,1.2,-0.2\n", "weight -0.2 of 'b' is negative"),
        ("run,a,b\n1,x,0.5\n", "row 1, column 'a': 'x' is not a finite number"),
        ("run,a,b\n1,,0.5\n", "row 1, column 'a': nan is not a finite number"),
        ("run,a,b\n1,1,0\n1,0,1\n", "row '1' stands twice"),
        ("run\n1\n", "0 columns|1 columns"),
    ):
        with pytest.raises(MixerError, match=message):
            tables.mixtures(written(text))


def test_the_commands_work_together(mixer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = mixer("design", "--tasks", "blur,haze,noise", "-n", "24")
    assert code == 0, err
    runs = tables.mixtures("mixtures.csv")
    values = losses(runs.weights_NxK, 0.01)
    tables.write("scores.csv", tables.Table("index", runs.runs, ("a", "b"), np.stack(list(values.values()), axis=1)))
    code, out, err = mixer("fit", "mixtures.csv", "scores.csv", "--law", "exp", "--lower-is-better", "-o", "law.json")
    assert (code, "Spearman" in out) == (0, True), err
    assert mixer("fit", "mixtures.csv", "scores.csv", "-o", "law.json")[0] == 1  # never overwritten
    assert mixer("predict", "law.json", "mixtures.csv", "--intervals")[0] == 0
    predicted = tables.read("predicted.csv")
    assert (predicted.label, predicted.runs) == ("index", runs.runs)
    assert predicted.names == ("a", "b", "a.low", "b.low", "a.high", "b.high")
    code, out, _ = mixer("validate", "law.json", "mixtures.csv", "scores.csv")
    assert (code, "mean" in out) == (0, True)
    code, out, err = mixer(
        "optimize",
        "law.json",
        "--objective",
        "worst",
        "--min-weight",
        "0.05",
        "-o",
        "best.csv",
        "--schedule",
        "s.parquet",
    )
    assert code == 0, err
    best = tables.mixtures("best.csv").weights_NxK[0]
    from mixer import schedule

    assert list(schedule.read("s.parquet").weights(0).values()) == pytest.approx(best.tolist())
    assert mixer("optimize", "law.json", "--objective", "pareto", "-o", "front.csv")[0] == 0
    assert json.loads((tmp_path / "law.json").read_text())["direction"] == "min"


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("psnr", "max"), ("PSNR.denoise", "max"), ("ssim_mean", "max"), ("iqa.musiq-spaq", "max"), ("topiq_nr", "max"),
        ("lpips", "min"), ("niqe", "min"), ("iqa.piqe", "min"), ("val_loss", "min"), ("valid_pile_loss", "min"),
        ("train/loss", "min"), ("rmse", "min"), ("deblur", None), ("score", None), ("psnr_loss", None), ("a", None),
    ],
)  # fmt: skip
def test_the_name_of_a_score_tells_its_direction(name, way):
    assert directions.of(name) == way


def test_names_that_point_both_ways_must_be_said():
    with pytest.raises(MixerError, match="higher is better for 'psnr', lower for 'lpips'") as caught:
        directions.common(["psnr", "lpips"], None, "t.csv")
    assert caught.value.exit_code == 2
    assert directions.common(["psnr", "lpips"], "min", "t.csv") == "min"


def test_psnr_tables_are_maximised_and_the_direction_goes_along(mixer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = weights_of(40)
    runs = tuple(f"r{i}" for i in range(40))
    psnr = 30 - losses(weights, 0.01)["a"][:, None]
    tables.write("m.csv", tables.Table("run", runs, TASKS, weights))
    tables.write("s.csv", tables.Table("run", runs, ("psnr",), psnr))
    code, out, err = mixer("fit", "m.csv", "s.csv", "-o", "law.json")
    assert code == 0 and "psnr: higher is better" in out, err
    law = laws.load("law.json")
    assert law.direction == "max"
    best, worst = optimize(law), optimize(law, worst=True)
    assert best.objective > psnr.max() - 0.1 and worst.objective < psnr.min() + 0.1
    code, out, err = mixer("optimize", "law.json")
    assert code == 0 and "best mixture: " in out and "worst mixture: " in out and "psnr: higher is better" in out, err
    assert out.index("best mixture") < out.index("worst mixture")
    assert "higher is better" in mixer("predict", "law.json", "m.csv", "-o", "p.csv")[1]
    assert "higher is better" in mixer("validate", "law.json", "m.csv", "s.csv")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "m.csv", "nowhere.csv"], "nowhere.csv: no such file"),
        (
            ["fit", "m.csv", "s.csv", "--law", "magic", "--lower-is-better"],
            "unknown law 'magic'; known: exp, gp, lgbm, power",
        ),
        (["fit", "m.csv", "s.csv", "--direction", "up"], "min or max"),
        (["fit", "m.csv", "s.csv"], "the name of score 'a' does not tell which end is better"),
        (["fit", "m.csv", "s.csv", "--lower-is-better", "--higher-is-better"], "exclude each other"),
        (["fit", "m.csv", "other.csv"], "no name stands in both first columns"),
        (["fit", "m.csv", "flat.csv", "--lower-is-better"], "'a' is the same in every run"),
        (["design", "--tasks", "a"], "two different names"),
        (["optimize", "m.csv"], "not a law"),
    ],
)
def test_bad_usage_is_one_line(mixer, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    weights = weights_of(12)
    runs = tuple(f"r{i}" for i in range(12))
    tables.write("m.csv", tables.Table("run", runs, TASKS, weights))
    tables.write("s.csv", tables.Table("run", runs, ("a",), losses(weights)["a"][:, None]))
    tables.write("flat.csv", tables.Table("run", runs, ("a",), np.ones((12, 1))))
    tables.write("other.csv", tables.Table("run", tuple(f"x{i}" for i in range(12)), ("a",), weights[:, :1]))
    code, _, err = mixer(*arguments)
    assert code != 0
    assert message in err
    assert err.count("\n") == 1
