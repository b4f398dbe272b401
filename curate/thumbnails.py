"""Small copies of a manifest's images for a page that opens offline; an image is embedded once."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from manifests import files, images
from manifests.errors import UserError
from manifests.table import Manifest

SIDE = 256  # pixels, the longer side
QUALITY = 82
SHARP = 88  # quality of what is compared pixel by pixel
DETAIL = 256  # pixels of a square at full resolution
BUDGET = 1_400_000  # bytes of JPEGs in a page; what is asked for past it comes at TIGHT
TIGHT = 96  # pixels


class Thumbnails:
    """Images of one manifest as JPEGs within a budget; `embedded` are their data URIs, which callers name by number."""

    def __init__(self, source: Manifest) -> None:
        self._source = source
        self._made: dict[tuple[Any, ...], int | None] = {}
        self._bytes = 0
        self.embedded: list[str] = []

    def of(self, row: Mapping[str, Any], side: str, longest: int = SIDE) -> int | None:
        """Number of the row's "gt" or "lq", `longest` pixels on its longer side; None without an image to be read."""
        key = (*self._key(row, side), longest)
        if key not in self._made:
            pixels = self._pixels(row, side)
            self._made[key] = None if pixels is None else self._embed(pixels, self._size(longest), QUALITY)
        return self._made[key]

    def pair(self, row: Mapping[str, Any], longest: int = SIDE, *, detail: bool = False) -> list[dict[str, Any]]:
        """LQ and GT of a row, each {"label", "image", "what", "group"}; `image` is None where there is none to be read.

        detail: also a square of both at full resolution, where the GT has most detail, unless `longest` shows it all.
        """
        both = {side: self._pixels(row, side) for side in ("lq", "gt")}
        shown = []
        for side, pixels in both.items():
            key = (*self._key(row, side), longest, "pair")
            if key not in self._made:
                self._made[key] = None if pixels is None else self._embed(pixels, self._size(longest), SHARP)
            what = f"{side.upper()} of {row[f'{side}_path']}"
            shown.append({"label": side.upper(), "image": self._made[key], "what": what, "group": ""})
        lq, gt = both["lq"], both["gt"]
        if detail and lq is not None and gt is not None and max(gt.shape[:2]) > 1.5 * longest and self._has_room():
            for side, pixels in zip(("lq", "gt"), _squares(lq, gt), strict=True):
                number = self._embed(pixels, max(pixels.shape[:2]), SHARP)
                label = f"{side.upper()} detail, full resolution"
                shown.append({"label": label, "image": number, "what": label, "group": "detail"})
        return shown

    def _key(self, row: Mapping[str, Any], side: str) -> tuple[Any, ...]:
        return row["dataset"], row[f"{side}_path"], row.get("shard"), row.get(f"{side}_offset")

    def _has_room(self) -> bool:
        return self._bytes < BUDGET

    def _size(self, longest: int) -> int:
        return longest if self._has_room() else min(longest, TIGHT)

    def _pixels(self, row: Mapping[str, Any], side: str) -> images.Pixels | None:
        if not row[f"{side}_path"]:
            return None
        for place in (row, {**row, "shard": None}):  # a tar may be gone where the files are not
            try:
                return images.decode(files.read(*self._source.place(place, side))).pixels
            except (OSError, images.ImageError, UserError):
                continue
        return None

    def _embed(self, pixels: images.Pixels, longest: int, quality: int) -> int:
        data = jpeg(pixels, min(longest, max(pixels.shape[:2])), quality)
        self._bytes += len(data)
        self.embedded.append("data:image/jpeg;base64," + base64.b64encode(data).decode())
        return len(self.embedded) - 1


def jpeg(pixels: images.Pixels, side: int = SIDE, quality: int = QUALITY) -> bytes:
    """A JPEG file of (H, W, 3) pixels whose longer side becomes `side`."""
    pixels = images.to_8_bit(pixels)
    factor = side / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    small = np.asarray(cv2.resize(pixels, size, interpolation=way))
    return images.encode_jpeg(small, quality)


def _squares(lq: images.Pixels, gt: images.Pixels) -> tuple[images.Pixels, images.Pixels]:
    """The part of both at full resolution, DETAIL² pixels of the GT at most, in which the GT has the most detail."""
    luma = images.luma(gt).astype(np.float32)
    energy = cv2.integral(np.abs(cv2.Sobel(luma, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(luma, cv2.CV_32F, 0, 1)))
    rows, columns = min(DETAIL, gt.shape[0]), min(DETAIL, gt.shape[1])
    tops = np.arange(0, gt.shape[0] - rows + 1, DETAIL // 4)
    lefts = np.arange(0, gt.shape[1] - columns + 1, DETAIL // 4)
    corners = [energy[np.ix_(tops + down, lefts + right)] for down in (0, rows) for right in (0, columns)]
    best = int(np.argmax(corners[3] - corners[2] - corners[1] + corners[0]))
    row, column = np.unravel_index(best, (len(tops), len(lefts)))
    top, left = int(tops[row]), int(lefts[column])
    down, right = lq.shape[0] / gt.shape[0], lq.shape[1] / gt.shape[1]
    height, width = max(round(rows * down), 1), max(round(columns * right), 1)
    y, x = round(top * down), round(left * right)
    return lq[y : y + height, x : x + width], gt[top : top + rows, left : left + columns]
