"""Manifests on disk: a folder of Parquet parts beside `manifest.json`, written atomically and never changed.

`manifest.json` is written last: a folder without it is not (yet) a manifest.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests import files, locks, outputs, schema
from manifests.ahead import ahead
from manifests.errors import UserError

PART_ROWS = 50_000
SHARDS = ".shards"  # among the roots: where the tars of the column `shard` lie


class Member(NamedTuple):
    """Bytes of an image: `size` from `offset` of a tar; offset 0 and size -1 for a file of its own."""

    url: str
    offset: int = 0
    size: int = -1


@dataclass(frozen=True)
class Manifest:
    """One manifest, opened. `info` is the content of its `manifest.json`."""

    path: str
    info: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """32 hex digits that name its content and the chain of stages that made it."""
        return str(self.info["fingerprint"])

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Lineage, oldest first: stage, version, params, input fingerprints, rows."""
        return list(self.info["stages"])

    @cached_property
    def roots(self) -> dict[str, str]:
        """Dataset → folder or URL that its rows' paths are relative to, resolved from the manifest's place.

        `SHARDS` is in it where there are shards, so that later stages, which write elsewhere, hand it on.
        """
        found = {name: files.join(self.path, root) for name, root in self.info["roots"].items()}
        return {SHARDS: self.path, **found} if "shard" in self.column_names else found

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, in order; `columns` limits what is read (unknown names raise UserError)."""
        return pa.concat_tables(list(self.parts(columns)))

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The parts, one Arrow table each; the next one is read while the caller works on this one."""
        wanted = None if columns is None else list(columns)
        names = [files.join(self.path, part["file"]) for part in self.info["parts"]]
        yield from ahead(lambda name: self._part(name, wanted), names)

    def _part(self, name: str, wanted: list[str] | None) -> pa.Table:
        try:
            source = io.BytesIO(files.read(name)) if files.is_url(name) else name  # of a local one what is wanted only
            table = pq.ParquetFile(source).read(columns=wanted)
        except FileNotFoundError:
            raise UserError(f"{name}: part of the manifest is missing; make the manifest again") from None
        except pa.ArrowException as error:
            raise UserError(f"{name}: not readable as Parquet ({error}); make the manifest again") from None
        if wanted is not None and (lacking := set(wanted) - set(table.column_names)):
            raise UserError(f"{self.path}: has no column {min(lacking)!r}")
        return table

    def whole(self) -> list[Part]:
        """The parts, unread: `write` takes them over as they are."""
        return [Part(self, info) for info in self.info["parts"]]

    @property
    def schema(self) -> pa.Schema:
        """Names and types of all columns."""
        name = files.join(self.path, self.info["parts"][0]["file"])
        return pq.read_schema(io.BytesIO(files.read(name)) if files.is_url(name) else name)

    @property
    def column_names(self) -> list[str]:
        """Names of all columns."""
        return list(self.info["columns"])

    @property
    def rows(self) -> dict[str, int]:
        """Counts: rows, kept, dropped, error."""
        return dict(self.info["rows"])

    def locate(self, dataset: str, path: str) -> str:
        """Where the file of a row is: its dataset's root joined with its path."""
        root = self.roots.get(dataset)
        if root is None:
            raise UserError(f"{self.path}: dataset {dataset!r} has no entry in 'roots' of manifest.json")
        return files.join(root, path)

    def locate_shard(self, shard: str) -> str:
        """Where the tar that the column `shard` names is."""
        return files.join(self.roots.get(SHARDS, self.path), shard)

    def place_columns(self, *sides: str) -> list[str]:
        """The columns that `place` needs for these sides, "gt" and "lq"."""
        names = ["dataset", *(f"{side}_path" for side in sides)]
        places = ["shard", *(f"{side}_{what}" for side in sides for what in ("offset", "size"))]
        return [*names, *places] if "shard" in self.column_names else names

    def place(self, row: Mapping[str, Any], side: str) -> Member:
        """Where the row's "gt" or "lq" lies: in its tar once it is in one (a tile is nowhere else)."""
        if row.get("shard"):
            return Member(self.locate_shard(row["shard"]), row[f"{side}_offset"], row[f"{side}_size"])
        return Member(self.locate(row["dataset"], row[f"{side}_path"]))


@dataclass(frozen=True)
class Part:
    """A part of a manifest that another one takes over unchanged: no row of it is decoded but ids and counts."""

    manifest: Manifest
    info: Mapping[str, Any]

    def facts(self) -> pa.Table:
        """The columns that the writer checks."""
        return self.manifest._part(self.place, ["pair_id", "dataset", "status"])

    @property
    def place(self) -> str:
        """Its file."""
        return files.join(self.manifest.path, self.info["file"])


def read(path: str) -> Manifest:
    """Open the manifest in folder (or URL) `path`. Raises UserError when there is none or it is unfinished."""
    name = files.join(str(path), "manifest.json")
    try:
        info = json.loads(files.read(name))
    except (FileNotFoundError, NotADirectoryError):
        if not files.exists(str(path)):
            raise UserError(f"{path}: no such manifest; make one with 'curate ingest' or name another") from None
        raise UserError(
            f"{path}: not a manifest (no manifest.json in it): name the folder that a stage wrote, "
            "or run an unfinished stage again"
        ) from None
    except ValueError as error:
        raise UserError(f"{name}: not valid JSON ({error})") from None
    if not isinstance(info, dict) or info.get("schema_version") != schema.VERSION:
        found = info.get("schema_version") if isinstance(info, dict) else None
        raise UserError(f"{name}: schema version {found}, this Equimix reads {schema.VERSION}")
    return Manifest(str(path), info)


