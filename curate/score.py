"""Score the GTs: once per distinct content, whatever the number of LQs that share it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import budget, devices, engine, iqa, scorers
from curate import reuse as reuse_
from manifests import files, images, schema
from manifests.ahead import ahead
from manifests.table import Manifest, Member, read, refuse_existing, stage_entry, write

UNIT_IMAGES, UNIT_BATCHES = 16, 64  # GTs of a unit; where they go through models in batches
VERSION = 1


@dataclass(frozen=True)
class Target:
    """One distinct image: its content hash, and one place where it lies."""

    sha256: str
    place: Member


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
    reuse: Sequence[str] = (),
    bf16: bool = False,
) -> Manifest:
    """Add `iqa.<metric>` columns for the metrics named in `iqa` (`signals`: all built-in ones) where missing.

    weights: metric -> checkpoint file, for pyiqa metrics whose weights are not in its cache.
    all_rows: score rows that are dropped or failed as well.
    reuse: manifests whose scores are taken over, where the same scorer measured the same content.
    bf16: measure those metrics of pyiqa in bf16 whose scores of a sample of these GTs it does not change by more than
        half of 0.1 % of their range; the lineage says which they are.
    A GT that cannot be scored (unreadable, changed since ingest, NaN) becomes an error row with the reason.
    """
    output = output or engine.default_output(manifest, "score")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    request = request_for(iqa, weights, device, workers)
    execution = execution_for(request, workers, dask_address, max_errors)
    scores = measure(source, request, output, all_rows=all_rows, execution=execution, reuse=reuse, bf16=bf16)
    tables = budget.within((scores.join(part) for part in source.parts()), source, "score", max_errors)
    stage = stage_entry("score", VERSION, scores.params, [source])
    done = write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    return done


def request_for(
    iqa: Sequence[str], weights: Mapping[str, str] | None, device: str, workers: int = 0
) -> scorers.Request:
    """The metrics named. Raises UserError for an unknown name or a weights file that is not there.

    workers: on a CUDA device, the threads that decode ahead of it.
    """
    threads = max(1, workers) if device.startswith("cuda") else 1
    request = scorers.Request(tuple(scorers.expand(iqa)), dict(weights or {}), device, threads)
    scorers.check_weights(request)
    return request


def execution_for(
    request: scorers.Request, workers: int, dask_address: str | None, max_errors: str | None
) -> engine.Execution:
    """`workers` processes on the CPU; a process for each of several CUDA devices, this one for a single one.

    Raises UserError for a device that is not there.
    """
    if dask_address:
        return engine.Execution(0, dask_address, max_errors)
    found = devices.count(request.device)
    processes = workers if not found else found if found > 1 else 0
    engine.warm_up(processes, __name__, "curate.signals.measure")
    return engine.Execution(processes, None, max_errors)


@dataclass(frozen=True)
class Scores:
    """What was measured of the distinct GTs of a manifest, by content hash, and how to put it into its parts.

    made: metric -> the fingerprint of what measured it; empty where nothing was missing, so that no model was needed.
    """

    request: scorers.Request
    all_rows: bool
    measured: Mapping[str, Mapping[str, Any]]
    made: Mapping[str, str]
    anew: Sequence[str] = ()  # metrics of whose older values nothing stays

    @property
    def params(self) -> dict[str, Any]:
        """What the lineage keeps: what measured each metric, and those of which nothing older is left."""
        return {"metrics": dict(self.made)} | ({"anew": list(self.anew)} if self.anew else {})

    def join(self, part: pa.Table) -> pa.Table:
        """`part` with the request's columns: values that were there stay, what was missing is filled in."""
        lacking = [n for n in self.request.columns if n not in part.column_names]
        for column in lacking:
            part = part.append_column(column, pa.nulls(part.num_rows, pa.float64()))
        for column in [column for name in self.anew for column in self.request.columns_of(name)]:
            part = schema.set_column(part, column, [None] * part.num_rows, pa.float64())
        return _join(part, self.measured, self.request, engine.chosen(part, self.all_rows)) if self.measured else part


def measure(
    source: Manifest,
    request: scorers.Request,
    output: str,
    *,
    all_rows: bool = False,
    execution: engine.Execution | None = None,
    reuse: Sequence[str] = (),
    bf16: bool = False,
) -> Scores:
    """Measure what is missing of the request's columns, each distinct GT once. Units go to `output`/.work.

    reuse, bf16: see `score`.
    """
    apart = execution is not None and bool(execution.workers or execution.address)
    place = "cpu" if apart else request.device  # the workers have the devices to themselves
    anew = _of_other_weights(source, replace(request, device=place))
    targets = _missing(source, request, all_rows, anew)
    if not targets:
        return Scores(request, all_rows, {}, {})
    request = _in_bf16(request, targets) if bf16 else request
    here = replace(request, device=place)
    made = here.fingerprints()
    found = reuse_.scores(reuse, here) if reuse else {}
    whole = {sha: values | {"problem": None} for sha, values in found.items() if len(values) == len(request.columns)}
    targets = [target for target in targets if target.sha256 not in whole]
    if targets:
        scorers.load(here)  # so that a model that cannot be had is said before any work
    hashes = [target.sha256 for target in targets]
    size = UNIT_BATCHES if scorers.takes_batches(request.device) else UNIT_IMAGES
    units = [targets[i : i + size] for i in range(0, len(targets), size)]
    results = engine.run_units(
        engine.work_folder(output),
        units,
        partial(_measure_unit, request=request),
        fingerprint=files.digest(["score", VERSION, source.fingerprint, made, size, hashes]),
        label="score",
        execution=execution,
        broken=partial(_broken, request=request),
        sizes=[len(unit) for unit in units],
    )
    rows = {row["sha256"]: row for result in results for row in result.to_pylist()}
    return Scores(request, all_rows, whole | rows, made, anew)


