"""What is wrong with a GT: P(type | GT) from the built-in signals, by the model in `identifier.py`. Offline."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from curate import engine, scorers
from curate.score import execution_for, measure, params_of, request_for
from manifests import schema
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
TYPES = ("noise", "blur", "jpeg", "haze", "low_light", "low_resolution")
COLUMNS = [f"degradation.{name}" for name in TYPES]


def identify(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    all_rows: bool = False,
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
) -> Manifest:
    """Add `degradation.<type>` columns, P(type | GT) in [0, 1]; 0.5 is the threshold it is calibrated for.

    Signals that are missing are measured first, from one decode. Types: noise, blur, jpeg, haze, low_light,
    low_resolution. Nothing is dropped: `curate filter --max degradation.noise=0.5` decides.
    """
    from curate import identifier

    output = output or engine.default_output(manifest, "identify")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    request = request_for(["signals"], None, "cpu")
    execution = execution_for(request, workers, dask_address, max_errors)
    scores = measure(source, request, output, all_rows=all_rows, execution=execution)
    parts = map(scores.join, source.parts())
    tables = (add_probabilities(part, engine.chosen(part, all_rows)) for part in parts)
    stage = stage_entry("identify", VERSION, params_of(request) | {"model": identifier.fingerprint()}, [source])
    done = write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    return done


def add_probabilities(table: pa.Table, use: list[bool]) -> pa.Table:
    """The table with `degradation.<type>` set on the rows of `use` from their `iqa.<signal>` columns."""
    signals = list(scorers.signal_metrics())
    scores = [table.column(f"iqa.{name}").to_pylist() for name in signals]
    found = [
        probabilities({f"iqa.{name}": value for name, value in zip(signals, row, strict=True)}) if ok else {}
        for ok, row in zip(use, zip(*scores, strict=True), strict=True)
    ]
    for column in COLUMNS:
        old = table.column(column).to_pylist() if column in table.column_names else [None] * table.num_rows
        new = [one.get(column, value) for one, value in zip(found, old, strict=True)]
        table = schema.set_column(table, column, new, pa.float64())
    return table


def probabilities(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    """`degradation.<type>` of one GT from its `iqa.<signal>` scores; None where a signal is missing."""
    from curate import identifier

    signals = {name: scores.get(f"iqa.{name}") for name in scorers.signal_metrics()}
    given = {name: value for name, value in signals.items() if value is not None}
    if len(given) < len(signals):
        return dict.fromkeys(COLUMNS)
    found = identifier.identify(given)
    return {f"degradation.{name}": found[name] for name in TYPES}
