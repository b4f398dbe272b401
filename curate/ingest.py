"""Folders of photographs → manifest: find the pairs, decode every image once, hash it, check it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from curate import engine, identifier, identify, join, layouts, pair_checks, pair_list, scales, scorers
from curate import pairs as pair_stage
from curate import reuse as reuse_
from curate.groups import NONE, assign_groups, join_groups, template
from curate.layouts import Layout
from curate.listing import list_folder
from curate.pair_checks import judge
from curate.sources import Source, from_patterns, refuse_with_list, sources_of
from manifests import crops, files, images, schema
from manifests.errors import UserError
from manifests.table import Manifest, Member, Part, read, refuse_existing, stage_entry, write

UNIT_ROWS = 32
VERSION = 1


@dataclass(frozen=True)
class Options:
    """What a worker needs to know to turn sources into rows."""

    root: str
    dataset: str
    request: scorers.Request
    identify: bool
    max_pixels: int
    reuse: tuple[str, ...] = ()
    crop_to_scale: bool = False
    check_pairs: bool = False


def ingest(
    folder: str,
    output: str = "manifest",
    *,
    gt: str | None = None,
    lq: str | None = None,
    task: str | None = None,
    subtask: str = "",
    dataset: str | None = None,
    split: str | None = None,
    group: str | None = None,
    license: str | None = None,
    layout: str | None = None,
    pairs: str | None = None,
    score: Sequence[str] = (),
    identify: bool = False,
    max_pixels: int = images.MAX_PIXELS,
    append: str | None = None,
    reuse: Sequence[str] = (),
    crop_to_scale: bool = False,
    join_scores: str | None = None,
    check_pairs: bool = True,
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
) -> Manifest:
    """Make a manifest of the images in `folder` (a local path or any fsspec URL).

    Either `layout` names a known dataset, or `gt` (and `lq`, unless the folder holds clean photographs only) are path
    patterns relative to `folder`, such as `lq="hazy/{id}_*.jpg", gt="clear/{id}.png"`, with the `task` they train; `lq`
    alone is for images without ground truth. Or `pairs` is a list of pairs, as `curate.pair_list` reads it.
    `group` is a template over the captures ("{scene}"); without one (None or "auto"), files share a group that are
    equal or near-equal, or whose names tell of one scene (see `scene_names`); "none": each GT is a group of its own.
    `score` and `identify` measure the GT from the same decode as everything else (the fused form).
    `join_scores` is a table of scores that `curate.join` adds to the rows.
    `check_pairs` compares LQ with GT from the same decode and judges the pair, as `curate pairs` does.
    `append` names a manifest whose rows come first; only pairs that it does not list are looked at. `reuse` names
    manifests from which facts and scores are taken for files of the same content, which are then not decoded.
    `crop_to_scale` keeps pairs whose GT is no multiple of the scale: whatever reads them crops GT (and LQ, where its
    size was rounded up) at the right and bottom, as `manifests.crops` says.
    An unreadable or mismatched pair becomes an `error` row with the reason. Raises UserError for a missing folder, a
    pattern that matches nothing, an unknown layout or metric, an existing output, more failed rows than `max_errors`.
    """
    refuse_existing(output)
    guess, group = group != NONE, template(group)
    engine.warm_up(0 if dask_address else workers, __name__, "curate.signals.measure")
    scores = join.load(join_scores) if join_scores else None
    if pairs:
        refuse_with_list(gt, lq, layout)
        chosen = Layout("", task or "", (), license)
        sources = pair_list.read(pairs, folder, pair_list.Defaults(task, subtask, split, group, license))
    else:
        chosen = layouts.load(layout) if layout else from_patterns(gt, lq, task, subtask, split, group, license)
        listing = list_folder(folder)
        listing.announce(folder)
        sources = sources_of(chosen, listing.images, folder)
    name = dataset or (chosen.name.lower() if layout else os.path.basename(os.path.abspath(folder).rstrip("/")))
    base = read(append) if append else None
    if base:
        _check_root(base, name, folder)
        listed = {one for part in base.parts(["pair_id"]) for one in part.column("pair_id").to_pylist()}
        sources = [source for source in sources if _pair_id(source, name) not in listed]
    request = scorers.Request(tuple(scorers.expand(["signals"] * identify + list(score))))
    scorers.load(request)
    options = Options(folder, name, request, identify, max_pixels, tuple(reuse), crop_to_scale, check_pairs)
    params = {"dataset": name, "layout": asdict(chosen), "metrics": request.fingerprints(), "identify": identify}
    params |= {"crop_to_scale": True} if crop_to_scale else {}
    params |= {"pairs": files.digest([asdict(source) for source in sources])} if pairs else {}
    params |= {"pair_checks": pair_stage.fingerprint()} if check_pairs else {}
    params |= {"joined": scores.params} if scores else {}
    params |= {"identifier": identifier.fingerprint()} if identify else {}
    work, units = engine.work_folder(output), list(_units(sources))
    tables = engine.run_units(
        work,
        units,
        partial(rows, options=options),
        fingerprint=files.digest(["ingest", VERSION, params, folder, [asdict(s) for s in sources], max_pixels]),
        label="ingest",
        execution=engine.Execution(workers, dask_address, max_errors),
        broken=partial(_broken, options=options),
        sizes=[len(unit) for unit in units],
    )
    table = pa.concat_tables([_table([], options), *tables], promote_options="default")
    scales.announce(table)
    if scores:
        join.check(scores, [table.column(scores.key)])
        join.check_kinds(scores, table.schema)
        table = join.enter(table, scores)
    table, grouping = join_groups(base, table, guess) if base else assign_groups(table, guess)
    stage = stage_entry("ingest", VERSION, params | {"groups": grouping.params}, [base] if base else [])
    if base:
        parts = _appended(base, table)
        roots, stages, count = {**base.roots, name: folder}, [*base.stages, stage], base.rows["rows"] + len(sources)
        done = write(output, parts, roots=roots, stages=stages, expected_rows=count)
    else:
        done = write(output, table, roots={name: folder}, stages=[stage], expected_rows=len(sources))
    engine.clean(work)
    return done


def _check_root(base: Manifest, name: str, folder: str) -> None:
    root = base.roots.get(name)
    same = root is None or root == folder or os.path.realpath(root) == os.path.realpath(folder)
    if not same:
        raise UserError(f"{base.path}: its dataset {name!r} lies at {root}; give this one another name with --dataset")


def _appended(base: Manifest, new: pa.Table) -> Iterator[pa.Table | Part]:
    """The parts of `base`, then the new rows, all with the columns of both; parts that need none are not even read."""
    new = schema.conform(new)
    kinds = {field.name: field.type for field in (*new.schema, *base.schema)}
    if set(new.column_names) <= set(base.column_names):
        yield from base.whole()
    else:
        yield from (schema.with_columns(part, kinds) for part in base.parts())
    yield schema.with_columns(new, kinds)


def _pair_id(source: Source, dataset: str) -> str:
    lq, gt = _printable(source.lq), _printable(source.gt)
    return schema.pair_id(dataset, source.task, source.subtask, lq or "", gt or "")


def _units(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Runs of about UNIT_ROWS sources; the LQs of one GT stay together."""
    unit: list[Source] = []
    for source in sources:
        if len(unit) >= UNIT_ROWS and (source.gt is None or source.gt != unit[-1].gt):
            yield unit
            unit = []
        unit.append(source)
    if unit:
        yield unit


