"""Shifted pairs cropped to their overlap: new files below the output, in a dataset of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from curate import engine
from curate.pair_checks import judge
from curate.pair_checks.evidence import measure
from curate.pair_checks.views import View, view
from manifests import crops, files, images, schema
from manifests.errors import UserError
from manifests.table import Manifest, Member

FOLDER = "aligned"
SUFFIX = "-aligned"  # of the dataset's name
WHOLE = 0.25  # LQ pixels that a shift may be off a whole number
LEAST = 64  # GT pixels a side that must be left
FROM = "pair.aligned_from"  # column: the pair_id that the row had
STALE = ("iqa.", "degradation.", "daclip.", "judge.", "caption", "lq.caption", "instruction")


@dataclass(frozen=True)
class Box:
    """A pair to crop: its row, where its images lie, and how far (GT pixels) the LQ's content lies from the GT's."""

    row: Mapping[str, Any]
    lq: Member
    gt: Member
    y: int
    x: int


def whole_shift(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """The shift (y, x) of a row in GT pixels where it is whole pixels of the LQ, else None.

    None too where the images hardly show one scene, whatever the policy says: there is no shift between two scenes.
    """
    if row.get("pair.state") != "shifted" or row["pair.shift_y"] is None:
        return None
    if (row["pair.same_scene"] or 0.0) < judge.Policy.scene:
        return None
    scale = row["scale"] or 1
    steps = [row[f"pair.shift_{axis}"] / scale for axis in "yx"]
    if any(abs(step - round(step)) > WHOLE for step in steps):
        return None
    y, x = (round(step) * scale for step in steps)
    fits = row["height"] - abs(y) >= LEAST and row["width"] - abs(x) >= LEAST
    return (y, x) if fits and (y or x) else None


def align(
    source: Manifest, tables: Iterator[pa.Table], output: str, policy: judge.Policy, execution: engine.Execution
) -> tuple[list[pa.Table], dict[str, str]]:
    """The judged tables with shifted pairs replaced by their overlaps, and the roots with those of the new files.

    A pair whose shift is whole LQ pixels gets two PNG files in `output`/aligned, dataset `<dataset>-aligned`, a new
    pair_id (the old one is in `pair.aligned_from`), and is measured again; scores and captions of the uncropped images
    are emptied. Other shifted pairs stay as they are. An image that cannot be read makes an error row.
    """
    parts = list(tables)
    boxes = [
        Box(row, source.place(row, "lq"), source.place(row, "gt"), *shift)
        for part in parts
        for row in part.to_pylist()
        if row["status"] == "kept" and (shift := whole_shift(row))
    ]
    roots = dict(source.roots)
    for name in sorted({f"{box.row['dataset']}{SUFFIX}" for box in boxes}):
        if name in roots:
            raise UserError(f"{source.path}: has a dataset {name!r} already; --align was run before: nothing is left")
        roots[name] = files.join(output, FOLDER)
    results = engine.run_units(
        work_folder(output),
        boxes,
        partial(_crop, folder=files.join(output, FOLDER), policy=policy),
        fingerprint=files.digest(["align", source.fingerprint, [[box.row["pair_id"], box.y, box.x] for box in boxes]]),
        label="align",
        execution=execution,
    ) if boxes else []  # fmt: skip
    made = {row[FROM]: row for result in results for row in result.to_pylist()}
    return [_replaced(part, made, policy) for part in parts], roots


def work_folder(output: str) -> str:
    """Where finished crops are noted until the stage is done."""
    return engine.work_folder(output) + "-align"


def _crop(box: Box, *, folder: str, policy: judge.Policy) -> pa.Table:
    """One row: what changes in the row of a pair that is cropped, or the reason why it cannot be."""
    row, scale = box.row, box.row["scale"] or 1
    old = row["pair_id"]
    try:
        lq, gt = (
            crops.apply(images.decode(files.read(*place)).pixels, row, side)
            for side, place in (("lq", box.lq), ("gt", box.gt))
        )
    except (OSError, images.ImageError) as error:
        reason = f"{row['lq_path']}: cannot be aligned: {getattr(error, 'strerror', None) or error}"
        return _table([{FROM: old, "problem": reason}])
    lq, gt = _overlap(lq, -box.y // scale, -box.x // scale), _overlap(gt, box.y, box.x)
    names = {"lq": f"{old}-lq.png", "gt": f"{old}-gt.png"}
    views: dict[str, View] = {"lq": view(lq), "gt": view(gt)}
    facts: dict[str, Any] = {}
    for side, pixels, prefix in (("lq", lq, "lq."), ("gt", gt, "")):
        data = images.encode_png(pixels)
        files.write(files.join(folder, names[side]), data)
        facts |= {f"{prefix}width": pixels.shape[1], f"{prefix}height": pixels.shape[0]}
        facts[f"{prefix}phash"] = images.phash(pixels, views[side].reduced)
        facts["lq.sha256" if side == "lq" else "gt_sha256"] = images.sha256(data)
    dataset = f"{row['dataset']}{SUFFIX}"
    facts |= {"dataset": dataset, "lq_path": names["lq"], "gt_path": names["gt"]}
    facts["pair_id"] = schema.pair_id(dataset, row["task"], row["subtask"] or "", names["lq"], names["gt"])
    hashes = {"lq_phash": facts["lq.phash"], "gt_phash": facts["phash"]}
    values = measure(views["lq"], views["gt"], task=row["task"], subtask=row["subtask"] or "", scale=scale, **hashes)
    values["pair.state"] = judge.state(values | {"scale": scale}, policy)
    return _table([{FROM: old, **facts, **values}])


def _overlap(pixels: images.Pixels, y: int, x: int) -> images.Pixels:
    """(H - |y|, W - |x|, 3): without the last y rows and x columns, or the first ones where these are negative."""
    height, width = pixels.shape[:2]
    return pixels[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    kinds = {FROM: pa.string(), "problem": pa.string(), **_changed()}
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})


def _changed() -> dict[str, pa.DataType]:
    from curate.pairs import types

    names = ("pair_id", "dataset", "lq_path", "gt_path", "gt_sha256", "lq.sha256", "phash", "lq.phash")
    sizes = ("width", "height", "lq.width", "lq.height")
    return {name: schema.CORE[name] for name in (*names, *sizes)} | types()


def _replaced(part: pa.Table, made: Mapping[str, Mapping[str, Any]], policy: judge.Policy) -> pa.Table:
    """The part with the rows of cropped pairs replaced, and column FROM."""
    part = schema.with_columns(part, {FROM: pa.string()})
    rows = part.to_pylist()
    for row in rows:
        new = made.get(row["pair_id"])
        if new is None:
            continue
        if new["problem"]:
            failed = [schema.decision(judge.STAGE, "align", "error", new["problem"])]
            row["decisions"] = schema.decide(row["decisions"], judge.STAGE, ["align"], failed)
            continue
        row |= {name: None for name in row if name.startswith(STALE) or name in ("shard", *crops.COLUMNS)}
        row |= {name: value for name, value in new.items() if name != "problem"}
        verdicts = judge.decisions(row, row["task"], policy)
        row["decisions"] = schema.decide(row["decisions"], judge.STAGE, judge.RULES, verdicts)
    kinds = {field.name: field.type for field in part.schema}
    return schema.conform(pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()}))
