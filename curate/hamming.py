"""Which 64-bit hashes are near: multi-index search, exact for its radius, without comparing all pairs.

Manku, Jain and Das Sarma (WWW 2007); Norouzi, Punjani and Fleet (CVPR 2012): cut the 64 bits into m bands. Hashes at
most d bits apart differ in at most d bands, so they agree on m - d of them or more. For every choice of m - d bands,
sort by these bits, and compare only the rows that are equal there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

MAX_DISTANCE = 16  # of 64 bits; beyond, unlike photographs meet, and the search becomes one of all pairs
BLOCK = 1 << 21  # candidate pairs that are looked at together

Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Near = tuple[Rows, Rows, npt.NDArray[np.uint8]]  # (P,) rows of the left, (P,) rows of the right, (P,) bits apart


def numbers(hashes: Sequence[str]) -> Hashes:
    """(N,) uint64 of N hashes written as 16 hex digits."""
    return np.fromiter((int(one, 16) for one in hashes), dtype=np.uint64, count=len(hashes))


def pairs_within(hashes: Hashes, distance: int) -> Iterator[Near]:
    """All pairs i < j of (N,) `hashes` at most `distance` bits apart, each once, in blocks of no particular order.

    Equal hashes are pairs as well: for long runs of them, search the distinct ones (np.unique) instead.
    """
    for chosen, bands in _choices(len(hashes), len(hashes), distance):
        order, ends = _runs(hashes & _union(bands[chosen]))
        ordered = hashes[order]
        starts = np.arange(1, len(hashes) + 1)
        for left, right, apart in _compare(ordered, ordered, starts, ends, chosen, bands, distance):
            a, b = order[left], order[right]
            yield np.minimum(a, b), np.maximum(a, b), apart


def pairs_between(left: Hashes, right: Hashes, distance: int) -> Iterator[Near]:
    """All (i, j) with left[i] and right[j] at most `distance` bits apart, each once, in blocks of no particular order.

    left, right: (N,) and (M,).
    """
    for chosen, bands in _choices(len(left), len(right), distance):
        mask = _union(bands[chosen])
        order = np.argsort(right & mask)
        ordered = right[order]
        starts = np.searchsorted(ordered & mask, left & mask, "left")
        ends = np.searchsorted(ordered & mask, left & mask, "right")
        for a, b, apart in _compare(left, ordered, starts, ends, chosen, bands, distance):
            yield a, order[b], apart


def _choices(n: int, m: int, distance: int) -> Iterator[tuple[list[int], Hashes]]:
    """Every choice of bands that a pair may agree on, with the masks of all bands."""
    if not 0 <= distance < 64:
        raise ValueError(f"distance {distance}: 0 to 63 of 64 bits")
    if not (n and m):
        return
    bands = _bands(_count(n, m, distance))
    for chosen in itertools.combinations(range(len(bands)), len(bands) - distance):
        yield list(chosen), bands


def _count(n: int, m: int, distance: int) -> int:
    """The number of bands with the least work: more bands are more sorts, but fewer candidates each."""

    def nanoseconds(count: int) -> float:
        candidates = n * m * math.exp2(-64 * (count - distance) / count)
        return math.comb(count, distance) * (5e4 + 4 * (n + m) * math.log2(n + m) + 15 * candidates)

    return min(range(distance + 1, min(64, distance + 12) + 1), key=nanoseconds)


def _bands(count: int) -> Hashes:
    """(count,) masks that cut 64 bits into contiguous bands of nearly equal width."""
    edges = [64 * i // count for i in range(count + 1)]
    return np.array([(1 << high) - (1 << low) for low, high in itertools.pairwise(edges)], dtype=np.uint64)


def _union(masks: Hashes) -> np.uint64:
    return np.uint64(np.bitwise_or.reduce(masks))


def _runs(keys: Hashes) -> tuple[Rows, Rows]:
    """The order that sorts `keys`, and for every place in it where its run of equal keys ends."""
    order = np.argsort(keys)
    ordered = keys[order]
    cuts = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(keys))
    return order, np.repeat(cuts, np.diff(cuts, prepend=0))


def _compare(
    left: Hashes, right: Hashes, starts: Rows, ends: Rows, chosen: list[int], bands: Hashes, distance: int
) -> Iterator[Near]:
    """The near ones among left[i] and right[starts[i]:ends[i]] that no earlier choice of bands has found.

    A pair is left to the choice that holds the first bands it agrees on, so it must differ in all others up to there.
    """
    others = [bands[b] for b in range(chosen[-1]) if b not in chosen]
    for a, b in _ranges(starts, ends):
        differing = left[a] ^ right[b]
        apart = np.bitwise_count(differing)
        near = np.flatnonzero(apart <= distance)
        for band in others:
            near = near[(differing[near] & band) != 0]
        if len(near):
            yield a[near], b[near], apart[near]


def _ranges(starts: Rows, ends: Rows) -> Iterator[tuple[Rows, Rows]]:
    """All (i, j) with starts[i] <= j < ends[i], about BLOCK at a time."""
    rows = np.flatnonzero(ends > starts)
    counts = (ends - starts)[rows]
    total = np.cumsum(counts)
    done = 0
    while done < len(rows):
        before = int(total[done - 1]) if done else 0
        stop = max(done + 1, int(np.searchsorted(total, before + BLOCK, "right")))
        size = counts[done:stop]
        first = np.repeat(starts[rows[done:stop]] - (total[done:stop] - size - before), size)
        yield np.repeat(rows[done:stop], size), first + np.arange(len(first))
        done = stop
