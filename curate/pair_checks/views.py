"""What pair checks keep of one decoded image, so that a GT that many LQs share is reduced once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from manifests import images

SMALL = 128  # pixels a side of the map by which scenes are compared
FINE, COARSE, AROUND = 1.0, 13, 17  # in its pixels: sigma and side of the band that is compared, side of what is local
NOISE_FLOOR = 0.5  # gray levels: structure below it does not count
PALETTE = 64  # pixels a side at most, of the thumbnail for colors

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """One image as pair checks see it.

    pixels: (H, W, 3) uint8 RGB. luma: (H, W) uint8. reduced: luma halved until its shorter side is below 256.
    """

    pixels: npt.NDArray[np.uint8]
    luma: npt.NDArray[np.uint8]
    reduced: npt.NDArray[np.uint8]

    @cached_property
    def bands(self) -> tuple[Map, Map]:
        """(128, 128) band-passed luma divided by its local deviation; and that deviation, in gray levels."""
        height, width = self.reduced.shape
        means = cv2.blur(self.reduced, (max(1, round(width / SMALL)), max(1, round(height / SMALL))))
        small = cv2.resize(means, (SMALL, SMALL)).astype(np.float32)
        band = cv2.GaussianBlur(small, (0, 0), FINE) - cv2.blur(small, (COARSE, COARSE))
        deviation = np.sqrt(cv2.blur(band * band, (AROUND, AROUND)) + NOISE_FLOOR**2)
        return band / deviation, np.asarray(deviation, np.float32)

    @cached_property
    def colors(self) -> npt.NDArray[np.uint8]:
        """Every k-th pixel of every k-th row, at most PALETTE a side."""
        step = -(-max(self.luma.shape) // PALETTE)
        return np.ascontiguousarray(self.pixels[::step, ::step])


def view(
    pixels: npt.NDArray[Any],
    luma: npt.NDArray[np.uint8] | None = None,
    reduced: npt.NDArray[np.uint8] | None = None,
) -> View:
    """The view of (H, W, 3) uint8 or uint16 RGB pixels; `luma` and `reduced` where the caller has them already."""
    luma = images.luma(pixels) if luma is None else luma
    return View(images.to_8_bit(pixels), luma, images.reduced(luma) if reduced is None else reduced)
