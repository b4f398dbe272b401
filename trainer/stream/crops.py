"""From a decoded pair to a square sample: crop, enlarge the LQ, pad, flip, transpose."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from manifests import images
from trainer.stream.plan import Slot
from trainer.stream.reading import Pair, Pixels

MARGIN = 2  # LQ pixels around the crop that bicubic interpolation looks at
UPSAMPLING = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def cut(
    pair: Pair,
    scale: int,
    slot: Slot,
    crop: int,
    upsampling: str = "random",
    into: tuple[Pixels, Pixels] | None = None,
) -> tuple[Pixels, Pixels]:
    """LQ and GT of one slot, (crop, crop, 3) each, in the pixel type of their files.

    An LQ that is smaller than its GT is enlarged by OpenCV and clipped to its range: the crop equals that of the
    enlarged whole. upsampling: nearest, bilinear, bicubic, or random: the slot's own draw. Sides of the GT that are
    shorter than the crop are continued by reflection, LQ and GT alike. into: arrays of uint8 to write to and return,
    if that is the pixel type of both files.
    """
    bottom, right = (min(at + crop, size) for at, size in zip((slot.top, slot.left), pair.gt.shape[:2], strict=True))
    gt = pair.gt[slot.top : bottom, slot.left : right]
    if scale == 1:
        lq = pair.lq[slot.top : bottom, slot.left : right]
    else:
        method = UPSAMPLING[slot.upsampling if upsampling == "random" else upsampling]
        lq = _enlarged(pair.lq, scale, slot.top, slot.left, bottom, right, method)
    if into is None or lq.dtype != np.uint8 or gt.dtype != np.uint8:
        into = np.empty((crop, crop, 3), lq.dtype), np.empty((crop, crop, 3), gt.dtype)
    for side, out in zip((lq, gt), into, strict=True):
        _turn(_pad(side, crop), slot, out)
    return into


def _enlarged(lq: Pixels, scale: int, top: int, left: int, bottom: int, right: int, method: int) -> Pixels:
    """The GT's crop [top, bottom) x [left, right) of the LQ at GT size."""
    above, before = max(top // scale - MARGIN, 0), max(left // scale - MARGIN, 0)
    part = lq[above : bottom // scale + MARGIN, before : right // scale + MARGIN]
    size = part.shape[1] * scale, part.shape[0] * scale
    large = cv2.resize(np.ascontiguousarray(part), size, interpolation=method)
    rows, columns = bottom - top, right - left
    top, left = top - above * scale, left - before * scale
    return large[top : top + rows, left : left + columns]


def _pad(pixels: Pixels, crop: int) -> Pixels:
    height, width = pixels.shape[:2]
    if (height, width) == (crop, crop):
        return pixels
    return np.pad(pixels, ((0, crop - height), (0, crop - width), (0, 0)), mode="reflect")


def _turn(pixels: Pixels, slot: Slot, out: Pixels) -> None:
    """Write the pixels, flipped and transposed as the slot has it, to `out`."""
    flips = slot.flip_h or slot.flip_v
    if flips:
        pixels = cv2.flip(pixels, -1 if slot.flip_h and slot.flip_v else int(slot.flip_h), None if slot.rot90 else out)
    if slot.rot90:
        cv2.transpose(pixels, out)
    elif not flips:
        np.copyto(out, pixels)


def collate(samples: Sequence[Pixels]) -> Pixels:
    """(crop, crop, 3) samples as (B, crop, crop, 3): uint8 when all are, else float32 in [0, 1]."""
    exact = all(pixels.dtype == np.uint8 for pixels in samples)
    return np.stack([pixels if exact else images.to_float(pixels) for pixels in samples])
