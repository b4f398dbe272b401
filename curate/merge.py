"""Several manifests → one: the union of their rows, columns and roots."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from manifests import files, schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

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
                raise UserError(
                    f"{source.path}: dataset {name!r} lies at {root}, but at {roots[name]} for an earlier manifest; "
                    "ingest one of them under another --dataset name"
                )
    tables = [source.table() for source in sources]
    unique, seen = [], dict[str, tuple[str, int]]()
    for source, table in zip(sources, tables, strict=True):
        keep = []
        contents = [table.column(n).to_pylist() for n in ("pair_id", "gt_sha256", "lq.sha256")]
        for index, (pair_id, gt, lq) in enumerate(zip(*contents, strict=True)):
            content = files.digest([gt, lq])
            earlier = seen.setdefault(pair_id, (content, id(table)))
            if earlier[0] != content:
                raise UserError(f"{source.path}: pair {pair_id} has other content than in an earlier manifest")
            if earlier[1] == id(table):
                keep.append(index)
        unique.append(table.take(pa.array(keep, pa.int64())))
    table = schema.conform(pa.concat_tables(unique, promote_options="default"))
    stages = list({files.digest(stage): stage for source in sources for stage in source.stages}.values())
    stage = stage_entry("merge", VERSION, {}, sources)
    return write(output, table, roots=roots, stages=[*stages, stage], expected_rows=len(seen))


def _same_place(a: str, b: str) -> bool:
    import os

    return not files.is_url(a) and not files.is_url(b) and os.path.realpath(a) == os.path.realpath(b)
