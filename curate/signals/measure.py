"""Measures the signals: short integer filters over strips of one grey window, a spectrum, and a thumbnail.

All of it together costs less than decoding the file did: of large images samples are looked at, not everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from curate.signals.color import color_noise, colorfulness, veil
from curate.signals.streaks import streaks
from manifests import images

Gray = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]
WINDOW = 1536  # pixels a side: fine structure of larger images is measured in their centre
SCANNED = 3 << 16  # pixels: of a larger window every second, third, ... strip is looked at
BLOCK = 16
STRIP = 8 * BLOCK  # rows at a time: they stay in the processor's cache
TILE = 256  # pixels a side of the spectrum, taken where most detail is
THUMBNAIL = 256
PER_CHANNEL = 1 / (0.668 * 0.86)  # luma averages channel noise (.299 .587 .114); a low quantile lies below the mean
IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # cancels planes; 6 times the noise's scale
NEAR = np.array([[1, -2, 1]], np.float32)
FAR = np.array([[1, 0, -2, 0, 1]], np.float32)
PEAK = 0.995  # quantile of the blocks: a subject that fills little of the picture may be all that is sharp
COLORS = 512  # pixels a side of the window that color noise is measured in
LINES = 192  # pixels a side of the tiles that are looked at for streaks
FEWEST = 16  # blocks of a range of levels that noise is read in
THIRD = np.array([[-1, 3, -3, 1]], np.float32)


def measure(pixels: npt.NDArray[Any], luma: Gray | None = None) -> dict[str, float]:
    """All signals of (H, W, 3) uint8 or uint16 RGB pixels; see `table.SIGNALS` for units and ranges.

    luma: `images.luma(pixels)`, where the caller has it already.
    Finite for every image, down to one pixel; a pure function of the pixels.
    """
    rgb = images.to_8_bit(pixels)
    luma = images.luma(pixels) if luma is None else luma
    gray, small = _centre(luma, WINDOW), _thumbnail(rgb)
    (level, response, near, far), columns = scan(gray, (IMMERKAER, NEAR, FAR))
    (level_down, near_down, far_down), rows = scan(gray, (NEAR, FAR), turned=True)
    half = _half(_centre(gray, WINDOW // 2))
    (level_half, response_half, near_half, far_half), _ = scan(half, (IMMERKAER, NEAR, FAR))
    (level_quarter, response_quarter), _ = scan(_half(_half(gray)), (IMMERKAER,))
    colors = _half(_centre(rgb, COLORS))
    (across, peak), (down, peak_down) = sharpness(near, far, level), sharpness(near_down, far_down, level_down)
    resolution, high = spectrum(_most_detailed(gray, near))
    skewness, direction = streaks([_centre(gray, LINES), _centre(half, LINES)])
    values = {
        "noise_sigma": noise(response, level),
        "noise_coarse": noise(response_half, level_half),
        "noise_quarter": noise(response_quarter, level_quarter),
        "noise_dark": noise(response, level, 20, 90),
        "noise_bright": noise(response, level, 110, 235),
        "noise_grain": grain(response, near, far),
        "noise_spread": spread(response, level),
        "noise_color": color_noise(colors),
        "noise_color_coarse": color_noise(_half(colors)),
        "sharpness": min(across, down),
        "sharpness_peak": min(peak, peak_down),
        "sharpness_half": sharpness(near_half, far_half, level_half)[0],
        "directional_blur": abs(across - down),
        "effective_resolution": resolution,
        "high_frequency": high,
        "periodicity": max(periodicity(columns), periodicity(rows)),
        "blockiness": (blockiness(gray) + blockiness(gray, turned=True)) / 2,
        **exposure(_thumbnail(luma)),
        "colorfulness": colorfulness(small),
        **veil(small),
        "streaks": skewness,
        "streak_direction": direction,
    }
    return {name: float(value) for name, value in values.items()}


def scan(gray: Gray, kernels: Sequence[Map], turned: bool = False) -> tuple[npt.NDArray[np.float64], Map]:
    """What filters answer, block by block; `turned`: of the transposed image.

    Returns (1 + K, rows, columns) means over BLOCK × BLOCK cells of the grey level and of the magnitude of each
    kernel's answer, and (W,) the mean magnitude of the answer of NEAR in every column.
    """
    shape = gray.shape[::-1] if turned else gray.shape
    height, width = (max(1, n // BLOCK) for n in shape)
    rows, across = (min(BLOCK, n) for n in shape)
    near = next((i for i, kernel in enumerate(kernels, 1) if kernel is NEAR), 0)
    skip = STRIP * -(-gray.size // SCANNED)
    parts, profile, count = [], np.zeros(shape[1], np.uint32), 0
    for top in range(0, height * BLOCK, skip):
        halo = min(1, top)  # the row above that a 3 × 3 filter reaches
        cells = min(STRIP // BLOCK, height - top // BLOCK)
        used = slice(halo, halo + cells * rows)
        reach = slice(top - halo, top + cells * rows + 1)
        strip = cv2.transpose(gray[:, reach]) if turned else gray[reach]
        answers = [strip[used]]
        for kernel in kernels:
            answer = cv2.filter2D(strip, cv2.CV_16S, kernel)[used]
            answers.append(np.abs(answer, out=answer).view(np.uint16))
        sums = [np.add.reduce(a.reshape(cells, rows, -1), axis=1, dtype=np.uint16) for a in answers]  # 16 × 4 080 fits
        profile += sums[near].sum(axis=0, dtype=np.uint32)
        count += cells * rows
        parts.append([s[:, : width * across].reshape(cells, width, across).sum(axis=2, dtype=np.uint32) for s in sums])
    means = np.stack([np.concatenate(part) for part in zip(*parts, strict=True)]) / (rows * across)
    return means, np.asarray(profile / count, np.float32)


def noise(response: npt.NDArray[Any], level: npt.NDArray[Any], low: float = 20, high: float = 235) -> float:
    """Standard deviation of noise of a colour channel, in 8-bit levels: Immerkaer (CVIU 1996) on the flattest blocks.

    Only blocks of a level between `low` and `high` count, where there are enough. Those at the ends of the scale are
    left out, since clipping hides noise there.
    """
    usable = _usable(response, level, low, high)
    count = max(1, usable.size // 10)
    flattest = np.partition(usable, count - 1)[:count]
    return float(PER_CHANNEL * np.sqrt(np.pi / 2) * np.median(flattest) / 6)


def _usable(response: npt.NDArray[Any], level: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[Any]:
    for lowest, highest in ((low, high), (20, 235)):
        usable = response[(level > lowest) & (level < highest)]
        if usable.size >= FEWEST:
            return usable
    return usable if usable.size >= 4 else response.ravel()


def spread(response: npt.NDArray[Any], level: npt.NDArray[Any]) -> float:
    """log10 of the fine structure of the median block over that of the flattest tenth: near 0 where all is noise."""
    usable = _usable(response, level, 20, 235)
    places = [usable.size // 20, usable.size // 2]
    flattest, median = np.partition(usable, places)[places]
    return float(np.clip(np.log10((median + 0.5) / (flattest + 0.5)), 0, 3))


def grain(response: npt.NDArray[Any], near: npt.NDArray[Any], far: npt.NDArray[Any]) -> float:
    """Second differences over 1 pixel over those over 2 pixels, in the flattest tenth of the blocks, in [0, 2].

    About 1 for noise that is independent from pixel to pixel, less where demosaicing or denoising made it coarse, and
    where there is none.
    """
    count = max(1, response.size // 10)
    flattest = response <= np.partition(response.ravel(), count - 1)[count - 1]
    return float(np.clip((near[flattest].sum() + 1e-3) / (far[flattest].sum() + 1e-2), 0, 2))


def sharpness(near: npt.NDArray[Any], far: npt.NDArray[Any], level: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sharpness along one direction, (2,), in [0, 1], from second differences over 1 and over 2 pixels.

    A blur makes curvature grow with the square of the distance over which it is taken; at an ideal edge it does not
    grow at all. Their ratio tells the two apart without knowing the contrast. It is read in the sharpest twentieth of
    the blocks that have structure, and at the quantile PEAK of them.
    """
    count = far.size // 20
    floor = 4.0 + 2.0 * float(np.partition(far.ravel(), count)[count])
    structured = (far > floor) & (level < 250)
    if np.count_nonzero(structured) < 3:
        structured = far >= np.sort(far.ravel())[-3:][0]
    ratios = np.sort(near[structured] / np.maximum(far[structured], 1e-3))
    at = np.array([0.95, PEAK]) * (ratios.size - 1)
    return np.asarray(np.clip(np.interp(at, np.arange(ratios.size), ratios), 0, 1), np.float64)


