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
        self._made: dict[tuple[str, str], str | None] = {}

    def of(self, row: Mapping[str, Any], side: str) -> str | None:
        """A JPEG data URI of the row's "gt" or "lq"; None when there is no image that can be read (any more)."""
        path = row[f"{side}_path"]
        if not path:
            return None
        key = (row["dataset"], path)
        if key not in self._made:
            self._made[key] = self._make(row, side)
        return self._made[key]

    def _make(self, row: Mapping[str, Any], side: str) -> str | None:
        for read in (self._from_file, self._from_shard):
            try:
                return _uri(images.decode(read(row, side)).pixels)
            except (OSError, images.ImageError, UserError):
                continue
        return None

    def _from_file(self, row: Mapping[str, Any], side: str) -> bytes:
        return files.read(self._source.locate(row["dataset"], row[f"{side}_path"]))

    def _from_shard(self, row: Mapping[str, Any], side: str) -> bytes:
        if not row.get("shard"):
            raise FileNotFoundError(row[f"{side}_path"])
        url = files.join(self._source.path, row["shard"])
        return files.read(url, row[f"{side}_offset"], row[f"{side}_size"])


def _uri(pixels: images.Pixels) -> str:
    pixels = images.to_8_bit(pixels)
    factor = SIDE / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    small = np.asarray(cv2.resize(pixels, size, interpolation=way))
    return "data:image/jpeg;base64," + base64.b64encode(images.encode_jpeg(small, QUALITY)).decode()
