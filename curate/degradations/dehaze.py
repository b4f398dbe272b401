"""Haze: I = J·t + A·(1 − t), t = exp(−β·d), in linear light (Koschmieder 1924; Narasimhan and Nayar, IJCV 2002).

One photograph has no depth, so ``depth`` is a proxy: things higher up and brighter by their darkest channel are
farther (dark-channel prior, He et al., CVPR 2009), edges follow the photograph (guided filter, He et al., ECCV
2010), and a smooth random field keeps the relation from being exact. nonuniform varies β over the image as well
(NH-HAZE, Ancuti et al., CVPRW 2020).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from curate.degradations._light import Float, Image, lerp, smooth_field, to_linear, to_srgb

SUBTASKS = ("uniform", "nonuniform")


def sample(subtask: str, rng: np.random.Generator, severity: float) -> dict[str, Any]:
    """``beta`` 0.3-1.6 over depths in [0.2, 1]; ``airlight`` (R, G, B), linear light, nearly grey."""
    level = rng.uniform(0.55, 0.9)
    tint = rng.uniform(-0.03, 0.03, 3)
    return {
        "beta": round(lerp(0.3, 1.6, severity), 4),
        "airlight": [round(float(a), 4) for a in np.clip(level + tint, 0.0, 1.0)],
    }


def degrade(gt: Image, subtask: str, params: dict[str, Any], rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 sRGB → the same, hazy."""
    light = to_linear(gt)
    thickness = params["beta"] * depth(gt, rng)
    if subtask == "nonuniform":
        thickness *= 0.3 + 1.4 * smooth_field(gt.shape[:2], rng, cells=3)
    return to_srgb(scatter(light, np.exp(-thickness), np.asarray(params["airlight"], np.float32)))


def scatter(light: Float, transmission: Float, airlight: Float) -> Float:
    """J (H, W, 3), t (H, W) in [0, 1], A (3,) → J·t + A·(1 − t)."""
    t = transmission[..., None]
    return light * t + airlight * (1 - t)


def depth(gt: Image, rng: np.random.Generator) -> Float:
    """(H, W) proxy of depth in [0.2, 1] (no unit: β carries it)."""
    height, width = gt.shape[:2]
    rise = np.linspace(1.0, 0.0, height, dtype=np.float32)[:, None]
    dark = cv2.GaussianBlur(gt.min(axis=2).astype(np.float32) / 255.0, (0, 0), max(1.0, 0.01 * max(gt.shape)))
    rough = 0.5 * rise + 0.25 * dark + 0.25 * smooth_field((height, width), rng)
    guide = cv2.cvtColor(gt, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
    smooth = _guided(rough, guide, radius=max(2, max(height, width) // 24))
    low, high = float(smooth.min()), float(smooth.max())
    unit = (smooth - low) / (high - low) if high > low else np.full_like(smooth, 0.5)
    return 0.2 + 0.8 * unit


def _guided(source: Float, guide: Float, radius: int, eps: float = 1e-3) -> Float:
    """Guided filter (He et al., 2010): ``source`` smoothed, its edges where ``guide`` has them."""
    side = (2 * radius + 1, 2 * radius + 1)

    def mean(x: Float) -> Float:
        return np.asarray(cv2.blur(x, side, borderType=cv2.BORDER_REFLECT_101), np.float32)

    mean_guide, mean_source = mean(guide), mean(source)
    slope = (mean(guide * source) - mean_guide * mean_source) / (mean(guide * guide) - mean_guide**2 + eps)
    return mean(slope) * guide + mean(mean_source - slope * mean_guide)
