"""Noise: white Gaussian on the codes, or Poisson-Gaussian on the light.

- gaussian: σ on the 8-bit sRGB codes, clipped and rounded: the denoising papers' convention (CBSD68 and kin).
- poisson_gaussian: var = a·y + b in linear light (Foi et al., "Practical Poissonian-Gaussian noise modeling and
  fitting for single-image raw-data", IEEE TIP 2008), so shadows and lights differ after the sRGB curve.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from curate.degradations._light import Image, lerp, to_linear, to_srgb

SUBTASKS = ("gaussian", "poisson_gaussian")


def sample(subtask: str, rng: np.random.Generator, severity: float) -> dict[str, Any]:
    """gaussian: ``sigma`` 15-50 (8-bit units); poisson_gaussian: ``electrons`` at white 400-50, ``read`` electrons."""
    if subtask == "gaussian":
        return {"sigma": round(lerp(15.0, 50.0, severity), 4)}
    electrons = 400.0 * (50.0 / 400.0) ** severity
    return {"electrons": round(electrons, 2), "read": round(float(rng.uniform(1.0, 3.0)), 3)}


def degrade(gt: Image, subtask: str, params: dict[str, Any], rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 sRGB → the same, noisy."""
    if subtask == "gaussian":
        noisy = gt + rng.normal(0.0, params["sigma"], gt.shape)
        return np.rint(np.clip(noisy, 0.0, 255.0)).astype(np.uint8)
    counts = rng.poisson(to_linear(gt) * params["electrons"]) + rng.normal(0.0, params["read"], gt.shape)
    return to_srgb(counts / params["electrons"])
