"""Which rows belong together: groups, equal content and near-equal perceptual hashes, joined transitively."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from curate import hamming

NEAR = 4  # bits of 64; Zauner 2010 and the practice of dataset dedup put re-encodings and resizes below 6


class Disjoint:
    """Disjoint sets of the integers 0..n-1 (union by lowest root, so results do not depend on the order of joins)."""

    def __init__(self, n: int) -> None:
        self._root = list(range(n))

    def find(self, i: int) -> int:
        """The smallest member of i's set."""
        while self._root[i] != i:
            self._root[i] = self._root[self._root[i]]
            i = self._root[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Make one set of i's and j's."""
        a, b = sorted((self.find(i), self.find(j)))
        self._root[b] = a


def join_equal(sets: Disjoint, keys: Sequence[str | None]) -> None:
    """Join all rows that have the same key; None never matches."""
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key is not None:
            sets.join(first.setdefault(key, index), index)


def near_pairs(hashes: Sequence[str], distance: int = NEAR) -> Iterator[tuple[int, int]]:
    """Index pairs i < j of distinct 64-bit hashes (16 hex digits) at most `distance` bits apart, each once."""
    for left, right, _ in hamming.pairs_within(hamming.numbers(hashes), distance):
        yield from zip(left.tolist(), right.tolist(), strict=True)


def join_near(sets: Disjoint, hashes: Sequence[str | None], distance: int = NEAR) -> None:
    """Join all rows whose perceptual hashes are at most `distance` bits apart; None never matches."""
    rows: dict[str, list[int]] = {}
    for index, one in enumerate(hashes):
        if one is not None:
            rows.setdefault(one, []).append(index)
    for same in rows.values():
        for index in same[1:]:
            sets.join(same[0], index)
    distinct = list(rows)
    for a, b in near_pairs(distinct, distance):
        sets.join(rows[distinct[a]][0], rows[distinct[b]][0])
