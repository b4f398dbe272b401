"""The closed loop: weights follow the scores, schedules are honoured, and a resume changes nothing."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import UserError
from mixer import schedule
from mixer.errors import MixerError
from trainer import checkpoint, config, evaluate, loop, losses, mixture, records, spikes
from trainer.learner import Learner
from trainer.stream.index import open_index
from trainer.team import Team

TINY: dict[str, Any] = {
    "data": {"batch": 4, "crop": 24, "workers": 0},
    "model": {"options": {"width": 4}},
    "optimiser": {"steps": 12, "warmup": 2},
    "mixture": {"rule": "des", "params": {"eta": 0.5}},
    "evaluation": {"interval": 4},
    "run": {"device": "cpu", "threads": 1},
}


def _config(manifest: str, *layers: dict[str, Any]) -> config.Config:
    return config.build(TINY, {"data": {"manifest": manifest}}, *layers)


def _rows(folder: str | Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(f"{folder}/{name}.parquet").to_pylist()
    return rows


@pytest.fixture(scope="module")
def straight(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of 12 steps that nothing disturbed, with every checkpoint kept."""
    out = str(tmp_path_factory.mktemp("straight") / "run")
    result = loop.run(_config(manifest, {"run": {"keep": 9}}), out)
    assert result.steps == 12 and result.skipped == 0
    return out


def test_weights_are_equation_3_of_the_recorded_scores(straight: str) -> None:
    rows = _rows(straight, "schedule")
    tasks = ["denoise", "low_light", "sr"]
    assert [(row["interval"], row["task"]) for row in rows] == [(i, task) for i in range(3) for task in tasks]
    score_IxK = np.array([row["score"] for row in rows]).reshape(3, 3)
    weight_IxK = np.array([row["weight"] for row in rows]).reshape(3, 3)
    expected = np.full(3, 1 / 3)
    np.testing.assert_allclose(weight_IxK[0], expected)
    for interval in (1, 2):
        raised = expected * np.exp(-0.5 * (score_IxK[interval] - score_IxK[interval - 1]))
        expected = raised / raised.sum()
        np.testing.assert_allclose(weight_IxK[interval], expected, atol=1e-12)
    assert np.ptp(weight_IxK[2]) > 1e-6


def test_metrics_hold_every_evaluation_and_the_realised_shares(straight: str, manifest: str) -> None:
    rows, planned = _rows(straight, "metrics"), _rows(straight, "schedule")
    assert [row["step"] for row in rows] == [step for step in (0, 4, 8, 12) for _ in range(3)]
    assert all(row["n"] == 8 and row["se"] > 0 and row["metric"] == "psnr" for row in rows)
    assert all(row["groups"] == 2 and row["gain"] == pytest.approx(row["value"] - row["lq"]) for row in rows)
    assert all(row["gain_se"] < row["se"] for row in rows), "paired with inputs measured at step 0 alone"
    assert any(row["gain_se"] > 0 for row in rows[-3:])
    for row in rows[3:]:
        weight = next(
            w["weight"] for w in planned if w["task"] == row["task"] and w["interval"] == row["step"] // 4 - 1
        )
        assert row["weight"] == weight
        assert abs(row["share"] * 16 - weight * 16) <= 1 + 1e-9
        assert row["train_loss"] is not None
    assert sum(row["samples_seen"] for row in rows[-3:]) == 48
    for row, scheduled in zip(rows[:9], planned, strict=True):
        assert row["value"] == scheduled["score"]
    assert evaluate.default_path(f"{straight}/checkpoints/x", "test", 12).startswith(straight)


def test_the_score_of_step_0_is_that_of_the_input(straight: str) -> None:
    for row in _rows(straight, "metrics")[:3]:
        assert row["value"] == pytest.approx(row["lq"], abs=1e-6)


def test_run_folder_holds_what_the_documents_say(straight: str) -> None:
    found = set(os.listdir(straight))
    assert found == {
        "config.json", "schedule.parquet", "metrics.parquet", "run.jsonl", "tensorboard", "samples", "checkpoints"
    }  # fmt: skip
    steps = [f"step-{s:08d}.png" for s in (0, 4, 8, 12)]
    assert sorted(os.listdir(f"{straight}/samples")) == ["gallery.png", *steps]
    events = [json.loads(line)["event"] for line in Path(straight, "run.jsonl").read_text().splitlines()]
    events = [event for event in events if not event.startswith("diagnosis")]
    assert events == ["start", *["weights", "evaluate"] * 3, "evaluate", "done"]
    said = json.loads(Path(straight, "config.json").read_text())
    assert said["config"]["mixture"]["params"] == {"eta": 0.5} and torch.__version__.startswith(
        said["versions"]["torch"]
    )


