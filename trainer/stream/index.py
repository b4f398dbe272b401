"""A manifest as the stream sees it: the pairs of one split, their strata, and where their bytes lie.

    >>> from trainer.stream.index import open_index
    >>> index = open_index("shards")  # doctest: +SKIP
    >>> index.sizes  # doctest: +SKIP
    {'denoise': 1200, 'sr': 800}

A shard folder and an unsharded manifest give the same thing: there a file is a member at offset 0 of itself.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests import files
from manifests import table as tables
from manifests.errors import UserError
from trainer.stream.reading import Member, Pair, Reader, Row
from trainer.stream.seeds import Ints

__all__ = ["Index", "Member", "Pair", "Row", "Rows", "open_index"]

BLOCK = 16  # shards whose samples are mixed when they lie on a network
PLACES = ["lq_offset", "lq_size", "gt_offset", "gt_size"]
COLUMNS = [
    "pair_id", "task", "subtask", "dataset", "group", "split", "status", "scale", "width", "height",
    "lq_path", "gt_path", "lq.sha256", "gt_sha256",
]  # fmt: skip

log = logging.getLogger("trainer.stream")


class Rows(Sequence[Row]):
    """The pairs, as columns; a `Row` is made when it is asked for. A row's `source` says which manifest it is of."""

    def __init__(self, table: pa.Table, manifests: Sequence[tables.Manifest], strata: str) -> None:
        self._manifests, self._of_shard = manifests, strata == "shard"
        self._text = [table.column(name).combine_chunks() for name in ("pair_id", "group", "lq_path", "gt_path")]
        named = [_encoded(table.column(name)) for name in ("task", "subtask", "dataset", "shard")]
        self._names = [names for names, _ in named]
        self._urls = [[name and files.join(one.path, name) for name in self._names[3]] for one in manifests]
        numbers = [_integers(table.column(name)) for name in ("source", "scale", "width", "height", *PLACES)]
        self._number = np.stack([*(codes for _, codes in named), *numbers], axis=1)

    def __len__(self) -> int:
        return len(self._number)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._row(one) for one in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return self._row(index % len(self))

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, range(len(self)))

    def _row(self, index: int) -> Row:
        pair_id, group, lq_path, gt_path = (column[index].as_py() for column in self._text)
        *codes, source, scale, width, height, lq_at, lq_size, gt_at, gt_size = self._number[index].tolist()
        task, subtask, dataset, shard = (names[code] for names, code in zip(self._names, codes, strict=True))
        if shard is None:
            lq, gt = (Member(self._manifests[source].locate(dataset, path), 0, -1) for path in (lq_path, gt_path))
        else:
            url = self._urls[source][codes[3]]
            lq, gt = Member(url, lq_at, lq_size), Member(url, gt_at, gt_size)
        stratum = shard if self._of_shard else task
        return Row(pair_id, task, subtask or "", dataset, group or "", stratum, scale, width, height, shard, lq, gt)


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
    members: dict[str, Ints] = field(repr=False)
    shard: Ints = field(repr=False)
    scale: Ints = field(repr=False)
    width: Ints = field(repr=False)
    height: Ints = field(repr=False)
    _reader: Reader = field(default_factory=Reader, repr=False)

    def load(self, i: int) -> Pair:
        """The decoded pair of row `i`. Raises UserError, naming file and pair, when it is missing or damaged."""
        return self._reader.pair(self.rows[i])


def open_index(manifest: str | Sequence[str], split: str | None = "train", *, strata: str = "task") -> Index:
    """The kept pairs of `split` (all splits for None) in a manifest or shard folder, or in several.

    strata: "task", or "shard": each shard is then a stratum of its own. Raises UserError when there is nothing to
    train on, with what to do about it, and when two manifests have the same pair.
    """
    if strata not in ("task", "shard"):
        raise ValueError(f"strata: 'task' or 'shard', not {strata!r}")
    opened = [tables.read(path) for path in ([manifest] if isinstance(manifest, str) else manifest)]
    table = _together([_select(one, split) for one in opened], opened)
    manifest = opened[0].path
    if strata == "shard" and len(opened) > 1:
        raise UserError(f"{manifest}: weights per shard are for one manifest, not for {len(opened)}", exit_code=2)
    sharded = len(table) - table.column("shard").null_count
    if strata == "shard" and sharded < len(table):
        raise UserError(f"{manifest}: weights per shard need shards, these are single files; run 'curate shard'")
    if sharded < len(table):
        _say_unsharded(manifest)
    names, codes = _encoded(table.column(strata))
    if None in names:
        raise UserError(f"{manifest}: has a kept pair without a {strata}; name it with 'curate ingest --task'")
    rows = Rows(table, opened, strata)
    shard_names, shard = _encoded(table.column("shard"))
    shard += len(shard_names) * _integers(table.column("source"))
    remote = any(files.is_url(one.path) if sharded else any(map(files.is_url, one.roots.values())) for one in opened)
    block = BLOCK if remote and None not in shard_names else None
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])
    members = dict(sorted(zip(names, parts, strict=True)))
    return Index(
        tasks=tuple(sorted(set(table.column("task").to_pylist()))),
        strata=tuple(members),
        sizes={name: len(part) for name, part in members.items()},
        fingerprint=_fingerprint(table, strata, block),
        rows=rows,
        block=block,
        task_of={name: rows[int(part[0])].task for name, part in members.items()},
        members=members,
        shard=shard,
        scale=_integers(table.column("scale")),
        width=_integers(table.column("width")),
        height=_integers(table.column("height")),
    )


