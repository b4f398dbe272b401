"""Several processes on the CPU (gloo): the same samples and weights as one, resumed by any number of them."""

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

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

SMALL = [
    "--batch", "5", "--crop", "24", "--workers", "0", "--set", "model.options.width=4", "--steps", "12",
    "--interval", "4", "--checkpoint", "2", "--keep", "9", "--rule", "des", "--eta", "0.5", "--device", "cpu",
    "--threads", "1", "--loss", "l1",
]  # fmt: skip


def _launch(processes: int, *arguments: str, cwd: Path, launcher: str = "torchrun") -> subprocess.Popen[str]:
    if processes == 1:
        start = [sys.executable, "-m", "trainer"]
    elif launcher == "torchrun":
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        start += ["-m", "trainer"]
    else:
        start = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes)]
        start += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "trainer"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*start, *arguments], cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _run(processes: int, *arguments: str, cwd: Path, launcher: str = "torchrun") -> tuple[int, str, str]:
    process = _launch(processes, *arguments, cwd=cwd, launcher=launcher)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def _facts(folder: Path) -> tuple[Any, ...]:
    """What must not depend on the number of processes: cursors, counts, and (nearly) weights and parameters."""
    state = json.loads((folder / "checkpoints" / "step-00000012" / "state.json").read_text())["state"]
    weights = pq.read_table(folder / "schedule.parquet").column("weight").to_numpy()
    parameters = load_file(folder / "checkpoints" / "step-00000012" / "ema.safetensors")
    exact = state["cursors"], state["samples_seen"], state["replaced"], state["step"]
    return exact, weights, np.concatenate([value.ravel() for _, value in sorted(parameters.items())])


def _assert_same(one: Path, other: Path) -> None:
    (exact, weights, parameters), (exact_2, weights_2, parameters_2) = _facts(one), _facts(other)
    assert exact == exact_2
    np.testing.assert_allclose(weights_2, weights, atol=1e-4)
    np.testing.assert_allclose(parameters_2, parameters, atol=2e-4)


@pytest.fixture(scope="module")
def alone(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    code, _, err = _run(1, "run", "--manifest", manifest, *SMALL, "-o", "run", cwd=folder)
    assert code == 0, err
    return folder / "run"


@pytest.mark.slow
def test_two_processes_train_as_one(alone: Path, manifest: str, tmp_path: Path) -> None:
    loaders = [*SMALL, "--workers", "1"]
    code, out, err = _run(2, "run", "--manifest", manifest, *loaders, "-o", "run", cwd=tmp_path)
    assert code == 0, err
    assert out.count("12 steps done") == 1 and err.count("step 12:") == 1  # one of them talks
    _assert_same(alone, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["resolved"]["processes"] == 2
    code, _, err = _run(2, "run", "--manifest", manifest, *SMALL, "-o", "run", cwd=tmp_path)
    assert code != 0 and err.count("exists already") == 1


@pytest.mark.slow
def test_another_number_of_processes_resumes_in_mid_interval(alone: Path, manifest: str, tmp_path: Path) -> None:
    shutil.copytree(alone, tmp_path / "run", symlinks=True)
    for step in (8, 10, 12):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step-{step:08d}")
    code, _, err = _run(2, "run", "-o", "run", "--resume", "--set", "optimiser.accumulate=2", cwd=tmp_path)
    assert code == 0, err
    _assert_same(alone, tmp_path / "run")


@pytest.mark.slow
def test_sigterm_stops_all_of_them_at_one_step(alone: Path, manifest: str, tmp_path: Path) -> None:
    longer = ["run", "--manifest", manifest, *SMALL, "-o", "run", "--resume"]
    process = _launch(2, *longer, cwd=tmp_path, launcher="accelerate")
    while process.poll() is None and not (tmp_path / "run" / "checkpoints" / "step-00000004").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    code, _, err = _run(1, *longer, cwd=tmp_path)
    assert code == 0, err
    _assert_same(alone, tmp_path / "run")
