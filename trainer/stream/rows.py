"""The pairs of an index as columns: some 70 bytes each in memory, a million of them open in a second."""

from __future__ import annotations

import binascii
import bisect
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests import table as tables
from manifests.table import Member
from trainer.stream.reading import Row

NAMED = ("task", "subtask", "dataset", "shard")  # columns of few values
NUMBERS = {  # a null is -1
    "scale": np.int32, "width": np.int32, "height": np.int32,
    "lq_offset": np.int64, "lq_size": np.int64, "gt_offset": np.int64, "gt_size": np.int64, "cropped": np.int8,
}  # fmt: skip
SIZES = ("width", "height", "scale")
HASHED = ("pair_id", "task", "shard", "gt_sha256", "lq.sha256")
KINDS = {np.int8: pa.int8(), np.int32: pa.int32(), np.int64: pa.int64()}

Ids = Any  # npt.NDArray[np.uint8] or pa.Array: (n, 16), or as text where an id is not 32 hex digits
Array = npt.NDArray[Any]


class Columns:
    """Collects parts of manifests: codes of names, numbers, ids and, for single files, paths."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.names: dict[str, list[Any]] = {name: [] for name in NAMED}
        self._known: dict[str, dict[Any, int]] = {name: {} for name in NAMED}
        kinds = {**dict.fromkeys(NAMED, np.int32), **NUMBERS, "source": np.int32}
        self._arrays: dict[str, Array] = {name: np.empty(size, kind) for name, kind in kinds.items()}
        self.starts: list[int] = []
        self.ids: list[Ids] = []
        self.paths: list[tuple[pa.Array, pa.Array] | None] = []
        self.groups: list[pa.Array | None] = []
        self._hashing = ThreadPoolExecutor(1)
        self._hashed: list[Future[None]] = []
        self._digests = {name: (_digest(), _digest()) for name in (*HASHED, *SIZES)}

    def add(self, part: pa.Table, source: int) -> None:
        """Append the rows of a part of manifest number `source`."""
        if not len(part):
            return
        place = slice(self.count, self.count + len(part))
        for name in NAMED:
            self._arrays[name][place] = self._codes(name, part.column(name))
        for name in NUMBERS:
            self._arrays[name][place] = _numbers(part.column(name).cast(KINDS[NUMBERS[name]]))
        self._arrays["source"][place] = source
        self.starts.append(self.count)
        self.ids.append(_packed(_joined(part.column("pair_id"))))
        single = part.column("shard").null_count > 0
        self.paths.append((_joined(part.column("lq_path")), _joined(part.column("gt_path"))) if single else None)
        self.groups.append(_joined(part.column("group")) if "group" in part.column_names else None)
        self._hashed.append(self._hashing.submit(self._hash, part, place))  # at the same time as the next part is read
        self.count += len(part)

    def __getitem__(self, name: str) -> Array:
        """(N,) a column of names' codes or numbers."""
        return self._arrays[name][: self.count]

    def fingerprint(self, *facts: object) -> str:
        """32 hex digits of ids, tasks, shards, sizes and content hashes, in their order, and of `facts`; once."""
        for done in self._hashed:
            done.result()
        self._hashing.shutdown()
        parts = [one.hexdigest() for pair in self._digests.values() for one in pair]
        return hashlib.sha256(repr((facts, self.count, parts)).encode()).hexdigest()[:32]

    def _hash(self, part: pa.Table, place: slice) -> None:
        for name in HASHED:
            _digest_text(self._digests[name], part.column(name))
        for name in SIZES:
            self._digests[name][0].update(self._arrays[name][place].astype("<i4").tobytes())

    def twice(self) -> str | None:
        """A pair id that two rows have, or None."""
        if all(isinstance(one, np.ndarray) for one in self.ids):
            every = np.ascontiguousarray(np.concatenate(self.ids)).view("V16").ravel()
            every = every[np.argsort(every)] if len(every) else every
            same = np.flatnonzero(every[1:] == every[:-1])
            return bytes(every[same[0]]).hex() if len(same) else None
        seen: set[str] = set()
        for number in range(self.count):
            if (one := self.pair_id(number)) in seen:
                return one
            seen.add(one)
        return None

    def pair_id(self, row: int) -> str:
        """The id of a row."""
        part = bisect.bisect_right(self.starts, row) - 1
        found = self.ids[part][row - self.starts[part]]
        return bytes(found).hex() if isinstance(found, np.ndarray) else str(found.as_py())

    def path_of(self, row: int) -> tuple[str, str]:
        """LQ and GT path of a row that is two files."""
        part = bisect.bisect_right(self.starts, row) - 1
        paths = self.paths[part]
        assert paths is not None
        lq, gt = (column[row - self.starts[part]].as_py() for column in paths)
        return lq, gt

    def group(self, row: int) -> str | None:
        """The group of a row; None where it has none, or where groups were not read."""
        part = bisect.bisect_right(self.starts, row) - 1
        groups = self.groups[part]
        name: str | None = None if groups is None else groups[row - self.starts[part]].as_py()
        return name

    def _codes(self, name: str, column: pa.ChunkedArray) -> Array:
        """Each row's number in `names[name]`; a null is a name as well."""
        encoded = pc.dictionary_encode(_joined(column), null_encoding="encode")
        known, names = self._known[name], self.names[name]
        local = []
        for value in encoded.dictionary.to_pylist():
            if value not in known:
                known[value] = len(names)
                names.append(value)
            local.append(known[value])
        codes: Array = np.array(local, np.int32)[_numbers(encoded.indices)]
        return codes


