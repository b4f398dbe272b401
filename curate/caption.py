"""Caption the GTs; who made a caption stands beside it in `caption_model`."""

from __future__ import annotations

import importlib
import pkgutil

import pyarrow as pa

from curate import captioners, engine
from manifests import schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1


def names() -> list[str]:
    """Names of the captioners."""
    return sorted(module.name for module in pkgutil.iter_modules(captioners.__path__))


def caption(
    manifest: str = "manifest", output: str | None = None, *, captioner: str = "signals", all_rows: bool = False
) -> Manifest:
    """Set `caption` and `caption_model` of the kept rows that have what the captioner needs.

    `signals` writes a sentence from measured columns (run `curate score` first). Raises UserError for a captioner that
    is not there and for columns that are missing; rows without those values keep a null caption.
    """
    output = output or engine.default_output(manifest, "caption")
    refuse_existing(output)
    if captioner not in names():
        raise UserError(f"unknown captioner {captioner!r}; this version has {', '.join(names())}", exit_code=2)
    source = read(manifest)
    engine.require_rows(source)
    maker = importlib.import_module(f"curate.captioners.{captioner}")
    if missing := [name for name in maker.NEEDS if name not in source.column_names]:
        raise UserError(f"{manifest}: has no column {missing[0]!r}; run 'curate score {manifest}' first")
    table = source.table()
    for name in ("caption", "caption_model"):
        if name not in table.column_names:
            table = schema.set_column(table, name, [None] * table.num_rows, pa.string())
    texts, models = table.column("caption").to_pylist(), table.column("caption_model").to_pylist()
    measured = table.select(maker.NEEDS).to_pylist()
    for i, use in enumerate(engine.chosen(table, all_rows)):
        if use and None not in measured[i].values():
            texts[i], models[i] = maker.describe(measured[i]), maker.MODEL
    table = schema.set_column(table, "caption", texts, pa.string())
    table = schema.set_column(table, "caption_model", models, pa.string())
    stage = stage_entry("caption", VERSION, {"captioner": captioner, "model": maker.MODEL}, [source])
    return write(output, table, roots=source.roots, stages=[*source.stages, stage], expected_rows=table.num_rows)
