"""From a row of the index to the pixels of its pair: one `pread` where LQ and GT lie side by side in a local tar."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy.typing as npt

from manifests import files, images
from manifests.errors import UserError

OPEN_FILES = 64  # tars that a process keeps open
GAP = 1 << 16  # bytes that are read in vain rather than read in two goes: tar headers, padding, a small member

Pixels = npt.NDArray[Any]


class Member(NamedTuple):
    """Bytes of an image: `size` from `offset` of a tar; offset 0 and size -1 for a file of its own."""

    url: str
    offset: int
    size: int


class Row(NamedTuple):
    """One pair of the index. width, height: of the GT, pixels. scale: GT size / LQ size. shard: None for files."""

    pair_id: str
    task: str
    subtask: str
    dataset: str
    group: str
    stratum: str
    scale: int
    width: int
    height: int
    shard: str | None
    lq: Member
    gt: Member


class Pair(NamedTuple):
    """Decoded: lq (H/scale, W/scale, 3) and gt (H, W, 3), RGB, uint8 or uint16."""

    lq: Pixels
    gt: Pixels


class Reader:
    """Reads and decodes pairs; keeps the tars open that it read last. One per process or thread."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, io.FileIO] = OrderedDict()

    def pair(self, row: Row) -> Pair:
        """The pair's pixels. Raises UserError, naming file and pair, for what is missing, damaged or misfit."""
        lq_data, gt_data = self._bytes(row)
        pair = Pair(_decode(lq_data, row, "LQ"), _decode(gt_data, row, "GT"))
        for side, pixels, scale in (("LQ", pair.lq, row.scale), ("GT", pair.gt, 1)):
            height, width = pixels.shape[:2]
            if (width * scale, height * scale) != (row.width, row.height):
                raise _fault(
                    row, side, f"is {width}x{height} where the manifest says {row.width // scale}x{row.height // scale}"
                )
        return pair

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
            if member.size < 0 or files.is_url(member.url):
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
        if file is None:
            if len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            file = self._open[url] = io.FileIO(url)
        self._open.move_to_end(url)
        return file


def _decode(data: bytes, row: Row, side: str) -> Pixels:
    try:
        return images.decode(data).pixels
    except images.ImageError as error:
        raise _fault(row, side, f"cannot be decoded: {error}") from None


def _fault(row: Row, side: str, text: str) -> UserError:
    where = row.lq.url if side == "LQ" else row.gt.url
    return UserError(f"{where}: the {side} of pair {row.pair_id} ({row.task}) {text}")
