"""Which side of a pair is the degraded one: differences of cheap measurements, LQ minus GT.

Every feature changes its sign when the two images are exchanged, and so does the score: a weighted sum without a
constant. What is measured: power by spatial frequency, noise in the flattest blocks, light, contrast, dark channel,
color, steps on an 8-pixel grid, and the skewness of the difference (streaks and flakes are bright).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from curate.pair_checks.compare import WINDOW_POWER, rings
from curate.pair_checks.shift import Spectra, Stack
from curate.pair_checks.views import Map, View

BANDS = ((0, 2), (2, 4), (4, 8), (8, 14), (14, 22), (22, 30))  # of the rings
BLOCK = 8
TILE_NAMES = ("flat_noise", "median_noise", "edges", "flat_blocks", "blockiness")
COLOR_NAMES = ("luma", "contrast", "highlight", "dark_channel", "dark_spread", "saturation", "color_noise")
NAMES = (*(f"power_{low}_{high}" for low, high in BANDS), *TILE_NAMES, *COLOR_NAMES, "skewness")
RESPONSE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # cancels planes (Immerkaer, CVIU 1996)

Features = npt.NDArray[np.float64]


def features(lq: View, gt: View, low: Stack, high: Stack, found: Spectra) -> Features:
    """(len(NAMES),) differences; all but skewness (of the difference itself) are f(LQ) - f(GT).

    low, high: the tiles; found: their spectra.
    """
    answers = [
        np.asarray(cv2.filter2D(stack.reshape(-1, stack.shape[2]), cv2.CV_32F, RESPONSE), np.float32)
        for stack in (low, high)
    ]
    a = [*_powers(found.lq, found), *_fine(answers[0]), *_colors(lq)]
    b = [*_powers(found.gt, found), *_fine(answers[1]), *_colors(gt)]
    return np.array([*np.subtract(a, b), _skewness(answers[0] - answers[1])])


def _powers(power: npt.NDArray[np.floating], found: Spectra) -> list[float]:
    """Natural logarithm of the power per pixel in each band; rounding to gray levels is the floor."""
    side = found.cross.shape[0]
    mean = rings(power) / (found.tiles * side * side * WINDOW_POWER)
    return [float(np.log(mean[low:high].mean() + 1 / 12)) for low, high in BANDS]


def _fine(answer: Map) -> list[float]:
    """TILE_NAMES of one side, from the (K * T, T) answer of the filter: by blocks, and its 8-pixel period."""
    magnitude = np.abs(answer)
    height, width = magnitude.shape
    blocks = cv2.resize(magnitude, (width // BLOCK, height // BLOCK), interpolation=cv2.INTER_AREA).ravel()
    blocks.sort()
    flat, median, edges = (float(blocks[int(share * (len(blocks) - 1))]) for share in (0.1, 0.5, 0.97))
    across, down = (np.asarray(cv2.reduce(magnitude, axis, cv2.REDUCE_AVG)).ravel() for axis in (0, 1))
    steps = (_period(across) + _period(down)) / 2
    return [*(float(np.log(level + 0.2)) for level in (flat, median, edges)), float((blocks < 0.3).mean()), steps]


def _period(profile: npt.NDArray[Any]) -> float:
    """How much one phase of eight stands out: log of the largest over the median."""
    phases = profile.reshape(-1, BLOCK).mean(axis=0)
    return float(np.log((phases.max() + 0.2) / (np.median(phases) + 0.2)))


def _colors(image: View) -> list[float]:
    """COLOR_NAMES of one side, from its thumbnail; full scale is 1, contrast, spread and noise are logarithms."""
    thumbnail = image.colors
    red, green, blue = cv2.split(thumbnail)
    luma = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY)
    least, most = cv2.min(cv2.min(red, green), blue), cv2.max(cv2.max(red, green), blue)
    dark = cv2.erode(least, np.ones((5, 5), np.uint8))
    tint = cv2.filter2D(cv2.subtract(red, green, dtype=cv2.CV_32F), cv2.CV_32F, RESPONSE)
    (mean,), (deviation,) = cv2.meanStdDev(luma)
    counts = np.cumsum(np.bincount(luma.ravel(), minlength=256))
    return [
        float(mean[0]) / 255,
        float(np.log(deviation[0] + 2)),
        float(np.searchsorted(counts, 0.95 * luma.size)) / 255,
        cv2.mean(dark)[0] / 255,
        float(np.log(cv2.meanStdDev(least)[1][0, 0] + 2)),
        (cv2.mean(most)[0] - cv2.mean(least)[0]) / 255,
        float(np.log(cv2.norm(tint, cv2.NORM_L1) / tint.size + 1)),
    ]


def _skewness(difference: Map) -> float:
    """Skewness of the fine part of the LQ less that of the GT, within -4 and 4."""
    squared = difference * difference
    power = float(squared.mean())
    return float(np.clip(float(np.vdot(squared, difference)) / difference.size / (power + 1.0) ** 1.5, -4, 4))
