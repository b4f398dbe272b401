"""Are the pairs right? Measures LQ against GT, and drops pairs of other scenes, identical and exchanged ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate import engine, pair_checks
from curate.pair_checks import judge
from manifests import crops, files, images, schema
from manifests.table import Manifest, Member, read, refuse_existing, stage_entry, write

UNIT_PAIRS = 32
VERSION = 1
FACTS = ("pair_id", "task", "subtask", "scale", "gt_sha256", "lq.sha256", "phash", "lq.phash")
SIZES = ("width", "height", "lq.width", "lq.height", *crops.COLUMNS, "shard")  # where pairs are cropped on reading


@dataclass(frozen=True)
class Target:
    """One pair to measure: where its images lie, and what the manifest knows of them."""

    facts: Mapping[str, Any]  # FACTS, and SIZES where the manifest has them
    lq: Member
    gt: Member


def pairs(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    scene: float = judge.Policy.scene,
    swapped: float = judge.Policy.swapped,
    align: bool = False,
    all_rows: bool = False,
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
) -> Manifest:
    """Measure pairs that have not been measured (columns `pair.*`), and judge all of them.

    Dropped are pairs of different scenes, identical ones, and those whose sides look exchanged; shifted, upscaled and
    flat pairs only have that `pair.state`. Judged are kept rows and those that only an earlier run of this stage
    dropped, so that a looser run revives them.

    scene: drop a pair when the probability that both images show one scene (`pair.same_scene`) is lower; 0: never.
    swapped: drop a pair when the probability that its sides are exchanged (`pair.swapped`) is higher; 1: never.
    align: write shifted pairs again, cropped to their overlap, where the shift is whole pixels of the LQ; see
        `curate.pair_checks.align`.
    A pair that cannot be read any more becomes an error row with the reason.
    """
    output = output or engine.default_output(manifest, judge.STAGE)
    refuse_existing(output)
    policy = judge.Policy(scene, swapped)
    engine.warm_up(0 if dask_address else workers, __name__, "curate.pair_checks")
    source = read(manifest)
    engine.require_rows(source)
    execution = engine.Execution(workers, dask_address, max_errors)
    measured = _measure(source, output, all_rows, execution)
    tables: Any = (_judged(part, measured, policy, all_rows) for part in source.parts())
    params = {"pair_checks": fingerprint(), "scene": scene, "swapped": swapped, "align": align}
    roots = source.roots
    if align:
        from curate.pair_checks import align as cropping

        tables, roots = cropping.align(source, tables, output, policy, execution)
    stage = stage_entry(judge.STAGE, VERSION, params, [source])
    done = write(output, tables, roots=roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    if align:
        engine.clean(cropping.work_folder(output))
    return done


def fingerprint() -> str:
    """What measures a pair; see `pair_checks.fingerprint`."""
    return pair_checks.fingerprint()


def judged_rows(part: pa.Table, all_rows: bool) -> list[bool]:
    """Which rows are judged: pairs that are kept, or would be but for this stage; with `all_rows` dropped ones too."""
    names = ("status", "decisions", "lq.sha256", "gt_sha256")
    return [
        bool(lq and gt)
        and (
            status == "kept"
            or (status == "dropped" and (all_rows or all(one["stage"] == judge.STAGE for one in decisions)))
        )
        for status, decisions, lq, gt in zip(*(part.column(name).to_pylist() for name in names), strict=True)
    ]


def _measure(
    source: Manifest, output: str, all_rows: bool, execution: engine.Execution
) -> dict[str, Mapping[str, Any]]:
    """pair_id -> what was measured, or the `problem`, of the pairs that are to be judged and were not measured."""
    targets = list(_missing(source, all_rows))
    if not targets:
        return {}
    units = [targets[i : i + UNIT_PAIRS] for i in range(0, len(targets), UNIT_PAIRS)]
    results = engine.run_units(
        engine.work_folder(output),
        units,
        measure_unit,
        fingerprint=files.digest([judge.STAGE, VERSION, source.fingerprint, fingerprint(), all_rows]),
        label=judge.STAGE,
        execution=execution,
        broken=_broken,
        sizes=[len(unit) for unit in units],
    )
    return {row["pair_id"]: row for result in results for row in result.to_pylist()}


def _missing(source: Manifest, all_rows: bool) -> Iterator[Target]:
    there = [name for name in ("pair.psnr",) if name in source.column_names]
    names = [name for name in (*FACTS, *SIZES) if name in source.column_names]
    columns = dict.fromkeys([*names, "status", "decisions", *source.place_columns("lq", "gt"), *there])
    for part in source.parts(list(columns)):
        for use, row in zip(judged_rows(part, all_rows), part.to_pylist(), strict=True):
            if use and row.get("pair.psnr") is None:
                facts = {name: row[name] for name in names}
                yield Target(facts, source.place(row, "lq"), source.place(row, "gt"))


def measure_unit(unit: Sequence[Target]) -> pa.Table:
    """A row per pair; a GT that follows itself is decoded once."""
    rows: list[dict[str, Any]] = []
    last: tuple[Member, pair_checks.View] | None = None
    for target in unit:
        row = target.facts
        try:
            if last is None or last[0] != target.gt:
                last = (target.gt, load_view(target.gt, row, "gt"))
            lq = load_view(target.lq, row, "lq")
        except images.ImageError as error:
            rows.append({"pair_id": row["pair_id"], "problem": str(error)})
            continue
        rows.append({"pair_id": row["pair_id"]} | measured(lq, last[1], row))
    return _table(rows)


def measured(lq: pair_checks.View, gt: pair_checks.View, row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns `pair.*` of a pair, less its state. row: FACTS."""
    return pair_checks.measure(
        lq,
        gt,
        task=row["task"],
        subtask=row["subtask"] or "",
        scale=row["scale"],
        same_file=row["lq.sha256"] == row["gt_sha256"],
        lq_phash=row["lq.phash"],
        gt_phash=row["phash"],
    )