def spectrum(gray: Gray) -> tuple[float, float]:
    """Effective resolution and the strength of high frequencies of a square tile.

    Detail is the radially averaged spectrum times f², which is flat for natural images (Field, JOSA 1987). Effective
    resolution is the share of Nyquist below which 95 % of it lies; a photograph enlarged ×2 shows about half of its
    value. The second figure compares detail in [0.7, 1) of Nyquist with that in [0.15, 0.35): log10, in [-6, 2].
    """
    side = gray.shape[0]
    if side < 16:
        return 0.0, 0.0
    index, counts, window = _rings(side)
    centred = gray.astype(np.float32) - float(gray.mean())
    power = np.abs(scipy.fft.rfft2(centred * window)) ** 2
    rings = np.bincount(index, power.ravel()) / counts
    detail = rings * np.arange(len(rings)) ** 2.0
    detail[:4] = 0
    total = detail.sum()
    if total <= side * side * 1e-2:
        return 0.0, 0.0
    nyquist = len(rings) - 1
    resolution = float(np.searchsorted(np.cumsum(detail) / total, 0.95) / nyquist)
    high = detail[int(0.7 * nyquist) : nyquist].mean()
    middle = detail[int(0.15 * nyquist) : int(0.35 * nyquist) + 1].mean()
    return resolution, float(np.clip(np.log10((high + 1e-6) / (middle + 1e-6)), -6, 2))


