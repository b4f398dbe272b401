"""What the task modules share: the sRGB curve, smooth random fields, kernels."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


@cache
def _linear_table() -> Float:
    """Linear light of the 256 sRGB codes (IEC 61966-2-1)."""
    code = np.arange(256) / 255.0
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@cache
def _code_table() -> Image:
    """sRGB codes of 65 536 evenly spaced linear lights: fine enough that the round trip is exact."""
    light = np.arange(65536) / 65535.0
    code = np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
    return np.rint(code * 255.0).astype(np.uint8)


def to_linear(codes: Image) -> Float:
    """uint8 sRGB → float32 linear light in [0, 1], same shape."""
    return _linear_table()[codes]


def to_srgb(light: npt.NDArray[np.floating]) -> Image:
    """Linear light (clipped to [0, 1]) → uint8 sRGB, same shape."""
    index = np.rint(np.clip(light, 0.0, 1.0) * 65535.0).astype(np.uint16)
    coded: Image = _code_table()[index]
    return coded


def lerp(low: float, high: float, amount: float) -> float:
    """``low`` at 0, ``high`` at 1."""
    return low + (high - low) * amount


def smooth_field(shape: tuple[int, int], rng: np.random.Generator, cells: int = 4) -> Float:
    """(H, W) random field in [0, 1] whose features span about 1/``cells`` of the image."""
    coarse = rng.uniform(size=(cells, cells)).astype(np.float32)
    fine = rng.uniform(size=(2 * cells, 2 * cells)).astype(np.float32)
    height, width = shape
    field = sum(
        weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        for weight, grid in ((0.7, coarse), (0.3, fine))
    )
    return np.clip(np.asarray(field, np.float32), 0.0, 1.0)


def splat(points: npt.NDArray[np.floating]) -> Float:
    """A path as a kernel: (N, 2) points (x, y), pixels, around 0 → odd square (K, K) kernel that sums to 1.

    Every point shares its weight bilinearly among its four neighbours, so the kernel's centre of mass is the path's.
    """
    reach = int(np.ceil(np.abs(points).max())) + 1
    size = 2 * reach + 1
    kernel = np.zeros((size, size), np.float64)
    base = np.floor(points).astype(int)
    part = points - base
    for dx in (0, 1):
        for dy in (0, 1):
            weight = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
            np.add.at(kernel, (base[:, 1] + reach + dy, base[:, 0] + reach + dx), weight)
    return np.asarray(kernel / kernel.sum(), np.float32)


def segment(length: float, angle: float) -> Float:
    """Kernel of a straight motion: ``length`` pixels along ``angle`` (radians, 0 = rightwards, π/2 = downwards)."""
    along = np.linspace(-length / 2, length / 2, max(2, round(8 * length)))
    return splat(np.stack([along * np.cos(angle), along * np.sin(angle)], axis=1))


def disk(radius: float) -> Float:
    """Anti-aliased disk of ``radius`` pixels as an odd square kernel that sums to 1."""
    reach = int(np.ceil(radius))
    grid = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    cover = np.clip(radius + 0.5 - grid, 0.0, 1.0)
    return np.asarray(cover / cover.sum(), np.float32)


def convolve(light: Float, kernel: Float) -> Float:
    """``light`` (H, W) or (H, W, 3) convolved with an odd kernel; edges are mirrored, energy is kept."""
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    return np.asarray(cv2.filter2D(light, cv2.CV_32F, flipped, borderType=cv2.BORDER_REFLECT_101), np.float32)