class Rows(Sequence[Row]):
    """The pairs; a `Row` is made when it is asked for."""

    def __init__(self, columns: Columns, manifests: Sequence[tables.Manifest], strata: str) -> None:
        self._columns, self._manifests, self._of_shard = columns, manifests, strata == "shard"
        shards = columns.names["shard"]
        self._urls = [[name and one.locate_shard(name) for name in shards] for one in manifests]
        self._grouped = any(part is not None for part in columns.groups)
        self._kinds = [columns[name] for name in (*NAMED, "source", *NUMBERS)]

    def __len__(self) -> int:
        return self._columns.count

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
        codes = [column[index].item() for column in self._kinds]
        task, subtask, dataset, shard = (
            self._columns.names[name][code] for name, code in zip(NAMED, codes, strict=False)
        )
        source, scale, width, height, lq_at, lq_size, gt_at, gt_size, cropped = codes[len(NAMED) :]
        if shard is None:
            manifest, paths = self._manifests[source], self._columns.path_of(index)
            lq, gt = (Member(manifest.locate(dataset, path)) for path in paths)
        else:
            url = self._urls[source][codes[NAMED.index("shard")]]
            lq, gt = Member(url, lq_at, lq_size), Member(url, gt_at, gt_size)
        stratum, pair_id = shard if self._of_shard else task, self._columns.pair_id(index)
        group = self._columns.group(index) if self._grouped else None
        return Row(
            pair_id, task, subtask or "", dataset, stratum, scale, width, height, shard, lq, gt, bool(cropped), group
        )


def _joined(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def _numbers(column: pa.Array | pa.ChunkedArray) -> Array:
    """(n,) a column of integers, nulls as -1; `to_numpy` would import pandas first, for a third of a second."""
    if column.null_count:
        column = pc.fill_null(column, -1)
    whole = _joined(column) if isinstance(column, pa.ChunkedArray) else column
    numbers = np.frombuffer(whole.buffers()[1], whole.type.to_pandas_dtype())
    return numbers[whole.offset : whole.offset + len(whole)]


def _packed(ids: pa.Array) -> Ids:
    """(n, 16) bytes of ids that are 32 hex digits each; otherwise the ids as they are."""
    offsets, data = _text(ids)
    if len(data) != 32 * len(ids) or (np.diff(offsets) != 32).any():
        return ids
    try:
        packed = np.frombuffer(binascii.unhexlify(data.tobytes()), np.uint8).reshape(-1, 16)
    except binascii.Error:
        return ids
    upper = ((data >= ord("A")) & (data <= ord("F"))).any()  # digits that would come back as small letters
    return ids if upper else packed


def _text(column: pa.Array) -> tuple[Array, Array]:
    """(n + 1,) offsets and the bytes of a column of strings without nulls."""
    text = column.cast(pa.large_string())
    offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
    data = text.buffers()[2]
    whole = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return offsets, whole[int(offsets[0]) : int(offsets[-1])]


def _digest() -> Any:
    return hashlib.blake2b(digest_size=16)


def _digest_text(digests: tuple[Any, Any], column: pa.ChunkedArray) -> None:
    """Lengths and characters of a column of strings; null counts as empty."""
    offsets, data = _text(_joined(pc.fill_null(column, "") if column.null_count else column))
    digests[0].update(np.diff(offsets).astype("<i8").tobytes())
    digests[1].update(data)
