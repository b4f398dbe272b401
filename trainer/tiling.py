"""A model over one image of any size: whole where it fits, in overlapping tiles that are blended where it does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Plane = npt.NDArray[np.float32]


@torch.inference_mode()
def restore(
    model: nn.Module,
    lq: Plane,
    *,
    tile: int = 1024,
    overlap: int = 64,
    bf16: bool = False,
    seen: Callable[[], object] = lambda: None,
) -> Plane:
    """The model's output for one image, (H, W, 3) float32 RGB in [0, 1] → the same size, not clamped.

    An image of at most `tile`² pixels goes through whole. A larger one is cut into squares of `tile` pixels that share
    `overlap` pixels with their neighbours; there the outputs are mixed with weights that rise linearly from the border.
    `seen` is called after each tile.
    """
    device = next(model.parameters()).device
    height, width = lq.shape[:2]
    if height * width <= tile * tile:
        whole = _forward(model, lq, device, bf16)
        seen()
        return whole
    overlap = min(overlap, tile // 2)
    total = np.zeros((height, width, 3), np.float32)
    weight = np.zeros((height, width, 1), np.float32)
    for top in _starts(height, tile, overlap):
        for left in _starts(width, tile, overlap):
            piece = lq[top : top + tile, left : left + tile]
            part = _ramp(piece.shape[0], overlap)[:, None, None] * _ramp(piece.shape[1], overlap)[None, :, None]
            total[top : top + tile, left : left + tile] += part * _forward(model, piece, device, bf16)
            weight[top : top + tile, left : left + tile] += part
            seen()
    return total / weight


def count(height: int, width: int, *, tile: int, overlap: int) -> int:
    """How many tiles `restore` cuts an image of this size into."""
    if height * width <= tile * tile:
        return 1
    overlap = min(overlap, tile // 2)
    return len(_starts(height, tile, overlap)) * len(_starts(width, tile, overlap))


def _forward(model: nn.Module, lq: Plane, device: torch.device, bf16: bool) -> Plane:
    batch = torch.from_numpy(np.ascontiguousarray(lq)).permute(2, 0, 1).unsqueeze(0).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        output: Tensor = model(batch)
    image: Plane = output[0].float().permute(1, 2, 0).cpu().numpy()
    return image


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along one axis; the last one ends at the border."""
    if size <= tile:
        return [0]
    return [*range(0, size - tile, tile - overlap), size - tile]


def _ramp(size: int, overlap: int) -> Plane:
    """(size,) weights: 1 inside, falling to 1 / (overlap + 1) at both ends."""
    position = np.arange(size, dtype=np.float32)
    nearest = np.minimum(position, size - 1 - position)
    return np.minimum((nearest + 1) / (overlap + 1), 1.0).astype(np.float32)
