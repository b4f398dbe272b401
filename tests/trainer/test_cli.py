"""The command line: help, bad input in one line, and runs that are killed and go on."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from manifests.errors import UserError
from trainer.cli import app

PROGRAM = [sys.executable, "-c", "from trainer.cli import main; main()"]
SMALL = [
    "--batch", "4", "--crop", "24", "--workers", "0", "--set", "model.options.width=4", "--steps", "18",
    "--interval", "6", "--checkpoint", "2", "--rule", "des", "--eta", "0.5", "--device", "cpu", "--threads", "1",
]  # fmt: skip


def _start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [*PROGRAM, *arguments], cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _call(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    process = _start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_one_that_was_not(manifest: str, tmp_path: Path) -> None:
    run = ["run", "--manifest", manifest, *SMALL]
    code, _, err = _call(*run, "-o", "straight", cwd=tmp_path)
    assert code == 0, err
    checkpoints = tmp_path / "killed" / "checkpoints"
    dice = random.Random(time.time_ns())

    def has(*names: str) -> Callable[[], bool]:
        return lambda: any((checkpoints / name).exists() for name in names)

    moments: list[Callable[[], bool]] = [
        (tmp_path / "killed" / "config.json").exists,  # before the first checkpoint
        lambda: checkpoints.exists() and any(name.startswith(".step-") for name in os.listdir(checkpoints)),
        has(*(f"step-{step:08d}" for step in (4, 6, 8))),
        has("step-00000012", "step-00000014"),
    ]
    for moment in moments:
        process = _start(*run, "-o", "killed", "--resume", cwd=tmp_path)
        while process.poll() is None and not moment():
            time.sleep(0.001)
        time.sleep(dice.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, _, err = _call(*run, "-o", "killed", "--resume", cwd=tmp_path)
    assert code == 0, err
    names = ["schedule.parquet", "metrics.parquet"]
    names += [f"checkpoints/step-00000018/{part}.safetensors" for part in ("model", "ema", "optimizer")]
    for name in names:
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    code, out, _ = _call("run", "-o", "killed", "--resume", cwd=tmp_path)
    assert code == 0 and "18 steps done" in out


def test_help_is_quick_and_has_an_example_everywhere(tmp_path: Path) -> None:
    probe = "import sys; import trainer.cli; print(sorted({'torch', 'numpy', 'plotly', 'pandas'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    for command in ("run", "eval", "restore", "report", "models"):
        shown = CliRunner().invoke(app, [command, "--help"])
        assert shown.exit_code == 0 and f"Example: trainer {command}" in shown.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run"], 1, "no such manifest"),
        (["run", "--manifest", "{manifest}", "--metric", "psnr"], 2, "write TASK=NAME"),
        (["run", "--manifest", "{manifest}", "--metric", "denoise=psnrr"], 2, "did you mean psnr"),
        (["run", "--manifest", "{manifest}", "--metric", "snow=psnr"], 2, "not in D_ref"),
        (["run", "--manifest", "{manifest}", "--rule", "dess"], 2, "unknown rule"),
        (["run", "--manifest", "{manifest}", "--rule", "des", "--eta", "-1"], 2, "a number above 0"),
        (["run", "--manifest", "{manifest}", "--schedule", "absent.parquet"], 1, "no such schedule"),
        (["run", "--manifest", "{manifest}", "--set", "data.crops=3"], 2, "data.crops: no such setting"),
        (["run", "--manifest", "{manifest}", "--preset", "huge"], 2, "unknown preset"),
        (["run", "--manifest", "{manifest}", "--config", "absent.yaml"], 1, "No such file"),
        (["eval", "absent"], 1, "no such checkpoint"),
        (["eval", "absent", "--metrics", "nonsensical"], 2, "unknown metric"),
        (["restore", "absent", "x.png"], 1, "no such checkpoint"),
        (["report", "absent"], 1, "not a run folder"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], code: int, said: str, manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from trainer import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["trainer", *(part.format(manifest=manifest) for part in arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr().err
    assert ended.value.code == code and said in shown
    assert shown.startswith("trainer: ") and shown.count("\n") == 1


@pytest.mark.slow
def test_the_commands_work_one_after_the_other(
    manifest: str, tmp_path: Path, photographs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(manifest).parent)  # ./manifest is found by itself
    there = [str(tmp_path / name) for name in ("settings.yaml", "a.jpg", "b.png", "run", "restored")]
    settings, good, bad, run, restored = there
    Path(settings).write_text("data: {batch: 4, crop: 24, workers: 0}\nmodel: {options: {width: 4}}\n")
    cli = CliRunner()
    ran = cli.invoke(app, ["run", "--config", settings, "--steps", "4", "--interval", "2", "-o", run])
    assert ran.exit_code == 0 and "run: 4 steps done" in ran.output
    shown = cli.invoke(app, ["eval", run, "--metrics", "psnr,ssim", "--device", "cpu"])
    assert shown.exit_code == 0 and "denoise" in shown.output and "fingerprint" in shown.output
    Image.fromarray(photographs["china"][:40, :50]).save(good)
    Path(bad).write_bytes(b"not an image")
    done = cli.invoke(app, ["restore", run, bad, good, "-o", restored])
    assert done.exit_code == 1 and "b.png: not an image" in done.output
    assert Image.open(f"{restored}/a.png").size == (50, 40)
    assert cli.invoke(app, ["report", run]).output.strip() == f"{run}/report.html"
    again = cli.invoke(app, ["report", run])
    assert isinstance(again.exception, UserError) and "exists already" in str(again.exception)


def test_models_are_listed() -> None:
    shown = CliRunner().invoke(app, ["models"])
    assert re.search(r"nafnet\s+gopro-width32\s+17\.11 M", shown.output)


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_0(manifest: str, tmp_path: Path) -> None:
    run = ["run", "--manifest", manifest, *SMALL]
    assert _call(*run, "-o", "straight", cwd=tmp_path)[0] == 0
    folder = tmp_path / "stopped"
    moments: list[Callable[[], bool]] = [
        (folder / "config.json").exists,
        (folder / "metrics.parquet").exists,
        (folder / "checkpoints" / "step-00000008").exists,
    ]
    for moment in moments:
        process = _start(*run, "-o", "stopped", "--resume", cwd=tmp_path)
        while process.poll() is None and not moment():
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "stopped by SIGTERM, go on with --resume" in out or "18 steps done" in out
    assert '"stopped"' in (folder / "run.jsonl").read_text()
    assert _call(*run, "-o", "stopped", "--resume", cwd=tmp_path)[0] == 0
    for name in ("schedule.parquet", "checkpoints/step-00000018/model.safetensors"):
        assert (tmp_path / "straight" / name).read_bytes() == (folder / name).read_bytes(), name
    code, out, _ = _call("show", "straight", cwd=tmp_path)
    assert code == 0 and "rule: des" in out and "evaluated at step 18 of 18" in out and "step-00000018" in out
    assert "'commit':" in out or "git: None" in out
    assert _call("show", "absent", cwd=tmp_path)[0] == 1
