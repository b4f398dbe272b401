"""The step: whatever memory format, accumulation, recomputation or compiler is used, it learns the same."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch

from trainer import config, spikes
from trainer.learner import Learner
from trainer.stream.index import open_index
from trainer.stream.loader import Stream
from trainer.team import Team


def _trained(manifest: str, steps: int = 4, **layers: Any) -> tuple[Learner, list[list[float]]]:
    base = {
        "data": {"batch": 6, "crop": 24, "manifest": manifest},
        "model": {"options": {"width": 4}},
        "optimiser": {"steps": 8, "warmup": 2, "loss": "l1"},
    }
    made = config.build(base, layers)
    learner, losses = Learner(made, Team("cpu")), []
    with Stream(open_index(manifest), batch=6, crop=24, seed=0) as stream:
        for batch in stream.batches({"denoise": 0.5, "sr": 0.5}, {}, 0, steps, interval_start=0):
            values, counts = learner.step(batch, batch.step)
            assert counts
            losses.append(values)
    return learner, losses


def _flat(learner: Learner) -> np.ndarray:
    return torch.cat([value.flatten() for value in learner.ema.average.state_dict().values()]).numpy()


@pytest.fixture(scope="module")
def plain(manifest: str) -> tuple[Learner, list[list[float]]]:
    return _trained(manifest)


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": {"accumulate": 2}},
        {"optimiser": {"accumulate": 4}},  # pieces of 2, 2, 1 and 1
        {"optimiser": {"accumulate": 99}},
        {"optimiser": {"checkpointing": True}},
        {"run": {"channels_last": True}},
    ],
)
def test_how_it_is_computed_changes_nothing_but_rounding(
    plain: tuple[Learner, list[list[float]]], manifest: str, change: dict[str, Any]
) -> None:
    learner, losses = _trained(manifest, **change)
    np.testing.assert_allclose(losses, plain[1], atol=1e-5)
    np.testing.assert_allclose(_flat(learner), _flat(plain[0]), atol=1e-4)


def test_recomputation_keeps_fewer_activations(manifest: str) -> None:
    kept: dict[bool, int] = {}
    for recomputes in (False, True):
        made = config.build({"optimiser": {"checkpointing": recomputes}, "model": {"options": {"width": 8}}})
        learner, sizes = Learner(made, Team("cpu")), []

        def pack(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            learner.model(torch.rand(1, 3, 32, 32))
        kept[recomputes] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_model_learns_the_same(plain: tuple[Learner, list[list[float]]], manifest: str) -> None:
    learner, losses = _trained(manifest, run={"compile": True})
    np.testing.assert_allclose(losses, plain[1], atol=1e-4)
    np.testing.assert_allclose(_flat(learner), _flat(plain[0]), atol=1e-3)


def test_bf16_is_close(plain: tuple[Learner, list[list[float]]], manifest: str) -> None:
    learner, losses = _trained(manifest, optimiser={"precision": "bf16"})
    assert learner.bf16
    np.testing.assert_allclose(losses, plain[1], atol=5e-3)


def test_a_spike_is_measured_by_what_came_before() -> None:
    rng = np.random.default_rng(0)
    recent: list[float] = []
    off, steps_off = 0, 0
    for value in (-30 + rng.normal(0, 1, 400)).tolist():  # a psnr loss
        recent, off = spikes.note(recent, off, value, 8.0)
        steps_off = max(steps_off, off)
    assert steps_off == 0 and len(recent) == spikes.WINDOW
    for count in (1, 2, 3):
        recent, off = spikes.note(recent, off, -10.0 if count < 3 else float("nan"), 8.0)
        assert off == count
    assert spikes.note(recent, off, -30.0, 8.0)[1] == 0
    assert not spikes.is_off(recent[: spikes.LEAST - 1], 1e9, 8.0)
    assert not spikes.is_off([1.0] * 60, 1.0, 8.0) and spikes.is_off([1.0] * 60, 1.1, 8.0)
