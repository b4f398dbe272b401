"""NAFNet from shards against a bare PyTorch loop on tensors that are there: `python -m benchmarks.gpu.training`.

Same model, precision, optimizer and batch. Prints images a second of both in turn, their ratio, and the share of the
time that training waits for data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from typing import Any

import torch

from benchmarks.stream import _figure, _make_shards, _print

CUDA = torch.cuda.is_available()
PRESET, WIDTH, BATCH, CROP = ("gopro-width32", 32, 32, 256) if CUDA else ("tiny", 8, 4, 64)
WARM = 5  # steps before the clock starts


def main() -> None:
    """Measure, print a table, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds")
    parser.add_argument("--workers", type=int, default=max((os.cpu_count() or 2) - 2, 1))
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    rounds, steps = (2, 10) if options.quick else (5, 60)
    speed: dict[str, list[float]] = {"trained": [], "bare": []}
    waits = []
    with tempfile.TemporaryDirectory() as folder:
        shards = _make_shards(os.path.join(folder, "png"), "png", pairs=48)
        for _ in range(rounds):
            images, wait = _trained(shards, steps, options.workers)
            speed["trained"].append(images)
            waits.append(wait)
            speed["bare"].append(_bare(steps))
    ratio = statistics.median(a / b for a, b in zip(speed["trained"], speed["bare"], strict=True))
    device = torch.cuda.get_device_name() if CUDA else "CPU"
    what = f"NAFNet {PRESET} (width {WIDTH}), {CROP}², batch {BATCH}, {device}"
    waited = statistics.median(waits)
    figures = [
        _figure(f"{what}: from shards, {options.workers} workers", statistics.median(speed["trained"]), "images/s"),
        _figure(f"{what}: bare loop on tensors", statistics.median(speed["bare"]), "images/s"),
        _figure(f"{what}: from shards / bare", ratio, "x", 0.95, ratio >= 0.95),
        _figure(f"{what}: waiting for data", 100 * waited, "%", 2.0, waited < 0.02),
    ]
    _print(figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def _learner() -> Any:
    from trainer import config
    from trainer.learner import Learner
    from trainer.team import Team

    made = config.build(
        {"model": {"preset": PRESET, "options": {"width": WIDTH}}, "data": {"batch": BATCH, "crop": CROP}}
    )
    return Learner(made, Team("cuda" if CUDA else "cpu"))


def _trained(shards: str, steps: int, workers: int) -> tuple[float, float]:
    """Images a second, and the share of the time that went by in waiting."""
    from trainer.stream.index import open_index
    from trainer.stream.loader import Stream

    learner, waited = _learner(), 0.0
    with Stream(open_index(shards), batch=BATCH, crop=CROP, seed=0, workers=workers, pin=CUDA) as stream:
        batches = stream.batches({"denoise": 0.5, "low_light": 0.5}, {}, 0, 10**6, interval_start=0)
        for number in range(WARM + steps):
            if number == WARM:
                _settle()
                start, waited = time.perf_counter(), 0.0
            began = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - began
            learner.step(batch, number)
        _settle()
        spent = time.perf_counter() - start
    return steps * BATCH / spent, waited / spent


def _bare(steps: int) -> float:
    """Images a second of the shortest loop that trains the same."""
    learner = _learner()
    model, optimizer, device = learner.model, learner.optimizer, learner.team.device
    lq, gt = (torch.rand(BATCH, 3, CROP, CROP, device=device) for _ in range(2))
    for number in range(WARM + steps):
        if number == WARM:
            _settle()
            start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(lq.device.type, torch.bfloat16, enabled=learner.bf16):
            restored = model(lq)
        error = (restored.float() - gt).square().mean((1, 2, 3))
        (10.0 * torch.log10(error + 1e-8)).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    _settle()
    return steps * BATCH / (time.perf_counter() - start)


def _settle() -> None:
    if CUDA:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