def rows(unit: Sequence[Source], *, options: Options) -> pa.Table:
    """Manifest rows of one unit: one decode per image, all that is measured of it at once."""
    look = _looker(options)
    return _table([_row(source, look, options) for source in unit], options)


def _broken(unit: Sequence[Source], reason: str, *, options: Options) -> pa.Table:
    """Error rows for sources that nothing can be found out about."""
    return _table([_row(replace(source, problem=reason), lambda path, is_gt: {}, options) for source in unit], options)


def _table(rows: Sequence[dict[str, Any]], options: Options) -> pa.Table:
    extra = [*options.request.columns, *(identify.COLUMNS if options.identify else [])]
    names = [*(n for n in schema.CORE if n != "status"), *extra]
    kinds = {**dict.fromkeys(names, pa.float64()), **{n: schema.CORE[n] for n in names if n in schema.CORE}}
    kinds |= crops.KINDS if options.crop_to_scale else {}
    kinds |= pair_stage.types() if options.check_pairs else {}
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})


Look = Callable[[str, bool], dict[str, Any]]


def _looker(options: Options) -> Look:
    """A function from a path to what there is to know of the file; GTs are remembered, since LQs share them."""
    seen: dict[str, dict[str, Any]] = {}

    def look(path: str, is_gt: bool) -> dict[str, Any]:
        if is_gt and path in seen:
            return seen[path]
        facts = _facts(path, is_gt, options)
        if is_gt:
            seen.clear()
            seen[path] = facts
        return facts

    return look


def _facts(path: str, is_gt: bool, options: Options) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    try:
        if not path.isprintable():
            path.encode("utf-8")
        data = files.read(files.join(options.root, path))
        facts["sha256"] = images.sha256(data)
        if taken := _taken(facts["sha256"], is_gt, options):
            return facts | taken
        image = images.decode(data, max_pixels=options.max_pixels)
    except UnicodeEncodeError:
        return {"problem": ("unreadable", "the file's name is not UTF-8: rename it")}
    except OSError as error:
        return {"problem": ("unreadable", f"{path}: {error.strerror or error}")}
    except images.ImageError as error:
        return {**facts, "problem": ("unreadable", f"{path}: {error}")}
    luma = images.luma(image.pixels)
    reduced = images.reduced(luma)
    look = images.phash(image.pixels, reduced)
    facts |= {"width": image.width, "height": image.height, "mode": image.mode, "phash": look}
    if options.check_pairs:
        facts["view"] = pair_checks.view(image.pixels, luma, reduced)
    if is_gt and options.request.names:
        scores, problems = scorers.measure(image.pixels, options.request, luma)
        facts["scores"], facts["score_problems"] = scores, problems
        if options.identify:
            facts["scores"] = scores | identify.probabilities(scores)
    return facts


