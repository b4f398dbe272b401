"""Path patterns: `hazy/{id}_*.jpg` against the files of a dataset, and how LQ and GT find each other.

`{name}` captures within one folder level, `*` and `?` match within one level, `**` across levels. The suffix matches
in any case, and names are compared in Unicode's composed form (NFC). A pattern may read a path in several ways
(`{id}_*` on `park_night_rain.jpg`): `Pattern.readings` lists all of them, and `pair` decides between them or refuses.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice
from typing import NamedTuple

from manifests.errors import UserError

Key = tuple[str, ...]

MAX_READINGS = 2000  # of one path by one pattern
MAX_TOKENS = 64
FEW = 2  # captures and wildcards up to which a search may run into dead ends
SIMPLE = 4  # captures and wildcards up to which a regular expression is fast on any path
SHOWN = 3  # names in a message

_TOKEN = re.compile(r"\{([a-z_][a-z0-9_]*)\}|(\*\*/?)|(\*)|(\?)|([^{*?]+|\{)")
_NO_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)?\}")
_WILDCARDS = {"*": "[^/]*", "?": "[^/]", "**": ".*", "**/": "", "ext*": "[^/.]*", "ext?": "[^/.]"}


class Token(NamedTuple):
    """A part of a pattern. kind: text, ext (text in any case), field, or a key of _WILDCARDS."""

    kind: str
    text: str
    in_name: bool  # within the last level


@dataclass(frozen=True)
class Pattern:
    """One path pattern; `fields` are the names that it captures."""

    text: str
    fields: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.text.startswith("/") or ".." in self.text.split("/"):
            raise UserError(f"pattern {self.text!r}: must be relative to the dataset's folder", exit_code=2)
        if len(self.tokens) > MAX_TOKENS:
            raise UserError(f"pattern {self.text!r}: more than {MAX_TOKENS} captures, wildcards and texts", exit_code=2)
        names = [token.text for token in self.tokens if token.kind == "field"]
        object.__setattr__(self, "fields", tuple(dict.fromkeys(names)))

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """The parts of the pattern, in order. Raises UserError for a capture whose name cannot be one."""
        text = nfc(self.text)
        stem, dot, suffix = text.rpartition(".")
        if not dot or "/" in suffix or "{" in suffix:
            stem, dot, suffix = text, "", ""
        name_at = stem.rfind("/") + 1
        out = []
        for found in _TOKEN.finditer(stem):
            name, deep, star, mark, literal = found.groups()
            if literal == "{" and (bad := _NO_NAME.match(stem, found.start())):
                raise UserError(
                    f"pattern {self.text!r}: write the name in {bad.group()} in small letters, such as {{id}}",
                    exit_code=2,
                )
            if literal == "{" and "}" not in stem[found.start() :]:
                raise UserError(
                    f"pattern {self.text!r}: a brace is open; write {{id}}, or ? for a brace in a name", exit_code=2
                )
            kind = "field" if name else deep or star or mark or "text"
            out.append(Token(kind, name or literal or "", found.start() >= name_at))
        parts = re.findall(r"[*?]|[^*?]+", dot + suffix)
        out += [Token(f"ext{part}" if part in "*?" else "ext", part, True) for part in parts]
        return tuple(out)

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """The tokens whose text a reading records: each capture where it first stands, and each wildcard."""
        seen = set[str]()
        found = []
        for number, token in enumerate(self.tokens):
            if token.kind in _WILDCARDS or (token.kind == "field" and token.text not in seen):
                found.append(number)
                seen.add(token.text)
        return tuple(found)

    def match(self, path: str) -> dict[str, str] | None:
        """What `path` captures (of several readings the one with the shortest captures), or None."""
        texts = self._match(path, "?", "") if len(self.slots) <= SIMPLE else next(self._search(nfc(path)), None)
        return None if texts is None else self.captures(texts)

    def readings(self, path: str) -> list[Key]:
        """Every way to read `path`: the texts of `slots`. Raises UserError past MAX_READINGS."""
        if len(self.slots) <= SIMPLE:
            shortest = self._match(path, "?", "?")
            if shortest is None:
                return []
            if shortest == self._match(path, "", ""):
                return [shortest]  # the least and the greatest reading are one, so there is no other
        found = list(islice(self._search(nfc(path)), MAX_READINGS + 1))
        if len(found) > MAX_READINGS:
            raise UserError(
                f"pattern {self.text!r} fits {path!r} in more than {MAX_READINGS} ways: use fewer wildcards",
                exit_code=2,
            )
        return found

    def captures(self, texts: Key) -> dict[str, str]:
        """The captures of a reading by name."""
        named = zip((self.tokens[slot] for slot in self.slots), texts, strict=True)
        return {token.text: text for token, text in named if token.kind == "field"}

    def _match(self, path: str, captures: str, wildcards: str) -> Key | None:
        found = _regex(self, captures, wildcards).fullmatch(nfc(path))
        return None if found is None else found.groups()

    def _search(self, path: str) -> Iterator[Key]:
        """All readings, depth first; with more than a few slots, where the rest of the pattern fits."""
        fits: list[set[int]] | None = None
        if len(self.slots) > FEW:
            fits = [set() for _ in self.tokens] + [{len(path)}]
            for number in reversed(range(len(self.tokens))):
                stops = fits[number + 1]
                fits[number] = {at for at in range(len(path) + 1) if not stops.isdisjoint(self._ends(number, path, at))}
        yield from self._walk(path, fits, 0, 0, (), {})

    def _walk(
        self, path: str, fits: Sequence[set[int]] | None, number: int, start: int, texts: Key, known: Mapping[str, str]
    ) -> Iterator[Key]:
        if number == len(self.tokens):
            if start == len(path):
                yield texts
            return
        kind, name, _ = self.tokens[number]
        after = self.tokens[number + 1] if number + 1 < len(self.tokens) else None
        for end in self._ends(number, path, start):
            if after is None:
                if end < len(path):
                    continue
            elif after.kind == "text" and not path.startswith(after.text, end):
                continue
            text = path[start:end]
            if (fits and end not in fits[number + 1]) or (kind == "field" and known.get(name, text) != text):
                continue
            more = {**known, name: text} if kind == "field" else known
            recorded = (*texts, text) if number in self.slots else texts
            yield from self._walk(path, fits, number + 1, end, recorded, more)

    def _ends(self, number: int, path: str, start: int) -> Iterable[int]:
        """Where a token that begins at `start` may end, in the order in which readings are tried."""
        kind, text, _ = self.tokens[number]
        if kind == "text":
            return [start + len(text)] if path.startswith(text, start) else []
        if kind == "ext":
            found = _any_case(text).match(path, start)
            return [] if found is None else [found.end()]
        if kind == "**":
            return range(len(path), start - 1, -1)
        if kind == "**/":
            return [*(end for end in range(len(path), start, -1) if path[end - 1] == "/"), start]
        marks = "/." if kind.startswith("ext") else "/"
        stop = min((at for mark in marks if (at := path.find(mark, start)) >= 0), default=len(path))
        if kind.endswith("?"):
            return [start + 1] if stop > start else []
        return range(start + 1, stop + 1) if kind == "field" else range(stop, start - 1, -1)


@lru_cache(maxsize=256)
def _any_case(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text), re.IGNORECASE)


@lru_cache(maxsize=256)
def _regex(pattern: Pattern, captures: str, wildcards: str) -> re.Pattern[str]:
    """The pattern as a regular expression, a group per slot; "?" makes captures or wildcards as short as may be."""
    out, group = [], dict[str, int]()
    for number, token in enumerate(pattern.tokens):
        if token.kind == "field" and token.text in group:
            out.append(f"(?:\\{group[token.text]})")
        elif token.kind == "field":
            group[token.text] = pattern.slots.index(number) + 1
            out.append(f"([^/]+{captures})")
        elif token.kind == "**/":
            out.append(f"((?:.*{wildcards}/)?{wildcards})")
        elif token.kind in _WILDCARDS:
            out.append(f"({_WILDCARDS[token.kind]}{wildcards if token.kind[-1] == '*' else ''})")
        else:
            out.append(f"(?i:{re.escape(token.text)})" if token.kind == "ext" else re.escape(token.text))
    return re.compile("".join(out), re.DOTALL)


def nfc(text: str) -> str:
    """`text` in Unicode's composed form: `é` is one character, however the file system stores it."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class Pairing:
    """What two patterns make of a folder's files. Each problem is a path and what is wrong with it."""

    pairs: list[tuple[str, str, dict[str, str]]]  # lq path, gt path, captures
    lonely_lq: list[str]  # LQ files without a GT
    lonely_gt: list[str]  # GT files without an LQ
    unclear_lq: list[tuple[str, str]]  # LQ files that several GT files answer to
    unclear_gt: list[tuple[str, str]]  # GT files that take part in such a case and in no pair


