"""A manifest as the stream sees it: the pairs of one split, their strata, and where their bytes lie.

    >>> from trainer.stream.index import open_index
    >>> index = open_index("shards")  # doctest: +SKIP
    >>> index.sizes  # doctest: +SKIP
    {'denoise': 1200, 'sr': 800}

A shard folder and an unsharded manifest give the same thing: there a file is a member at offset 0 of itself.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests import crops, files
from manifests import table as tables
from manifests.errors import UserError
from trainer.stream.cache import Cache
from trainer.stream.reading import Pair, Reader, Row
from trainer.stream.rows import Array, Columns, Rows

__all__ = ["Index", "Pair", "Row", "Rows", "open_index"]

BLOCK = 16  # shards whose samples are mixed when they lie on a network
PLACES = ["lq_offset", "lq_size", "gt_offset", "gt_size"]
COLUMNS = [
    "pair_id", "task", "subtask", "dataset", "split", "status", "scale", "width", "height",
    "lq_path", "gt_path", "lq.sha256", "gt_sha256",
]  # fmt: skip

log = logging.getLogger("trainer.stream")


@dataclass(eq=False)
class Index:
    """The pairs of one split.

    tasks, strata: sorted names. sizes: stratum → pairs. rows: the pairs in the manifest's order. fingerprint: 32 hex
    digits of all that the plan and the pixels depend on: pair ids, order, strata, shards, GT sizes, content hashes.
    block: shards per shuffle block, None when all are mixed. task_of: stratum → its task. members: stratum → (n,) its
    rows. shard, scale, width, height: (N,) of every row; width and height of the GT in pixels.
    """

    tasks: tuple[str, ...]
    strata: tuple[str, ...]
    sizes: dict[str, int]
    fingerprint: str
    rows: Rows
    block: int | None
    task_of: dict[str, str]
    members: dict[str, Array] = field(repr=False)
    shard: Array = field(repr=False)
    scale: Array = field(repr=False)
    width: Array = field(repr=False)
    height: Array = field(repr=False)
    _reader: Reader = field(default_factory=Reader, repr=False)

    def load(self, i: int) -> Pair:
        """The decoded pair of row `i`. Raises UserError, naming file and pair, when it is missing or damaged."""
        return self._reader.pair(self.rows[i])


def open_index(
    manifest: str | Sequence[str],
    split: str | None = "train",
    *,
    strata: str = "task",
    cache: Cache | None = None,
    groups: bool = False,
) -> Index:
    """The kept pairs of `split` (all splits for None) in a manifest or shard folder, or in several.

    strata: "task", or "shard": each shard is then a stratum of its own. cache: through which `Index.load` reads remote
    shards. groups: read the groups (scenes) as well; rows have None otherwise. Raises UserError when there is nothing
    to train on, with what to do about it, and when two manifests have the same pair.
    """
    if strata not in ("task", "shard"):
        raise ValueError(f"strata: 'task' or 'shard', not {strata!r}")
    opened = [tables.read(path) for path in ([manifest] if isinstance(manifest, str) else manifest)]
    if strata == "shard" and len(opened) > 1:
        raise UserError(f"{opened[0].path}: weights per shard are for one manifest, not for {len(opened)}", exit_code=2)
    columns = Columns(sum(one.rows["kept"] for one in opened))
    for source, one in enumerate(opened):
        _read(columns, one, source, split, groups)
    if len(opened) > 1 and (named := columns.twice()):
        raise UserError(f"{opened[0].path} and {opened[1].path} both have pair {named}: leave it out of one")
    index = _index(columns, opened, strata)
    index._reader.cache = cache
    return index


def _index(columns: Columns, opened: Sequence[tables.Manifest], strata: str) -> Index:
    path, shards = opened[0].path, columns.names["shard"]
    if strata == "shard" and None in shards:
        raise UserError(f"{path}: weights per shard need shards, these are single files; run 'curate shard'")
    if None in shards:
        _say_unsharded(path)
    if None in columns.names[strata]:
        raise UserError(f"{path}: has a kept pair without a {strata}; name it with 'curate ingest --task'")
    rows = Rows(columns, opened, strata)
    tars = shards != [None]
    places = [root for one in opened for name, root in one.roots.items() if (name == tables.SHARDS) == tars]
    block = BLOCK if None not in shards and any(map(files.is_url, places)) else None
    names = columns.names[strata]
    order = np.argsort(columns[strata], kind="stable").astype(np.int32)
    parts = np.split(order, np.cumsum(np.bincount(columns[strata], minlength=len(names)))[:-1])
    members = dict(sorted(zip(names, parts, strict=True)))
    fingerprint = columns.fingerprint(strata, block)
    pa.default_memory_pool().release_unused()
    return Index(
        tasks=tuple(sorted(columns.names["task"])),
        strata=tuple(members),
        sizes={name: len(part) for name, part in members.items()},
        fingerprint=fingerprint,
        rows=rows,
        block=block,
        task_of={name: rows[int(part[0])].task for name, part in members.items()},
        members=members,
        shard=columns["shard"] + len(shards) * columns["source"] if len(opened) > 1 else columns["shard"],
        scale=columns["scale"],
        width=columns["width"],
        height=columns["height"],
    )


def _read(columns: Columns, manifest: tables.Manifest, source: int, split: str | None, groups: bool) -> None:
    """Add the pairs that count, part by part. Raises UserError when there are none, with what to do about it."""
    sharded = "shard" in manifest.column_names
    kept, seen, found, alone, begun = 0, set[str | None](), 0, 0, columns.count
    cropped = [name for name in crops.COLUMNS if name in manifest.column_names and not sharded]
    more = ["group"] if groups and "group" in manifest.column_names else []
    for part in manifest.parts([*COLUMNS, *cropped, *more, *(["shard", *PLACES] if sharded else [])]):
        part = _where(part, "status", "kept")
        kept += len(part)
        if split is not None:
            seen |= set(pc.unique(part.column("split")).to_pylist())
            part = _where(part, "split", split)
        found += len(part)
        paired = part.filter(pc.is_valid(part.column("lq_path"))) if part.column("lq_path").null_count else part
        alone += len(part) - len(paired)
        if any(paired.column(name).null_count for name in ("width", "height", "scale")):
            raise UserError(
                f"{manifest.path}: has kept pairs without width, height or scale; run 'curate ingest' again"
            )
        for name in () if sharded else ("shard", *PLACES):
            paired = paired.append_column(name, pa.nulls(len(paired), pa.string() if name == "shard" else pa.int64()))
        columns.add(_with_crops(paired, cropped), source)
    if not kept:
        raise UserError(f"{manifest.path}: has no kept rows, so nothing to train on; see 'curate report'")
    if split is not None and seen <= {None}:
        raise UserError(f"{manifest.path}: has no splits yet; run 'curate split' first")
    if not found:
        known = ", ".join(sorted(name for name in seen if name))
        raise UserError(f"{manifest.path}: has no kept rows in the split {split!r}, only in {known}")
    if columns.count == begun:
        raise UserError(f"{manifest.path}: its rows are GT images without LQ; run 'curate degrade' to make pairs")
    if alone:
        log.warning("%s: %d GT images without LQ are left out; 'curate degrade' makes pairs", manifest.path, alone)


def _with_crops(part: pa.Table, names: Sequence[str]) -> pa.Table:
    """The rows with a column `cropped`: 1 for a pair whose files are larger than the pair, else 0."""
    flags = np.zeros(len(part), np.int8)
    for name in names:
        flags |= pc.greater(pc.fill_null(part.column(name), 0), 0).to_numpy().astype(np.int8)
    return part.drop_columns(list(names)).append_column("cropped", pa.array(flags))


def _where(part: pa.Table, name: str, value: str) -> pa.Table:
    """The rows whose column `name` is `value`; a part that all of them are of is not copied."""
    column = part.column(name)
    return part if pc.unique(column).to_pylist() == [value] else part.filter(pc.equal(column, value))


@functools.cache
def _say_unsharded(manifest: str) -> None:
    log.warning("%s: single files, not shards: slower on network disks; 'curate shard' makes shards", manifest)
