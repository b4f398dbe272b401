"""Pixel losses, by name. Each maps prediction and target, (B, 3, H, W) in [0, 1], to one value per sample, (B,).

The loop back-propagates their mean and records the mean of every task.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from manifests.errors import UserError

FLOOR = 1e-3  # of the mean squared error in `psnr_floor`: 30 dB

Loss = Callable[[Tensor, Tensor], Tensor]


def charbonnier(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of sqrt(d² + ε²), ε = 1e-3 (Charbonnier et al., ICIP 1994; as in MPRNet, arXiv 2102.02808)."""
    return ((prediction - target).square() + 1e-6).sqrt().mean((1, 2, 3))


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (prediction - target).abs().mean((1, 2, 3))


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Minus the PSNR in dB, 10·log10(MSE + 1e-8): the loss of NAFNet (arXiv 2204.04676) and HINet (2105.06086)."""
    return 10.0 * torch.log10((prediction - target).square().mean((1, 2, 3)) + 1e-8)


def psnr_floor(prediction: Tensor, target: Tensor) -> Tensor:
    """Minus the PSNR in dB with a floor under the error, 10·log10(MSE + 1e-3).

    The gradient of `psnr` grows as a pair comes near to identical (1e-8: up to 80 dB), so that a single such pair can
    rule every step it is in. Here it is largest at 30 dB and falls on both sides; above, the loss acts like the MSE.
    """
    return 10.0 * torch.log10((prediction - target).square().mean((1, 2, 3)) + FLOOR)


LOSSES: dict[str, Loss] = {"charbonnier": charbonnier, "l1": l1, "psnr": psnr, "psnr-floor": psnr_floor}


def get(name: str) -> Loss:
    """The loss called `name`. Raises UserError for an unknown one."""
    if name not in LOSSES:
        raise UserError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}", exit_code=2)
    return LOSSES[name]
