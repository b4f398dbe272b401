"""What a folder may be ingested as: known layouts, and pairings that the names of its folders and files suggest."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from curate import layouts, name_patterns, roles
from curate.layouts import Layout, PairSet
from curate.listing import list_folder
from curate.sources import sources_of
from curate.survey import NEEDED, explained, has_evidence, named_as
from manifests.errors import UserError

PLACEHOLDER = "NAME"  # stands for a task that no name tells
SHOWN = 2  # examples
MOST = 12  # proposals
SCENES = 3  # folders from which on each is a group of its own
FIELDS = ("scene", "clip", "level", "kind")

Names = tuple[str, ...]


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
        return self.options.get("task") == PLACEHOLDER

    def command(self, folder: str, output: str | None = None) -> str:
        """The command that runs it."""
        words = ["curate", "ingest", folder]
        for name, value in self.options.items():
            words += [f"--{name}", value]
        return shlex.join([*words, *(["-o", output] if output else [])])

    def title(self) -> str:
        """What it finds, in a few words."""
        what = {"layout": f"layout {self.options.get('layout')}", "photographs": "photographs alone"}
        rows = f"{self.rows:,} {'images' if self.kind == 'photographs' else 'pairs'}"
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
    pairs = [one for maker in (_by_folder, _by_file) for one in maker(listing, folder)]
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


def _by_folder(listing: Sequence[str], folder: str) -> Iterator[Proposal]:
    """Pairings of folders whose names tell the sides: `hazy/` and `clear/`, at any depth."""
    groups: dict[tuple[int, str, int, str, bool], list[tuple[Names, Names, str]]] = {}
    for path in listing:
        *levels, name = path.split("/")
        named = [(one.weight, at, one) for at, level in enumerate(levels) if (one := roles.role(level))]
        if named:
            _, at, one = max(named, key=lambda found: found[:2])
            key = (at, levels[at], len(levels) - at - 1, one.side, one.sure)
            groups.setdefault(key, []).append((tuple(levels[:at]), tuple(levels[at + 1 :]), name))
    for lq, low in groups.items():
        for gt, high in groups.items():
            if lq[3] == "lq" and gt[3] == "gt" and lq[0] == gt[0] and roles.parts(lq[1]) == roles.parts(gt[1]):
                yield from _folders(_Side(lq[1], low), _Side(gt[1], high), lq[4] and gt[4], folder)


@dataclass(frozen=True)
class _Side:
    """The files of one side: the folder that tells the side, and above, below and name of each file."""

    role: str
    files: Sequence[tuple[Names, Names, str]]


def _folders(lq: _Side, gt: _Side, sure: bool, folder: str) -> Iterator[Proposal]:
    above = {one[0] for one in lq.files} & {one[0] for one in gt.files}
    for some in _alike(above):
        low = [one for one in lq.files if one[0] in some]
        high = [one for one in gt.files if one[0] in some]
        heads = _Template()
        head = heads.levels([sorted({one[at] for one in some}) for at in range(len(next(iter(some))))])
        tails = _tails([one[1] for one in low], [one[1] for one in high], heads)
        if tails is None:
            continue
        lq_tail, gt_tail, shared = tails
        names = name_patterns.best(
            *([((a, b if shared else ()), _stem(c)) for a, b, c in side] for side in (low, high))
        )
        apart = {one[1] for one in low} if "*" in lq_tail else set()
        if names is None or len({roles.scale(*below) for below in apart}) > 1:
            for below in sorted(apart)[:MOST]:
                yield from _folders(replace(lq, files=[one for one in low if one[1] == below]), gt, sure, folder)
            continue
        stems = names.patterns()
        lq_name, gt_name = stems[0] + _suffix(low), stems[1] + _suffix(high)
        options = {
            "lq": "/".join([*head, lq.role, *lq_tail, lq_name]),
            "gt": "/".join([*head, gt.role, *gt_tail, gt_name]),
        }
        words = (
            [lq.role],
            [gt.role],
            [*head, *lq_tail, *gt_tail, lq_name],
            [os.path.basename(os.path.abspath(folder))],
        )
        options |= _task(*words) | heads.options([*head, lq.role, gt.role])
        note = "" if sure else "the letters A and B do not tell which side is the ground truth"
        yield Proposal("pairs", options, certain=sure, note=note or heads.note)


def _alike(above: Iterable[Names]) -> list[set[Names]]:
    """The folders above, apart where their names tell other tasks."""
    out: dict[frozenset[str], set[Names]] = {}
    for one in above:
        out.setdefault(frozenset(roles.tasks(*one)), set()).add(one)
    return list(out.values())


@dataclass
class _Template:
    """Levels of folders as a pattern: what is the same everywhere as it is, the others as captures."""

    names: list[str] = field(default_factory=list)
    group: str = ""
    split: str = ""
    note: str = ""

    def levels(self, values: Sequence[Sequence[str]]) -> list[str]:
        """A piece of the pattern for each level, given the names that stand there."""
        return [some[0] if len(some) == 1 else self._capture(some) for some in values]

    def _capture(self, values: Sequence[str]) -> str:
        small = {value.lower() for value in values}
        if small <= set(layouts.SPLITS):
            name = self.split = "split"
        elif small <= set(roles.PARTS):
            name = "part"
            self.note = (
                f"folders {', '.join(values)} are no splits of ours: run it for each with --split, or split later"
            )
        else:
            name = next(one for one in (*FIELDS, *(f"level{n}" for n in range(99))) if one not in self.names)
            if len(values) >= SCENES and not self.group:
                self.group = name
        self.names.append(name)
        return f"{{{name}}}"

    def options(self, levels: Sequence[str]) -> dict[str, str]:
        """The options for split and group. levels: names of folders that may tell a split."""
        told = {part for level in levels for part in roles.parts(level)}
        split = f"{{{self.split}}}" if self.split else min(told) if len(told) == 1 and told <= {*layouts.SPLITS} else ""
        return {**({"split": split} if split else {}), **({"group": f"{{{self.group}}}"} if self.group else {})}


def _tails(low: Sequence[Names], high: Sequence[Names], heads: _Template) -> tuple[list[str], list[str], bool] | None:
    """The levels between the telling folder and the files, for both sides, and whether they are shared."""
    a = [sorted({one[at] for one in low}) for at in range(len(low[0]))]
    b = [sorted({one[at] for one in high}) for at in range(len(high[0]))]
    if all(len(some) == 1 for some in (*a, *b)):
        return [some[0] for some in a], [some[0] for some in b], False
    if not b:
        return [some[0] if len(some) == 1 else "*" for some in a], [], False
    if len(a) != len(b):
        return None
    both = heads.levels([sorted({*x, *y}) for x, y in zip(a, b, strict=True)])
    return both, both, True


def _by_file(listing: Sequence[str], folder: str) -> Iterator[Proposal]:
    """Pairings within a folder by a word in the files' names: `1_real.jpg` and `1_mean.jpg`."""
    groups: dict[tuple[str, str], dict[tuple[str, str, str], str]] = {}
    for path in listing:
        base, _, name = path.rpartition("/")
        stem = _stem(name)
        if (one := roles.role(stem)) and one.sure:
            word = stem[one.start : one.end]
            groups.setdefault((one.side, word), {})[base, stem[: one.start], stem[one.end :]] = name
    for (side, low_word), low in groups.items():
        for (other, high_word), high in groups.items():
            shared = low.keys() & high.keys()
            if side == "lq" and other == "gt" and shared and 2 * len(shared) >= min(len(low), len(high)):
                yield from _files_of(shared, low_word, high_word, low, high, folder)


