"""How alike two images of a pair are at no shift: correlation, PSNR, sameness, and the resolution that the LQ keeps."""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from curate.pair_checks.shift import Spectra
from curate.pair_checks.views import View

SAMPLED = 1 << 18  # pixels: of larger images PSNR is taken over evenly spread strips
STRIP = 16  # rows
HIGHEST = 100.0  # dB, of equal pixels
SAME_PSNR, SAME_LARGEST = 50.0, 16  # dB, and gray levels that no pixel differs by more than
HIGH, LOW, STEEP = 0.7, 0.22, 0.5  # ratios of amplitude between which an enlarged image falls, within an octave
PASSED, LOUD = 0.1, 12  # least response of low frequencies; power over that of rounding
WINDOW_POWER = 0.14  # mean square of the tiles' window
RINGS = 30  # of equal width, from 0 to the Nyquist frequency

Rings = npt.NDArray[np.float64]


def ncc(lq: View, gt: View) -> float:
    """Correlation of the band-passed, locally normalized luma at 128 x 128, no shift: -1 to 1; 0 where one is flat."""
    a, b = lq.bands[0], gt.bands[0]
    power = float(np.vdot(a, a)) * float(np.vdot(b, b))
    return float(np.vdot(a, b)) / math.sqrt(power) if power > 1e-6 else 0.0


def psnr(lq: View, gt: View, scale: int) -> float:
    """PSNR in dB over RGB, at the LQ's size: of all rows, or of strips of 16 where there are more than 2^18 pixels.

    The GT is reduced by means of `scale` x `scale` pixels. 100 for equal pixels.
    """
    height, width = lq.luma.shape
    count = -(-height // STRIP)
    step = max(1, -(-count * STRIP * width // SAMPLED))
    total, pixels = 0.0, 0
    for top in range(0, height, step * STRIP):
        low = lq.pixels[top : top + STRIP]
        high = gt.pixels[scale * top : scale * (top + len(low))]
        if scale > 1:
            high = np.asarray(cv2.resize(high, (width, len(low)), interpolation=cv2.INTER_AREA), np.uint8)
        total += cv2.norm(low, high, cv2.NORM_L2SQR)
        pixels += low.size
    return _decibels(total / pixels)


def _decibels(error: float) -> float:
    return HIGHEST if error <= 0 else min(HIGHEST, 10 * math.log10(255**2 / error))


def identical(lq: View, gt: View, sampled: float) -> bool:
    """Whether all pixels of two images of one size are equal, or too alike to learn from: PSNR of 50 dB or more and no
    value more than 16 levels apart. `sampled`: their `psnr`."""
    if sampled < SAME_PSNR or lq.pixels.shape != gt.pixels.shape:
        return False
    error = cv2.norm(lq.pixels, gt.pixels, cv2.NORM_L2SQR) / lq.pixels.size
    return _decibels(error) >= SAME_PSNR and cv2.norm(lq.pixels, gt.pixels, cv2.NORM_INF) <= SAME_LARGEST


def rings(spectrum: npt.NDArray[np.floating]) -> Rings:
    """(RINGS,) means of a (T, T // 2 - 1) map over rings of spatial frequency."""
    index, counts = _rings(spectrum.shape[0])
    return np.bincount(index, spectrum.ravel(), RINGS + 1)[:RINGS] / counts


@cache
def _rings(side: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, 1:-1]) * 2
    index = np.minimum((radius * RINGS).astype(np.intp), RINGS).ravel()
    return index, np.maximum(np.bincount(index, minlength=RINGS + 1)[:RINGS], 1).astype(np.float64)


def enlargement(found: Spectra) -> float:
    """How many times smaller the LQ could be without loss: where its detail ends and the GT's does not.

    Enlarging passes all frequencies up to the smaller image's limit and few above, so the ratio of the two amplitudes
    falls steeply there; blur makes it fall gradually. Frequencies at which the GT has no more than rounding noise are
    left out. 1 where the ratio does not fall so.
    """
    upper = slice(found.lq.shape[1] // 2, None)
    if float(found.lq[:, upper].sum()) > LOW * float(found.gt[:, upper].sum()):
        return 1.0  # most pairs, in a tenth of the time
    floor = LOUD * found.tiles * found.cross.shape[0] ** 2 * WINDOW_POWER / 12
    cross, lq, gt = (np.convolve(np.pad(rings(one), 1, "edge"), np.ones(3) / 3, "valid") for one in (
        found.cross.real, found.lq, found.gt
    ))  # fmt: skip
    heard = gt > floor
    level = float(np.median(cross[1:4] / (gt[1:4] + 1e-3)))
    if not heard[1:4].all() or level < PASSED:
        return 1.0
    ratio = (np.sqrt(lq / (gt + 1e-3)) / level)[: int(np.flatnonzero(heard)[-1]) + 1]
    begins, ends = (np.flatnonzero(ratio < limit) for limit in (HIGH, LOW))
    if not len(ends) or (ratio[ends[0] :] > 2 * LOW).any():
        return 1.0
    first, last = (begins[0] + 0.5) / RINGS, (ends[0] + 0.5) / RINGS
    return max(1.0, 2 / (first + last)) if first / last > STEEP else 1.0
