"""Scores of one's own: a table by pair_id or sha256 becomes columns of the manifest."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate import engine, scorers
from manifests import files, schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
KEYS = {"pair_id": "pair_id", "sha256": "gt_sha256", "gt_sha256": "gt_sha256"}  # column of the file -> of the manifest
SHOWN = 3

log = logging.getLogger("curate.join")


@dataclass(frozen=True)
class Scores:
    """A table of scores. key: the manifest's column that its keys stand in. columns: name -> key -> value."""

    path: str
    key: str
    columns: Mapping[str, Mapping[str, float | None]]
    keys: tuple[str, ...]
    fingerprint: str

    @property
    def params(self) -> dict[str, Any]:
        """What the lineage says of it. `anew`: metrics of which these columns are not what the scorer measured."""
        known = [name.removeprefix("iqa.") for name in self.columns if name.startswith("iqa.")]
        return {"columns": sorted(self.columns), "key": self.key, "sha256": self.fingerprint, "anew": known}


def join(manifest: str = "manifest", output: str | None = None, *, scores: str) -> Manifest:
    """Add the numeric columns of the file `scores` (CSV, Parquet or JSONL) to the rows that its keys name.

    Its key column is `pair_id`, or `sha256` for the content of the GT. A column keeps its name where that begins as
    those of the manifest's scores do (`user.`, `iqa.`, `judge.`, ...); another becomes `user.<name>`. A value replaces
    what stands in its place; rows that the file does not name keep what they have. Keys of no row are counted and
    said. Raises UserError for a key that stands twice, a value that is no number, and a file that names no row at all.
    """
    output = output or engine.default_output(manifest, "join")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    table = load(scores)
    check(table, [part.column(table.key) for part in source.parts([table.key])])
    check_kinds(table, source.schema)
    tables = (enter(part, table) for part in source.parts())
    stage = stage_entry("join", VERSION, table.params, [source])
    return write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])


def enter(part: pa.Table, scores: Scores) -> pa.Table:
    """The rows of `part` with the values that `scores` has for them."""
    keys = part.column(scores.key).to_pylist()
    for name, values in scores.columns.items():
        old = part.column(name).to_pylist() if name in part.column_names else [None] * part.num_rows
        kind = part.schema.field(name).type if name in part.column_names else pa.float64()
        new = [values.get(key, before) for key, before in zip(keys, old, strict=True)]
        part = schema.set_column(part, name, pa.array(new, pa.float64()).cast(kind))
    return part


def check(scores: Scores, keys: Sequence[pa.ChunkedArray]) -> None:
    """Say which keys are of no row. Raises UserError when all are."""
    there = {key for part in keys for key in part.to_pylist()}
    unknown = [key for key in scores.keys if key not in there]
    if len(unknown) == len(scores.keys):
        raise UserError(
            f"{scores.path}: none of its {len(scores.keys)} keys is the {scores.key} of a row (first: {unknown[0]!r})"
        )
    if unknown:
        more = ", …" if len(unknown) > SHOWN else ""
        log.warning("%s: %d keys are of no row: %s%s", scores.path, len(unknown), ", ".join(unknown[:SHOWN]), more)


def check_kinds(scores: Scores, columns: pa.Schema) -> None:
    """Raises UserError for a column that the manifest has with values that are no floating-point numbers."""
    kinds = dict(zip(columns.names, columns.types, strict=True))
    for name in scores.columns:
        if name in kinds and not pa.types.is_floating(kinds[name]):
            raise UserError(f"{scores.path}: column {name!r} of the manifest is {kinds[name]}, not a score; rename it")


def load(path: str) -> Scores:
    """Read a table of scores. Raises UserError, naming the line, for what it cannot use."""
    data = files.read(path)
    suffix = os.path.splitext(path)[1].lower()
    readers = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    if suffix not in readers:
        raise UserError(f"{path}: scores are read from .csv, .jsonl or .parquet", exit_code=2)
    key, columns = "", dict[str, dict[str, float | None]]()
    named: dict[str, str] = {}
    first: dict[str, int] = {}
    for number, row in readers[suffix](path, data):
        where = f"{path}, {'row' if suffix == '.parquet' else 'line'} {number}"
        key = key or _key(where, row)
        value = row.get(key)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: has no {key}", exit_code=2)
        value = value.strip().lower()
        if first.setdefault(value, number) != number:
            raise UserError(f"{where}: {key} {value} stands in line {first[value]} as well", exit_code=2)
        for name, cell in row.items():
            if name in KEYS:
                continue
            if not name.strip():
                raise UserError(f"{where}: a column without a name", exit_code=2)
            if name not in named:
                if (column := column_of(name)) in named.values():
                    raise UserError(f"{where}: two columns would be {column}; rename one", exit_code=2)
                named[name] = column
            columns.setdefault(named[name], {})[value] = _number(cell, f"{where}: {name}")
    if not first:
        raise UserError(f"{path}: has no rows", exit_code=2)
    if not columns:
        raise UserError(f"{path}: has no column beside {key}", exit_code=2)
    return Scores(path, KEYS[key], columns, tuple(first), hashlib.sha256(data).hexdigest())


def column_of(name: str) -> str:
    """The manifest's column for a column of the file."""
    plain = re.sub(r"[^a-z0-9_.]+", "_", name.strip().lower())
    return plain if plain.startswith(scorers.PREFIXES) and plain not in schema.CORE else f"user.{plain}"


def _key(where: str, row: Mapping[str, Any]) -> str:
    for name in KEYS:
        if name in row:
            return name
    raise UserError(f"{where}: has neither a column pair_id nor one sha256", exit_code=2)


def _number(value: Any, where: str) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan", "null", "none", "na")):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{where} is {value!r}, not a number", exit_code=2) from None
    if math.isinf(number):
        raise UserError(f"{where} is infinite", exit_code=2)
    return None if math.isnan(number) else number


def _csv(path: str, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(_text(path, data), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{path}, line {reader.line_num}: has {len(cells)} cells where the header has {len(header)}",
                    exit_code=2,
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not readable as CSV ({error})", exit_code=2) from None


def _jsonl(path: str, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_text(path, data).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a JSON object", exit_code=2)
        yield number, row


def _parquet(path: str, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not readable as Parquet ({error})", exit_code=2) from None
    yield from enumerate(table.to_pylist(), 1)


def _text(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text", exit_code=2) from None
