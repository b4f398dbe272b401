"""Several manifests → one: the union of their rows, columns and roots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa

from manifests import files, schema
from manifests.errors import UserError
from manifests.table import SHARDS, Manifest, Part, read, refuse_existing, stage_entry, write

VERSION = 1


def merge(manifests: Sequence[str], output: str = "merged") -> Manifest:
    """The union of `manifests` in the order given; columns that one of them lacks are null there.

    A pair that stands in several is taken once, from the first. Raises UserError when two manifests disagree: one
    dataset name for two places, or one pair with two contents.
    """
    refuse_existing(output)
    if len(manifests) < 2:
        raise UserError("merge needs two manifests or more: curate merge A B -o M", exit_code=2)
    sources = [read(path) for path in manifests]
    roots: dict[str, str] = {}
    for source in sources:
        for name, root in source.roots.items():
            if roots.setdefault(name, root) != root and not _same_place(roots[name], root):
                if name == SHARDS:
                    raise UserError(
                        f"{source.path}: is in shards, as an earlier manifest is in others; merge them before "
                        "'curate shard', or train on both: 'trainer run --manifest A --manifest B'"
                    )
                raise UserError(
                    f"{source.path}: dataset {name!r} lies at {root}, but at {roots[name]} for an earlier manifest; "
                    "ingest one of them under another --dataset name"
                )
    repeated = _repeated(sources)
    stages = list({files.digest(stage): stage for source in sources for stage in source.stages}.values())
    stage = stage_entry("merge", VERSION, {}, sources)
    count = sum(source.rows["rows"] for source in sources) - sum(times - 1 for times in repeated.values())
    return write(output, _parts(sources, repeated), roots=roots, stages=[*stages, stage], expected_rows=count)


def _repeated(sources: Sequence[Manifest]) -> dict[str, int]:
    """pair_id -> in how many manifests it stands, where these are several. Raises UserError when they differ on it."""
    seen, repeated = set[str](), Counter[str]()
    for source in sources:
        for part in source.parts(["pair_id"]):
            ids = part.column("pair_id").to_pylist()
            repeated.update(seen.intersection(ids))
            seen.update(ids)
    contents: dict[str, tuple[Any, ...]] = {}
    for source in sources if repeated else ():
        for part in source.parts(["pair_id", "gt_sha256", "lq.sha256"]):
            for pair_id, *content in zip(*(column.to_pylist() for column in part.columns), strict=True):
                if pair_id in repeated and contents.setdefault(pair_id, tuple(content)) != tuple(content):
                    raise UserError(f"{source.path}: pair {pair_id} has other content than in an earlier manifest")
    return {pair_id: times + 1 for pair_id, times in repeated.items()}


def _parts(sources: Sequence[Manifest], repeated: Collection[str]) -> Iterator[pa.Table | Part]:
    """The rows of all, with the columns of all; parts that are whole already are not read."""
    kinds = {field.name: field.type for source in reversed(sources) for field in source.schema}
    taken = set[str]()
    for source in sources:
        if not repeated and set(source.column_names) == set(kinds):
            yield from source.whole()
            continue
        for part in source.parts():
            ids = part.column("pair_id").to_pylist()
            first = [pair_id not in taken for pair_id in ids]
            taken.update(set(ids).intersection(repeated))
            rest = part if all(first) else part.filter(pa.array(first))
            if rest.num_rows or not ids:
                yield schema.with_columns(rest, kinds)


def _same_place(a: str, b: str) -> bool:
    import os

    return not files.is_url(a) and not files.is_url(b) and os.path.realpath(a) == os.path.realpath(b)
