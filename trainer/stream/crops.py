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


def cut(pair: Pair, scale: int, slot: Slot, crop: int, upsampling: str = "random") -> tuple[Pixels, Pixels]:
    """LQ and GT of one slot, (crop, crop, 3) each, in the pixel type of their files.

    An LQ that is smaller than its GT is enlarged by OpenCV and clipped to its range: the crop equals that of the
    enlarged whole. upsampling: nearest, bilinear, bicubic, or random: the slot's own draw. Sides of the GT that are
    shorter than the crop are continued by reflection, LQ and GT alike.
    """
    bottom, right = (min(at + crop, size) for at, size in zip((slot.top, slot.left), pair.gt.shape[:2], strict=True))
    gt = pair.gt[slot.top : bottom, slot.left : right]
    if scale == 1:
        lq = pair.lq[slot.top : bottom, slot.left : right]
    else:
        method = UPSAMPLING[slot.upsampling if upsampling == "random" else upsampling]
        lq = _enlarged(pair.lq, scale, slot.top, slot.left, bottom, right, method)
    return _turn(_pad(lq, crop), slot), _turn(_pad(gt, crop), slot)


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


def _turn(pixels: Pixels, slot: Slot) -> Pixels:
    if slot.flip_h or slot.flip_v:
        pixels = cv2.flip(pixels, -1 if slot.flip_h and slot.flip_v else int(slot.flip_h))
    return cv2.transpose(pixels) if slot.rot90 else pixels


def collate(samples: Sequence[Pixels], into: Pixels | None = None) -> Pixels:
    """(crop, crop, 3) samples as (B, 3, crop, crop): uint8 when all are, else float32 in [0, 1].

    into: an array of the right shape and type to write them to.
    """
    exact = all(pixels.dtype == np.uint8 for pixels in samples)
    height, width = samples[0].shape[:2]
    shape = len(samples), 3, height, width
    out = np.empty(shape, np.uint8 if exact else np.float32) if into is None else into
    for planes, pixels in zip(out, samples, strict=True):
        for channel, plane in enumerate(planes):
            cv2.extractChannel(pixels if exact else images.to_float(pixels), channel, plane)
    return out
