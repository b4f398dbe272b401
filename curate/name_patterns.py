"""From file names to patterns: what is common to the names of each side, and which part of them names the pair."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

SAMPLE = 1000  # names that are tried
ENOUGH = 0.5  # share of the LQs that find a GT
_SEPARATOR = re.compile(r"[_\-. (]")

Named = Sequence[tuple[Hashable, str]]  # where a file is, as far as both sides share it, and its name without suffix


@dataclass(frozen=True)
class Names:
    """How names pair. Each side is `prefix + id + suffix`; after an LQ's id, `mark` begins what only the LQ has."""

    lq: tuple[str, str] = ("", "")
    gt: tuple[str, str] = ("", "")
    mark: str = ""

    def patterns(self) -> tuple[str, str]:
        """The patterns of both sides, without file suffixes."""
        more = f"{self.mark}*" if self.mark else ""
        return f"{self.lq[0]}{{id}}{more}{self.lq[1]}", f"{self.gt[0]}{{id}}{self.gt[1]}"

    def ids(self, stem: str, side: str) -> Iterator[str]:
        """What an LQ's or a GT's name may name the pair by."""
        before, after = self.lq if side == "lq" else self.gt
        if len(stem) <= len(before) + len(after) or not (stem.startswith(before) and stem.endswith(after)):
            return
        middle = stem[len(before) : len(stem) - len(after)]
        if side == "gt" or not self.mark:
            yield middle
            return
        for found in re.finditer(re.escape(self.mark), middle):
            if found.start():
                yield middle[: found.start()]


def best(lq: Named, gt: Named) -> Names | None:
    """How most of the LQs find a GT: by equal names, by common beginnings and ends, or by the names' beginnings."""
    if not lq or not gt:
        return None
    step = max(1, len(lq) // SAMPLE)
    sample = lq[::step]
    chosen, share = None, 0.0
    for names in _candidates([stem for _, stem in sample], [stem for _, stem in gt[:: max(1, len(gt) // SAMPLE)]]):
        there = {(where, one) for where, stem in gt for one in names.ids(stem, "gt")}
        used = {(where, one) for where, stem in sample for one in names.ids(stem, "lq") if (where, one) in there}
        hits = sum(any((where, one) in there for one in names.ids(stem, "lq")) for where, stem in sample)
        now = max(hits / len(sample), 0.99 * len(used) / len(there) if there and step == 1 else 0)
        if now > share + 0.005:
            chosen, share = names, now
    return chosen if share >= ENOUGH else None


def _candidates(lq: Sequence[str], gt: Sequence[str]) -> Iterator[Names]:
    yield Names()
    ends = (_common(lq), _common(gt))
    affixes = [(ends[0], ends[1]), (("", ends[0][1]), ("", ends[1][1])), ((ends[0][0], ""), (ends[1][0], ""))]
    affixes = list(dict.fromkeys(one for one in affixes if one != (("", ""), ("", ""))))
    for a, b in affixes:
        yield Names(a, b)
    for mark in ("_", "-", " ", "."):
        yield Names(mark=mark)
        for a, b in affixes:
            yield Names(a, b, mark)


def _common(stems: Sequence[str]) -> tuple[str, str]:
    """What all names begin and end with, cut where a word does."""
    first = _prefix(stems) if len(set(stems)) > 1 else ""
    last = _prefix([stem[::-1] for stem in stems])[::-1]
    first = first.rstrip("0123456789")
    digits_next = all(stem[len(first) : len(first) + 1].isdigit() for stem in stems) and first[-1:].isalpha()
    if not digits_next:
        first = first[: max((found.end() for found in _SEPARATOR.finditer(first)), default=0)]
    if not re.fullmatch(r"[xX][2-9]", last[-2:]) or len(last) > 2:
        first_mark = _SEPARATOR.search(last)
        whole = first_mark is None and last.isalpha() and all(stem[: -len(last)][-1:].isdigit() for stem in stems)
        last = last if whole else last[first_mark.start() :] if first_mark else last[-2:] if _scaled(last) else ""
    room = min(map(len, stems)) - 1
    return (first if len(first) <= room else ""), (last if len(first) + len(last) <= room else "")


def _prefix(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    least, greatest = min(texts), max(texts)
    count = next((n for n, (a, b) in enumerate(zip(least, greatest, strict=False)) if a != b), len(least))
    return least[:count]


def _scaled(text: str) -> bool:
    return re.fullmatch(r"[xX][2-9]", text[-2:]) is not None
