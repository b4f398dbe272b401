"""Tables of a law from run folders: written by the project's own writers, fitted, optimized; trouble by name."""

from __future__ import annotations

import os

import numpy as np
import pytest

from mixer import laws, tables
from mixer.collect import collect
from mixer.errors import MixerError
from mixer.optimize import optimize
from trainer import config, records

TASKS = ("denoise", "sr")


def run_of(folder, share, *, steps=100, done=None, metric="psnr", reference="f", tasks=TASKS):
    """A run folder of two evaluations: the more `denoise`, the better its PSNR; `sr` gains by its own share."""
    done = steps if done is None else done
    shares = dict(zip(tasks, (share, 1 - share), strict=True))
    rows = [
        {
            "step": step, "task": task, "metric": metric, "value": 20 + (step > 0) * np.log1p(5 * of), "n": 9,
            "lq": 20.0, "samples_seen": round(16 * step * of), "epochs": 1.0, "share": of if step else None,
        }
        for step in (0, done) for task, of in shares.items()
    ]  # fmt: skip
    os.makedirs(folder)
    said = records.identity(config.build({"optimiser": {"steps": steps}}), {"reference data": reference}, {})
    records.write_identity(str(folder), said)
    records.Records(str(folder), 0).tables([], rows)
    return str(folder)


def test_collected_runs_are_fitted_and_optimized(mixer, tmp_path):
    runs = [run_of(tmp_path / f"run-{k}", share) for k, share in enumerate(np.linspace(0.05, 0.95, 13))]
    out = tmp_path / "tables"
    code, text, err = mixer("collect", *runs, "-o", out)
    assert code == 0 and f"mixer fit {out}/mixtures.csv {out}/scores.csv -o {out}/law.json" in text, err
    mixtures, scores = tables.mixtures(f"{out}/mixtures.csv"), tables.read(f"{out}/scores.csv")
    assert mixtures.tasks == TASKS and scores.names == ("psnr.denoise", "psnr.sr")
    assert mixtures.weights_NxK[:, 0] == pytest.approx(np.linspace(0.05, 0.95, 13), abs=1e-3)
    assert scores.values_NxM[3, 0] == pytest.approx(20 + np.log1p(5 * np.linspace(0.05, 0.95, 13)[3]))
    code, text, err = mixer("fit", f"{out}/mixtures.csv", f"{out}/scores.csv", "-o", f"{out}/law.json")
    assert code == 0 and "higher is better" in text, err
    assert optimize(laws.load(f"{out}/law.json")).weights["sr"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"done": 60}, "b: is unfinished: evaluated up to step 60 of 100"),
        ({"tasks": ("denoise", "jpeg")}, "in tasks: denoise, jpeg, not denoise, sr"),
        ({"metric": "ssim"}, "in metrics: ssim.denoise, ssim.sr, not psnr.denoise, psnr.sr"),
        ({"reference": "g"}, "in the fingerprint of D_ref: g, not f"),
    ],
)
def test_runs_that_do_not_fit_are_named(tmp_path, change, message):
    first, other = run_of(tmp_path / "a", 0.3), run_of(tmp_path / "b", 0.6, **change)
    with pytest.raises(MixerError, match=message):
        collect([first, other], str(tmp_path / "t"))
    assert not os.path.exists(tmp_path / "t")


def test_lengths_the_best_evaluation_and_what_is_no_run(tmp_path):
    runs = [run_of(tmp_path / "a", 0.3), run_of(tmp_path / "b", 0.6, steps=200, metric="psnr")]
    paths = collect(runs, str(tmp_path / "t"), "best")
    assert tables.mixtures(paths[0]).scale == "steps"
    with pytest.raises(MixerError, match="exists already"):
        collect(runs, str(tmp_path / "t"))
    with pytest.raises(MixerError, match=r"has no config\.json"):
        collect([str(tmp_path)], str(tmp_path / "u"))
    with pytest.raises(MixerError, match="last or best"):
        collect(runs, str(tmp_path / "u"), "first")
