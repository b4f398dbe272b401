"""Snow: flakes of several sizes, the near ones soft or smeared, and a thin veil of the far ones, in linear light.

O = J·(1 − z) + W·z with an opacity mask z of layered flakes (Liu et al., "DesnowNet", IEEE TIP 2018) over a veiling
haze (Chen et al., "JSTASR", ECCV 2020).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from curate.degradations._light import Float, Image, convolve, disk, lerp, segment, to_linear, to_srgb

SUBTASKS = ("flakes", "veil")
LAYERS = ((0.8, 0.0, 1.0), (1.6, 0.4, 0.4), (3.0, 0.8, 0.08), (5.0, 2.0, 0.012))  # radius px, softness px, share


def sample(subtask: str, rng: np.random.Generator, severity: float) -> dict[str, Any]:
    """``density`` (small flakes per pixel), ``angle`` of fall, ``smear`` of the larger flakes (px), ``veil``."""
    return {
        "density": round(lerp(0.003, 0.012, severity), 5),
        "angle": round(float(rng.uniform(-0.9, 0.9)), 4),
        "smear": round(float(rng.uniform(1.0, 8.0)), 3),
        "alpha": round(float(rng.uniform(0.7, 0.95)), 4),
        "veil": round(lerp(0.05, 0.2, severity), 4) if subtask == "veil" else 0.0,
    }


def degrade(gt: Image, subtask: str, params: dict[str, Any], rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 sRGB → the same, in the snow."""
    light = to_linear(gt) * (1 - params["veil"]) + 0.7 * params["veil"]
    cover = params["alpha"] * flakes(gt.shape[:2], params["density"], params["angle"], params["smear"], rng)
    return to_srgb(light * (1 - cover[..., None]) + 0.9 * cover[..., None])


def flakes(shape: tuple[int, int], density: float, angle: float, smear: float, rng: np.random.Generator) -> Float:
    """(H, W) coverage in [0, 1] by flakes that fall at ``angle`` from the vertical."""
    cover = np.zeros(shape, np.float32)
    for radius, softness, share in LAYERS:
        seeds = (rng.uniform(size=shape) < density * share).astype(np.float32) * rng.uniform(0.6, 1.0, shape)
        shapes = disk(radius)
        layer = convolve(np.asarray(seeds, np.float32), shapes / shapes.max())
        if radius > 1:  # near flakes cross several pixels during the exposure
            path = segment(smear, np.pi / 2 + angle + rng.normal(0.0, 0.15))
            layer = convolve(layer, path) * min(2.0, 1.0 + 0.1 * smear)
        if softness:
            layer = np.asarray(cv2.GaussianBlur(layer, (0, 0), softness), np.float32)
        cover = 1 - (1 - cover) * (1 - np.clip(layer, 0.0, 1.0))
    return cover
