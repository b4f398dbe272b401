"""Exponential moving average of a model's parameters, the weights that are evaluated and deployed."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """Averaged copy of a model: `average` ← d·`average` + (1 − d)·model, with d = min(decay, (1 + t) / (10 + t)).

    The warm-up of d (as in TensorFlow's ExponentialMovingAverage) keeps the average close to the model during the
    first steps, where a constant decay of 0.999 would still be the random initialisation after hundreds of them.
    Buffers are copied, not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follow `model` after optimizer step `step` (0, 1, …)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(mine, theirs, 1.0 - decay)
        for kept, new in zip(self.average.buffers(), model.buffers(), strict=True):
            kept.copy_(new)
