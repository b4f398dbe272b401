"""Which rows a folder will give: its files, paired by the patterns of a layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from curate.layouts import Layout, PairSet, split_name
from curate.patterns import Pairing, Pattern, pair
from manifests.errors import UserError


@dataclass(frozen=True)
class Source:
    """One row to be: where its files are, and what is known before they are opened."""

    lq: str | None
    gt: str | None
    task: str
    subtask: str
    split: str | None
    group: str | None
    license: str | None
    problem: str | None = None


def from_patterns(
    gt: str | None,
    lq: str | None,
    task: str | None,
    subtask: str,
    split: str | None,
    group: str | None,
    license: str | None,
) -> Layout:
    """A layout of one set, from what the options say. Raises UserError for what is missing or no split."""
    if not (gt or lq):
        raise UserError(
            "say where the ground truth is: --gt 'clear/{id}.png', or --layout NAME (--lq alone where there is none)",
            exit_code=2,
        )
    if not task:
        raise UserError("say what the pairs train: --task dehaze (or --task clean for photographs alone)", exit_code=2)
    named = split if split is None or "{" in split else split_name(split, "--split")
    return Layout("", task, (PairSet(gt, lq, subtask, named, group),), license)


def refuse_with_list(gt: str | None, lq: str | None, layout: str | None) -> None:
    """Raises UserError for what cannot be said beside a list of pairs."""
    given = [option for option, value in (("--gt", gt), ("--lq", lq), ("--layout", layout)) if value]
    if given:
        raise UserError(f"{given[0]} means nothing beside --pairs: the list names both files of a pair", exit_code=2)


def sources_of(layout: Layout, listing: Sequence[str], folder: str) -> list[Source]:
    """The rows of all sets of the layout, sorted by GT so that a shared GT is decoded once."""
    out: list[Source] = []
    for one in layout.sets:
        make = partial(_source, layout=layout, pairs=one)
        if one.gt is None or one.lq is None:
            alone = Pattern(one.gt or one.lq or "")
            captures = ((path, alone.match(path)) for path in listing)
            out += [
                make(None if one.gt else path, path if one.gt else None, captured)
                for path, captured in captures
                if captured is not None
            ]
            continue
        found = pair(listing, Pattern(one.lq), Pattern(one.gt))
        if found.pairs or found.unclear_lq:
            out += _paired(found, make)
    if not out:
        raise UserError(f"{folder}: {_unfit(layout, listing)}")
    return sorted(set(out), key=lambda s: (s.gt is None, s.gt or "", s.lq or "", s.problem or ""))


def _paired(found: Pairing, make: partial[Source]) -> list[Source]:
    """Sources of the pairs, and of the files that have none."""
    return [
        *(make(lq, path, captured) for lq, path, captured in found.pairs),
        *(make(lq, None, {}, problem="no GT file matches this LQ") for lq in found.lonely_lq),
        *(make(None, path, {}, problem="no LQ file matches this GT") for path in found.lonely_gt),
        *(make(lq, None, {}, problem=problem) for lq, problem in found.unclear_lq),
        *(make(None, path, {}, problem=problem) for path, problem in found.unclear_gt),
    ]


def _unfit(layout: Layout, listing: Sequence[str]) -> str:
    """Why no file gives a row: nothing fits, one side does not, or only the captures differ."""
    looked = "; ".join(f"{one.lq or '(no LQ)'} with {one.gt or '(no GT)'}" for one in layout.sets)
    for one in layout.sets:
        if one.lq is None or one.gt is None:
            continue
        sides = [[(path, got) for path in listing if (got := Pattern(text).match(path))] for text in (one.lq, one.gt)]
        if all(sides):
            (lq, lq_captures), (gt, gt_captures) = sides[0][0], sides[1][0]
            shared = Pattern(one.gt).fields
            return (
                f"{len(sides[0])} image files fit {one.lq} and {len(sides[1])} fit {one.gt}, but no two with equal "
                f"captures: {lq!r} gives {_said(lq_captures, shared)}, {gt!r} gives {_said(gt_captures, shared)}"
                f"{_wildcard_hint(one)}"
            )
        if any(sides):
            fits, other = (one.lq, one.gt) if sides[0] else (one.gt, one.lq)
            count = len(sides[0] or sides[1])
            return f"{count} of its {len(listing)} image files fit {fits}, but none fits {other}{_for_example(listing)}"
    return f"none of its {len(listing)} image files{_for_example(listing)} fits the patterns ({looked})"


def _said(captures: dict[str, str], names: Sequence[str]) -> str:
    return ", ".join(f"{name}={captures[name]!r}" for name in names)


def _wildcard_hint(one: PairSet) -> str:
    deep = "*" in (one.lq or "").rpartition("/")[0] and "*" in (one.gt or "").rpartition("/")[0]
    return "; a wildcard for folders stands for the same folders on both sides" if deep else ""


def _for_example(listing: Sequence[str]) -> str:
    return f", for example {listing[0]!r}," if listing else ""


def _source(
    lq: str | None,
    gt: str | None,
    captured: dict[str, str],
    problem: str | None = None,
    *,
    layout: Layout,
    pairs: PairSet,
) -> Source:
    group = _filled(pairs.group, captured, "group") if captured else None
    split = _filled(pairs.split, captured, "split")
    if split is not None and "{" in (pairs.split or ""):
        split = split_name(split, f"{lq or gt}: --split {pairs.split}")
    return Source(lq, gt, pairs.task or layout.task, pairs.subtask, split, group, layout.license, problem)


def _filled(template: str | None, captured: dict[str, str], what: str) -> str | None:
    """A template over the captures with these put in; None for a file whose captures are unknown."""
    if template is None or "{" not in template:
        return template
    if not captured:
        return None
    try:
        return template.format(**captured)
    except (KeyError, IndexError, AttributeError, ValueError) as error:
        raise UserError(f"{what} template {template!r}: no capture {error} in the patterns", exit_code=2) from None
