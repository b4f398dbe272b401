"""The pairs of a data report: those whose state says that something is wrong, and examples of those that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.thumbnails import Thumbnails

if TYPE_CHECKING:
    from curate.report import Rows

Row = dict[str, Any]

EXAMPLES = 3  # kept pairs shown for a task
WORST = 4  # pairs shown for a state
SEARCHED = 50  # groups that examples are looked for in
LONGEST = 352  # pixels of a shown pair
FLAGGED = {
    "other_scene": "LQ and GT show other scenes",
    "swapped": "LQ and GT are swapped",
    "identical": "LQ equals GT",
    "shifted": "LQ is shifted against GT",
    "upscaled": "LQ was enlarged from a smaller image",
    "flat": "too little detail to compare",
    "unknown": "cannot be told",
}
FACTS = {
    "pair.ncc": "correlation {:.2f}",
    "pair.distance": "hashes differ in {:.0f} of 64 bits",
    "pair.psnr": "PSNR {:.1f} dB",
    "pair.scale_found": "enlarged × {:.2f}",
}


def flagged(rows: Rows, thumbnails: Thumbnails) -> list[Row]:
    """Per `pair.state` other than "ok": how many rows, and the worst of them. Empty where no pair was measured."""
    if "pair.state" not in rows.table.column_names:
        return []
    states = pc.fill_null(rows.table.column("pair.state"), "").to_numpy(zero_copy_only=False)
    out = []
    for state in [*FLAGGED, *sorted(set(states.tolist()) - {*FLAGGED, "", "ok"})]:
        mine = np.flatnonzero(states == state)
        if len(mine):
            worst = mine[np.argsort(_badness(rows, state)[mine], kind="stable")][:WORST]
            shots = [shot(rows.at(int(index)), thumbnails, detail=state == "shifted") for index in worst]
            title = FLAGGED.get(state, state)
            dropped = int((~rows.kept[mine]).sum())
            out.append({"state": state, "title": title, "count": len(mine), "dropped": dropped, "pairs": shots})
    return out


def _badness(rows: Rows, state: str) -> npt.NDArray[np.float64]:
    """A key by which the worst rows of a state come first: the largest shift, else the lowest correlation."""
    names = rows.table.column_names
    if state == "shifted" and {"pair.shift_y", "pair.shift_x"} <= set(names):
        return -np.nan_to_num(np.hypot(rows.values("pair.shift_y"), rows.values("pair.shift_x")))
    if "pair.ncc" in names:
        return np.nan_to_num(rows.values("pair.ncc"), nan=np.inf)
    return np.zeros(rows.table.num_rows)


def examples(rows: Rows, thumbnails: Thumbnails) -> list[Row]:
    """Per task up to EXAMPLES kept pairs, of as many subtasks and groups as there are; the count where none is kept."""
    paired = pc.is_valid(rows.table.column("lq_path")).to_numpy().astype(bool)
    out = []
    for task in sorted(set(rows.task[paired].tolist())):
        kept = np.flatnonzero(paired & rows.kept & (rows.task == task))
        out.append({"task": task, "kept": len(kept), "pairs": [shot(row, thumbnails) for row in _varied(rows, kept)]})
    return out


def shot(row: Row, thumbnails: Thumbnails, *, detail: bool = False) -> Row:
    """What the page shows of a pair: images, title, facts."""
    size = f"GT {row['width'] or '?'}×{row['height'] or '?'}"
    scale = f", LQ ÷{row['scale']}" if (row["scale"] or 1) > 1 else ""
    return {
        "images": thumbnails.pair(row, LONGEST, detail=detail),
        "title": row["subtask"] or row["task"] or "–",
        "facts": "; ".join([size + scale, *_facts(row)]),
        "path": row["lq_path"] or row["gt_path"] or "–",
        "status": row["status"],
    }


def _facts(row: Mapping[str, Any]) -> list[str]:
    """What was measured of a pair, in words."""
    texts = [text.format(row[name]) for name, text in FACTS.items() if row.get(name) is not None]
    shift = row.get("pair.shift_y"), row.get("pair.shift_x")
    if shift[0] is not None and shift[1] is not None and any(shift):
        texts.append(f"shift {shift[0]:+.1f} down, {shift[1]:+.1f} right, pixels")
    return texts


def _varied(rows: Rows, kept: npt.NDArray[np.int64]) -> list[Row]:
    """The first EXAMPLES rows of other subtasks and groups, else of other subtasks, else of other groups, else any."""
    frame = rows.table.select(["subtask", "group"]).take(pa.array(kept)).to_pandas()
    firsts = [*frame.drop_duplicates().index[:SEARCHED], *frame.drop_duplicates("subtask").index, *range(EXAMPLES)]
    candidates = [rows.at(int(kept[i])) for i in sorted(set(firsts)) if i < len(kept)]
    chosen: list[Row] = []
    for different in (("subtask", "group"), ("subtask",), ("group",), ("pair_id",)):
        for row in candidates:
            new = all(row[name] not in {other[name] for other in chosen} for name in (*different, "pair_id"))
            if len(chosen) < EXAMPLES and new:
                chosen.append(row)
    return chosen
