"""What `curate ingest` and `curate pairs` say about the pairs when they are done: counts, names, and what to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from manifests.table import Manifest

NAMED = 3
VOTERS, MAJORITY = 5, 0.5  # pairs of a (dataset, task), and the share of them, from which its folders look exchanged
ADVICE = {  # state: what it means, and what to do
    "other_scene": "LQ and GT show different scenes; dropped: curate show {path} --status dropped",
    "identical": "LQ and GT are equal; dropped: curate show {path} --status dropped",
    "swapped": "LQ and GT look exchanged; dropped: curate show {path} --status dropped",
    "shifted": "LQ and GT are shifted; kept: curate pairs {path} --align crops them to their overlap",
    "upscaled": "the LQ is an enlarged smaller image; kept",
    "flat": "too little structure to compare; kept",
    "unknown": "too small to compare; kept",
}


def lines(manifest: Manifest, short: bool = False) -> list[str]:
    """One line of counts, one for every state that is not in order, one for every task whose sides look exchanged.

    short: without those for the states, which `curate doctor` says as well.
    """
    if "pair.state" not in manifest.column_names:
        return []
    counts: Counter[str] = Counter()
    names: dict[str, list[str]] = defaultdict(list)
    sides: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in _rows(manifest):
        state = row["pair.state"]
        counts[state] += 1
        sides[row["dataset"], row["task"]][state] += 1
        if state != "ok" and len(names[state]) < NAMED:
            names[state].append(row["lq_path"])
    if not counts:
        return []
    out = ["pairs: " + ", ".join(f"{counts[state]} {state}" for state in ("ok", *ADVICE) if counts[state])]
    for state, advice in () if short else ADVICE.items():
        if counts[state]:
            some = ", ".join(names[state]) + (", ..." if counts[state] > len(names[state]) else "")
            out.append(f"  {counts[state]} {state}: {some}: {advice.format(path=manifest.path)}")
    return out + [_exchanged(*key, found) for key, found in sorted(sides.items()) if _is_exchanged(found)]


def _rows(manifest: Manifest) -> Iterable[Mapping[str, Any]]:
    for part in manifest.parts(["dataset", "task", "lq_path", "pair.state"]):
        yield from (row for row in part.to_pylist() if row["pair.state"] is not None)


def _is_exchanged(found: Mapping[str, int]) -> bool:
    right = sum(count for state, count in found.items() if state in ("ok", "shifted", "swapped", "upscaled"))
    return right >= VOTERS and found.get("swapped", 0) > MAJORITY * right


def _exchanged(dataset: str, task: str, found: Mapping[str, int]) -> str:
    return (
        f"  {dataset}, {task}: {found['swapped']} of {sum(found.values())} pairs look exchanged, so the folders of LQ "
        "and GT probably are: run 'curate ingest' again with --lq and --gt exchanged"
    )