def _files_of(
    shared: set[tuple[str, str, str]],
    low_word: str,
    high_word: str,
    low: Mapping[tuple[str, str, str], str],
    high: Mapping[tuple[str, str, str], str],
    folder: str,
) -> Iterator[Proposal]:
    before, after = {one[1] for one in shared}, {one[2] for one in shared}
    if len(after) == 1:
        start, end = "{id}" + _ending(before), next(iter(after))
    elif len(before) == 1:
        start, end = next(iter(before)), _beginning(after) + "{id}"
    else:
        start, end = "{id}" + _ending(before), _beginning(after) + "{n}"
    if "{id}" in start and "" in before:
        return
    heads = _Template()
    bases = sorted({one[0] for one in shared})
    deep = {base.count("/") if base else -1 for base in bases}
    levels = [base.split("/") if base else [] for base in bases]
    same = len(deep) == 1
    head = heads.levels([sorted({one[at] for one in levels}) for at in range(len(levels[0]))]) if same else ["**"]
    names = [f"{start}{word}{end}" for word in (low_word, high_word)]
    suffixes = [_suffix([((), (), some[key]) for key in shared]) for some in (low, high)]
    options = {side: "/".join([*head, names[n] + suffixes[n]]) for n, side in enumerate(("lq", "gt"))}
    words = (
        [low_word, high_word],
        [*head, *(bases if len(bases) < 3 else [])],
        [os.path.basename(os.path.abspath(folder))],
    )
    yield Proposal("pairs", options | _task(*words) | heads.options(head), note=heads.note)


