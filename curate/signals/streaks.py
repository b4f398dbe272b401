"""Rain streaks: thin lines that are brighter than their surroundings and share one direction near the vertical."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[Any]  # int16
ACROSS = np.array([[-1, 2, -1]], np.float32)  # positive on a bright line that runs down
FALLING = (-0.5, -0.25, 0.0, 0.25, 0.5)  # pixels to the side per pixel down
LYING = (0.0, 0.5)  # the same of the transposed image: what the falling directions are compared with
TAIL = 4.0  # answers are cut at this multiple of their mean magnitude: one bright pole is no rain


def streaks(tiles: list[npt.NDArray[np.uint8]]) -> tuple[float, float]:
    """Skewness and direction of line answers, the most skewed of several (H, W) luma tiles.

    Skewness: of sums of second differences along 8 pixels, in the falling direction with the largest answers. Bright
    lines give positive values, edges and noise about 0, twigs before a sky negative ones; in [-3, 3]. Direction: log10
    of the mean magnitude in that direction over the geometric mean of all directions, at least 0 where it stands out.
    """
    return max((_of(tile) for tile in tiles), default=(0.0, 0.0))


def _of(tile: npt.NDArray[np.uint8]) -> tuple[float, float]:
    if min(tile.shape) < 32:
        return 0.0, 0.0
    down = cv2.filter2D(tile, cv2.CV_16S, ACROSS)
    flat = cv2.filter2D(cv2.transpose(tile), cv2.CV_16S, ACROSS)
    sums = [_along(down, slope) for slope in FALLING]
    sizes = [_size(s) for s in sums]
    best = int(np.argmax(sizes))
    every = [*sizes, *(_size(_along(flat, slope)) for slope in LYING)]
    direction = float(np.log10(sizes[best]) - np.mean(np.log10(every)))
    limit = TAIL * sizes[best]
    cut = np.clip(sums[best], -int(limit), int(limit)).astype(np.float32).ravel()
    square = cut * cut
    second, third = float(square.sum()) / cut.size, float(square @ cut) / cut.size
    skewness = third / max(second**1.5, 1e-6)
    return min(max(skewness, -3.0), 3.0), direction


def _along(answer: Plane, slope: float) -> Plane:
    """Sums along 8 pixels in one direction, by three doublings; below 8 × 1 020, so int16 holds them."""
    sums = answer
    for rows in (1, 2, 4):
        side = round(slope * rows)
        width = sums.shape[1] - abs(side)
        left, right = max(0, -side), max(0, side)
        sums = sums[:-rows, left : left + width] + sums[rows:, right : right + width]
    return sums


def _size(sums: Plane) -> float:
    return float(cv2.norm(sums, cv2.NORM_L1)) / sums.size + 1.0
