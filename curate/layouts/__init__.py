"""Known datasets, one YAML file each: where LQ and GT lie, how they pair, what they are for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from manifests.errors import UserError

SPLITS = ("train", "test", "ref")


@dataclass(frozen=True)
class PairSet:
    """One set of pairs within a dataset: path patterns of both sides (or of one), and the facts that its rows share."""

    gt: str | None = None
    lq: str | None = None
    subtask: str = ""
    split: str | None = None
    group: str | None = None  # template over the captures, e.g. "{scene}"
    count: int | None = None  # pairs that the published dataset has
    task: str | None = None  # where it is not the layout's


@dataclass(frozen=True)
class Layout:
    """A dataset's folder naming. `verified` is False where the true naming could not be confirmed."""

    name: str
    task: str
    sets: tuple[PairSet, ...]
    license: str | None = None
    homepage: str | None = None
    verified: bool = False


def split_name(text: str, option: str) -> str:
    """The split that `text` names, in any case. Raises UserError, naming `option` as where it stands."""
    name = text.strip().lower()
    if name in SPLITS:
        return name
    advice = (
        "of a validation set, take ref for pairs that steer the mixture or test for pairs that are only reported"
        if name.startswith("val") or name in ("dev", "eval")
        else "leave it out where the dataset prescribes none"
    )
    raise UserError(f"{option} {text!r}: no such split; there are {', '.join(SPLITS)} ({advice})", exit_code=2)


def names() -> list[str]:
    """Names of the known layouts."""
    return sorted(layout.name for layout in _known().values())


def load(name: str) -> Layout:
    """The layout called `name`, in any case. Raises UserError naming the near ones."""
    known = _known()
    if name.lower() in known:
        return known[name.lower()]
    near = difflib.get_close_matches(name.lower(), known, n=2)
    hint = f"did you mean {', '.join(known[n].name for n in near)}?" if near else f"known: {', '.join(names())}"
    raise UserError(f"unknown layout {name!r}; {hint}, or use --lq and --gt patterns", exit_code=2)


def table() -> list[dict[str, Any]]:
    """What is known of every layout, for printing: name, tasks, splits, pairs, whether verified, homepage."""
    rows = []
    for layout in map(load, names()):
        counts = [one.count for one in layout.sets if one.count]
        rows.append(
            {
                "name": layout.name,
                "tasks": sorted({one.task or layout.task for one in layout.sets}),
                "splits": sorted({one.split for one in layout.sets if one.split}),
                "pairs": max(counts) if _alternatives(layout) and counts else sum(counts) or None,
                "verified": layout.verified,
                "license": layout.license,
                "homepage": layout.homepage,
            }
        )
    return rows


def _alternatives(layout: Layout) -> bool:
    """Whether the sets are several arrangements of the same pairs rather than parts of the dataset."""
    facts = [(one.task, one.subtask, one.split) for one in layout.sets]
    return len(set(facts)) == 1 and len(facts) > 1


@cache
def _known() -> Mapping[str, Layout]:
    """Name in small letters -> layout; the files are read once in a process."""
    found = [file for file in resources.files(__name__).iterdir() if file.name.endswith(".yaml")]
    return {layout.name.lower(): layout for layout in map(_load, found)}


def _load(file: Any) -> Layout:
    import yaml

    fields = yaml.load(file.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    sets = tuple(PairSet(**one) for one in fields["sets"])
    prescribed = tuple(
        replace(one, split=split_name(one.split, f"{file.name}: split")) if one.split else one for one in sets
    )
    return Layout(**{**fields, "sets": prescribed})
