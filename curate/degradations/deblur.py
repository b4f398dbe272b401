"""Camera shake and defocus, in linear light, where exposure adds.

- motion: the sensor integrates along a random trajectory with inertia and sudden jerks (Boracchi and Foi,
  "Modeling the performance of image restoration from motion blur", IEEE TIP 2012; used by Kupyn et al.,
  DeblurGAN, CVPR 2018). The kernel's centre of mass is its centre, so GT and LQ stay registered.
- defocus: the pupil's image, an anti-aliased disk (thin-lens circle of confusion).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from curate.degradations._light import Float, Image, convolve, disk, lerp, splat, to_linear, to_srgb

SUBTASKS = ("motion", "defocus")
STEPS = 256


def sample(subtask: str, rng: np.random.Generator, severity: float) -> dict[str, Any]:
    """motion: ``length`` of the path, 7-23 px, and ``inertia``; defocus: ``radius``, 1.5-4.5 px."""
    if subtask == "defocus":
        return {"radius": round(lerp(1.5, 4.5, severity), 4)}
    return {"length": round(lerp(7.0, 23.0, severity), 4), "inertia": round(float(rng.uniform(0.6, 0.95)), 4)}


def degrade(gt: Image, subtask: str, params: dict[str, Any], rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 sRGB → the same, blurred."""
    if subtask == "defocus":
        kernel = disk(params["radius"])
    else:
        kernel = splat(trajectory(params["length"], params["inertia"], rng))
    return to_srgb(convolve(to_linear(gt), kernel))


def trajectory(length: float, inertia: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(STEPS, 2) points (x, y) in pixels around their mean: a path of ``length`` pixels.

    The velocity keeps ``inertia`` of its direction per correlation time, is pulled back towards the centre, and
    jerks round about once an exposure at low inertia (Boracchi and Foi, 2012, section V).
    """
    heading = rng.uniform(0, 2 * np.pi)
    turn = rng.normal(0.0, (1 - inertia) * 0.35, STEPS)
    jerk = (rng.uniform(size=STEPS) < (1 - inertia) * 3 / STEPS) * rng.uniform(0.5 * np.pi, 1.5 * np.pi, STEPS)
    headings = heading + np.cumsum(turn + jerk)
    speed = np.maximum(0.2, 1.0 + 0.3 * np.cumsum(rng.normal(size=STEPS)) / np.sqrt(STEPS))
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * speed[:, None]
    points = np.cumsum(steps * (length / speed.sum()), axis=0)
    centred: npt.NDArray[np.float64] = points - points.mean(axis=0)
    return centred


def kernel_of(subtask: str, params: dict[str, Any], rng: np.random.Generator) -> Float:
    """The blur kernel that ``degrade`` applies for the same generator state, (K, K) float32, sum 1."""
    return (
        disk(params["radius"]) if subtask == "defocus" else splat(trajectory(params["length"], params["inertia"], rng))
    )
