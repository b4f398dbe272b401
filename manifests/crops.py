"""Pairs that are cropped when they are read: GTs of super-resolution whose size is no multiple of the scale.

A row's sizes are those of the cropped images. How many pixels its files have beyond them, at the right and at the
bottom, stands in COLUMNS; null, or no such columns, for a pair that is used as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from manifests.images import ImageError, Pixels

COLUMNS = ("crop_right", "crop_bottom", "lq.crop_right", "lq.crop_bottom")
KINDS = dict.fromkeys(COLUMNS, pa.int32())


class Crop(NamedTuple):
    """Sizes that fit each other, pixels: GT = scale x LQ. Both are cropped at the right and at the bottom."""

    scale: int
    width: int
    height: int
    lq_width: int
    lq_height: int


def to_scale(gt: tuple[int, int], lq: tuple[int, int]) -> Crop | None:
    """The crop that makes a GT and an LQ of these (width, height) fit, or None.

    The LQ's size is the GT's divided by a whole scale of 2 or more, rounded down or up on either side (MATLAB's
    `imresize` rounds up, others down). None where no scale explains the sizes so, or several do (tiny images).
    """
    fits = []
    for scale in range(2, 2 + max(gt) // max(1, min(lq))):
        if all(abs(size - scale * small) < scale for size, small in zip(gt, lq, strict=True)):
            small = [min(size // scale, had) for size, had in zip(gt, lq, strict=True)]
            if min(small) > 0:
                fits.append(Crop(scale, scale * small[0], scale * small[1], small[0], small[1]))
    return fits[0] if len(fits) == 1 else None


def is_cropped(row: Mapping[str, Any]) -> bool:
    """Whether the row's files are larger than the pair."""
    return any(row.get(name) for name in COLUMNS)


def apply(pixels: Pixels, row: Mapping[str, Any], side: str) -> Pixels:
    """The part of a row's decoded "gt" or "lq", (H, W, 3), that belongs to the pair.

    Raises ImageError when the file has not the size that it had at ingest.
    """
    if not is_cropped(row) or row.get("shard"):  # a shard has them cropped
        return pixels
    mark = "lq." if side == "lq" else ""
    width, height = row[f"{mark}width"], row[f"{mark}height"]
    more = (row.get(f"{mark}crop_bottom") or 0, row.get(f"{mark}crop_right") or 0)
    if pixels.shape[:2] != (height + more[0], width + more[1]):
        raise ImageError("has not the size that it had at ingest")
    return pixels[:height, :width]
