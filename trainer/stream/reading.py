"""From a row of the index to the pixels of its pair: one `pread` where LQ and GT lie side by side in a tar.

Local tars are read where they are, remote ones from the cache, or by ranged requests without one.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy.typing as npt

from manifests import files, images
from manifests.errors import UserError
from manifests.table import Member
from trainer.stream.cache import Cache

OPEN_FILES = 64  # tars that a process keeps open
GAP = 1 << 16  # bytes that are read in vain rather than read in two goes: tar headers, padding, a small member

Pixels = npt.NDArray[Any]


class Row(NamedTuple):
    """One pair of the index. width, height: of the GT, pixels. scale: GT size / LQ size. shard: None for files.

    cropped: the files are larger than that by less than `scale` pixels of the GT, and a pixel of the LQ, at the right
    and the bottom; what is beyond does not belong to the pair.
    group: the scene; None where it is unknown or was not asked for.
    """

    pair_id: str
    task: str
    subtask: str
    dataset: str
    stratum: str
    scale: int
    width: int
    height: int
    shard: str | None
    lq: Member
    gt: Member
    cropped: bool = False
    group: str | None = None


class Pair(NamedTuple):
    """Decoded: lq (H/scale, W/scale, 3) and gt (H, W, 3), RGB, uint8 or uint16."""

    lq: Pixels
    gt: Pixels


class Reader:
    """Reads and decodes pairs; keeps the tars open that it read last. One per process or thread."""

    def __init__(self, cache: Cache | None = None) -> None:
        self.cache = cache
        self._open: OrderedDict[str, io.FileIO] = OrderedDict()

    def pair(self, row: Row, *, bottom: int | None = None, margin: int = 0) -> Pair:
        """The pair's pixels. Raises UserError, naming file and pair, for what is missing, damaged or misfit.

        bottom: only the GT's rows above it are needed, and the LQ's down to `margin` rows below the same place; where
        the format allows it, no more is decoded.
        """
        bottom = row.height if bottom is None else bottom
        lq_data, gt_data = self._bytes(row)
        lq = _decode(lq_data, row, "LQ", bottom // row.scale + margin)
        return Pair(lq, _decode(gt_data, row, "GT", bottom))

    def close(self) -> None:
        """Close the tars."""
        while self._open:
            self._open.popitem()[1].close()

    def __del__(self) -> None:
        self.close()

    def _bytes(self, row: Row) -> tuple[bytes, bytes]:
        """The encoded LQ and GT."""
        lq, gt = row.lq, row.gt
        start, stop = min(lq.offset, gt.offset), max(lq.offset + lq.size, gt.offset + gt.size)
        if lq.url != gt.url or min(lq.size, gt.size) < 0 or stop - start > lq.size + gt.size + GAP:
            return self._read(lq, row, "LQ"), self._read(gt, row, "GT")
        data = self._read(Member(lq.url, start, stop - start), row, "GT" if gt.offset > lq.offset else "LQ")
        lq_at, gt_at = lq.offset - start, gt.offset - start
        return data[lq_at : lq_at + lq.size], data[gt_at : gt_at + gt.size]

    def _read(self, member: Member, row: Row, side: str) -> bytes:
        try:
            if member.size < 0 or (files.is_url(member.url) and self.cache is None):
                data = files.read(member.url, member.offset, member.size)
            else:
                data = os.pread(self._file(member.url).fileno(), member.size, member.offset)
        except OSError as error:
            raise _fault(row, side, f"cannot be read ({error.strerror or error})") from None
        if len(data) < member.size:
            raise _fault(row, side, "is cut off: the shard ends before it; run 'curate shard' again")
        return data

    def _file(self, url: str) -> io.FileIO:
        file = self._open.get(url)
        remote = self.cache is not None and files.is_url(url)
        if file is None:
            if remote:  # what the cache has removed keeps its room on the disk while it is open
                for one in [name for name, opened in self._open.items() if not os.fstat(opened.fileno()).st_nlink]:
                    self._open.pop(one).close()
            if len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            file = self._open[url] = self.cache.open(url) if self.cache and remote else io.FileIO(url)
        elif remote:
            os.utime(file.fileno())  # the cache removes what was read longest ago
        self._open.move_to_end(url)
        return file


def _decode(data: bytes, row: Row, side: str, rows: int) -> Pixels:
    """The upper `rows` rows at least."""
    scale = row.scale if side == "LQ" else 1
    expected = row.height // scale, row.width // scale
    try:
        pixels, (height, width) = images.decode_rows(data, min(rows, expected[0]))
    except images.ImageError as error:
        raise _fault(row, side, f"cannot be decoded: {error}") from None
    if row.cropped:
        beyond = 1 if side == "LQ" else row.scale - 1
        if all(0 <= had - used <= beyond for had, used in zip((height, width), expected, strict=True)):
            return pixels[: expected[0], : expected[1]]
    if (height * scale, width * scale) != (row.height, row.width):
        raise _fault(row, side, f"is {width}x{height} where the manifest says {expected[1]}x{expected[0]}")
    return pixels


def _fault(row: Row, side: str, text: str) -> UserError:
    where = row.lq.url if side == "LQ" else row.gt.url
    return UserError(f"{where}: the {side} of pair {row.pair_id} ({row.task}) {text}")
