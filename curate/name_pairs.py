"""Pairings that the names of folders and files suggest: `hazy/` with `clear/`, `1_real.jpg` with `1_mean.jpg`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from curate import layouts, name_patterns, roles

PLACEHOLDER = "NAME"  # stands for a task that no name tells
SCENES = 3  # folders from which on each is a group of its own
MOST = 12  # folders of one level that are looked at one by one
FIELDS = ("scene", "clip", "level", "kind")

Names = tuple[str, ...]


class Suggestion(NamedTuple):
    """Options of `ingest` that names suggest. certain: by words, not by letters. note: what to look at first."""

    options: dict[str, str]
    certain: bool = True
    note: str = ""


def by_folder(listing: Sequence[str], folder: str) -> Iterator[Suggestion]:
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


def _folders(lq: _Side, gt: _Side, sure: bool, folder: str) -> Iterator[Suggestion]:
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
        names = name_patterns.best(*([((a, b if shared else ()), stem(c)) for a, b, c in side] for side in (low, high)))
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
        yield Suggestion(options, sure, note or heads.note)


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


def by_file(listing: Sequence[str], folder: str) -> Iterator[Suggestion]:
    """Pairings within a folder by a word in the files' names: `1_real.jpg` and `1_mean.jpg`."""
    groups: dict[tuple[str, str], dict[tuple[str, str, str], str]] = {}
    for path in listing:
        base, _, name = path.rpartition("/")
        whole = stem(name)
        if (one := roles.role(whole)) and one.sure:
            word = whole[one.start : one.end]
            groups.setdefault((one.side, word), {})[base, whole[: one.start], whole[one.end :]] = name
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
) -> Iterator[Suggestion]:
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
    yield Suggestion(options | _task(*words) | heads.options(head), note=heads.note)


def _ending(texts: set[str]) -> str:
    """The separator that all end with."""
    ends = {text[-1:] for text in texts}
    return ends.pop() if len(ends) == 1 and not min(texts)[-1:].isalnum() else ""


def _beginning(texts: set[str]) -> str:
    starts = {text[:1] for text in texts}
    return starts.pop() if len(starts) == 1 and not min(texts)[:1].isalnum() else ""


def _task(*names: Sequence[str]) -> dict[str, str]:
    """The task that the first of these lists of names tells, or a placeholder; of super-resolution the scale too."""
    told = next((found for some in names if (found := roles.tasks(*some))), set())
    task = told.pop() if len(told) == 1 else PLACEHOLDER
    subtask = roles.scale(*(name for some in names[:-1] for name in some)) if task == "sr" else ""
    return {"task": task, **({"subtask": subtask} if subtask else {})}


def stem(name: str) -> str:
    """A file's name without its suffix."""
    return os.path.splitext(name)[0]


def _suffix(files: Sequence[tuple[Hashable, Hashable, str]]) -> str:
    return suffix([name for _, _, name in files])


def suffix(names: Sequence[str]) -> str:
    """The suffix of the names, in the commonest spelling; `.*` where they have several."""
    found = Counter(os.path.splitext(name)[1] for name in names)
    return found.most_common(1)[0][0] if len({suffix.lower() for suffix in found}) == 1 else ".*"