def pair(paths: Iterable[str], lq: Pattern, gt: Pattern) -> Pairing:
    """Pair `paths` by the captures that both patterns share; one GT may serve many LQs.

    A wildcard that stands in the same place among the folders of both patterns must stand for the same folders. Where
    an LQ can be read in several ways, the longest captures that name a GT count. A pair is kept only when exactly one
    GT answers to them and no other reading is as long in any capture; all files of such a case are `unclear` instead.
    """
    sides = _Sides.of(lq, gt)
    paths = sorted(paths)
    truths: dict[Key, list[str]] = {}
    keys: dict[str, list[Key]] = {}
    for path in paths:
        keys[path] = list(sides.keys(path, gt=True))
        for key in keys[path]:
            truths.setdefault(key, []).append(path)
    pairs, lonely = list[tuple[str, str, dict[str, str]]](), list[str]()
    unclear: dict[str, list[str]] = {}
    for path in paths:
        readings = sides.keys(path)
        if not readings:
            continue
        key, rivals = _rivals(path, readings, truths)
        if len(rivals) == 1:
            pairs.append((path, rivals[0], readings[key]))
        elif rivals:
            unclear[path] = rivals
        else:
            lonely.append(path)
    kept, crossed = _uncrossed(pairs)
    used = {path for one in kept for path in one[:2]}
    lonely = [path for path in lonely if path not in used]
    unclear_lq = [(path, f"several GT files fit it equally: {_listed(names)}") for path, names in unclear.items()]
    unclear_lq += [(path, text) for path, _, text in crossed]
    taken = {*used, *lonely, *(path for path, _ in unclear_lq)}
    unclear_gt = {path: text for _, path, text in crossed if path not in taken}
    unclear_gt |= _unclear_gt(unclear, truths, keys, taken)
    taken |= unclear_gt.keys()
    lonely_gt = [path for path in paths if keys[path] and path not in taken]
    return Pairing(kept, lonely, lonely_gt, unclear_lq, sorted(unclear_gt.items()))


