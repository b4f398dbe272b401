"""Which rows belong together: groups, equal content and near-equal perceptual hashes, joined transitively."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import hamming
from manifests import schema
from manifests.table import Manifest

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


def assign_groups(table: pa.Table) -> pa.Table:
    """The table with every null `group` filled: one group per cluster of GT content and perceptual hash.

    A cluster in which some rows have a group already gives it to the others. Else the name is `dataset/path` of the
    cluster's first GT in path order, so that it does not depend on row order.
    """
    groups = table.column("group").to_pylist()
    if None not in groups:
        return table
    sets = Disjoint(len(groups))
    join_equal(sets, table.column("gt_sha256").to_pylist())
    join_near(sets, table.column("phash").to_pylist())
    columns = [table.column(n).to_pylist() for n in ("dataset", "gt_path", "lq_path")]
    own = [f"{dataset}/{gt or lq or ''}" for dataset, gt, lq in zip(*columns, strict=True)]
    name: dict[int, tuple[bool, str]] = {}  # given names go before made ones
    for index, (text, group) in enumerate(zip(own, groups, strict=True)):
        root = sets.find(index)
        candidate = (group is None, text if group is None else group)
        name[root] = min(candidate, name.get(root, candidate))
    filled = [group if group is not None else name[sets.find(i)][1] for i, group in enumerate(groups)]
    return schema.set_column(table, "group", filled, pa.string())


def join_groups(base: Manifest, new: pa.Table) -> pa.Table:
    """`new` with every null `group` filled; its rows join the groups of the rows of `base` that they are near to."""
    names = ["group", "gt_sha256", "phash", "dataset", "gt_path", "lq_path"]
    contents, looks = new.column("gt_sha256"), pc.unique(new.column("phash")).drop_null()
    wanted = hamming.numbers(looks.to_pylist())
    near = []
    for part in base.parts(names):
        found = pc.fill_null(pc.is_in(part.column("gt_sha256"), pc.unique(contents)), False).to_numpy().astype(bool)
        there = np.flatnonzero(pc.is_valid(part.column("phash")).to_numpy())
        hashes = schema.hex_digits(part.column("phash").drop_null().combine_chunks(), 16)[:, 0]
        for rows, _, _ in hamming.pairs_between(hashes, wanted, NEAR):
            found[there[rows]] = True
        near.append(part.filter(pa.array(found)))
    both = pa.concat_tables([*near, new.select(names)], promote_options="default")
    groups = assign_groups(both).column("group").slice(both.num_rows - new.num_rows)
    return schema.set_column(new, "group", groups)
