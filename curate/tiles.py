"""Large pairs as tiles, so that training does not decode 8 megapixels for one crop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from manifests import crops, images, schema
from manifests.errors import UserError

FACTS = ("pair_id", "width", "height", "lq.width", "lq.height", "gt_sha256", "lq.sha256", "tile_top", "tile_left")


class Tile(NamedTuple):
    """A part of a pair, in GT pixels; the LQ's is the same divided by the scale."""

    top: int
    left: int
    height: int
    width: int


def grid(row: Mapping[str, Any], tile: int, overlap: int) -> tuple[Tile, ...]:
    """The tiles of a pair, row by row; none for one whose GT fits into a single tile.

    tile: side in GT pixels. overlap: pixels that neighbours share at least; the last ones end at the border and share
    more. Raises UserError unless both are multiples of the pair's scale.
    """
    width, height, scale = (row[name] or 1 for name in ("width", "height", "scale"))
    if width <= tile and height <= tile:
        return ()
    if tile % scale or overlap % scale:
        raise UserError(f"--tile {tile} --overlap {overlap}: must be multiples of {scale}, a pair's scale", exit_code=2)
    return tuple(
        Tile(top, left, min(tile, height), min(tile, width))
        for top in _starts(height, tile, overlap)
        for left in _starts(width, tile, overlap)
    )


def cut(lq: bytes, gt: bytes, tiles: Sequence[Tile], scale: int) -> list[tuple[bytes, bytes]]:
    """The LQ and GT of every tile, as PNG of the depth that the files have. Raises ImageError."""
    lq_pixels, gt_pixels = images.decode(lq).pixels, images.decode(gt).pixels
    return [(_png(lq_pixels, one, scale), _png(gt_pixels, one, 1)) for one in tiles]


def facts(row: Mapping[str, Any], tile: Tile, lq: bytes, gt: bytes) -> dict[str, Any]:
    """What the manifest says of a tile where it differs from its pair: `FACTS`."""
    mark, scale = f"#{tile.top},{tile.left}", row.get("scale") or 1
    named = (row["dataset"], row["task"], row.get("subtask") or "", row["lq_path"] + mark, row["gt_path"] + mark)
    size = {"width": tile.width, "height": tile.height}
    size |= {"lq.width": tile.width // scale, "lq.height": tile.height // scale}
    hashes = {"gt_sha256": images.sha256(gt), "lq.sha256": images.sha256(lq)}
    return {"pair_id": schema.pair_id(*named), **size, **hashes, "tile_top": tile.top, "tile_left": tile.left}


def enter(table: pa.Table, of: Sequence[Mapping[str, Any] | None]) -> pa.Table:
    """The table with the facts of tiles in the rows that are one. of: per row its facts, None for a whole pair."""
    if not any(of):
        return table
    for name in FACTS:
        old = table.column(name).to_pylist() if name in table.column_names else [None] * len(table)
        kind = schema.CORE.get(name, pa.int32())
        table = schema.set_column(
            table, name, [a if b is None else b[name] for a, b in zip(old, of, strict=True)], kind
        )
    for name in crops.COLUMNS:  # of the whole pair's files
        if name in table.column_names:
            old = table.column(name).to_pylist()
            table = schema.set_column(table, name, [None if b else a for a, b in zip(old, of, strict=True)], pa.int32())
    return table


def _png(pixels: images.Pixels, tile: Tile, scale: int) -> bytes:
    top, left, height, width = (value // scale for value in tile)
    part = pixels[top : top + height, left : left + width]
    if part.shape[:2] != (height, width):
        raise images.ImageError("is smaller than the manifest says")
    return images.encode_png(part)


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    return [0] if size <= tile else [*range(0, size - tile, tile - overlap), size - tile]
