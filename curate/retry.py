"""Try again what failed: read the files of error rows anew, once the disk is back or the file has been mended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curate import engine, ingest, progress, scorers
from curate.sources import Source
from manifests import crops, schema
from manifests.errors import UserError
from manifests.images import MAX_PIXELS
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
STAGES = ("ingest", "pairs", "score", "caption", "judge")  # whose errors are of files and models, not of a policy
SAID = {  # columns about the pixels, by what names these
    "gt_sha256": ("iqa.", "degradation.", "daclip.", "judge.", "caption", "pair."),
    "lq.sha256": ("lq.caption", "pair."),
}


def retry(manifest: str = "manifest", output: str | None = None, *, max_pixels: int = MAX_PIXELS) -> Manifest:
    """Look again at the error rows that ingest, score, caption or judge made; rows that are well now are kept.

    Their files are read and checked as ingest does; so are those of which a model made no good caption or judgement.
    What is missing stays missing: `curate score`, `caption` or `judge` run again fill it in.
    Rows that failed for want of a partner stay as they are. Raises UserError when nothing failed.
    """
    output = output or engine.default_output(manifest, "retry")
    refuse_existing(output)
    source = read(manifest)
    rows = source.table().to_pylist()
    failed = [index for index, row in enumerate(rows) if _can_be_tried(row)]
    if not failed:
        raise UserError(f"{manifest}: no row failed at reading, scoring, captions or judging; nothing to retry")
    with progress.bar("retry", len(failed)) as tick:
        for index in failed:
            rows[index] = _again(source, rows[index], max_pixels)
            tick(1)
    kinds = {field.name: field.type for part in source.parts() for field in part.schema}
    table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()})
    stage = stage_entry("retry", VERSION, {"max_pixels": max_pixels}, [source])
    return write(output, table, roots=source.roots, stages=[*source.stages, stage], expected_rows=len(rows))


def _can_be_tried(row: Mapping[str, Any]) -> bool:
    errors = [one for one in row["decisions"] if one["verdict"] == "error" and one["stage"] in STAGES]
    return bool(row["gt_path"]) and any(one["rule"] != "pair" for one in errors)


def _again(source: Manifest, row: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    """The row with its files' facts read anew; other columns, and verdicts of other stages, stay.

    What is in a tar was read when it was put there, and a tile has no file of its own: such a row is only tried again.
    """
    others = [one for one in row["decisions"] if one["stage"] not in STAGES]
    if row.get("shard"):
        return row | {"decisions": others}
    root = source.roots[row["dataset"]]
    crop, compare = crops.COLUMNS[0] in row, "pair.state" in row
    options = ingest.Options(root, row["dataset"], scorers.Request(()), False, max_pixels, (), crop, compare)
    given = (row["lq_path"], row["gt_path"], row["task"], row["subtask"] or "", row["split"], row["group"])
    unit = [Source(*given, row["license"])]
    fresh = ingest.rows(unit, options=options).to_pylist()[0]
    own = {*schema.CORE, *crops.COLUMNS}
    facts = {name: fresh[name] for name in fresh if name in own and name not in ("group", "status")}
    changed = tuple(start for sha, starts in SAID.items() if fresh[sha] != row[sha] for start in starts)
    lost = {name: None for name in row if name not in schema.CORE and name.startswith(changed)}
    compared = {name: value for name, value in fresh.items() if name.startswith("pair.")}
    return row | facts | lost | compared | {"decisions": [*others, *fresh["decisions"]]}
