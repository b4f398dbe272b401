"""Losses, learning rate and moving average against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from manifests.errors import UserError
from trainer import losses
from trainer.ema import EMA


def test_losses_are_their_formulas_per_sample() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 3, 4, 5)), rng.random((3, 3, 4, 5))
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    expected = {
        "charbonnier": np.sqrt((a - b) ** 2 + 1e-6).mean((1, 2, 3)),
        "l1": np.abs(a - b).mean((1, 2, 3)),
        "psnr": 10 * np.log10(((a - b) ** 2).mean((1, 2, 3)) + 1e-8),
        "psnr-floor": 10 * np.log10(((a - b) ** 2).mean((1, 2, 3)) + 1e-3),
    }
    assert set(expected) == set(losses.LOSSES)
    for name, values in expected.items():
        np.testing.assert_allclose(losses.get(name)(x, y).numpy(), values, rtol=1e-12)


def test_an_unknown_loss_is_said() -> None:
    with pytest.raises(UserError, match="known: charbonnier, l1, psnr, psnr-floor"):
        losses.get("l3")


def test_ema_warms_up_then_decays() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, 0.9)
    expected = 0.0
    for step in range(200):
        nn.init.constant_(model.weight, math.sin(step))
        ema.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * math.sin(step)
        assert ema.average.weight.item() == pytest.approx(expected, abs=1e-5)
    assert not ema.average.weight.requires_grad