def _together(parts: Sequence[pa.Table], manifests: Sequence[tables.Manifest]) -> pa.Table:
    """The pairs of all manifests, with a `source` column: which of them a pair is of."""
    numbered = [
        part.append_column("source", pa.repeat(pa.scalar(number, pa.int64()), len(part)))
        for number, part in enumerate(parts)
    ]
    if len(numbered) == 1:
        return numbered[0]
    table = pa.concat_tables(numbered, promote_options="permissive")
    counts = pc.value_counts(table.column("pair_id").combine_chunks())
    if len(table) != len(counts):
        named = next(one["values"] for one in counts.to_pylist() if one["counts"] > 1)
        raise UserError(f"{manifests[0].path} and {manifests[1].path} both have pair {named}: leave it out of one")
    return table


def _select(manifest: tables.Manifest, split: str | None) -> pa.Table:
    """The pairs that count, with a `shard` column (null where a pair is two files)."""
    sharded = "shard" in manifest.column_names
    table = manifest.table([*COLUMNS, *(["shard", *PLACES] if sharded else [])])
    table = table.filter(pc.equal(table.column("status"), "kept"))
    if not len(table):
        raise UserError(f"{manifest.path}: has no kept rows, so nothing to train on; see 'curate report'")
    if split is not None:
        table = _of_split(manifest.path, table, split)
    paired = table.filter(pc.is_valid(table.column("lq_path")))
    if not len(paired):
        raise UserError(f"{manifest.path}: its rows are GT images without LQ; run 'curate degrade' to make pairs")
    if alone := len(table) - len(paired):
        log.warning("%s: %d GT images without LQ are left out; 'curate degrade' makes pairs", manifest.path, alone)
    if paired.column("width").null_count or paired.column("height").null_count or paired.column("scale").null_count:
        raise UserError(f"{manifest.path}: has kept pairs without width, height or scale; run 'curate ingest' again")
    if not sharded:
        for name in ("shard", *PLACES):
            paired = paired.append_column(name, pa.nulls(len(paired), pa.string() if name == "shard" else pa.int64()))
    return paired


def _of_split(path: str, table: pa.Table, split: str) -> pa.Table:
    column = table.column("split")
    if column.null_count == len(table):
        raise UserError(f"{path}: has no splits yet; run 'curate split' first")
    table_of_split = table.filter(pc.equal(column, split))
    if not len(table_of_split):
        known = ", ".join(sorted(name for name in pc.unique(column).to_pylist() if name))
        raise UserError(f"{path}: has no kept rows in the split {split!r}, only in {known}")
    return table_of_split


@functools.cache
def _say_unsharded(manifest: str) -> None:
    log.warning("%s: single files, not shards: slower on network disks; 'curate shard' makes shards", manifest)


def _encoded(column: pa.ChunkedArray) -> tuple[list[Any], Ints]:
    """Distinct values, and (N,) which of them each row has; nulls are a value."""
    encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # of no chunks
        encoded = encoded.unify_dictionaries().chunk(0)
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _integers(column: pa.ChunkedArray) -> Ints:
    numbers: Ints = pc.fill_null(column.cast(pa.int64()), -1).to_numpy().astype(np.int64)
    return numbers


def _fingerprint(table: pa.Table, strata: str, block: int | None) -> str:
    """32 hex digits; the same for the same pairs wherever the files lie."""
    digest = hashlib.sha256(f"{strata},{block},{len(table)}".encode())
    for name in ("pair_id", "task", "shard", "gt_sha256", "lq.sha256"):
        _digest_text(digest, table.column(name))
    for name in ("width", "height", "scale"):
        digest.update(_integers(table.column(name)).astype("<i8").tobytes())
    return digest.hexdigest()[:32]


def _digest_text(digest: Any, column: pa.ChunkedArray) -> None:
    """Lengths and characters of a column of strings; null counts as empty."""
    text = pa.concat_arrays(pc.fill_null(column.cast(pa.large_string()), "").chunks)
    digest.update(pc.binary_length(text).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
    if text.buffers()[2] is not None:
        digest.update(text.buffers()[2][int(offsets[0]) : int(offsets[-1])])
