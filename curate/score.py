"""Score the GTs: once per distinct content, whatever the number of LQs that share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from curate import engine, scorers
from manifests import files, images, schema
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

UNIT_IMAGES = 16
VERSION = 1


@dataclass(frozen=True)
class Target:
    """One distinct GT: its content hash, and one place where it lies."""

    sha256: str
    url: str


def score(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    iqa: Sequence[str] = ("signals",),
    weights: Mapping[str, str] | None = None,
    device: str = "cpu",
    all_rows: bool = False,
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
) -> Manifest:
    """Add `iqa.<metric>` columns for the metrics named in `iqa` (`signals`: all built-in ones) where missing.

    weights: metric -> checkpoint file, for pyiqa metrics whose weights are not in its cache.
    all_rows: score rows that are dropped or failed as well.
    A GT that cannot be scored (unreadable, changed since ingest, NaN) becomes an error row with the reason.
    """
    output = output or engine.default_output(manifest, "score")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    request = request_for(iqa, weights, device)
    execution = engine.Execution(workers, dask_address, max_errors)
    table = add_scores(source, source.table(), request, output, all_rows=all_rows, execution=execution)
    stage = stage_entry("score", VERSION, params_of(request), [source])
    done = write(output, table, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    return done


def request_for(iqa: Sequence[str], weights: Mapping[str, str] | None, device: str) -> scorers.Request:
    """The metrics named, their models loaded. Raises UserError for an unknown name or absent weights."""
    request = scorers.Request(tuple(scorers.expand(iqa)), dict(weights or {}), device)
    scorers.load(request)
    return request


def params_of(request: scorers.Request) -> dict[str, Any]:
    """What the lineage keeps of a request: the metrics, and what computed them."""
    return {"metrics": request.fingerprints()}


def add_scores(
    source: Manifest,
    table: pa.Table,
    request: scorers.Request,
    output: str,
    *,
    all_rows: bool = False,
    execution: engine.Execution | None = None,
) -> pa.Table:
    """`table` (rows of `source`) with the request's columns, what was missing measured. Units go to `output`/.work."""
    targets = _missing(source, table, request, all_rows)
    units = [targets[i : i + UNIT_IMAGES] for i in range(0, len(targets), UNIT_IMAGES)]
    results = engine.run_units(
        engine.work_folder(output),
        units,
        partial(_measure_unit, request=request),
        fingerprint=files.digest(["score", VERSION, source.fingerprint, params_of(request), all_rows]),
        label="score",
        execution=execution,
        broken=partial(_broken, request=request),
        sizes=[len(unit) for unit in units],
    )
    measured = {row["sha256"]: row for result in results for row in result.to_pylist()}
    return _join(table, measured, request, engine.chosen(table, all_rows))


def _missing(source: Manifest, table: pa.Table, request: scorers.Request, all_rows: bool) -> list[Target]:
    """Distinct GTs of the chosen rows that lack a score, in manifest order."""
    has_all = [False] * table.num_rows
    if set(request.columns) <= set(table.column_names):
        rows = table.select(request.columns).to_pylist()
        has_all = [None not in row.values() for row in rows]
    names = [table.column(n).to_pylist() for n in ("gt_sha256", "dataset", "gt_path")]
    targets: dict[str, Target] = {}
    for index, (use, sha, dataset, path) in enumerate(zip(engine.chosen(table, all_rows), *names, strict=True)):
        if use and sha and path and not has_all[index]:
            targets.setdefault(sha, Target(sha, source.locate(dataset, path)))
    return list(targets.values())


def _measure_unit(unit: Sequence[Target], *, request: scorers.Request) -> pa.Table:
    return _table([_measure_one(target, request) for target in unit], request)


def _broken(unit: Sequence[Target], reason: str, *, request: scorers.Request) -> pa.Table:
    return _table([{"sha256": target.sha256, "problem": reason} for target in unit], request)


def _table(rows: Sequence[Mapping[str, Any]], request: scorers.Request) -> pa.Table:
    kinds = {"sha256": pa.string(), "problem": pa.string(), **dict.fromkeys(request.columns, pa.float64())}
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})


def _measure_one(target: Target, request: scorers.Request) -> dict[str, Any]:
    row: dict[str, Any] = {"sha256": target.sha256, "problem": None}
    try:
        data = files.read(target.url)
        if images.sha256(data) != target.sha256:
            return {**row, "problem": f"{target.url.rsplit('/', 1)[-1]}: has changed since ingest"}
        pixels = images.decode(data).pixels
    except OSError as error:
        return {**row, "problem": f"{target.url.rsplit('/', 1)[-1]}: {error.strerror or error}"}
    except images.ImageError as error:
        return {**row, "problem": f"{target.url.rsplit('/', 1)[-1]}: {error}"}
    values, problems = scorers.measure(pixels, request)
    return {**row, **values, "problem": "; ".join(problems) or None}


def _join(
    table: pa.Table, measured: Mapping[str, Mapping[str, Any]], request: scorers.Request, use: Sequence[bool]
) -> pa.Table:
    shas = table.column("gt_sha256").to_pylist()
    for column in request.columns:
        old = table.column(column).to_pylist() if column in table.column_names else [None] * table.num_rows
        new = [
            measured[sha][column] if ok and value is None and sha in measured else value
            for ok, sha, value in zip(use, shas, old, strict=True)
        ]
        table = schema.set_column(table, column, new, pa.float64())
    decisions = [
        _decide(old, measured[sha]["problem"]) if ok and sha in measured else old
        for ok, sha, old in zip(use, shas, table.column("decisions").to_pylist(), strict=True)
    ]
    return schema.conform(schema.set_column(table, "decisions", decisions, schema.CORE["decisions"]))


def _decide(old: Sequence[Mapping[str, Any]], problem: str | None) -> list[dict[str, Any]]:
    new = [schema.decision("score", "measure", "error", problem)] if problem else []
    return schema.decide(old, "score", ["measure"], new)