def _taken(sha256: str, is_gt: bool, options: Options) -> dict[str, Any]:
    """What manifests to be reused know of a file of this content; empty when that is not all that is wanted."""
    if not options.reuse:
        return {}
    facts = reuse_.known(options.reuse, options.request).get(sha256, {})
    if not is_gt or not options.request.names:
        return {name: value for name, value in facts.items() if name != "scores"}
    if "scores" not in facts:
        return {}
    scores = dict(facts["scores"])
    return {**facts, "scores": scores | identify.probabilities(scores) if options.identify else scores}


def _row(source: Source, look: Look, options: Options) -> dict[str, Any]:
    gt = look(source.gt, True) if source.gt else {}
    lq = look(source.lq, False) if source.lq else {}
    printable = replace(source, lq=_printable(source.lq), gt=_printable(source.gt))
    decisions = [schema.decision("score", "measure", "error", text) for text in gt.get("score_problems", ())]
    if source.problem:
        decisions.append(schema.decision("ingest", "pair", "error", source.problem))
    for facts in (gt, lq):
        if "problem" in facts:
            rule, text = facts["problem"]
            decisions.append(schema.decision("ingest", rule, "error", _printable(text) or ""))
    scale = scales.of(gt, lq)
    cropped: dict[str, Any] = {}
    if scale is None and gt and lq and not decisions:
        found = crops.to_scale((gt["width"], gt["height"]), (lq["width"], lq["height"]))
        if found and options.crop_to_scale:
            scale, cropped = found.scale, scales.cropped(found, gt, lq)
        else:
            decisions.append(schema.decision("ingest", "size", "error", scales.misfit(gt, lq, found)))
    compared: dict[str, Any] = {}
    if options.check_pairs and gt and lq and scale and not decisions:
        compared = _compared(source, gt, lq, {"scale": scale, **cropped}, options)
        decisions = compared.pop("decisions")
    return {
        "pair_id": _pair_id(source, options.dataset),
        "group": None if source.group is None else f"{options.dataset}/{_printable(source.group)}",
        "dataset": options.dataset,
        "task": source.task,
        "subtask": source.subtask,
        "split": source.split,
        "lq_path": printable.lq,
        "gt_path": printable.gt,
        "gt_sha256": gt.get("sha256"),
        "lq.sha256": lq.get("sha256"),
        **{name: gt.get(name) for name in ("width", "height", "mode", "phash")},
        **{f"lq.{name}": lq.get(name) for name in ("width", "height", "mode", "phash")},
        "scale": scale,
        "license": source.license,
        "decisions": decisions,
        **gt.get("scores", {}),
        **cropped,
        **compared,
    }


def _compared(
    source: Source, gt: dict[str, Any], lq: dict[str, Any], sizes: dict[str, Any], options: Options
) -> dict[str, Any]:
    """The columns `pair.*` and the decisions about the pair; files whose facts were reused are decoded for it.

    sizes: the scale, and what is cropped.
    """
    row: dict[str, Any] = {"task": source.task, "subtask": source.subtask, "decisions": [], **sizes}
    row |= {"gt_sha256": gt["sha256"], "phash": gt["phash"], "lq.sha256": lq["sha256"], "lq.phash": lq["phash"]}
    names = (lq["sha256"], gt["sha256"], source.task, source.subtask)
    known = reuse_.pairs(options.reuse).get(names) if options.reuse else None
    try:
        if known is None:
            sides = (("lq", lq, source.lq), ("gt", gt, source.gt))
            views = [_view(side, facts, path or "", row, options) for side, facts, path in sides]
            known = pair_stage.measured(views[0], views[1], row)
        row |= known
    except images.ImageError as error:
        row["problem"] = str(error)
    return {name: row.get(name) for name in pair_stage.types()} | pair_stage.judged(row, judge.Policy())


def _view(side: str, facts: dict[str, Any], path: str, row: dict[str, Any], options: Options) -> pair_checks.View:
    found: pair_checks.View | None = facts.get("view")
    if found is None:
        return pair_stage.load_view(Member(files.join(options.root, path)), row, side)
    return pair_checks.view(crops.apply(found.pixels, row, side)) if crops.is_cropped(row) else found


def _printable(path: str | None) -> str | None:
    """Names that are not UTF-8 are shown escaped, since Parquet strings are UTF-8."""
    return None if path is None else path.encode("utf-8", "backslashreplace").decode("utf-8")