def _ending(texts: set[str]) -> str:
    """The separator that all end with."""
    ends = {text[-1:] for text in texts}
    return ends.pop() if len(ends) == 1 and not min(texts)[-1:].isalnum() else ""


def _beginning(texts: set[str]) -> str:
    starts = {text[:1] for text in texts}
    return starts.pop() if len(starts) == 1 and not min(texts)[:1].isalnum() else ""


def _photographs(listing: Sequence[str], taken: frozenset[str]) -> list[Proposal]:
    """Images in no pair whose names tell no LQ: photographs. Beside pairs, one proposal for each folder at the top."""
    doubtful = {path.partition("/")[0] for path in listing if _tells_lq(path)}
    free = [path for path in listing if path not in taken]
    if not taken:
        options = {"gt": f"**/{{id}}{_of(listing)}", "task": "clean"}
        note = _namesakes(listing)
        return [] if doubtful else [Proposal("photographs", options, certain=not note, note=note)]
    tops = sorted({path.partition("/")[0] for path in free if "/" in path} - doubtful)
    tops = [top for top in tops if not any(path.startswith(f"{top}/") for path in taken)]
    return [
        Proposal("photographs", {"gt": f"{top}/**/{{id}}{_of(some)}", "task": "clean"})
        for top in tops
        if (some := [path for path in free if path.startswith(f"{top}/")])
    ]


def _namesakes(listing: Sequence[str]) -> str:
    """What to look at where most files of a folder have namesakes in another: they may be pairs."""
    where: dict[str, list[str]] = {}
    for path in listing:
        base, _, name = path.rpartition("/")
        where.setdefault(_stem(name), []).append(base)
    common = Counter(pair for bases in where.values() if len(bases) > 1 for pair in [tuple(sorted(bases)[:2])])
    if not common or 2 * sum(common.values()) < len(where):
        return ""
    (a, b), _ = common.most_common(1)[0]
    return f"{a}/ and {b}/ hold files of equal names: if they are pairs, name the sides with --lq and --gt"


def _tells_lq(path: str) -> bool:
    *levels, name = path.split("/")
    if roles.scale(*levels, _stem(name)) or any(
        word in roles.OUTPUTS for one in (*levels, _stem(name)) for word, _, _ in roles.words(one)
    ):
        return True
    found = [roles.role(one) for one in (*levels, _stem(name))]
    return any(one is not None and one.side == "lq" and one.weight and one.sure for one in found) and not any(
        one is not None and one.side == "gt" for one in found
    )


def _task(*names: Sequence[str]) -> dict[str, str]:
    """The task that the first of these lists of names tells, or a placeholder; of super-resolution the scale too."""
    told = next((found for some in names if (found := roles.tasks(*some))), set())
    task = told.pop() if len(told) == 1 else PLACEHOLDER
    subtask = roles.scale(*(name for some in names[:-1] for name in some)) if task == "sr" else ""
    return {"task": task, **({"subtask": subtask} if subtask else {})}


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _suffix(files: Sequence[tuple[Hashable, Hashable, str]]) -> str:
    return _of([name for _, _, name in files])


def _of(names: Sequence[str]) -> str:
    """The suffix of the names, in the commonest spelling; `.*` where they have several."""
    found = Counter(os.path.splitext(name)[1] for name in names)
    return found.most_common(1)[0][0] if len({suffix.lower() for suffix in found}) == 1 else ".*"
