"""NAFNet, the nonlinear-activation-free U-Net of Chen et al., "Simple Baselines for Image Restoration", ECCV 2022
(arXiv 2204.04676).

A block is the paper's figure 3c and equations 3-5: layer normalisation, a gated depthwise convolution with simplified
channel attention, then a gated feed-forward part; each of the two is added with a learnt scale per channel that starts
at zero. Blocks stand in a U-Net with additive skips, and the net predicts the residual to its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Shape of one NAFNet.

    width: channels at full resolution; they double at every level.
    encoder, decoder: blocks per level (encoder from full resolution down, decoder from the lowest level up).
    middle: blocks at the bottom, at 1 / 2^len(encoder) of the resolution.
    residual: what the scales of a block's two parts start at: 0 in the paper, more where training is short.
    """

    width: int = 32
    encoder: tuple[int, ...] = (1, 1, 1, 28)
    middle: int = 1
    decoder: tuple[int, ...] = (1, 1, 1, 1)
    residual: float = 0.0


PRESETS: dict[str, Config] = {
    "gopro-width32": Config(32, (1, 1, 1, 28), 1, (1, 1, 1, 1)),  # 17.11 M parameters
    "gopro-width64": Config(64, (1, 1, 1, 28), 1, (1, 1, 1, 1)),  # 67.89 M
    "sidd-width32": Config(32, (2, 2, 4, 8), 12, (2, 2, 2, 2)),  # 29.16 M
    "sidd-width64": Config(64, (2, 2, 4, 8), 12, (2, 2, 2, 2)),  # 115.98 M
    "tiny": Config(16, (0, 1, 2), 2, (1, 1, 0), residual=0.5),  # for a CPU and a few minutes: few passes at full size
}


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W), per position. Fast where memory is channels-last."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


def simple_gate(x: Tensor) -> Tensor:
    """SimpleGate, equation 5: the product of the two halves of the channels, (B, 2C, H, W) → (B, C, H, W)."""
    if x.requires_grad and not torch.compiler.is_compiling():  # which joins these steps by itself
        gated: Tensor = _Gate.apply(x)  # type: ignore[no-untyped-call]
        return gated
    first, second = x.chunk(2, dim=1)
    return first * second


class _Gate(torch.autograd.Function):
    """SimpleGate with a backward pass that writes both halves in place, where autograd's own copies them once more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        first, second = x.chunk(2, dim=1)
        return first * second

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        first, second = x.chunk(2, dim=1)
        out = torch.empty_like(x)
        for half, other in zip(out.chunk(2, dim=1), (second, first), strict=True):
            torch.mul(gradient, other, out=half)
        return out


class Block(nn.Module):
    """One NAFNet block, (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, channels: int, residual: float = 0.0) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.attention = nn.Conv2d(channels, channels, 1)  # simplified channel attention, equation 4
        self.project = nn.Conv2d(channels, channels, 1)
        self.norm2 = LayerNorm2d(channels)
        self.feed = nn.Conv2d(channels, 2 * channels, 1)
        self.feed_project = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.full((1, channels, 1, 1), residual))
        self.gamma = nn.Parameter(torch.full((1, channels, 1, 1), residual))

    def forward(self, x: Tensor) -> Tensor:
        y = simple_gate(self.depthwise(self.expand(self.norm1(x))))
        y = y * self.attention(y.mean((2, 3), keepdim=True))
        x = x + _scaled(self.project, self.beta, y)
        y = simple_gate(self.feed(self.norm2(x)))
        return x + _scaled(self.feed_project, self.gamma, y)


BLOCKS = (Block,)


class Model(nn.Module):
    """The U-Net: (B, 3, H, W) RGB in [0, 1] → restored (B, 3, H, W), of any size, not clamped."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if len(config.encoder) != len(config.decoder):
            raise ValueError(f"encoder {config.encoder} and decoder {config.decoder} must have as many levels")
        self.config = config
        levels = len(config.encoder)
        widths = [config.width * 2**level for level in range(levels + 1)]
        self.intro = nn.Conv2d(3, config.width, 3, padding=1)
        self.ending = nn.Conv2d(config.width, 3, 3, padding=1)
        for parameter in self.ending.parameters():  # the untrained net returns its input: scores begin at the input's
            nn.init.zeros_(parameter)
        self.encoders = nn.ModuleList(
            _blocks(c, n, config.residual) for c, n in zip(widths, config.encoder, strict=False)
        )
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths[:-1])
        self.middle = _blocks(widths[-1], config.middle, config.residual)
        self.ups = nn.ModuleList(nn.Conv2d(c, 2 * c, 1, bias=False) for c in widths[:0:-1])
        self.decoders = nn.ModuleList(
            _blocks(c, n, config.residual) for c, n in zip(widths[-2::-1], config.decoder, strict=True)
        )
        self.multiple = 2**levels  # height and width are padded to a multiple of it

    def forward(self, lq: Tensor) -> Tensor:
        height, width = lq.shape[-2:]
        padded = F.pad(lq, (0, -width % self.multiple, 0, -height % self.multiple))
        padded = padded.contiguous(memory_format=torch.channels_last)  # what the normalisation is fast in
        x = self.intro(padded)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(F.pixel_shuffle(up(x), 2) + skips.pop())
        restored: Tensor = (self.ending(x) + padded)[..., :height, :width]
        return restored


def _blocks(channels: int, count: int, residual: float) -> nn.Sequential:
    return nn.Sequential(*(Block(channels, residual) for _ in range(count)))


def _scaled(conv: nn.Conv2d, scale: Tensor, x: Tensor) -> Tensor:
    """`scale * conv(x)` with the scale folded into the weights: one pass less over a full-size tensor."""
    bias = scale.flatten() if conv.bias is None else scale.flatten() * conv.bias
    return F.conv2d(x, conv.weight * scale.view(-1, 1, 1, 1), bias)
