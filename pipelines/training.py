"""The trainer's calls as steps of a recipe: flat parameters in, and a step that was killed goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from manifests.errors import UserError


def train(
    manifest: str,
    output: str,
    *,
    rule: str = "equilibrium",
    eta: float | None = None,
    schedule: str | None = None,
    steps: int = 10_000,
    interval: int = 250,
    batch: int = 16,
    crop: int = 128,
    lr: float = 1e-3,
    loss: str = "psnr-floor",
    model: str = "nafnet",
    preset: str = "tiny",
    seed: int = 0,
    workers: int = 0,
    threads: int | None = None,
    reference_crop: int | None = None,
    upsampling: str = "random",
) -> str:
    """Train into the run folder `output`, resuming what is there; the parameters are those of `trainer run`.

    reference_crop: evaluate D_ref on centre crops of so many pixels. upsampling: see `trainer.config.Data`.
    """
    from trainer import config, loop

    given: dict[str, dict[str, Any]] = {
        "data": {"manifest": manifest, "batch": batch, "crop": crop, "workers": workers, "upsampling": upsampling},
        "model": {"name": model, "preset": preset},
        "optimiser": {"steps": steps, "lr": lr, "loss": loss},
        "mixture": {"rule": rule, "schedule": schedule, "params": {} if eta is None else {"eta": eta}},
        "evaluation": {"interval": interval, "crop": reference_crop},
        "run": {"seed": seed, "threads": threads},
    }
    done = loop.run(config.build(given), output, resume=True)
    if done.steps < steps:
        raise UserError(f"{output}: stopped at step {done.steps} of {steps}; the same command goes on", exit_code=143)
    return done.folder


def evaluate(
    checkpoint: str, manifest: str, output: str, *, split: str = "test", metrics: Sequence[str] = ("psnr", "ssim")
) -> str:
    """Score the run's newest checkpoint into the JSON `output`, anew."""
    from trainer.evaluate import evaluate as call

    _remove(output)
    return call(checkpoint, manifest, split=split, metrics=metrics, output=output).path


def report(run: str, output: str, *, evaluation: str | None = None) -> str:
    """Write the run's report to `output`, anew."""
    from trainer.report import report as call

    _remove(output)
    return call(run, evaluation=evaluation, output=output)


def _remove(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
