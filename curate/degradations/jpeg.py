"""JPEG at low quality (ITU-T T.81), with 4:2:0 chroma as cameras and the web use it.

single compresses once; double compresses at a higher quality first and again on a shifted grid, as a cropped and
re-saved picture has been (Jiang et al., "Towards flexible blind JPEG artifacts removal", ICCV 2021).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image as PILImage

from curate.degradations._light import Image, lerp

SUBTASKS = ("single", "double")


def sample(subtask: str, rng: np.random.Generator, severity: float) -> dict[str, Any]:
    """``quality`` 30-8 (libjpeg scale); double: ``first`` quality and the ``shift`` (x, y) of the grids, px."""
    params: dict[str, Any] = {"quality": round(lerp(30.0, 8.0, severity))}
    if subtask == "double":
        params["first"] = int(rng.integers(params["quality"], params["quality"] + 25))
        params["shift"] = [int(rng.integers(1, 8)), int(rng.integers(1, 8))]
    return params


def degrade(gt: Image, subtask: str, params: dict[str, Any], rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 sRGB → the same, compressed and decoded again."""
    if subtask == "single":
        return compress(gt, params["quality"])
    x, y = params["shift"]
    padded = compress(np.pad(gt, ((y, 0), (x, 0), (0, 0)), mode="edge"), params["first"])
    return compress(np.ascontiguousarray(padded[y:, x:]), params["quality"])


def compress(pixels: Image, quality: int) -> Image:
    """(H, W, 3) uint8 → JPEG 4:2:0 at ``quality`` → (H, W, 3) uint8."""
    buffer = BytesIO()
    PILImage.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(PILImage.open(buffer).convert("RGB"))
