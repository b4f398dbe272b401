"""A run that does not learn says so, and why."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from manifests import table
from tests.trainer.conftest import build_manifest
from trainer import config, diagnosis, loop, losses
from trainer.state import State

TASKS = ("denoise", "sr")


def _case(
    *gains: float | None,
    every: int = 1000,
    steps: int = 10_000,
    share: float = 0.5,
    metric: str = "psnr",
    lq: float = 25.0,
    changed: float = 0.01,
    gradient: dict[str, Any] | None = None,
    **settings: Any,
) -> list[diagnosis.Diagnosis]:
    """What is found when task sr has had these gains at the evaluations since step 0, and denoise has learnt well."""
    state = State(step=every * len(gains), gradient=gradient or {})
    for number, gain in enumerate([0.0, *gains]):
        for task, mine in (("denoise", 2.0 * (number > 0)), ("sr", gain)):
            state.metrics.append(
                {
                    "step": number * every, "task": task, "metric": metric, "value": lq + (mine or 0.0), "se": 0.8,
                    "n": 8, "lq": None if mine is None else lq, "train_loss": -25.0 - (mine or 0.0),
                    "share": None if number == 0 else share if task == "sr" else 1 - share, "weight": share,
                    "samples_seen": int(number * every * 16 * share), "epochs": 2.0 * number,
                }
            )  # fmt: skip
    layer = {"optimiser": {"steps": steps, **settings.get("optimiser", {})}, "mixture": settings.get("mixture", {})}
    return diagnosis.judge(state, config.build(layer), dict.fromkeys(TASKS, settings.get("sign", 1.0)), changed)


def _kinds(found: list[diagnosis.Diagnosis]) -> list[tuple[str, str | None]]:
    return [(one.kind, one.task) for one in found]


def test_a_task_without_a_gain_is_flat_after_enough_evaluations() -> None:
    assert _case(0.01) == []  # one evaluation says little
    assert _kinds(_case(0.01, -0.01)) == [("flat", "sr")]
    assert _case(0.01, 0.3) == [] and _case(0.3, 0.01) == []
    assert _kinds(_case(0.01, steps=1000)) == [("flat", "sr")]  # there comes no other
    assert _kinds(_case(-0.5, -0.4)) == [("worse", "sr")]
    assert _kinds(_case(0.0, 0.0, metric="ssim")) == [("flat", "sr")]


def test_too_few_steps_are_no_flat_task() -> None:
    found = _case(0.0, every=300, steps=300)
    assert _kinds(found) == [("early", None)] and "sr +0.000" in found[0].text and "--resume --steps" in found[0].advice
    assert _case(0.0, every=300, steps=600) == []  # the run goes on


def test_an_identity_is_said_once_for_all_tasks() -> None:
    found = _case(0.0, 0.0, changed=1e-5, optimiser={"loss": "psnr"})
    assert _kinds(found) == [("identity", None)] and "default --loss" in found[0].advice
    assert "warms up" in _case(0.0, changed=0.0, every=50)[0].advice


def test_scores_and_losses_that_fall_explode() -> None:
    found = _case(0.5, -3.5)
    assert _kinds(found) == [("exploding", "sr")] and "3.50 behind" in found[0].text and "lower --lr" in found[0].advice
    assert _kinds(_case(4.0, 0.5)) == [("exploding", "sr")]  # its training loss has risen by 3.5 dB
    assert _case(4.0, 0.5, share=0.001, mixture={"rule": "static"}) == []  # too few samples to tell


def test_a_task_whose_inputs_equal_their_gts_is_not_called_exploding() -> None:
    found = _case(-56.3, -59.0, lq=100.0)
    assert _kinds(found) == [("dead", "sr")] and "equal their GTs" in found[0].text and "--lr" not in found[0].advice


def test_a_metric_where_lower_is_better_is_turned() -> None:
    found = _case(-5.0, -5.0, metric="piqe", sign=-1.0)
    assert _kinds(found) == [("worse", "denoise")]  # whose score has risen by 2


def test_tasks_that_are_not_trained_are_dead() -> None:
    assert _kinds(_case(1.0, 1.0, share=0.0)) == [("dead", "sr")]
    assert _kinds(_case(1.0, 1.0, share=0.02)) == [("dead", "sr")]
    assert _case(1.0, 1.0, share=0.02, mixture={"rule": "sequential"}) == []
    assert _case(1.0, share=0.0, mixture={"rule": "sequential"}) == []  # its turn may come
    assert _kinds(_case(1.0, share=0.0, steps=1000, mixture={"rule": "static"})) == [("dead", "sr")]
    gradient = {"tasks": {"sr": [0.0, 50], "denoise": [3.0, 50]}}
    assert _kinds(_case(1.0, 1.0, gradient=gradient)) == [("dead", "sr")]


def test_few_pairs_that_rule_the_loss_are_named() -> None:
    def tallied(ruling: float, pairs: int = 150) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        for _ in range(4):
            names = [f"p{number}" for number in range(pairs)]
            diagnosis.tally(counts, ["sr"] * pairs, names, [ruling if name == "p7" else 1.0 for name in names])
        return counts

    found = _case(1.0, 1.0, gradient=tallied(300.0))
    assert _kinds(found) == [("few_pairs", None)]
    assert all(part in found[0].text for part in ("p7", "1 of 150", "67%"))
    assert _case(1.0, 1.0, gradient=tallied(3.0)) == []
    assert _case(1.0, 1.0, gradient=tallied(300.0, pairs=8)) == []


def test_the_tally_stays_small_and_keeps_what_is_large() -> None:
    counts: dict[str, Any] = {}
    for start in range(0, 20_000, 100):
        names = [f"p{number}" for number in range(start, start + 99)] + ["ruling"]
        diagnosis.tally(counts, ["sr"] * 100, names, [1.0] * 99 + [500.0])
    assert len(counts["pairs"]) <= diagnosis.TALLIED and counts["pairs"]["ruling"] == [200 * 500.0, 200]
    assert counts["total"] == [200 * 599.0, 20_000]
    before = json.dumps(counts)
    diagnosis.tally(counts, ["sr"], ["p"], [math.nan])
    assert json.dumps(counts) == before == json.dumps(json.loads(before))


def test_gradients_are_those_of_the_loss_by_its_output() -> None:
    from trainer.learner import Learner
    from trainer.stream.loader import Batch
    from trainer.team import Team

    made = config.build({"optimiser": {"loss": "psnr", "accumulate": 2}, "model": {"options": {"width": 4}}})
    learner = Learner(made, Team("cpu"))
    lq, gt = torch.rand(3, 3, 16, 16), torch.rand(3, 3, 16, 16)
    learner.step(Batch(0, [], [], [], lq, gt, ["a"] * 3, ["p"] * 3), 0)
    output = lq.clone().requires_grad_()  # the untrained model returns its input
    losses.psnr(output, gt).sum().backward()
    assert output.grad is not None
    assert learner.norms == pytest.approx(output.grad.flatten(1).norm(dim=1).tolist(), rel=1e-4)


# ---- whole runs

RUN: dict[str, Any] = {
    "data": {"batch": 8, "crop": 32, "workers": 0},
    "model": {"options": {"width": 4}},
    "optimiser": {"steps": 60, "warmup": 5, "lr": 4e-3},
    "mixture": {"rule": "uniform"},
    "evaluation": {"interval": 30, "crop": 32},
    "run": {"device": "cpu", "threads": 1},
}


def test_one_identical_pair_does_not_stop_training(photographs: Any, tmp_path: Path) -> None:
    clean = build_manifest(tmp_path / "clean", photographs, tasks=("denoise",))
    source = table.read(clean)
    rows = [row for row in source.table().to_pylist() if row["split"] != "test"]
    bad = next(row for row in rows if row["split"] == "train")
    bad.update(lq_path=bad["gt_path"], **{"lq.sha256": bad["gt_sha256"]})
    for row in rows:  # more to train on, so that one pair is one of many
        row["split"] = "train" if row["pair_id"] == bad["pair_id"] or row["group"] != "rocket" else "ref"
    planted = str(tmp_path / "planted")
    table.write(planted, pa.Table.from_pylist(rows), roots=source.roots, stages=source.stages)
    without = str(tmp_path / "without")
    rest = [row for row in rows if row["pair_id"] != bad["pair_id"]]
    table.write(without, pa.Table.from_pylist(rest), roots=source.roots, stages=source.stages)

    def gain(path: str, name: str, **optimiser: Any) -> float:
        layer = {"data": {"manifest": path}, "optimiser": {"steps": 90, **optimiser}, "evaluation": {"interval": 90}}
        result = loop.run(config.build(RUN, layer), str(tmp_path / name))
        return result.scores["denoise"] - pq.read_table(tmp_path / name / "metrics.parquet").to_pylist()[0]["value"]

    gained, robust, ruled = gain(without, "a"), gain(planted, "b"), gain(planted, "c", loss="psnr")
    assert gained > 2.5 and robust > gained - 0.3
    assert ruled < robust - 0.6
    found = diagnosis.read(str(tmp_path / "c"))
    assert "few_pairs" in {one.kind for one in found}
    assert not {one.kind for one in diagnosis.read(str(tmp_path / "b"))} & {"few_pairs", "identity"}


def test_a_diagnosis_is_said_and_written_and_ends(
    manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diagnosis, "UNCHANGED", 1.0)
    original = diagnosis.judge
    result = loop.run(config.build(RUN, {"data": {"manifest": manifest}}), str(tmp_path / "run"))
    err = capsys.readouterr().err
    assert err.count("diagnosis: the model returns its input") == 2  # when seen first, and at the end
    assert [one.kind for one in result.diagnoses if one.kind == "identity"] == ["identity"]
    stored = diagnosis.read(str(tmp_path / "run"))
    assert stored[0].kind == "identity" and stored[0].step == 30 and stored[0].advice

    def once(state: State, *rest: Any) -> list[diagnosis.Diagnosis]:
        return original(state, *rest) if state.step == 30 else []

    monkeypatch.setattr(diagnosis, "judge", once)
    result = loop.run(config.build(RUN, {"data": {"manifest": manifest}}), str(tmp_path / "over"))
    assert result.diagnoses == () and diagnosis.read(str(tmp_path / "over")) == []
    assert diagnosis.read(str(tmp_path / "absent")) == []


def test_what_a_resume_went_back_behind_is_forgotten(tmp_path: Path) -> None:
    def said(step: int, kind: str) -> dict[str, Any]:
        return {"event": "diagnosis", "step": step, "task": None, "kind": kind, "text": "x", "advice": "y"}

    events = [said(4, "early"), said(8, "identity"), {"event": "resume", "step": 6}]
    (tmp_path / "run.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events) + '{"event": "diag')
    assert [one.kind for one in diagnosis.read(str(tmp_path))] == ["early"]
