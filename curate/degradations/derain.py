"""Rain: bright streaks in depth layers, and the veil of the drops too far to be seen singly, in linear light.

A falling drop smears over an exposure into a streak that lets the background through in part (Garg and Nayar,
"Vision and rain", IJCV 2007): O = J·(1 − α) + L·α. Layers differ in width, length and number (Li et al., CVPR
2016); veil adds the accumulated far rain as thin haze (Yang et al., "Deep joint rain detection and removal", CVPR
2017).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from curate.degradations._light import Float, Image, convolve, lerp, segment, to_linear, to_srgb

SUBTASKS = ("streaks", "veil")
LAYERS = ((12.0, 0.5, 1.0), (20.0, 0.7, 0.6), (32.0, 1.0, 0.25))  # length px, width σ px, share of the drops


def sample(subtask: str, rng: np.random.Generator, severity: float) -> dict[str, Any]:
    """``density`` (drops per pixel), ``angle`` (radians from the vertical), ``alpha`` (streak opacity), ``veil``."""
    return {
        "density": round(lerp(0.0015, 0.006, severity), 5),
        "angle": round(float(rng.uniform(-0.5, 0.5)), 4),
        "alpha": round(float(rng.uniform(0.5, 0.8)), 4),
        "veil": round(lerp(0.05, 0.2, severity), 4) if subtask == "veil" else 0.0,
    }


def degrade(gt: Image, subtask: str, params: dict[str, Any], rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 sRGB → the same, in the rain."""
    light = to_linear(gt) * (1 - params["veil"]) + 0.6 * params["veil"]
    cover = (params["alpha"] * streaks(gt.shape[:2], params["density"], params["angle"], rng))[..., None]
    return to_srgb(light * (1 - cover) + 0.75 * cover)


def streaks(shape: tuple[int, int], density: float, angle: float, rng: np.random.Generator) -> Float:
    """(H, W) coverage in [0, 1] by streaks that fall at ``angle`` from the vertical."""
    cover = np.zeros(shape, np.float32)
    for length, width, share in LAYERS:
        drops = (rng.uniform(size=shape) < density * share).astype(np.float32) * rng.uniform(0.5, 1.0, shape)
        path = segment(length * rng.uniform(0.8, 1.2), np.pi / 2 + angle + rng.normal(0.0, 0.03))
        layer = convolve(np.asarray(drops, np.float32), path / path.max())
        cover = np.maximum(cover, cv2.GaussianBlur(layer, (0, 0), width))
    return np.clip(cover, 0.0, 1.0)