def _uncrossed(
    pairs: Sequence[tuple[str, str, dict[str, str]]],
) -> tuple[list[tuple[str, str, dict[str, str]]], list[tuple[str, str, str]]]:
    """The pairs whose files have one role each; and of the others LQ, GT, and what is wrong."""
    both = {lq for lq, _, _ in pairs} & {gt for _, gt, _ in pairs}
    kept = [one for one in pairs if not both & {one[0], one[1]}]
    crossed = [
        (lq, gt, f"{_listed(sorted(both & {lq, gt}))} fits both patterns") for lq, gt, _ in pairs if both & {lq, gt}
    ]
    return kept, crossed


def _rivals(
    path: str, readings: Mapping[Key, dict[str, str]], truths: Mapping[Key, list[str]]
) -> tuple[Key, list[str]]:
    """The longest reading of an LQ that names a GT, and every GT that has as good a claim as the one so named."""
    named = {key: files for key in readings if (files := [file for file in truths.get(key, ()) if file != path])}
    if not named:
        return (), []
    best = max(named, key=lambda key: sum(map(len, key)))
    lengths = [len(text) for text in best]

    def shorter(key: Key) -> bool:
        pairs = [(len(text), length) for text, length in zip(key, lengths, strict=True)]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return best, sorted({file for key, files in named.items() if not shorter(key) for file in files})


