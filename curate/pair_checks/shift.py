"""How far the LQ's content lies from the GT's: phase correlation of the tiles with most structure.

The cross spectra of the tiles are summed, and every frequency counts by how coherent the two sides are there
(generalized cross-correlation with the maximum likelihood weight: Knapp and Carter, "The generalized correlation
method for estimation of time delay", IEEE TASSP 1976). Noise, compression and streaks are not coherent with the GT, so
their frequencies drop out without knowledge of the degradation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from curate.pair_checks.views import Map, View

QUICK, THOROUGH = (64, 8), (96, 24)  # pixels a side and number of tiles: of every pair, of a doubtful one
STEPS = 3  # of the thorough look
COARSE_GAIN = 0.2  # of the correlation of the small maps
GRID = 8  # pixels: tiles start on it, so that blocks of compression line up

Stack = npt.NDArray[np.float32]  # (K, T, T) luma of K tiles


class Spectra(NamedTuple):
    """Sums over the tiles, (T, T // 2 - 1): cross spectrum LQ x conj(GT), and the power of the LQ and of the GT.

    Rows are vertical frequencies in FFT order, columns the horizontal ones from 1 to T // 2 - 1.
    """

    cross: npt.NDArray[np.complex64]
    lq: Map
    gt: Map
    tiles: int


@dataclass(frozen=True)
class Shift:
    """y, x: LQ pixels that the LQ's content lies below and right of the GT's, to a fraction of a pixel.

    peak: height of the correlation there, 1 at most. gain: how much higher than at no shift. second: height of the
    highest other peak, over `peak`. mass: mean coherence of all frequencies, 0 to 1.
    """

    y: float
    x: float
    peak: float
    gain: float
    second: float
    mass: float


def search(lq: View, gt: View, scale: int) -> Shift:
    """The thorough look: more and larger tiles, and the GT's cut again where the shift before said, until it stays.

    A window that both sides share pulls an estimate towards zero; tiles that are cut in register do not. A start far
    from zero comes from the small maps, where they correlate better with a shift than without.
    """
    best: Shift | None = None
    for start in [(0, 0), *_coarse(lq, gt)]:
        at = start
        for _ in range(STEPS):
            cut = tiles(lq, gt, scale, THOROUGH, at)
            if cut is None:
                break
            found = locate(spectra(*cut), at)
            if best is None or found.peak * found.mass > best.peak * best.mass:
                best = found
            after = (round(found.y), round(found.x))
            if max(abs(after[0] - at[0]), abs(after[1] - at[1])) <= 1:
                break
            at = after
    assert best is not None  # the first start has tiles
    return best


def _coarse(lq: View, gt: View) -> list[tuple[int, int]]:
    """A shift in LQ pixels by which the small maps correlate much better than without one, if there is any."""
    a, b = lq.bands[0], gt.bands[0]
    power = math.sqrt(float(np.vdot(a, a)) * float(np.vdot(b, b))) + 1e-6
    surface = scipy.fft.irfft2(scipy.fft.rfft2(a) * scipy.fft.rfft2(b).conj(), a.shape) / power
    y, x = divmod(int(surface.argmax()), a.shape[1])
    if surface[y, x] < surface[0, 0] + COARSE_GAIN:
        return []
    cells = [at - size if at > size // 2 else at for at, size in zip((y, x), a.shape, strict=True)]
    sides = zip(cells, lq.luma.shape, a.shape, strict=True)
    return [tuple(round(cell * pixels / size) for cell, pixels, size in sides)]  # type: ignore[list-item]


def tiles(
    lq: View, gt: View, scale: int, size: tuple[int, int] = QUICK, offset: tuple[int, int] = (0, 0)
) -> tuple[Stack, Stack] | None:
    """The tiles with most structure in both images: (K, T, T) of the LQ, and of the GT reduced by `scale`.

    size: pixels a side (fewer in a small image) and number of tiles, at most. offset: (y, x) LQ pixels that the LQ's
    tiles lie below and right of the GT's. None where no tile fits.
    """
    height, width = lq.luma.shape
    side = _side(height, width, *size)
    corners = _corners(lq.bands[1], gt.bands[1], height, width, side, size[1])
    if offset != (0, 0):
        inside = [(y - offset[0], x - offset[1]) for y, x in corners]
        keep = [0 <= y <= height - side and 0 <= x <= width - side for y, x in inside]
        corners = [corner for corner, fits in zip(corners, keep, strict=True) if fits]
        if not corners:
            return None
    low, high = np.empty((2, len(corners), side, side), np.float32)
    for index, (y, x) in enumerate(corners):
        low[index] = lq.luma[y : y + side, x : x + side]
        top, left = scale * (y - offset[0]), scale * (x - offset[1])
        cut = gt.luma[top : top + scale * side, left : left + scale * side]
        high[index] = cut if scale == 1 else cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA)
    return low, high


def _side(height: int, width: int, wanted: int, count: int) -> int:
    """The wanted side, or two thirds, half, a third of it: the first of which `count` / 2 overlapping tiles fit."""
    for side in (wanted, wanted * 2 // 3 // GRID * GRID, wanted // 2, wanted // 3 // GRID * GRID):
        if (2 * height // side - 1) * (2 * width // side - 1) >= count // 2:
            break
    return max(2, min(side, height // 2 * 2, width // 2 * 2))


def _corners(lq: Map, gt: Map, height: int, width: int, side: int, count: int) -> list[tuple[int, int]]:
    """Upper left corners (y, x): of a grid, side by side where enough fit, else overlapping by half."""
    step = side if (height // side) * (width // side) >= count else side // 2
    rows, columns = max(1, (height - side) // step + 1), max(1, (width - side) // step + 1)
    cells = [cv2.resize(deviation, (columns, rows), interpolation=cv2.INTER_AREA) for deviation in (lq, gt)]
    order = np.argsort(-(cells[0] * cells[1]).ravel(), kind="stable")[:count]
    top = (height - side - (rows - 1) * step) // 2 // GRID * GRID
    left = (width - side - (columns - 1) * step) // 2 // GRID * GRID
    return [(top + int(i // columns) * step, left + int(i % columns) * step) for i in order]


def spectra(low: Stack, high: Stack) -> Spectra:
    """Windowed spectra of the tiles, summed."""
    first, second = _transformed(low), _transformed(high)
    cross = np.multiply(first, second.conj()).sum(0)
    return Spectra(cross, _power(first), _power(second), len(low))


def _transformed(stack: Stack) -> npt.NDArray[np.complex64]:
    """(K, T, T // 2 - 1) spectra, of OpenCV's packed form, in a third of the time of another FFT."""
    side = stack.shape[1]
    windowed, packed = (stack - stack.mean((1, 2), keepdims=True)) * _window(side), np.empty_like(stack)
    for index, tile in enumerate(windowed):
        cv2.dft(tile, packed[index])
    return np.ascontiguousarray(packed[:, :, 1 : side - 1]).view(np.complex64)


def _power(spectrum: npt.NDArray[np.complex64]) -> Map:
    flat = spectrum.view(np.float32)
    squared = np.einsum("kij,kij->ij", flat, flat)
    return np.asarray(squared[:, ::2] + squared[:, 1::2], np.float32)


@cache
def _window(side: int) -> Map:
    hann = np.hanning(side + 2)[1:-1].astype(np.float32)
    return np.asarray(hann * hann[:, None], np.float32)


def coherence(found: Spectra) -> Map:
    """(T, T // 2 - 1) squared coherence in [0, 1), less what chance gives; over 3 x 3 neighboring frequencies."""
    real, imaginary, lq, gt = (
        cv2.blur(np.ascontiguousarray(one), (3, 3)) for one in (found.cross.real, found.cross.imag, found.lq, found.gt)
    )
    squared = np.minimum((real**2 + imaginary**2) / (lq * gt + 1e-3), 0.999)
    chance = 1 / (3.5 * found.tiles)  # neighbors under a Hann window are not independent
    return np.asarray(np.maximum(0, (squared - chance) / (1 - chance)), np.float32)


def locate(found: Spectra, offset: tuple[int, int] = (0, 0)) -> Shift:
    """The shift that the summed spectra tell; `offset`: the one by which the tiles were cut."""
    side = found.cross.shape[0]
    coherent = coherence(found)
    weight = coherent / (1.05 - coherent)
    half = np.zeros((side, side // 2 + 1), np.complex64)
    half[:, 1:-1] = found.cross * (weight / (np.abs(found.cross) + 1e-6))
    surface = scipy.fft.irfft2(half, (side, side)) * (side * side / (2 * float(weight.sum()) + 1e-6))
    reach = side // 3
    near = np.roll(surface, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    y, x = divmod(int(near.argmax()), near.shape[1])
    peak = float(near[y, x])
    others = near.copy()
    others[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = -1
    dy, dx = y - reach + _vertex(near[:, x], y), x - reach + _vertex(near[y], x)
    origin = [min(2 * reach, max(0, reach - at)) for at in offset]
    gain = peak - float(near[origin[0], origin[1]])
    second, mass = float(others.max()) / max(peak, 1e-6), float(coherent.mean())
    return Shift(dy + offset[0], dx + offset[1], peak, gain, second, mass)


def _vertex(line: Map, at: int) -> float:
    """Where, within half a pixel of its highest sample, the parabola through three samples has its top."""
    if not 0 < at < len(line) - 1:
        return 0.0
    left, middle, right = (float(line[at + step]) for step in (-1, 0, 1))
    curvature = left - 2 * middle + right
    return 0.0 if curvature >= 0 else float(np.clip((left - right) / (2 * curvature), -0.5, 0.5))
