"""How large a GT is beside its LQ: the scale of a pair, the crop that gives it one, and scales that nobody expects."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from manifests import crops

SHOWN = 3
_SUPER_RESOLUTION = re.compile(r"(^|[_-])(sr|isr|sisr|vsr|realsr|super[_-]?res.*)([_-]|$)|upscal|(^|[_-])x[2-9]$")
_SCALE = re.compile(r"(?:^|[_-])x?([2-9]|1[0-6])x?$")

log = logging.getLogger("curate.ingest")


def of(gt: Mapping[str, Any], lq: Mapping[str, Any]) -> int | None:
    """The whole number s with GT = s x LQ in both directions (1 for a GT alone), or None."""
    if "width" not in gt:
        return None
    if not lq:
        return 1
    if "width" not in lq:
        return None
    scale = int(gt["width"] // lq["width"])
    fits = scale >= 1 and (gt["width"], gt["height"]) == (scale * lq["width"], scale * lq["height"])
    return scale if fits else None


def cropped(crop: crops.Crop, gt: Mapping[str, Any], lq: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a cropped pair, and what its files have beyond them."""
    beyond = (gt["width"] - crop.width, gt["height"] - crop.height)
    beyond_lq = (lq["width"] - crop.lq_width, lq["height"] - crop.lq_height)
    return {
        "width": crop.width,
        "height": crop.height,
        "lq.width": crop.lq_width,
        "lq.height": crop.lq_height,
        **dict(zip(crops.COLUMNS, (*beyond, *beyond_lq), strict=True)),
    }


def misfit(gt: Mapping[str, Any], lq: Mapping[str, Any], crop: crops.Crop | None) -> str:
    """Why no whole scale explains the sizes, and which crop would mend it."""
    sizes = f"GT {gt['width']}x{gt['height']}, LQ {lq['width']}x{lq['height']}"
    text = f"no whole scale explains the sizes: {sizes}"
    if crop is None:
        return text
    lower = (crop.lq_width, crop.lq_height) != (lq["width"], lq["height"])
    both = f" and the LQ to {crop.lq_width}x{crop.lq_height}" if lower else ""
    return f"{text}; --crop-to-scale crops the GT to {crop.width}x{crop.height}{both} (x{crop.scale})"


def announce(table: pa.Table) -> None:
    """Say once, per task and subtask of super-resolution, which pairs have another scale than the names tell."""
    found: dict[tuple[str, str, int, int | None], list[str]] = {}
    for row in table.select(["task", "subtask", "scale", "lq_path", "gt_path"]).to_pylist():
        task, subtask = row["task"] or "", row["subtask"] or ""
        if row["scale"] is None or not (row["lq_path"] and row["gt_path"]):
            continue
        wanted = expected(task, subtask)
        if wanted is not None and row["scale"] != wanted and (wanted or row["scale"] == 1):
            found.setdefault((task, subtask, row["scale"], wanted or None), []).append(row["lq_path"])
    for (task, subtask, scale, said), paths in found.items():
        name = f"{task}:{subtask}" if subtask else task
        sizes = "GT and LQ of equal size" if scale == 1 else f"scale {scale}"
        more = ", …" if len(paths) > SHOWN else ""
        advice = (
            "right for sets such as RealSR, whose LQs are enlarged already; else the LQ files may be the wrong ones"
            if scale == 1
            else "look at the folders and --subtask"
        )
        where = f" (its name says x{said})" if said else ""
        log.warning(
            "%s%s: %d pairs have %s: %s%s; %s", name, where, len(paths), sizes, ", ".join(paths[:SHOWN]), more, advice
        )


def expected(task: str, subtask: str) -> int | None:
    """The scale that a task's and subtask's names tell: 0 for super-resolution of any scale, None for other tasks."""
    names = (subtask.lower(), task.lower())
    if not any(_SUPER_RESOLUTION.search(name) for name in names):
        return None
    return next((int(found.group(1)) for name in names if (found := _SCALE.search(name))), 0)
