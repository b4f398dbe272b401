"""Thumbnails of a manifest's images, as data URIs for a page that opens offline."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from manifests import files, images
from manifests.errors import UserError
from manifests.table import Manifest

SIDE = 176  # pixels, the longer side
QUALITY = 85


class Thumbnails:
    """Thumbnails of the images of one manifest; each file is decoded once."""

    def __init__(self, source: Manifest) -> None:
        self._source = source
        self._made: dict[tuple[Any, ...], str | None] = {}

    def of(self, row: Mapping[str, Any], side: str) -> str | None:
        """A JPEG data URI of the row's "gt" or "lq"; None when there is no image that can be read (any more)."""
        path = row[f"{side}_path"]
        if not path:
            return None
        key = (row["dataset"], path, row.get("shard"), row.get(f"{side}_offset"))
        if key not in self._made:
            self._made[key] = self._make(row, side)
        return self._made[key]

    def _make(self, row: Mapping[str, Any], side: str) -> str | None:
        for one in (row, {**row, "shard": None}):  # a tar may be gone where the files are not
            try:
                return _uri(images.decode(files.read(*self._source.place(one, side))).pixels)
            except (OSError, images.ImageError, UserError):
                continue
        return None


def _uri(pixels: images.Pixels) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(pixels)).decode()


def jpeg(pixels: images.Pixels, side: int = SIDE) -> bytes:
    """A JPEG file of (H, W, 3) pixels whose longer side becomes `side`."""
    pixels = images.to_8_bit(pixels)
    factor = side / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    small = np.asarray(cv2.resize(pixels, size, interpolation=way))
    return images.encode_jpeg(small, QUALITY)
