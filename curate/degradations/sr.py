"""A smaller picture: bicubic reduction with an anti-aliasing kernel, as MATLAB's ``imresize`` and PIL do.

Keys' cubic (a = −0.5, IEEE TASSP 1981) stretched by the scale. The SR papers' convention, on sRGB codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image as PILImage

from curate.degradations._light import Image

SUBTASKS = ("x2", "x4")
SCALES = {"x2": 2, "x4": 4}


def sample(subtask: str, rng: np.random.Generator, severity: float) -> dict[str, Any]:
    """``scale``: 2 or 4. Severity changes nothing here."""
    return {"scale": SCALES[subtask]}


def degrade(gt: Image, subtask: str, params: dict[str, Any], rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 sRGB → (H/s, W/s, 3). Raises ValueError when s does not divide both sides."""
    scale = params["scale"]
    height, width = gt.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"sr {subtask} needs sides divisible by {scale}, not {width}×{height}")
    small = PILImage.fromarray(gt).resize((width // scale, height // scale), PILImage.Resampling.BICUBIC)
    return np.asarray(small)