def _unclear_gt(
    unclear: Mapping[str, Sequence[str]],
    truths: Mapping[Key, list[str]],
    keys: Mapping[str, list[Key]],
    taken: set[str],
) -> dict[str, str]:
    """The GT files of no pair that an unclear LQ could have, and those whose captures another GT has as well."""
    found: dict[str, str] = {}
    for path, rivals in unclear.items():
        for rival in rivals:
            if rival not in taken:
                found.setdefault(rival, f"several GT files fit {path} equally: {_listed(rivals)}")
    for path, own in keys.items():
        if len(own) == 1 and len(truths[own[0]]) > 1 and path not in taken:
            others = [other for other in truths[own[0]] if other != path]
            found.setdefault(path, f"several GT files with equal captures: {_listed(others)}")
    return found


@dataclass(frozen=True)
class _Sides:
    """Which slots of both patterns must be equal in a pair: the shared captures, and the shared folder wildcards."""

    lq: Pattern
    gt: Pattern
    lq_slots: tuple[int, ...]  # places among `lq.slots`
    gt_slots: tuple[int, ...]

    @classmethod
    def of(cls, lq: Pattern, gt: Pattern) -> _Sides:
        shared = [name for name in gt.fields if name in lq.fields]
        if not shared:
            raise UserError(
                f"patterns {lq.text!r} and {gt.text!r} share no capture: write the part that names the pair as {{id}}",
                exit_code=2,
            )
        if missing := [name for name in gt.fields if name not in shared]:
            raise UserError(f"pattern {gt.text!r} captures {missing[0]!r}, which {lq.text!r} does not", exit_code=2)
        slots = [(_slot(lq, name), _slot(gt, name)) for name in shared] + _wildcards(lq, gt)
        return cls(lq, gt, tuple(a for a, _ in slots), tuple(b for _, b in slots))

    def keys(self, path: str, *, gt: bool = False) -> dict[Key, dict[str, str]]:
        """What a file answers to as LQ, or as GT: key -> the captures of the first reading that has it."""
        pattern, slots = (self.gt, self.gt_slots) if gt else (self.lq, self.lq_slots)
        found: dict[Key, dict[str, str]] = {}
        for texts in pattern.readings(path):
            found.setdefault(tuple(texts[slot] for slot in slots), pattern.captures(texts))
        return found


def _slot(pattern: Pattern, name: str) -> int:
    return next(n for n, slot in enumerate(pattern.slots) if pattern.tokens[slot][:2] == ("field", name))


def _wildcards(lq: Pattern, gt: Pattern) -> list[tuple[int, int]]:
    """Slots of the wildcards in the same place of both patterns: with the same wildcards and captures before or behind.

    Captures that only the LQ has do not count, nor do `*` and `?` within the file's name.
    """

    def outline(pattern: Pattern) -> Iterator[tuple[str, int]]:
        for place, slot in enumerate(pattern.slots):
            token = pattern.tokens[slot]
            if token.kind == "field" and token.text in gt.fields:
                yield token.text, -1
            elif token.kind in _WILDCARDS and (token.kind.startswith("**") or not token.in_name):
                yield token.kind, place

    return _aligned(list(outline(lq)), list(outline(gt)))


def _aligned(lq: Sequence[tuple[str, int]], gt: Sequence[tuple[str, int]]) -> list[tuple[int, int]]:
    """Places of the wildcards in the parts that both outlines begin with, and that the rests end with."""
    ends = ((lq, gt), (lq[::-1], gt[::-1]))
    both = list[tuple[int, int]]()
    for left, right in ends:
        for a, b in zip(left, right, strict=False):
            if a[0] != b[0]:
                break
            both.append((a[1], b[1]))
    used_lq, used_gt, out = set[int](), set[int](), list[tuple[int, int]]()
    for one, other in both:  # what both ends claim belongs to the front
        if one >= 0 and one not in used_lq and other not in used_gt:
            out.append((one, other))
            used_lq.add(one)
            used_gt.add(other)
    return out


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more
