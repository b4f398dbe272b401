"""A run is made longer by --resume with more steps, and Ctrl-C says how to go on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from manifests.errors import UserError
from trainer import checkpoint, config, loop
from trainer.learner import Learner
from trainer.team import Team

SMALL: dict[str, Any] = {
    "data": {"batch": 4, "crop": 24, "workers": 0},
    "model": {"options": {"width": 4}},
    "optimiser": {"warmup": 2},
    "mixture": {"rule": "des", "params": {"eta": 0.5}},
    "evaluation": {"interval": 4, "crop": 24},
    "run": {"device": "cpu", "threads": 1, "keep": 99, "checkpoint": 1},
}


def _train(manifest: str, out: str, steps: int, **options: Any) -> loop.RunResult:
    layer = {"data": {"manifest": manifest}, "optimiser": {"steps": steps}}
    return loop.run(config.build(SMALL, layer), out, **options)


def _rows(folder: str, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(f"{folder}/{name}.parquet").to_pylist()
    return rows


def _back_to(folder: str, step: int) -> None:
    for name in os.listdir(f"{folder}/checkpoints"):
        if name.startswith("step") and int(name[5:]) > step:
            shutil.rmtree(f"{folder}/checkpoints/{name}")


def _assert_equal(one: str, other: str, step: int) -> None:
    for name in ("schedule.parquet", "metrics.parquet"):
        assert Path(one, name).read_bytes() == Path(other, name).read_bytes()
    for name in ("model", "ema", "optimizer"):
        path = f"checkpoints/step-{step:08d}/{name}.safetensors"
        assert Path(one, path).read_bytes() == Path(other, path).read_bytes()


@pytest.fixture(scope="module")
def longer(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of 6 steps, in mid-interval, that a resume made one of 10."""
    out = str(tmp_path_factory.mktemp("longer") / "run")
    _train(manifest, out, 6)
    assert _train(manifest, out, 10, resume=True).steps == 10
    return out


def test_a_run_is_made_longer(longer: str) -> None:
    assert sorted({row["step"] for row in _rows(longer, "metrics")}) == [0, 4, 6, 8, 10]
    assert sorted({row["interval"] for row in _rows(longer, "schedule")}) == [0, 1, 2]
    assert sum(row["samples_seen"] for row in _rows(longer, "metrics")[-3:]) == 40
    said = json.loads(Path(longer, "config.json").read_text())
    assert said["config"]["optimiser"]["steps"] == 10 and said["extended"] == [{"step": 6, "steps": 6}]
    events = [json.loads(line) for line in Path(longer, "run.jsonl").read_text().splitlines()]
    extended = next(event for event in events if event["event"] == "extended")
    assert (extended["step"], extended["before"], extended["steps"]) == (6, 6, 10)


@pytest.mark.parametrize("step", [2, 5, 6, 7, 9])
def test_a_longer_run_is_resumed_bit_by_bit(longer: str, manifest: str, tmp_path: Path, step: int) -> None:
    again = str(tmp_path / "run")
    shutil.copytree(longer, again)
    _back_to(again, step)
    _train(manifest, again, 10, resume=True)
    _assert_equal(longer, again, 10)


def test_what_was_done_before_stays_as_it_is(longer: str, manifest: str, tmp_path: Path) -> None:
    short = str(tmp_path / "run")
    _train(manifest, short, 6)
    for step in range(1, 7):
        path = f"checkpoints/step-{step:08d}/model.safetensors"
        assert Path(short, path).read_bytes() == Path(longer, path).read_bytes()


def test_a_stopped_run_is_made_longer_before_its_end(manifest: str, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    _train(manifest, out, 8)
    _back_to(out, 5)
    _train(manifest, out, 12, resume=True)
    assert sorted({row["step"] for row in _rows(out, "metrics")}) == [0, 4, 8, 12]
    again = str(tmp_path / "again")
    shutil.copytree(out, again)
    _back_to(again, 6)
    _train(manifest, again, 12, resume=True)
    _assert_equal(out, again, 12)
    with pytest.raises(UserError, match="fewer steps: it is a run of 12, now 9"):
        _train(manifest, out, 9, resume=True)


def test_the_learning_rate_goes_over_to_the_longer_cosine() -> None:
    def rates(steps: int, extended: list[dict[str, int]]) -> list[float]:
        learner = Learner(config.build({"optimiser": {"steps": steps, "warmup": 4, "final": 0.0}}), Team("cpu"))
        learner.extended = extended
        return [learner.rate(step) for step in range(steps + 1)]

    short, long, both = rates(20, []), rates(40, []), rates(40, [{"step": 20, "steps": 20}])
    assert both[:20] == short[:20] and both[24:] == pytest.approx(long[24:])
    assert both[20] == pytest.approx(long[20] / 5) and sorted(both[20:24]) == both[20:24]
    twice = rates(80, [{"step": 20, "steps": 20}, {"step": 22, "steps": 40}])
    assert twice[:22] == both[:22] and twice[26:] == pytest.approx(rates(80, [])[26:])


@pytest.mark.slow
def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(manifest: str, tmp_path: Path) -> None:
    arguments = ["run", "--manifest", manifest, "-o", "run", "--batch", "4", "--crop", "24", "--workers", "1"]
    arguments += ["--steps", "4000", "--set", "model.options.width=4", "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *arguments], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not (tmp_path / "run" / "checkpoints" / "step-00000000").exists():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it, loaders included
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.splitlines()[-1].startswith("trainer: stopped at step ") and "go on with --resume" in err
    assert checkpoint.find(str(tmp_path / "run")).step < 4000
