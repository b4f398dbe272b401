"""Signals of color and light: of a thumbnail, and of color noise at a half and a quarter of the resolution."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
CELL = 16  # pixels a side
PATCH = 16  # of a thumbnail
FLATTEST = 0.1  # share of the cells that noise is read in
LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # cancels planes; 6 times the noise's scale


def colorfulness(rgb: Pixels) -> float:
    """Hasler and Suesstrunk, "Measuring colourfulness in natural images", SPIE 2003 (metric M3)."""
    red, green, blue = (rgb[..., i].astype(np.float32) for i in range(3))
    first, second = red - green, 0.5 * (red + green) - blue
    spread = np.hypot(first.std(), second.std())
    return float(spread + 0.3 * np.hypot(first.mean(), second.mean()))


def veil(rgb: Pixels) -> dict[str, float]:
    """What haze changes, of (H, W, 3) pixels of a thumbnail; full scale 1.

    haze: mean dark channel (He et al., CVPR 2009), near 0 for haze-free photographs without much sky. haze_floor: its
    5th percentile. saturation: mean of 1 - min/max over the channels. local_contrast: median over patches of the
    standard deviation of the largest channel.
    """
    red, green, blue = cv2.split(rgb)
    least, most = cv2.min(cv2.min(red, green), blue), cv2.max(cv2.max(red, green), blue)
    dark = cv2.erode(least, np.ones((9, 9), np.uint8))
    gray = most.astype(np.float32)
    height, width = (max(1, n // PATCH) for n in gray.shape)
    mean = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    square = cv2.resize(gray * gray, (width, height), interpolation=cv2.INTER_AREA)
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    below = np.cumsum(np.bincount(dark.ravel(), minlength=256))
    return {
        "haze": float(dark.mean()) / 255,
        "haze_floor": float(np.searchsorted(below, max(1, int(0.05 * dark.size)))) / 255,
        "saturation": 1 - float((least / np.maximum(gray, 1)).mean()),
        "local_contrast": float(np.median(spread)) / 255,
    }


def color_noise(half: Pixels) -> float:
    """Standard deviation of noise of the color differences in their flattest cells, in 8-bit levels, (H, W, 3) pixels.

    The larger one of red - blue and of red + blue - 2 green, each scaled so that independent noise of standard
    deviation 1 in every channel gives 1. Cells whose green lies at an end of the scale are left out.
    """
    red, green, blue = cv2.split(half)
    level = _cells(green)
    first = cv2.addWeighted(red, 0.5, blue, -0.5, 128)
    second = cv2.addWeighted(cv2.addWeighted(red, 0.5, blue, 0.5, 0), 0.5, green, -0.5, 128)
    sigmas = (_flattest(first, level) * 2**0.5, _flattest(second, level) * (8 / 3) ** 0.5)
    return float(max(sigmas))


def _flattest(plane: npt.NDArray[Any], level: npt.NDArray[np.float32]) -> float:
    answer = cv2.filter2D(plane, cv2.CV_16S, LAPLACIAN)
    cells = _cells(np.abs(answer, out=answer))
    usable = cells[(level > 20) & (level < 235)]
    usable = usable if usable.size >= 4 else cells.ravel()
    count = max(1, int(usable.size * FLATTEST))
    return float(np.sqrt(np.pi / 2) * np.median(np.partition(usable, count - 1)[:count]) / 6)


def _cells(plane: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(H // CELL, W // CELL) means."""
    height, width = (max(1, n // CELL) for n in plane.shape)
    rows, columns = (min(CELL, n) for n in plane.shape)
    used = plane[: height * rows, : width * columns].reshape(height, rows, -1)
    sums = np.add.reduce(used, axis=1, dtype=np.uint16).reshape(height, width, columns)
    return np.asarray(np.add.reduce(sums, axis=2, dtype=np.uint32) / (rows * columns), np.float32)