def _of_other_weights(source: Manifest, request: scorers.Request) -> list[str]:
    """Metrics whose values other weights, or another version of the signals, made: measured anew, one maker for all."""
    signals = scorers.signal_metrics()
    ours = {name for name in request.names if name in request.weights or name in signals}
    before = {name: some for name, some in reuse_.makers(source).items() if name in ours}
    made = replace(request, names=tuple(before)).fingerprints()
    found = [name for name, some in before.items() if {one.removesuffix(scorers.BF16) for one in some} != {made[name]}]
    for name in found:
        if name not in signals:
            print(f"{name}: its scores are of other weights; all are measured anew", file=sys.stderr)
    if any(name in signals for name in found):
        print("the signals were measured by another version; they are measured anew", file=sys.stderr)
    return found


def _in_bf16(request: scorers.Request, targets: Sequence[Target]) -> scorers.Request:
    """The request with the metrics that may be measured in bf16, by what it changes on a sample of the targets."""
    some = targets[:: max(1, len(targets) // iqa.PROBES)][: iqa.PROBES]
    probes = [pixels for pixels in map(load_pixels, some) if not isinstance(pixels, str)]
    good = []
    for name in request.pyiqa:
        change = iqa.largest_change(request.metric(name), probes)
        if change <= iqa.MARGIN * iqa.TOLERANCE:
            good.append(name)
        said = (
            f"changes {len(probes)} GTs by {change:.2%} of its range at most"
            if math.isfinite(change)
            else "too few GTs"
        )
        print(f"{name}: {'bf16' if name in good else 'stays in fp32: bf16'} {said}", file=sys.stderr)
    return replace(request, bf16=tuple(good))


def _missing(source: Manifest, request: scorers.Request, all_rows: bool, anew: Sequence[str]) -> list[Target]:
    """Distinct GTs of the chosen rows that lack a score, or have one that is to be made `anew`, in manifest order."""
    if not request.columns:
        return []
    lost = {column for name in anew for column in request.columns_of(name)}
    there = [name for name in request.columns if name in source.column_names and name not in lost]
    targets: dict[str, Target] = {}
    places = source.place_columns("gt")
    for part in source.parts(["gt_sha256", "status", *places, *there]):
        use = pc.is_valid(part.column("gt_sha256"))
        if not all_rows:
            use = pc.and_(use, pc.equal(part.column("status"), "kept"))
        if len(there) == len(request.columns):
            full = pc.is_valid(part.column(there[0]))
            for name in there[1:]:
                full = pc.and_(full, pc.is_valid(part.column(name)))
            use = pc.and_not(use, full)
        for row in part.filter(use).select(["gt_sha256", *places]).to_pylist():
            if row["gt_path"] and row["gt_sha256"] not in targets:
                targets[row["gt_sha256"]] = Target(row["gt_sha256"], source.place(row, "gt"))
    return list(targets.values())


def _measure_unit(unit: Sequence[Target], *, request: scorers.Request) -> pa.Table:
    """A row per target. With several threads, images are decoded while the device works; the scores are the same."""
    scorers.load(request)  # here, not in every thread

    def load(target: Target) -> scorers.Ready | str:
        return scorers.ready(load_pixels(target), request)

    loaded = ahead(load, unit, request.threads, 2 * request.threads) if request.threads > 1 else map(load, unit)
    found = scorers.measure_all(loaded, request)
    return _table([_row(target, one) for target, one in zip(unit, found, strict=True)], request)


def _broken(unit: Sequence[Target], reason: str, *, request: scorers.Request) -> pa.Table:
    return _table([{"sha256": target.sha256, "problem": reason} for target in unit], request)


def _table(rows: Sequence[Mapping[str, Any]], request: scorers.Request) -> pa.Table:
    kinds = {"sha256": pa.string(), "problem": pa.string(), **dict.fromkeys(request.columns, pa.float64())}
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})


def load_pixels(target: Target) -> images.Pixels | str:
    """The pixels of an image, or why they cannot be had."""
    name = target.place.url.rsplit("/", 1)[-1]
    try:
        data = files.read(*target.place)
        if len(data) < target.place.size:
            return f"{name}: is cut off; run 'curate shard' again"
        if target.place.size < 0 and images.sha256(data) != target.sha256:  # a tar may hold it converted
            return f"{name}: has changed since ingest"
        return images.decode(data).pixels
    except OSError as error:
        return f"{name}: {error.strerror or error}"
    except images.ImageError as error:
        return f"{name}: {error}"


def _row(target: Target, found: tuple[dict[str, float | None], list[str]] | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"sha256": target.sha256, "problem": found}
    values, problems = found
    return {"sha256": target.sha256, **values, "problem": "; ".join(problems) or None}


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