@pytest.mark.parametrize("step", [0, 4, 8, 12])
def test_a_resume_from_any_checkpoint_changes_nothing(straight: str, manifest: str, tmp_path: Path, step: int) -> None:
    again = str(tmp_path / "run")
    shutil.copytree(straight, again)
    for name in os.listdir(f"{again}/checkpoints"):
        if name.startswith("step") and int(name[5:]) > step:
            shutil.rmtree(f"{again}/checkpoints/{name}")
    loop.run(_config(manifest, {"run": {"keep": 9}}), again, resume=True)
    _assert_equal(straight, again)


def test_a_resume_inside_an_interval_changes_nothing(
    straight: str, manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, often = str(tmp_path / "run"), {"run": {"checkpoint": 1}}
    original = Learner.step
    calls = []

    def dies(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) in (3, 7, 12):
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(Learner, "step", dies)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            loop.run(_config(manifest, often), out, resume=True)
    loop.run(_config(manifest, often), out, resume=True)
    _assert_equal(straight, out)


def _assert_equal(one: str, other: str) -> None:
    for name in ("schedule.parquet", "metrics.parquet"):
        assert Path(one, name).read_bytes() == Path(other, name).read_bytes()
    for name in ("model", "ema", "optimizer"):
        path = f"checkpoints/step-00000012/{name}.safetensors"
        assert Path(one, path).read_bytes() == Path(other, path).read_bytes()


def test_a_damaged_checkpoint_is_passed_over(straight: str, manifest: str, tmp_path: Path, capfd: Any) -> None:
    again = str(tmp_path / "run")
    shutil.copytree(straight, again)
    Path(again, "checkpoints/step-00000012/model.safetensors").write_bytes(b"short")
    loop.run(_config(manifest, {"run": {"keep": 9}}), again, resume=True)
    assert "step-00000012" in capfd.readouterr().err
    _assert_equal(straight, again)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimiser": {"lr": 0.5}}, "optimiser.lr: 0.001, now 0.5"),
        ({"optimiser": {"steps": 8}}, "fewer steps: it is a run of 12, now 8"),
        ({"mixture": {"params": {"eta": 0.6}}}, "mixture.params.eta: 0.5, now 0.6"),
    ],
)
def test_a_resume_with_other_settings_is_refused(straight: str, manifest: str, change: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        loop.run(_config(manifest, {"run": {"keep": 9}}, change), straight, resume=True)


def test_a_resume_on_other_data_is_refused(straight: str, tmp_path: Path, photographs: Any) -> None:
    from manifests import table

    stored = json.loads(Path(straight, "config.json").read_text())
    whole = table.read(stored["config"]["data"]["manifest"])
    other = str(tmp_path / "other")
    table.write(other, whole.table().slice(1), roots=whole.roots, stages=whole.stages)
    with pytest.raises(UserError, match="data has changed"):
        loop.run(_config(other, {"run": {"keep": 9}}), straight, resume=True)


def test_used_and_foreign_folders_are_refused(straight: str, manifest: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already; go on with --resume"):
        loop.run(_config(manifest), straight)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="no run that could be resumed"):
        loop.run(_config(manifest), str(tmp_path), resume=True)
    with pytest.raises(UserError, match="is no run folder"):
        loop.run(_config(manifest), str(tmp_path), overwrite=True)
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_overwrite_deletes_an_earlier_run_once_the_new_one_can_begin(
    straight: str, manifest: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out, symlinks=True)
    before = sorted(os.listdir(out))
    short = {"optimiser": {"steps": 2}, "run": {"keep": 1}}
    with pytest.raises(UserError, match="no such manifest"):
        loop.run(_config(str(tmp_path / "none"), short), str(out), overwrite=True)
    assert sorted(os.listdir(out)) == before
    with pytest.raises(UserError, match="give one of them"):
        loop.run(_config(manifest, short), str(out), overwrite=True, resume=True)
    (out / "mine.txt").touch()
    with pytest.raises(UserError, match=r"holds 'mine\.txt'"):
        loop.run(_config(manifest, short), str(out), overwrite=True)
    (out / "mine.txt").unlink()
    assert loop.run(_config(manifest, short), str(out), overwrite=True).steps == 2
    steps = {name for name in os.listdir(out / "checkpoints") if name.startswith("step-")}
    assert "step-00000002" in steps and steps <= {"step-00000000", "step-00000002"}


def test_a_schedule_of_tasks_is_replayed_exactly(manifest: str, tmp_path: Path) -> None:
    weights = [{"denoise": 0.5, "low_light": 0.25, "sr": 0.25}, {"denoise": 0.0, "low_light": 0.75, "sr": 0.25}]
    rows = [{"interval": i, "task": t, "weight": w} for i, row in enumerate(weights) for t, w in row.items()]
    path = str(tmp_path / "given.parquet")
    schedule.write(path, rows)
    out = str(tmp_path / "run")
    loop.run(_config(manifest, {"mixture": {"schedule": path}}), out)
    assert [row["weight"] for row in _rows(out, "schedule")] == [w for i in (0, 1, 1) for w in weights[i].values()]
    realised = {(row["step"], row["task"]): row["share"] for row in _rows(out, "metrics")[3:]}
    assert realised == {(4 * i + 4, t): weights[min(i, 1)][t] for i in range(3) for t in weights[0]}


def _shards(folder: Path, manifest: str) -> str:
    """The manifest's pairs as tars of one task and split each."""
    import io
    import tarfile

    import pyarrow as pa

    from manifests import files, table

    opened = table.read(manifest)
    rows = opened.table().to_pylist()
    (folder / "shards").mkdir()
    for row in rows:
        row["shard"] = f"{row['task']}-{row['split']}-{row['group']}.tar"
    for name in {row["shard"] for row in rows}:
        with tarfile.open(folder / "shards" / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in (row for row in rows if row["shard"] == name):
                for side in ("lq", "gt"):
                    data = files.read(opened.locate(row["dataset"], row[f"{side}_path"]))
                    info = tarfile.TarInfo(f"{row['pair_id']}.{side}.png")
                    info.size = row[f"{side}_size"] = len(data)
                    row[f"{side}_offset"] = tar.offset + 512
                    tar.addfile(info, io.BytesIO(data))
    path = str(folder / "shards")
    table.write(path, pa.Table.from_pylist(rows), roots=opened.roots, stages=opened.stages)
    return path


def test_a_schedule_of_shards_is_honoured_exactly(manifest: str, tmp_path: Path) -> None:
    path = _shards(tmp_path, manifest)
    shards = [
        f"{task}-train-{group}.tar" for task in ("denoise", "low_light", "sr") for group in ("astronaut", "chelsea")
    ]
    weights = [[4, 0, 2, 2, 1, 7], [0, 8, 8, 0, 0, 0], [1, 1, 1, 1, 6, 6]]  # of 16
    rows = [
        {"interval": i, "shard": shard, "task": shard.split("-")[0], "weight": weight / 16}
        for i, row in enumerate(weights)
        for shard, weight in zip(shards, row, strict=True)
    ]
    schedule.write(str(tmp_path / "given.parquet"), rows)
    out = str(tmp_path / "run")
    loop.run(_config(path, {"mixture": {"schedule": str(tmp_path / "given.parquet")}}), out)
    drawn = checkpoint.find(out).state["state"]["cursors"]
    assert drawn == dict(zip(shards, np.sum(weights, 0).tolist(), strict=True))
    assert _rows(out, "schedule") == rows
    shares = [row["share"] * 16 for row in _rows(out, "metrics")[3:]]
    assert shares == [sum(row[2 * k : 2 * k + 2]) for row in weights for k in range(3)]


def test_a_schedule_that_does_not_fit_is_said(manifest: str, tmp_path: Path) -> None:
    path = str(tmp_path / "given.csv")
    Path(path).write_text("interval,task,weight\n0,denoise,0.5\n0,desnow,0.5\n")
    with pytest.raises(UserError, match="'desnow' is not in the training split"):
        loop.run(_config(manifest, {"mixture": {"schedule": path}}), str(tmp_path / "run"))
    with pytest.raises(MixerError, match="no such schedule"):
        loop.run(_config(manifest, {"mixture": {"schedule": "absent.parquet"}}), str(tmp_path / "run2"))


def test_a_static_mixture_and_a_lower_is_better_metric(manifest: str, tmp_path: Path) -> None:
    layer = {
        "mixture": {"rule": "static", "params": {}, "initial": {"denoise": 0.5, "low_light": 0.5, "sr": 0.0}},
        "evaluation": {"metrics": {"sr": "piqe", "denoise": "ssim"}, "crop": 32, "interval": 2},
        "optimiser": {"steps": 2},
    }
    base = {**TINY, "mixture": {}}
    out = str(tmp_path / "run")
    loop.run(config.build(base, {"data": {"manifest": manifest}}, layer), out)
    scheduled, measured = _rows(out, "schedule"), _rows(out, "metrics")
    assert [row["weight"] for row in scheduled] == [0.5, 0.5, 0.0]
    piqe = next(row for row in measured if row["metric"] == "piqe")
    assert piqe["value"] > 0 and scheduled[2]["score"] == -piqe["value"]
    assert measured[0]["metric"] == "ssim" and measured[-1]["share"] == 0.0
    assert "centre 32x32" in json.loads(Path(out, "config.json").read_text())["conventions"]["area"]


def test_a_step_without_a_number_is_skipped_and_counted(
    manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def sometimes(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return losses.l1(prediction, target) * (math.nan if len(calls) == 2 else 1.0)

    monkeypatch.setitem(losses.LOSSES, "l1", sometimes)
    layer = {"optimiser": {"steps": 4, "loss": "l1"}}
    result = loop.run(_config(manifest, layer), str(tmp_path / "run"))
    assert result.skipped == 1 and all(math.isfinite(score) for score in result.scores.values())
    found = checkpoint.find(str(tmp_path / "run"))
    assert sum(count for _, count in found.state["state"]["loss"].values()) == 0
    assert found.state["state"]["skipped"] == 1


def test_learning_rate_warms_up_and_falls() -> None:
    made = config.build({"optimiser": {"steps": 100, "warmup": 9, "lr": 2.0, "final": 0.1}})
    learner = Learner(made, Team("cpu"))
    rates = [learner.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.2) and max(rates) <= 2.0 and rates[100] == pytest.approx(0.2)
    assert rates[50] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))


def test_configs_are_checked() -> None:
    for layer, said in (
        ({"optimiser": {"lr": -1}}, "optimiser.lr: input should be greater than 0, not -1"),
        ({"optimizer": {}}, "optimizer: no such setting"),
        ({"data": {"batch": "many"}}, "data.batch"),
    ):
        with pytest.raises(UserError, match=said):
            config.build(layer)
    assert config.assign(["eta=0.3", "optimiser.lr=1e-4", "run.device=cpu"]) == {
        "mixture": {"params": {"eta": 0.3}}, "optimiser": {"lr": 1e-4}, "run": {"device": "cpu"}
    }  # fmt: skip
    with pytest.raises(UserError, match="name=value"):
        config.assign(["eta"])
    old = config.Config().model_dump(mode="json")
    new = config.build({"data": {"workers": 0, "manifest": "x"}, "run": {"keep": 7}}).model_dump(mode="json")
    assert config.differences(old, new) == []
    assert records.read_identity("/nonexistent") is None


def test_a_pair_that_cannot_be_read_does_not_end_a_run(
    manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainer.stream.reading import Reader, Row

    whole, index = Reader.pair, open_index(manifest, "train")
    bad = index.rows[int(index.members["sr"][0])].pair_id

    def pair(self: Reader, row: Row, **options: Any) -> Any:
        if row.pair_id == bad:
            raise UserError(f"disk: the LQ of pair {row.pair_id} (sr) is gone")
        return whole(self, row, **options)

    monkeypatch.setattr(Reader, "pair", pair)
    result = loop.run(_config(manifest), str(tmp_path / "run"))
    events = [json.loads(line) for line in (tmp_path / "run" / "run.jsonl").read_text().splitlines()]
    said = [one for one in events if one["event"] == "replaced"]
    assert result.steps == 12 and list(result.replaced) == [bad] and result.replaced[bad] == len(said) >= 1
    assert capsys.readouterr().err.count("another pair of its task takes its place") == 1


def test_no_task_is_seen_more_often_than_allowed(manifest: str, tmp_path: Path) -> None:
    layer = {
        "mixture": {"rule": "static", "params": {}, "initial": {"denoise": 0.5, "low_light": 0.25, "sr": 0.25}},
        "optimiser": {"steps": 12}, "data": {"batch": 8},
    }  # fmt: skip
    limits = {"mixture": {"max_epochs": {"denoise": 3.0, "sr": 2.5}}}
    out = str(tmp_path / "run")
    made = config.build({**TINY, "mixture": {}}, {"data": {"manifest": manifest}}, layer, limits)
    result = loop.run(made, out)
    seen = {row["task"]: row["samples_seen"] for row in _rows(out, "metrics")[-3:]}
    assert seen == {"denoise": 24, "sr": 20, "low_light": 96 - 44}  # of 8 pairs each
    assert result.epochs == {"denoise": 3.0, "low_light": 6.5, "sr": 2.5}
    assert {row["task"]: row["epochs"] for row in _rows(out, "metrics")[-3:]} == result.epochs
    rows = _rows(out, "schedule")
    held = np.array([row["weight"] for row in rows]).reshape(3, 3)
    np.testing.assert_allclose(held[0], [0.5, 0.25, 0.25])
    assert held[1][0] == pytest.approx(8 / 32, abs=1e-3) and held[2][0] == pytest.approx(0.0, abs=1e-3)
    np.testing.assert_allclose(held.sum(1), 1.0, atol=1e-9)
    asked = [row["weight"] for row in _rows(out, "metrics")[3:] if row["task"] == "denoise"]
    assert asked == [0.5] * 3  # metrics.parquet has what was asked for, and what was drawn
    wrong = {"mixture": {"max_epochs": {"snow": 2.0}}}
    with pytest.raises(UserError, match="names task 'snow', which has no pairs"):
        loop.run(_config(manifest, wrong), str(tmp_path / "other"))
    few = {"mixture": {"max_epochs": dict.fromkeys(("denoise", "sr", "low_light"), 1.0)}}
    with pytest.raises(UserError, match="allows 24 samples in all, steps times batch are 48"):
        loop.run(_config(manifest, few), str(tmp_path / "other"))


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.just(0.0) | st.floats(1e-9, 1.0), min_size=2, max_size=6).filter(lambda some: sum(some) > 1e-6),
    most=st.lists(st.floats(0.0, 1.5) | st.just(math.inf), min_size=6, max_size=6),
)
def test_what_one_task_may_not_give_the_others_do(weights: list[float], most: list[float]) -> None:
    total = sum(weights)
    asked = {str(k): weight / total for k, weight in enumerate(weights)}
    limit = {str(k): most[k] for k in range(len(weights))}
    if sum(limit.values()) < 1.0:
        return
    held = mixture._under(asked, limit)
    assert sum(held.values()) == pytest.approx(1.0, abs=1e-3)
    assert all(held[name] <= limit[name] + 1e-9 for name in held)
    untouched = [name for name in held if held[name] < limit[name] - 1e-9 and asked[name] > 0]
    ratios = [held[name] / asked[name] for name in untouched]
    assert not ratios or max(ratios) == pytest.approx(min(ratios), rel=1e-6)


def test_the_best_checkpoints_are_kept(manifest: str, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    layer = {"optimiser": {"steps": 24, "lr": 5e-3}, "evaluation": {"interval": 3}, "run": {"keep": 1}}
    loop.run(_config(manifest, layer), out)
    rows = _rows(out, "metrics")
    gains = np.array([row["value"] - row["lq"] for row in rows]).reshape(-1, 3)
    for name, best in (("mean", gains.mean(1)), ("worst", gains.min(1))):
        link = Path(out, "checkpoints", f"best-{name}")
        assert link.is_symlink() and os.readlink(link) == f"step-{3 * int(best.argmax()):08d}"
        assert checkpoint.find(str(link)).step == 3 * int(best.argmax())
    kept = {name for name in os.listdir(f"{out}/checkpoints") if name.startswith("step")}
    steps = {3 * int(gains.mean(1).argmax()), 3 * int(gains.min(1).argmax()), 24}
    assert kept == {f"step-{step:08d}" for step in steps}


def test_a_spike_of_the_loss_leads_back_and_on_with_other_samples(
    manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spikes, "LEAST", 5)
    layer = {"optimiser": {"steps": 16, "rollback": 1e3}, "evaluation": {"interval": 8}, "run": {"checkpoint": 2}}
    original, seen = Learner.step, list[tuple[int, list[str]]]()
    bad = set(range(9, 12))

    def step(self: Learner, batch: Any, number: int) -> Any:
        seen.append((number, list(batch.pair_id)))
        values, counts = original(self, batch, number)
        return ([1e9] * len(values) if len(seen) - 1 in bad else values), counts

    monkeypatch.setattr(Learner, "step", step)
    result = loop.run(_config(manifest, layer), str(tmp_path / "run"))
    assert result.steps == 16 and "back to step" in capsys.readouterr().err
    numbers = [number for number, _ in seen]
    back = next(k for k in range(1, len(numbers)) if numbers[k] <= numbers[k - 1])
    assert numbers[back - 1] == 11 and numbers[back:] == list(range(numbers[back], 16))
    first, again = dict(seen[:back]), dict(seen[back:])
    assert all(first[number] != again[number] for number in set(first) & set(again))
    state = checkpoint.find(str(tmp_path / "run")).state["state"]
    assert state["rollbacks"] == 1
    drawn = sum(state["cursors"].values())
    assert drawn == 4 * len(seen)  # no sample of the spike comes again in this epoch
    events = [json.loads(line) for line in (tmp_path / "run" / "run.jsonl").read_text().splitlines()]
    assert next(one for one in events if one["event"] == "rollback")["step"] == 12
    bad |= set(range(len(seen) + 8, 1000))
    with pytest.raises(UserError, match="lower --lr"):
        loop.run(_config(manifest, layer), str(tmp_path / "other"))


def test_trackers_are_accelerates(manifest: str, tmp_path: Path) -> None:
    loop.run(_config(manifest, {"run": {"trackers": ["tensorboard"]}}), str(tmp_path / "run"))
    assert list((tmp_path / "run" / "trackers").rglob("events*"))
    for name, said in (("wandb", "wandb is not installed"), ("paper", "unknown tracker 'paper'; accelerate has aim")):
        with pytest.raises(UserError, match=said):
            loop.run(_config(manifest, {"run": {"trackers": [name]}}), str(tmp_path / name))


def test_the_schema_of_the_settings_is_current() -> None:
    import jsonschema
    import yaml

    stored = Path(__file__).parents[2] / "docs" / "trainer.schema.json"
    assert stored.read_text() == config.schema(), "trainer config --schema > docs/trainer.schema.json"
    schema = json.loads(config.schema())
    jsonschema.validate(yaml.safe_load(config.defaults()), schema)
    for wrong in ({"optimizer": {}}, {"data": {"batch": 0}}, {"run": {"device": "tpu"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    assert config.build(yaml.safe_load(config.defaults())) == config.Config()


def test_remote_shards_are_trained_on_through_the_cache(manifest: str, tmp_path: Path) -> None:
    far = f"file://{_shards(tmp_path, manifest)}"
    layer = {"data": {"manifest": far, "cache": str(tmp_path / "cache"), "cache_gb": 0.001, "workers": 1}}
    loop.run(config.build(TINY, layer), str(tmp_path / "run"))
    events = [json.loads(line) for line in (tmp_path / "run" / "run.jsonl").read_text().splitlines()]
    fetched = [one["shards_fetched"] for one in events if one["event"] == "evaluate"]
    assert 0 < sum(fetched) <= 6
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 12  # those of D_ref as well
    assert all(0 <= one["data_wait"] <= 1 for one in events if one["event"] == "evaluate")
    ranged = {"data": {"manifest": far, "cache_gb": 0}}
    loop.run(config.build(TINY, ranged), str(tmp_path / "ranged"))
    one, other = (checkpoint.find(str(tmp_path / name)).fingerprint for name in ("run", "ranged"))
    assert one == other


def test_a_rule_says_that_the_run_has_too_few_evaluations(manifest: str, caplog: pytest.LogCaptureFixture) -> None:
    from trainer import config, mixture
    from trainer.stream.index import open_index

    mixed = mixture.Mixture(config.Mixture(), open_index(manifest), None)
    mixed.warn_of_few(10_000, 1_000)
    assert "equilibrium needs about 40 evaluations for 3 tasks, this run has 10" in caplog.text
    assert "evaluate more often (--interval 250), or probe less (--set start=2 --set turn=1)" in caplog.text
    caplog.clear()
    mixed.warn_of_few(10_000, 250)
    mixture.Mixture(config.Mixture(rule="des"), open_index(manifest), None).warn_of_few(10_000, 1_000)
    assert not caplog.text
