"""What is wrong with a GT: P(type | GT) from the built-in signals, by the model in `identifier.py`; or by DA-CLIP."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from curate import budget, daclip, devices, engine, identifier, pictures, scorers
from curate.score import execution_for, load_pixels, measure, request_for
from manifests import checkpoints, schema
from manifests.ahead import ahead
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
COLUMNS = [f"degradation.{name}" for name in identifier.TYPES]
MODELS = ("signals", "daclip")


def identify(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    model: str = "signals",
    weights: str | None = None,
    device: str = "cpu",
    all_rows: bool = False,
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
) -> Manifest:
    """Add `degradation.<type>` columns, P(type | GT) in [0, 1]; 0.5 is the threshold it is calibrated for.

    model: `signals`, the built-in identifier, or `daclip`: then `daclip.<type>` (ten, their sum is 1) and, where it has
    been fitted (`fit_clean`), `daclip.clean`. weights: a file, a folder or a hub id of DA-CLIP (the authors' own by
    default). device: of daclip.

    Signals that are missing, or that an earlier version measured, are measured first, from one decode. Types:
    `identifier.TYPES`. Nothing is dropped: `curate filter --max degradation.noise=0.5` decides.
    """
    if model not in MODELS:
        raise UserError(f"unknown model {model!r}; there are {', '.join(MODELS)}", exit_code=2)
    if model == "signals" and weights is not None:
        raise UserError("--weights is for --model daclip; the built-in identifier has none", exit_code=2)
    output = output or engine.default_output(manifest, "identify")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    request = request_for(["signals"], None, "cpu") if model == "signals" else _request(weights, device, workers)
    execution = execution_for(request, workers, dask_address, max_errors)
    scores = measure(source, request, output, all_rows=all_rows, execution=execution)
    tables: Iterator[pa.Table] = map(scores.join, source.parts())
    params = scores.params
    if model == "signals":
        replaced, kept = recorded(source), not outdated(source)
        tables = (add_probabilities(part, engine.chosen(part, all_rows), keep=kept) for part in tables)
        params |= replaced
    tables = budget.within(tables, source, "identify", max_errors)
    stage = stage_entry("identify", VERSION, params, [source])
    done = write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    return done


def fit_clean(manifest: str = "manifest", *, weights: str | None = None, device: str = "cpu") -> tuple[str, int]:
    """Fit `daclip.clean` on the kept GTs of a manifest that is known to be clean, and store it beside the weights.

    Returns its path and the number of GTs. Raises UserError for fewer than 20.
    """
    source = read(manifest)
    engine.require_rows(source)
    model = daclip.load(weights, devices.mine(device))
    prepared = []
    for loaded in ahead(load_pixels, pictures.targets(source)):
        if isinstance(loaded, str):
            print(f"left out: {loaded}", file=sys.stderr)
        else:
            prepared.append(model.prepare(loaded))
    path = daclip.clean_path(model.path)
    daclip.fit(model.similarities(prepared), model.fingerprint).write(path)
    daclip.load.cache_clear()
    checkpoints.fingerprint.cache_clear()
    return path, len(prepared)


def _request(weights: str | None, device: str, workers: int) -> scorers.Request:
    path = daclip.find(weights)
    threads = max(1, workers) if device.startswith("cuda") else 1
    return scorers.Request((scorers.DACLIP,), {scorers.DACLIP: path}, device, threads)


def makers(source: Manifest) -> set[str]:
    """Fingerprints of the fits that made `degradation.<type>`, by the lineage; "unknown" for those of old versions."""
    found: set[str] = set()
    for stage in source.stages:
        params = stage["params"]
        if params.get("identified_anew"):
            found.clear()
        if params.get("identifier"):
            found.add(params["identifier"])
        elif params.get("identify") is True or (stage["stage"] == "identify" and "model" in params):
            found.add("unknown")  # of a version that did not write it down
    return found


def outdated(source: Manifest) -> bool:
    """Whether `degradation.<type>` columns are there that are not all of this fit of the identifier."""
    return any(name in source.column_names for name in COLUMNS) and makers(source) != {identifier.fingerprint()}


def recorded(source: Manifest) -> dict[str, Any]:
    """What the lineage keeps of an identification: which fit, and whether it replaced all that was there."""
    return {"identifier": identifier.fingerprint()} | ({"identified_anew": True} if outdated(source) else {})


def add_probabilities(table: pa.Table, use: list[bool], *, keep: bool = True) -> pa.Table:
    """The table with `degradation.<type>` set on the rows of `use` from their `iqa.<signal>` columns.

    keep: other rows, and those that lack a signal, keep the values that they have; otherwise these become null, since
    another fit made them.
    """
    signals = list(scorers.signal_metrics())
    scores = [table.column(f"iqa.{name}").to_pylist() for name in signals]
    found = [
        probabilities({f"iqa.{name}": value for name, value in zip(signals, row, strict=True)}) if ok else {}
        for ok, row in zip(use, zip(*scores, strict=True), strict=True)
    ]
    for column in COLUMNS:
        there = keep and column in table.column_names
        old = table.column(column).to_pylist() if there else [None] * table.num_rows
        fresh = (one.get(column) for one in found)
        new = [value if one is None else one for one, value in zip(fresh, old, strict=True)]
        table = schema.set_column(table, column, new, pa.float64())
    return table


def probabilities(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    """`degradation.<type>` of one GT from its `iqa.<signal>` scores; None where a signal is missing."""
    signals = {name: scores.get(f"iqa.{name}") for name in scorers.signal_metrics()}
    given = {name: value for name, value in signals.items() if value is not None}
    if len(given) < len(signals):
        return dict.fromkeys(COLUMNS)
    found = identifier.identify(given)
    return {f"degradation.{name}": found[name] for name in identifier.TYPES}
