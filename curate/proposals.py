"""What a folder may be ingested as: known layouts, and pairings that the names of its folders and files suggest."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from curate import layouts, name_pairs, roles
from curate.layouts import Layout, PairSet
from curate.listing import list_folder
from curate.sources import sources_of
from curate.survey import NEEDED, explained, has_evidence, named_as
from manifests.errors import UserError

SHOWN = 2  # examples
MOST = 12  # proposals


@dataclass(frozen=True)
class Proposal:
    """One way to ingest a folder. options: of `ingest`, by name. rows, errors: that it gives. certain: by evidence.

    files: the images that its rows have. note: what to look at before it is run.
    """

    kind: str  # layout, pairs, photographs
    options: Mapping[str, str]
    rows: int = 0
    errors: int = 0
    files: frozenset[str] = frozenset()
    examples: tuple[tuple[str, str], ...] = ()
    certain: bool = True
    note: str = ""

    @property
    def has_pairs(self) -> bool:
        """Whether its first rows have both files."""
        return any(lq and gt for lq, gt in self.examples)

    @property
    def lacks_task(self) -> bool:
        """Whether the user has to name the task."""
        return self.options.get("task") == name_pairs.PLACEHOLDER

    def command(self, folder: str, output: str | None = None) -> str:
        """The command that runs it."""
        words = ["curate", "ingest", folder]
        for name, value in self.options.items():
            words += [f"--{name}", value]
        return shlex.join([*words, *(["-o", output] if output else [])])

    def title(self) -> str:
        """What it finds, in a few words."""
        what = {"layout": f"layout {self.options.get('layout')}", "photographs": "photographs alone"}
        noun = "pair" if self.has_pairs else "image"
        rows = f"{self.rows:,} {noun}{'' if self.rows == 1 else 's'}"
        errors = f", {self.errors:,} would be errors" if self.errors else ""
        task = f", task {self.options['task']}" if "task" in self.options and not self.lacks_task else ""
        return f"{what.get(self.kind, 'pairs by name')}: {rows}{task}{errors}"


@dataclass(frozen=True)
class Proposals:
    """What a folder may be ingested as, the likeliest first. rest: images that none of them takes."""

    folder: str
    images: int
    proposals: tuple[Proposal, ...]
    rest: tuple[str, ...] = ()

    def clear(self) -> Proposal:
        """The first proposal, where nothing speaks against it. Raises UserError, saying what does."""
        first = self.proposals[0]
        if first.lacks_task:
            raise UserError("no name tells the task: give --task beside --yes", exit_code=2)
        if not first.certain and first.kind != "layout":
            raise UserError(f"{first.note}: choose by --choose 1", exit_code=2)
        rivals = [
            number
            for number, one in enumerate(self.proposals[1:], 2)
            if not one.files <= first.files or (one.kind == "layout" and (one.certain or first.kind == "layout"))
        ]
        if rivals:
            numbers = ", ".join(map(str, rivals))
            raise UserError(f"proposal 1 is not the only one (also {numbers}): choose by --choose N", exit_code=2)
        return first

    def chosen(self, number: int) -> Proposal:
        """The proposal of that number, from 1. Raises UserError for one that is not there or lacks its task."""
        if not 1 <= number <= len(self.proposals):
            raise UserError(f"--choose {number}: there are proposals 1 to {len(self.proposals)}", exit_code=2)
        found = self.proposals[number - 1]
        if found.lacks_task:
            raise UserError(f"no name tells the task of proposal {number}: give --task", exit_code=2)
        return found


def propose(folder: str, given: Mapping[str, str] | None = None) -> Proposals:
    """Look at the names below `folder` and say what it may be ingested as. Decodes nothing, writes nothing.

    given: options that the user has named (`task`, `split`, ...), which stand in every proposal. Raises UserError where
    no name tells anything, with what to do.
    """
    looked = list_folder(folder)
    looked.announce(folder)
    listing = looked.images
    if not listing:
        raise UserError(f"{folder}: holds no image that can be read")
    named = [*name_pairs.by_folder(listing, folder), *name_pairs.by_file(listing, folder)]
    pairs = [Proposal("pairs", one.options, certain=one.certain, note=one.note) for one in named]
    found = [one for one in (_counted(one, listing, folder, given or {}) for one in pairs) if one.rows]
    found = _distinct(sorted(found, key=lambda one: (-len(one.files), not one.certain, one.errors)))
    taken = frozenset(path for one in found for path in one.files)
    known = [
        one
        for one in _layouts(listing, folder)
        if not found or one.has_pairs or named_as(one.options["layout"], folder)
    ]
    alone = [_counted(one, listing, folder, given or {}) for one in _photographs(listing, taken)]
    ordered = [*(one for one in known if one.certain), *found, *alone, *(one for one in known if not one.certain)]
    if not ordered:
        raise UserError(
            f"{folder}: the names of its {len(listing)} images tell no pairs (for example {listing[0]!r}); say how "
            "they pair with --lq, --gt and --task, or list them in a file for --pairs (--lq alone: no ground truth)"
        )
    every = frozenset(path for one in ordered for path in one.files)
    rest = tuple(path for path in listing if path not in every)
    return Proposals(folder, len(listing), tuple(ordered[:MOST]), rest)


def layout_of(options: Mapping[str, str]) -> Layout:
    """The layout that `ingest` makes of these options."""
    if "layout" in options:
        return layouts.load(options["layout"])
    names = ("gt", "lq", "split", "group")
    values = {name: options.get(name) for name in names}
    one = PairSet(values["gt"], values["lq"], options.get("subtask", ""), values["split"], values["group"])
    return Layout("", options.get("task", ""), (one,))


def _counted(one: Proposal, listing: Sequence[str], folder: str, given: Mapping[str, str]) -> Proposal:
    """The proposal with the options that were given, and with what its rows would be."""
    options = {**one.options, **given} if one.kind != "layout" else dict(one.options)
    try:
        sources = sources_of(layout_of(options), listing, folder)
    except UserError:
        return replace(one, options=options, rows=0)
    good = [source for source in sources if not source.problem]
    return replace(
        one,
        options=options,
        rows=len(good),
        errors=len(sources) - len(good),
        files=frozenset(path for source in good for path in (source.lq, source.gt) if path),
        examples=tuple((source.lq or "", source.gt or "") for source in good[:SHOWN]),
    )


def _distinct(found: Sequence[Proposal]) -> list[Proposal]:
    """Without those that make the same pairs as an earlier one."""
    seen = set[tuple[frozenset[str], int]]()
    return [one for one in found if (key := (one.files, one.rows)) not in seen and not seen.add(key)]  # type: ignore[func-returns-value]


def _layouts(listing: Sequence[str], folder: str) -> list[Proposal]:
    out = []
    for name in layouts.names():
        layout = layouts.load(name)
        good = explained(layout, listing, folder)
        files = {path for source in good for path in (source.lq, source.gt) if path}
        if len(files) < NEEDED * len(listing):
            continue
        one = _counted(Proposal("layout", {"layout": name}), listing, folder, {})
        evidence = has_evidence(layout, good, folder) or _is_specific(layout, good)
        if evidence or any(source.lq and source.gt for source in good):
            note = "" if evidence else "its names are common ones: look whether this is the dataset"
            out.append(replace(one, certain=evidence, note=note))
    return sorted(out, key=lambda one: (not one.certain, -len(one.files), one.options["layout"]))


def _is_specific(layout: Layout, good: Sequence[object]) -> bool:
    """Whether names of the layout are more than common words for the sides of a pair, tasks and splits."""
    texts = [re.sub(r"\{\w+\}", " ", text) for one in layout.sets for text in (one.lq, one.gt) if text]
    found = {word for text in texts for word, _, _ in roles.words(os.path.splitext(text)[0])}
    common = {*roles.LQ, *roles.GT, *roles.PARTS, *roles.TASK_OF, "x", "all", "outdoor"}
    return bool(good) and bool({word for word in found if len(word) > 1} - common)


def _photographs(listing: Sequence[str], taken: frozenset[str]) -> list[Proposal]:
    """Images in no pair whose names tell no LQ: photographs. Beside pairs, one proposal for each folder at the top."""
    doubtful = {path.partition("/")[0] for path in listing if _tells_lq(path)}
    free = [path for path in listing if path not in taken]
    if not taken:
        options = {"gt": f"**/{{id}}{name_pairs.suffix(listing)}", "task": "clean"}
        note = _namesakes(listing)
        return [] if doubtful else [Proposal("photographs", options, certain=not note, note=note)]
    tops = sorted({path.partition("/")[0] for path in free if "/" in path} - doubtful)
    tops = [top for top in tops if not any(path.startswith(f"{top}/") for path in taken)]
    return [
        Proposal("photographs", {"gt": f"{top}/**/{{id}}{name_pairs.suffix(some)}", "task": "clean"})
        for top in tops
        if (some := [path for path in free if path.startswith(f"{top}/")])
    ]


def _namesakes(listing: Sequence[str]) -> str:
    """What to look at where most files of a folder have namesakes in another: they may be pairs."""
    where: dict[str, list[str]] = {}
    for path in listing:
        base, _, name = path.rpartition("/")
        where.setdefault(name_pairs.stem(name), []).append(base)
    common = Counter(pair for bases in where.values() if len(bases) > 1 for pair in [tuple(sorted(bases)[:2])])
    if not common or 2 * sum(common.values()) < len(where):
        return ""
    (a, b), _ = common.most_common(1)[0]
    return f"{a}/ and {b}/ hold files of equal names: if they are pairs, name the sides with --lq and --gt"


def _tells_lq(path: str) -> bool:
    *levels, name = path.split("/")
    if roles.scale(*levels, name_pairs.stem(name)) or any(
        word in roles.OUTPUTS for one in (*levels, name_pairs.stem(name)) for word, _, _ in roles.words(one)
    ):
        return True
    found = [roles.role(one) for one in (*levels, name_pairs.stem(name))]
    return any(one is not None and one.side == "lq" and one.weight and one.sure for one in found) and not any(
        one is not None and one.side == "gt" for one in found
    )
