"""A look at a folder before it is ingested: which layout fits it, and what ingesting it would find."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from curate import layouts
from curate.layouts import Layout, PairSet
from curate.listing import list_folder, list_images
from curate.sources import Source, sources_of
from manifests import files, images
from manifests.errors import UserError

SHOWN = 5
TIMED = 8  # files that are read and decoded for the estimate
NEEDED = 0.5  # share of a folder's images that a layout must explain


@dataclass
class Survey:
    """What `ingest` would make of a folder.

    counts: (task, subtask, split) -> pairs; expected: the same for the published dataset, where it is known.
    seconds: for one process, from reading and decoding a few of the files.
    """

    layout: str
    counts: dict[tuple[str, str, str], int] = field(default_factory=dict)
    expected: dict[tuple[str, str, str], int] = field(default_factory=dict)
    examples: list[tuple[str, str]] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    unmatched: list[str] = field(default_factory=list)
    bytes: int | None = None
    seconds: float = 0.0


def survey(folder: str, layout: Layout, sources: Sequence[Source] | None = None) -> Survey:
    """What ingesting `folder` under `layout` would find (or these `sources`). Decodes a few files, writes nothing."""
    looked = list_folder(folder)
    looked.announce(folder)
    listing = looked.images
    sources = sources_of(layout, listing, folder) if sources is None else sources
    found = Survey(layout.name)
    for one in layout.sets:
        if one.count:
            key = (one.task or layout.task, one.subtask, one.split or "")
            found.expected[key] = max(one.count, found.expected.get(key, 0))
    for source in sources:
        if source.problem:
            found.problems[source.problem.split(": ")[0]] += 1
            continue
        key = (source.task, source.subtask, source.split or "")
        found.counts[key] = found.counts.get(key, 0) + 1
        if len(found.examples) < SHOWN:
            found.examples.append((source.lq or "", source.gt or ""))
    used = sorted(_files(sources))
    found.unmatched = sorted(set(listing) - set(used))
    if not files.is_url(folder):
        found.bytes = sum(os.path.getsize(file) for path in used if os.path.isfile(file := os.path.join(folder, path)))
    found.seconds = _seconds(folder, used)
    return found


def best_layout(folder: str) -> str:
    """The layout that explains most of the images in `folder`.

    Pairs count for more than clean photographs alone; the published number of pairs decides between equals. A layout
    without GT, or one whose patterns have wildcards only, fits any folder, so it must have the published number, or the
    folder its name. Raises UserError when none explains half of them, or when several explain them equally well.
    """
    listing = list_images(folder)
    ranked: list[tuple[float, bool, bool, str]] = []
    for name in layouts.names():
        layout = layouts.load(name)
        pairs = explained(layout, listing, folder)
        if pairs:
            share = len(_files(pairs)) / len(listing)
            both = any(source.lq and source.gt for source in pairs)
            ranked.append((round(share, 3), both, _is_exact(layout, pairs), name))
    ranked.sort(key=lambda one: (tuple(-x for x in one[:-1]), one[-1]))
    if not ranked or ranked[0][0] < NEEDED:
        near = "; ".join(f"{name} explains {share:.0%}" for share, *_, name in ranked[:3]) or "none fits any file"
        raise UserError(
            f"{folder}: no layout explains its {len(listing)} images ({near}); give patterns with --lq, --gt and --task"
        )
    equal = [name for *how, name in ranked if how == list(ranked[0][:-1])]
    if len(equal) > 1:
        raise UserError(f"{folder}: fits {', '.join(equal)} equally well; name one with --layout")
    return equal[0]


def explained(layout: Layout, listing: Sequence[str], folder: str) -> list[Source]:
    """The rows that a layout makes of a folder's images, without errors; none where it would fit any folder."""
    try:
        good = [source for source in sources_of(layout, listing, folder) if not source.problem]
    except UserError:  # not one file fits
        return []
    anywhere = not all(one.gt for one in layout.sets) or all(map(_is_any, layout.sets))
    return good if has_evidence(layout, good, folder) or not anywhere else []


def has_evidence(layout: Layout, good: Sequence[Source], folder: str) -> bool:
    """Whether a folder has a layout's published number of pairs, or its name."""
    return _is_exact(layout, good) or named_as(layout.name, folder)


def named_as(layout: str, folder: str) -> bool:
    """Whether a folder is named after a layout."""
    folder = os.path.basename(os.path.abspath(folder))
    plain, wanted = (re.sub(r"[^a-z0-9]", "", text.lower()) for text in (folder, layout))
    return wanted in plain


def _is_exact(layout: Layout, good: Sequence[Source]) -> bool:
    return len(good) in {sum(one.count or 0 for one in layout.sets), *(one.count for one in layout.sets)}


def _is_any(one: PairSet) -> bool:
    """Whether a set's patterns have neither a folder nor a word of their own: they fit every tree of that depth."""
    texts = [text for text in (one.lq, one.gt) if text]
    return not any(re.search("[a-zA-Z]", re.sub(r"\{\w+\}", "", os.path.splitext(text)[0])) for text in texts)


def _files(sources: Sequence[Source]) -> set[str]:
    return {path for source in sources if not source.problem for path in (source.lq, source.gt) if path}


def _seconds(folder: str, paths: Sequence[str]) -> float:
    some = paths[:: max(1, len(paths) // TIMED)][:TIMED]
    start = time.perf_counter()
    for path in some:
        try:
            images.decode(files.read(files.join(folder, path)))
        except (OSError, images.ImageError):
            continue
    return (time.perf_counter() - start) / max(1, len(some)) * len(paths)


def as_rows(found: Survey) -> list[dict[str, Any]]:
    """A row per task, subtask and split: pairs found, pairs expected."""
    return [
        {"task": key[0], "subtask": key[1], "split": key[2], "pairs": count, "expected": found.expected.get(key)}
        for key, count in sorted(found.counts.items())
    ]
