"""Known datasets, one YAML file each: where LQ and GT lie, how they pair, what they are for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from manifests.errors import UserError


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


def names() -> list[str]:
    """Names of the known layouts."""
    return sorted(_load(file).name for file in _files())


def load(name: str) -> Layout:
    """The layout called `name`, in any case. Raises UserError naming the near ones."""
    known = {layout.name.lower(): layout for layout in map(_load, _files())}
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


def _files() -> list[Any]:
    return [file for file in resources.files(__name__).iterdir() if file.name.endswith(".yaml")]


def _load(file: Any) -> Layout:
    import yaml

    fields = yaml.safe_load(file.read_text("utf-8"))
    return Layout(**{**fields, "sets": tuple(PairSet(**one) for one in fields["sets"])})
