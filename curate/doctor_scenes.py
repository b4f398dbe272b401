"""Scenes that are cut into several groups: names propose which images belong together, perceptual hashes confirm it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate import hamming
from curate.doctor import Mask, Rows

ALIKE = 18  # bits of 64: two photographs differ in 32 on average, with a standard deviation of 4
SHARE = 0.5  # of a scene's images that must be alike for its name to be believed
FOLDER = r"/[^/]*$"  # what is cut off a path to get the folder
NUMBER = r"[-_. ]?(?:[a-zA-Z]{0,5}[-_]?)?[0-9]+[^/0-9]*$"  # and what is cut off to get the name without its last number


def split_scenes(rows: Rows) -> tuple[Mask, int]:
    """The kept rows of scenes that lie in several groups, and the number of these scenes.

    A scene is proposed by the GT's folder, or by its name without the last number. It is believed where at least half
    of its images have hashes at most ALIKE bits from that of the one in the middle.
    """
    out = np.zeros(rows.table.num_rows, bool)
    use = rows.kept & rows.has("phash") & rows.has("gt_path")
    numbers = np.flatnonzero(use)
    if len(numbers) < 2:
        return out, 0
    table = rows.table.select(["dataset", "gt_path", "group", "phash", "gt_sha256"]).take(pa.array(numbers))
    _, first = np.unique(_codes(table.column("gt_sha256")), return_index=True)
    distinct = table.take(pa.array(np.sort(first)))
    hashes = hamming.numbers(distinct.column("phash").to_pylist())
    groups = _codes(distinct.column("group"))
    best: tuple[npt.NDArray[np.bool_], int] = (np.zeros(len(groups), bool), 0)
    for pattern in (FOLDER, NUMBER):
        found = _confirmed(_scene_codes(distinct, pattern), groups, hashes)
        best = max(best, found, key=lambda one: one[1])
    mask, count = best
    if count:
        chosen = distinct.column("gt_sha256").combine_chunks().filter(pa.array(mask))
        out[numbers] = pc.is_in(table.column("gt_sha256"), value_set=chosen).to_numpy().astype(bool)
    return out, count


def _scene_codes(table: pa.Table, pattern: str) -> npt.NDArray[np.int64]:
    """A number for the scene that each path proposes; -1 where it proposes none."""
    paths = table.column("gt_path").combine_chunks()
    stems = pc.replace_substring_regex(paths, pattern=pattern, replacement="")
    proposed = pc.if_else(pc.or_(pc.equal(stems, paths), pc.equal(stems, "")), None, stems)
    named = pc.binary_join_element_wise(table.column("dataset").combine_chunks(), proposed, "/")
    return _codes(named)


def _codes(values: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    found: npt.NDArray[np.int64] = pc.fill_null(array.dictionary_encode().indices.cast(pa.int64()), -1).to_numpy(
        zero_copy_only=False
    )
    return found


def _confirmed(
    scenes: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.bool_], int]:
    """Which images are of scenes that are confirmed and lie in several groups, and how many such scenes there are."""
    named = np.flatnonzero(scenes >= 0)
    order = named[np.argsort(scenes[named], kind="stable")]
    size = int(scenes.max(initial=-1)) + 1
    counts = np.bincount(scenes[order], minlength=size)
    middle = np.zeros(size, np.int64)
    present = counts > 0
    middle[present] = order[(np.cumsum(counts) - counts + counts // 2)[present]]
    others = order[order != middle[scenes[order]]]
    anchors = middle[scenes[others]]
    alike = np.bitwise_count(hashes[others] ^ hashes[anchors]) <= ALIKE
    neighbors = np.bincount(scenes[others], minlength=size)
    agreeing = np.bincount(scenes[others], weights=alike, minlength=size)
    apart = np.bincount(scenes[others], weights=groups[others] != groups[anchors], minlength=size)
    chosen = (neighbors > 0) & (agreeing >= SHARE * neighbors) & (apart > 0)
    mask = np.isin(scenes, np.flatnonzero(chosen))
    return mask, int(chosen.sum())
