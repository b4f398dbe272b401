"""Clean photographs → training pairs: every GT (or crops of it) through the eight degradations, seeded per pair."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from curate import degradations, engine
from manifests import files, images, schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
MULTIPLE = 8  # GT sizes are cut to a multiple, so that every scale of super-resolution divides them
FOLDER = "images"
PARAMS = "degrade.params"  # column: what was drawn for the pair, as JSON


@dataclass(frozen=True)
class Clean:
    """One GT to degrade, as a worker needs it."""

    url: str
    sha256: str
    dataset: str
    path: str
    group: str
    split: str | None
    license: str | None


@dataclass(frozen=True)
class Options:
    """What to make of every GT."""

    folder: str
    dataset: str
    tasks: tuple[tuple[str, str | None], ...]  # (task, subtask), None: drawn per pair
    crop: int | None
    crops: int
    seed: int


def degrade(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    tasks: Sequence[str] = (),
    crop: int | None = None,
    crops: int = 1,
    seed: int = 0,
    dataset: str = "synthetic",
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
) -> Manifest:
    """Add pairs made of the kept GTs (each distinct GT once): LQ and GT as PNG below `output`/images.

    tasks: `deblur`, or with its subtask `deblur:motion`; empty means all eight, a subtask drawn per pair.
    crop, crops: cut up to `crops` squares of `crop` pixels out of every GT (the most detailed ones of a grid, so that
        they do not overlap); without `crop` the whole GT is used. Crops inherit the GT's group.
    The drawn strength depends on seed, task, GT content and crop alone: the same input gives the same bytes.
    The rows of the input stay as they are, so rows out = rows in + pairs made.
    """
    output = output or engine.default_output(manifest, "degrade")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    if crop is not None and (crop < 2 * MULTIPLE or crop % MULTIPLE):
        raise UserError(f"--crop {crop}: must be a multiple of {MULTIPLE}, at least {2 * MULTIPLE}", exit_code=2)
    if crops < 1:
        raise UserError(f"--crops {crops}: must be 1 or more", exit_code=2)
    table = source.table()
    if dataset in source.roots:
        raise UserError(f"{manifest}: has a dataset {dataset!r} already; name the new one with --dataset", exit_code=2)
    chosen = _tasks(tasks)
    options = Options(files.join(output, FOLDER), dataset, chosen, crop, crops, seed)
    cleans = _cleans(source, table)
    params = {"tasks": [list(t) for t in chosen], "crop": crop, "crops": crops, "seed": seed, "dataset": dataset}
    tables = engine.run_units(
        engine.work_folder(output),
        cleans,
        partial(_pairs, options=options),
        fingerprint=files.digest(["degrade", VERSION, source.fingerprint, params]),
        label="degrade",
        execution=engine.Execution(workers, dask_address, max_errors),
        broken=partial(_broken, options=options),
        sizes=[len(chosen)] * len(cleans),
    )
    made = pa.concat_tables(tables) if tables else pa.table({})
    joined = schema.conform(pa.concat_tables([table, made], promote_options="default"))
    stage = stage_entry("degrade", VERSION, params, [source])
    done = write(
        output,
        joined,
        roots={**source.roots, dataset: options.folder},
        stages=[*source.stages, stage],
        expected_rows=source.rows["rows"] + made.num_rows,
    )
    engine.clean(engine.work_folder(output))
    return done


def _tasks(names: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    known = degradations.names()
    out = []
    for name in [one.strip() for text in names for one in text.split(",") if one.strip()] or known:
        task, _, subtask = name.partition(":")
        if task not in known:
            raise UserError(f"unknown task {task!r}; known: {', '.join(known)}", exit_code=2)
        if subtask and subtask not in degradations.subtasks(task):
            raise UserError(f"unknown subtask {name!r}; known: {', '.join(degradations.subtasks(task))}", exit_code=2)
        out.append((task, subtask or None))
    return tuple(dict.fromkeys(out))


def _cleans(source: Manifest, table: pa.Table) -> list[Clean]:
    names = ("gt_sha256", "dataset", "gt_path", "group", "split", "license")
    out: dict[str, Clean] = {}
    for use, row in zip(engine.chosen(table, False), table.select(names).to_pylist(), strict=True):
        if use and row["gt_sha256"] and row["gt_path"]:
            url = source.locate(row["dataset"], row["gt_path"])
            facts = (row["dataset"], row["gt_path"], row["group"], row["split"], row["license"])
            out.setdefault(row["gt_sha256"], Clean(url, row["gt_sha256"], *facts))
    if not out:
        raise UserError(f"{source.path}: no kept row has a GT; nothing to degrade")
    return list(out.values())


def _pairs(clean: Clean, *, options: Options) -> pa.Table:
    """Rows of all pairs made of one GT; their images are written before the rows are."""
    try:
        data = files.read(clean.url)
        if images.sha256(data) != clean.sha256:
            raise images.ImageError("has changed since ingest")
        pixels = images.to_8_bit(images.decode(data).pixels)
    except (OSError, images.ImageError) as error:
        return _broken(clean, f"{clean.path}: {getattr(error, 'strerror', None) or error}", options=options)
    rows = []
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", os.path.splitext(os.path.basename(clean.path))[0])[:60]
    for index, tile in enumerate(tiles(pixels, options.crop, options.crops)):
        name = f"{stem}-{clean.sha256[:8]}-{index:02d}.png"
        gt = {"path": f"gt/{name}", **_save(tile, files.join(options.folder, f"gt/{name}"))}
        for task, wanted in options.tasks:
            seed = _seed(options.seed, task, wanted, clean.sha256, index)
            choices = degradations.subtasks(task)
            subtask = wanted or choices[seed % len(choices)]
            path = f"{task}/{subtask}/{name}"
            low = degradations.degrade(tile, task, subtask, seed)
            lq = {"path": path, **_save(low, files.join(options.folder, path))}
            drawn = degradations.sample(task, subtask, seed)
            row = _row(clean, task, subtask, options, gt, lq)
            rows.append({**row, PARAMS: json.dumps(drawn, sort_keys=True)})
    return _table(rows)


def _broken(clean: Clean, reason: str, *, options: Options) -> pa.Table:
    return _table([_failed(clean, task, subtask, options, reason) for task, subtask in options.tasks])


def tiles(pixels: images.Pixels, crop: int | None, count: int) -> list[images.Pixels]:
    """What is cut out of (H, W, 3) pixels: up to `count` non-overlapping squares of `crop` pixels, in reading order.

    Of the grid's cells the ones with most detail (standard deviation of luma) are taken. An image smaller than `crop`,
    or no `crop`: the whole image, cut to a multiple of MULTIPLE. Images below that size give nothing.
    """
    height, width = pixels.shape[0], pixels.shape[1]
    if crop is None or min(height, width) < crop:
        whole = pixels[: height - height % MULTIPLE, : width - width % MULTIPLE]
        return [np.ascontiguousarray(whole)] if whole.size else []
    tops, lefts = (np.arange(n // crop) * crop + n % crop // 2 for n in (height, width))
    cells = [(int(top), int(left)) for top in tops for left in lefts]
    detail = {(t, left): float(pixels[t : t + crop, left : left + crop].mean(axis=2).std()) for t, left in cells}
    best = sorted(sorted(cells, key=lambda cell: (-detail[cell], cell))[:count])
    return [np.ascontiguousarray(pixels[top : top + crop, left : left + crop]) for top, left in best]


def _seed(seed: int, task: str, subtask: str | None, sha256: str, index: int) -> int:
    text = f"{seed}/{task}/{subtask or ''}/{sha256}/{index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _save(pixels: images.Pixels, url: str) -> dict[str, Any]:
    data = images.encode_png(pixels)
    files.write(url, data)
    height, width = pixels.shape[:2]
    return {"sha256": images.sha256(data), "width": width, "height": height, "phash": images.phash(pixels)}


def _row(
    clean: Clean, task: str, subtask: str, options: Options, gt: dict[str, Any], lq: dict[str, Any]
) -> dict[str, Any]:
    return {
        **_identity(clean, task, subtask, options, lq["path"], gt["path"]),
        "gt_sha256": gt["sha256"],
        "lq.sha256": lq["sha256"],
        **{name: gt[name] for name in ("width", "height", "phash")},
        **{f"lq.{name}": lq[name] for name in ("width", "height", "phash")},
        "mode": "RGB",
        "lq.mode": "RGB",
        "scale": gt["width"] // lq["width"],
        "decisions": [],
    }


def _failed(clean: Clean, task: str, subtask: str | None, options: Options, reason: str) -> dict[str, Any]:
    row = _identity(clean, task, subtask or "", options, None, f"gt/{clean.sha256}")
    return {**row, "decisions": [schema.decision("degrade", "unreadable", "error", reason)]}


def _identity(
    clean: Clean, task: str, subtask: str, options: Options, lq_path: str | None, gt_path: str
) -> dict[str, Any]:
    return {
        "pair_id": schema.pair_id(options.dataset, task, subtask, lq_path or "", gt_path),
        "group": clean.group,
        "dataset": options.dataset,
        "task": task,
        "subtask": subtask,
        "split": clean.split,
        "lq_path": lq_path,
        "gt_path": gt_path,
        "license": clean.license,
    }


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {name: kind for name, kind in schema.CORE.items() if name != "status"} | {PARAMS: pa.string()}
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})