def load_view(place: Member, row: Mapping[str, Any], side: str) -> pair_checks.View:
    """The "lq" or "gt" of a row. Raises ImageError, with the file's name, for what cannot be read or has changed."""
    name, sha256 = place.url.rsplit("/", 1)[-1], row["gt_sha256" if side == "gt" else "lq.sha256"]
    try:
        data = files.read(*place)
        if len(data) < place.size:
            raise images.ImageError("is cut off; run 'curate shard' again")
        if place.size < 0 and images.sha256(data) != sha256:  # a tar may hold it converted
            raise images.ImageError("has changed since ingest")
        return pair_checks.view(crops.apply(images.decode(data).pixels, row, side))
    except OSError as error:
        raise images.ImageError(f"{name}: {error.strerror or error}") from None
    except images.ImageError as error:
        raise images.ImageError(f"{name}: {error}") from None


def _broken(unit: Sequence[Target], reason: str) -> pa.Table:
    return _table([{"pair_id": target.facts["pair_id"], "problem": reason} for target in unit])


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    kinds = {"pair_id": pa.string(), "problem": pa.string(), **types()}
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})


def types() -> dict[str, pa.DataType]:
    """The columns that measuring adds, and their types; `pair.state` is the judgement."""
    names = {"int32": pa.int32(), "double": pa.float64(), "bool": pa.bool_()}
    return {**{column: names[kind] for column, kind in pair_checks.KINDS.items()}, "pair.state": pa.string()}


def _judged(
    part: pa.Table, measured: Mapping[str, Mapping[str, Any]], policy: judge.Policy, all_rows: bool
) -> pa.Table:
    """`part` with the columns `pair.*` and the decisions of this stage."""
    part = schema.with_columns(part, types())
    rows = part.select(["pair_id", "task", "scale", "decisions", *types()]).to_pylist()
    for chosen, row in zip(judged_rows(part, all_rows), rows, strict=True):
        if chosen:
            row |= {name: value for name, value in measured.get(row["pair_id"], {}).items() if name != "pair.state"}
            row |= judged(row, policy)
    for name, kind in types().items():
        part = schema.set_column(part, name, [row[name] for row in rows], kind)
    decisions = [row["decisions"] for row in rows]
    return schema.conform(schema.set_column(part, "decisions", decisions, schema.CORE["decisions"]))


def judged(row: Mapping[str, Any], policy: judge.Policy) -> dict[str, Any]:
    """`pair.state` and `decisions` of a measured row; its `problem`, if it has one, becomes an error."""
    problem = row.get("problem")
    new = (
        [schema.decision(judge.STAGE, "measure", "error", problem)]
        if problem
        else judge.decisions(row, row["task"], policy)
    )
    decisions = schema.decide(row["decisions"], judge.STAGE, [*judge.RULES, "measure"], new)
    return {"pair.state": judge.state(row, policy), "decisions": decisions}
