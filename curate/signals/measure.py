"""Measures the signals: plain OpenCV and numpy, one grey conversion, the centre of large images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from manifests.images import to_8_bit

Gray = npt.NDArray[np.float32]
WINDOW = 1024  # pixels a side: statistics of fine structure come from the centre of larger images
BLOCK = 16
PER_CHANNEL = 1 / (
    0.668 * 0.86
)  # luma averages channel noise (weights .299 .587 .114); a low quantile lies below the mean
NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6.0


def measure(pixels: npt.NDArray[Any]) -> dict[str, float]:
    """All signals of (H, W, 3) uint8 or uint16 RGB pixels; see `table.SIGNALS` for units and ranges.

    Finite for every image, down to one pixel; a pure function of the pixels.
    """
    rgb = to_8_bit(pixels)
    small = _shrunk(rgb, 256)
    centre = _centre(rgb)
    gray8 = cv2.cvtColor(centre, cv2.COLOR_RGB2GRAY)
    gray = gray8.astype(np.float32)
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    values = {
        "noise_sigma": noise(gray),
        "noise_coarse": noise(_half(gray)),
        "sharpness": sharpness(gray),
        "effective_resolution": effective_resolution(gray),
        "blockiness": blockiness(gray),
        "exposure": float(luma.mean()) / 255,
        "highlight": float(np.percentile(luma, 95)) / 255,
        "clipping": float(((gray8 <= 1) | (gray8 >= 254)).mean()),
        "contrast": float(luma.std()) / 255,
        "colorfulness": colorfulness(small),
        "haze": haze(small),
    }
    return {name: float(value) for name, value in values.items()}


def noise(gray: Gray) -> float:
    """Standard deviation of noise of a colour channel, in 8-bit levels: Immerkaer (CVIU 1996) on the flattest blocks.

    The mask cancels planes; blocks at the ends of the scale are left out, since clipping hides noise there.
    """
    if min(gray.shape) < BLOCK + 2:
        return 0.0
    response = np.abs(cv2.filter2D(gray, -1, NOISE_KERNEL)[1:-1, 1:-1])
    rows, columns = response.shape[0] // BLOCK, response.shape[1] // BLOCK
    level = _blocks(response, rows, columns)
    mean = _blocks(gray[1:-1, 1:-1], rows, columns)
    usable = level[(mean > 20) & (mean < 235)]
    usable = usable if usable.size >= 4 else level.ravel()
    flattest = np.sort(usable.ravel())[: max(1, usable.size // 10)]
    return float(PER_CHANNEL * np.sqrt(np.pi / 2) * np.median(flattest))


def sharpness(gray: Gray) -> float:
    """1 - the perceptual blur metric of Crete et al. (SPIE 2007): how much of the variation a blur takes away."""
    if min(gray.shape) < 3:
        return 0.0
    blurs = []
    for axis, size in ((0, (1, 9)), (1, (9, 1))):
        before = np.abs(np.diff(gray, axis=axis))
        after = np.abs(np.diff(cv2.blur(gray, size), axis=axis))
        total = float(before.sum())
        lost = float(np.maximum(before - after, 0).sum())
        blurs.append(1.0 if total < gray.size * 1e-3 else (total - lost) / total)
    return 1.0 - max(blurs)


def effective_resolution(gray: Gray) -> float:
    """Share of Nyquist below which 95 % of the detail lies; a photograph enlarged x2 shows about half of its value.

    Detail is the radially averaged spectrum times f^2, which is flat for natural images (Field, JOSA 1987).
    """
    side = min(512, *gray.shape)
    if side < 16:
        return 0.0
    top, left = (gray.shape[0] - side) // 2, (gray.shape[1] - side) // 2
    tile = gray[top : top + side, left : left + side]
    window = np.hanning(side).astype(np.float32)
    spectrum = np.abs(np.fft.rfft2((tile - tile.mean()) * window * window[:, None])) ** 2
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]) * side
    index = np.minimum(radius.astype(int), side // 2)
    rings = np.bincount(index.ravel(), spectrum.ravel()) / np.maximum(np.bincount(index.ravel()), 1)
    detail = rings * np.arange(len(rings)) ** 2.0
    detail[:4] = 0
    total = detail.sum()
    if total <= side * side * 1e-2:
        return 0.0
    return float(np.searchsorted(np.cumsum(detail) / total, 0.95) / (len(rings) - 1))


def blockiness(gray: Gray) -> float:
    """How much larger steps are on the best 8-pixel grid than beside it, minus 1; 0 means no grid."""
    if min(gray.shape) < 32:
        return 0.0
    found = []
    for axis in (0, 1):
        second = np.abs(np.diff(gray, n=3, axis=axis))  # a step stands out of smooth shading in third differences
        profile = np.minimum(second, 24).mean(axis=1 - axis)
        profile = profile[: profile.size // 8 * 8].reshape(-1, 8).mean(axis=0)
        peak = float(np.max(profile))
        others = float(np.median(profile))
        found.append(peak / others - 1 if others > 1e-3 else 0.0)
    return min(float(np.mean(found)), 10.0)


def colorfulness(rgb: npt.NDArray[np.uint8]) -> float:
    """Hasler and Suesstrunk, "Measuring colourfulness in natural images", SPIE 2003 (metric M3)."""
    red, green, blue = (rgb[..., i].astype(np.float32) for i in range(3))
    first, second = red - green, 0.5 * (red + green) - blue
    spread = np.hypot(first.std(), second.std())
    return float(spread + 0.3 * np.hypot(first.mean(), second.mean()))


def haze(rgb: npt.NDArray[np.uint8]) -> float:
    """Mean dark channel (He et al., CVPR 2009), full scale 1: near 0 for haze-free photographs without much sky."""
    dark = cv2.erode(rgb.min(axis=2), np.ones((9, 9), np.uint8))
    return float(dark.mean()) / 255


def _blocks(values: Gray, rows: int, columns: int) -> Gray:
    cut = values[: rows * BLOCK, : columns * BLOCK]
    return np.asarray(cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)


def _centre(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    top, left = (max(0, n - WINDOW) // 2 for n in rgb.shape[:2])
    return np.ascontiguousarray(rgb[top : top + WINDOW, left : left + WINDOW])


def _shrunk(rgb: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    factor = side / max(rgb.shape[:2])
    if factor >= 1:
        return rgb
    size = tuple(max(1, round(n * factor)) for n in (rgb.shape[1], rgb.shape[0]))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _half(gray: Gray) -> Gray:
    size = (max(1, gray.shape[1] // 2), max(1, gray.shape[0] // 2))
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.float32)