@cache
def _rings(side: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Map]:
    """For a square of `side`: the ring of every frequency, how many each ring has, and the window."""
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]) * side
    index = np.minimum(radius.astype(np.intp), side // 2).ravel()
    hann = np.hanning(side).astype(np.float32)
    return index, np.maximum(np.bincount(index), 1), np.asarray(hann * hann[:, None], np.float32)


def periodicity(curvature: Map) -> float:
    """Traces of interpolation: enlarging makes curvature periodic (Gallagher, CRV 2005).

    `curvature`: mean absolute second difference of every column. Returns log10 of the highest spectral peak at periods
    of 2 to 5 pixels over the median there, at least 0.
    """
    if curvature.size < 64:
        return 0.0
    smooth = cv2.blur(curvature[None], (17, 1)).ravel()
    ripple = (curvature - smooth) / np.maximum(smooth, 1e-3)
    power = np.abs(scipy.fft.rfft(ripple * np.hanning(ripple.size)))
    found = power[round(ripple.size * 0.2) :]
    return float(np.log10(max(1.0, float(found.max()) / max(float(np.median(found)), 1e-6))))


def blockiness(gray: Gray, turned: bool = False) -> float:
    """How much larger steps across columns (`turned`: rows) are on the best 8-pixel grid than beside it, minus 1."""
    if min(gray.shape) < 32:
        return 0.0
    step = max(1, gray.shape[turned] // 96)
    lines = cv2.transpose(np.ascontiguousarray(gray[:, ::step])) if turned else np.ascontiguousarray(gray[::step])
    third = cv2.filter2D(lines, cv2.CV_16S, THIRD)  # a step stands out of smooth shading in it
    third = np.minimum(np.abs(third, out=third), 24)
    profile = third.sum(axis=0, dtype=np.uint16)[2:-2]  # of fewer than 192 lines: 4 608 at most
    phases = profile[: profile.size // 8 * 8].reshape(-1, 8).mean(axis=0)
    others = float(np.median(phases))
    return min(float(phases.max()) / others - 1, 10.0) if others > 1e-3 * len(third) else 0.0


def exposure(luma: Gray) -> dict[str, float]:
    """Mean, percentiles 95 and 1, spread, full scale 1, and the share of clipped pixels: all from one histogram."""
    counts = np.bincount(luma.ravel(), minlength=256)
    levels, ends = np.arange(256.0), np.cumsum(counts)
    mean = float(counts @ levels) / luma.size

    def percentile(share: float) -> float:  # between neighbours, as np.percentile
        place = share * (luma.size - 1)
        low, high = np.searchsorted(ends, (int(place), min(int(place) + 1, luma.size - 1)), side="right")
        return float(low + (high - low) * (place - int(place)))

    return {
        "exposure": mean / 255,
        "highlight": percentile(0.95) / 255,
        "black_level": percentile(0.01) / 255,
        "clipping": float(counts[:2].sum() + counts[254:].sum()) / luma.size,
        "contrast": float(np.sqrt(counts @ (levels - mean) ** 2 / luma.size)) / 255,
    }


def _most_detailed(gray: Gray, curvature: npt.NDArray[Any]) -> Gray:
    """The square tile with the largest curvature, on a coarse grid: a blurred background says nothing of a subject."""
    side = min(TILE, *gray.shape)
    tops, lefts = (range(0, n - side + 1, max(1, side // 2)) for n in gray.shape)
    per_row = curvature.shape[0] / gray.shape[0]  # rows of cells per row of pixels: strips may have been skipped
    best = max(
        ((top, left) for top in tops for left in lefts),
        key=lambda at: curvature[
            int(at[0] * per_row) : int((at[0] + side) * per_row) + 1, at[1] // BLOCK : (at[1] + side) // BLOCK + 1
        ].sum(),
    )
    return gray[best[0] : best[0] + side, best[1] : best[1] + side]


def _centre(pixels: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    top, left = (max(0, n - side) // 2 for n in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _thumbnail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Every k-th pixel of every k-th row, at most THUMBNAIL a side: what statistics of light and colour need."""
    step = -(-max(pixels.shape[:2]) // THUMBNAIL)
    return np.ascontiguousarray(pixels[::step, ::step])


def _half(pixels: Gray) -> Gray:
    height, width = (max(1, n // 2) for n in pixels.shape[:2])
    cut = pixels[: 2 * height, : 2 * width]
    return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