def refuse_existing(path: str) -> None:
    """Raises UserError when there is a finished manifest at `path`, or a folder of other files, such as a dataset's."""
    if files.exists(files.join(path, "manifest.json")):
        raise outputs.existing(path)
    outputs.refuse_foreign(path)


def stage_entry(stage: str, version: int, params: Mapping[str, Any], inputs: Sequence[Manifest]) -> dict[str, Any]:
    """A link of the lineage chain: what was run, on what. Parameters must be JSON-able and free of paths."""
    return {
        "stage": stage,
        "version": version,
        "params": dict(params),
        "inputs": [manifest.fingerprint for manifest in inputs],
    }


def write(
    path: str,
    table: pa.Table | Iterable[pa.Table | Part],
    *,
    roots: Mapping[str, str],
    stages: Sequence[Mapping[str, Any]],
    expected_rows: int | None = None,
    part_rows: int = PART_ROWS,
) -> Manifest:
    """Write `table`, or a stream of tables (or parts of other manifests) with the same columns, as the manifest `path`.

    `roots` are where the datasets lie as the caller sees them; local ones are stored relative to `path`.
    `stages` is the lineage, the stage that made this table last. `expected_rows` is what that stage declared:
    rows = kept + dropped + error must equal it. Of a stream one table at a time is held.
    Raises UserError on a broken invariant or an existing output.
    """
    if files.exists(files.join(path, "manifest.json")):
        raise outputs.existing(path)
    locks.hold(path)
    try:
        return _write(path, _pieces(table, part_rows), roots, stages, expected_rows)
    finally:
        locks.release(path)


def _write(
    path: str,
    pieces: Iterable[pa.Table | Part],
    roots: Mapping[str, str],
    stages: Sequence[Mapping[str, Any]],
    expected_rows: int | None,
) -> Manifest:
    parts: list[dict[str, Any]] = []
    rows, ids, columns = Counter[str](), schema.Ids(), list[str]()
    with ThreadPoolExecutor(1) as pool:  # one part is compressed and written while the next one is made
        pending: Future[dict[str, Any]] | None = None
        for index, piece in enumerate(pieces):
            part = piece.facts() if isinstance(piece, Part) else schema.conform(piece)
            names = piece.manifest.column_names if isinstance(piece, Part) else part.column_names
            _check_part(path, part, names, roots, columns or names)
            columns = names
            ids.add(part.column("pair_id"))
            rows.update(schema.counts(part))
            if pending:
                parts.append(pending.result())
            pending = pool.submit(_store, path, _part(index), piece if isinstance(piece, Part) else part)
        if pending:
            parts.append(pending.result())
    _forget_parts(path, len(parts))
    ids.check()
    if expected_rows is not None and rows["rows"] != expected_rows:
        raise UserError(f"{path}: {rows['rows']} rows written where the stage declared {expected_rows}")
    if rows["rows"] != rows["kept"] + rows["dropped"] + rows["error"]:
        raise UserError(f"{path}: rows do not add up: {dict(rows)}")
    info: dict[str, Any] = {
        "schema_version": schema.VERSION,
        "roots": {name: files.relative_root(root, path) for name, root in sorted(roots.items())},
        "columns": columns,
        "rows": dict(rows),
        "stages": [*stages[:-1], {**stages[-1], "rows": dict(rows)}],
        "parts": parts,
    }
    info["fingerprint"] = files.digest([info["stages"], [part["sha256"] for part in parts]])
    text = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
    files.write(files.join(path, "manifest.json"), text.encode())
    return Manifest(path, info)


def _store(path: str, name: str, part: pa.Table | Part) -> dict[str, Any]:
    if isinstance(part, Part):
        files.copy(part.place, files.join(path, name))
        return {**part.info, "file": name}
    data = parquet_bytes(part)
    files.write(files.join(path, name), data)
    return {"file": name, "rows": part.num_rows, "sha256": _sha256(data)}


def _part(index: int) -> str:
    return f"part-{index:05d}.parquet"


def _forget_parts(path: str, first: int) -> None:
    """Delete the parts from `first` on: a run with other parameters, killed before it was done, left them."""
    while files.exists(files.join(path, _part(first))):
        files.remove(files.join(path, _part(first)))
        first += 1


def _pieces(table: pa.Table | Iterable[pa.Table | Part], part_rows: int) -> Iterator[pa.Table | Part]:
    """Tables of at most `part_rows` rows; at least one, so that an empty manifest has its columns."""
    for one in [table] if isinstance(table, pa.Table) else table:
        if isinstance(one, Part):
            yield one
            continue
        for start in range(0, max(one.num_rows, 1), part_rows):
            yield one.slice(start, part_rows)


def _check_part(
    path: str, part: pa.Table, names: Sequence[str], roots: Mapping[str, str], columns: Sequence[str]
) -> None:
    if list(names) != list(columns):
        other = set(columns) ^ set(names)
        raise UserError(f"{path}: column {min(other)!r} is in some parts only")
    if lost := set(pc.unique(part.column("dataset")).to_pylist()) - set(roots):
        raise UserError(f"{path}: dataset {min(map(str, lost))!r} has no root")


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as zstd Parquet; the same table gives the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=PART_ROWS)
    return buffer.getvalue()


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
