"""Path patterns: `hazy/{id}_*.jpg` against the files of a dataset, and how LQ and GT find each other.

`{name}` captures within one folder level, `*` and `?` match within one level, `**` across levels. The suffix matches in
any case. `{id}` in the LQ pattern may be ambiguous (`{id}_*` on `1400_1_0.8.jpg`): the shortest capture that names
a GT wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from manifests.errors import UserError

Key = tuple[tuple[str, str], ...]

_TOKEN = re.compile(r"\{([a-z_][a-z0-9_]*)\}|(\*\*/?)|(\*)|(\?)|([^{*?]+|\{)")


@dataclass(frozen=True)
class Pattern:
    """One path pattern; `fields` are the names that it captures."""

    text: str
    fields: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = [m.group(1) for m in _TOKEN.finditer(self.text) if m.group(1)]
        object.__setattr__(self, "fields", tuple(dict.fromkeys(names)))
        if self.text.startswith("/") or ".." in self.text.split("/"):
            raise UserError(f"pattern {self.text!r}: must be relative to the dataset's folder", exit_code=2)
        self.match("")  # compiles, so that a bad pattern is refused here

    def match(self, path: str, shortest: int = 1) -> dict[str, str] | None:
        """What `path` captures, or None; the first capture has at least `shortest` characters."""
        found = re.fullmatch(_regex(self.text, shortest), path, flags=re.DOTALL)
        return None if found is None else found.groupdict()

    def key(self, captured: Mapping[str, str], fields: Iterable[str]) -> Key:
        """The captures named in `fields`, hashable."""
        return tuple((name, captured[name]) for name in fields)


def _regex(text: str, shortest: int) -> str:
    out, seen = [], set[str]()
    stem, dot, suffix = text.rpartition(".")
    body, tail = (stem, re.escape(dot) + f"(?i:{_plain(suffix)})") if dot and "/" not in suffix else (text, "")
    for name, deep, star, mark, literal in _TOKEN.findall(body):
        if name and name in seen:
            out.append(f"(?P={name})")
        elif name:
            out.append(f"(?P<{name}>[^/]{{{shortest if not seen else 1},}}?)")
            seen.add(name)
        elif deep:
            out.append("(?:.*/)?" if deep.endswith("/") else ".*")
        else:
            out.append("[^/]*" if star else "[^/]" if mark else re.escape(literal))
    return "".join(out) + tail


def _plain(suffix: str) -> str:
    return re.escape(suffix).replace(r"\*", "[^/.]*").replace(r"\?", "[^/.]")


@dataclass(frozen=True)
class Pairing:
    """What two patterns make of a folder's files."""

    pairs: list[tuple[str, str, dict[str, str]]]  # lq path, gt path, captures
    lonely_lq: list[str]  # LQ files without a GT
    lonely_gt: list[str]  # GT files without an LQ
    clashes: list[tuple[str, str]]  # two GT files that answer to the same captures


def pair(paths: Iterable[str], lq: Pattern, gt: Pattern) -> Pairing:
    """Pair `paths` by the captures that both patterns share; one GT may serve many LQs."""
    shared = tuple(name for name in gt.fields if name in lq.fields)
    if not shared:
        raise UserError(
            f"patterns {lq.text!r} and {gt.text!r} share no capture: write the part that names the pair as {{id}}",
            exit_code=2,
        )
    if missing := [name for name in gt.fields if name not in shared]:
        raise UserError(f"pattern {gt.text!r} captures {missing[0]!r}, which {lq.text!r} does not", exit_code=2)
    paths = sorted(paths)
    truths: dict[Key, str] = {}
    clashes: list[tuple[str, str]] = []
    for path in paths:
        captured = gt.match(path)
        if captured is not None and truths.setdefault(gt.key(captured, shared), path) != path:
            clashes.append((truths[gt.key(captured, shared)], path))
    pairs, lonely, used = [], [], set[str]()
    for path in paths:
        found = _partner(path, lq, shared, truths)
        if found is None:
            continue
        target, captured = found
        if target is None:
            lonely.append(path)
        elif target != path:
            pairs.append((path, target, captured))
            used.add(target)
    return Pairing(pairs, lonely, [p for p in truths.values() if p not in used], clashes)


def _partner(
    path: str, lq: Pattern, shared: tuple[str, ...], truths: Mapping[Key, str]
) -> tuple[str | None, dict[str, str]] | None:
    """The GT of an LQ file (None when it has none) with the captures, or None when `path` is no LQ file."""
    first = lq.match(path)
    if first is None:
        return None
    captured: dict[str, str] | None = first
    while captured is not None:
        target = truths.get(lq.key(captured, shared))
        if target is not None:
            return target, captured
        captured = lq.match(path, len(captured[lq.fields[0]]) + 1)
    return None, first
