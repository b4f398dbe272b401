"""Too little light: fewer photons reach the sensor, and read noise stays (Foi et al., IEEE TIP 2008).

The exposure falls by ``stops`` in linear light; noisy adds the photon noise of the few electrons left and the read
noise (after Wei et al., "A physics-based noise formation model for extreme low-light raw denoising", CVPR 2020).
A display ``gamma`` around 1 stands for the camera's own curve (Lv et al., IJCV 2021).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from curate.degradations._light import Image, lerp, to_linear, to_srgb

SUBTASKS = ("dim", "noisy")


def sample(subtask: str, rng: np.random.Generator, severity: float) -> dict[str, Any]:
    """``stops`` 1-3.5 (halvings of light); ``gamma`` 0.9-1.1; noisy: ``electrons`` at white, ``read`` in electrons."""
    params = {"stops": round(lerp(1.0, 3.5, severity), 4), "gamma": round(float(rng.uniform(0.9, 1.1)), 4)}
    if subtask == "noisy":
        params["electrons"] = round(lerp(8000.0, 3000.0, severity), 1)
        params["read"] = round(float(rng.uniform(2.0, 5.0)), 3)
    return params


def degrade(gt: Image, subtask: str, params: dict[str, Any], rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 sRGB → the same, dark."""
    light = to_linear(gt) ** params["gamma"] * 2.0 ** -params["stops"]
    if subtask == "noisy":
        photons = rng.poisson(light * params["electrons"]) + rng.normal(0.0, params["read"], light.shape)
        return to_srgb(photons / params["electrons"])
    return to_srgb(light)
