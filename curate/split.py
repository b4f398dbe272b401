"""Split into D_ref, test and train: whole groups move, across all tasks, and the result is checked."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate import engine
from curate.clusters import NEAR, Disjoint, join_equal, join_near, near_pairs
from curate.cover import Ints
from curate.draw import Bools, Clusters, draw
from manifests import schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
SPLITS = ("train", "ref", "test")

log = logging.getLogger("curate.split")


def split(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    ref: int = 10,
    test: float = 0.1,
    seed: int = 0,
    phash_distance: int = NEAR,
    prescribed: bool = True,
) -> Manifest:
    """Set `split` of the kept rows to ref, test or train. Other rows pass through untouched.

    ref: pairs per task in D_ref, exactly. They come from 5 groups where train keeps half of the task's groups, else
        from fewer (see `draw`); the other rows of those groups are in no split (null), and their number is logged.
    test: below 1 the share of each task's groups, but 5 groups where train keeps half of them; from 1 on the least
        number of pairs per task, spread in the same way; 0 for no test split.
    seed: which groups are drawn. The result does not depend on the order of the rows.
    prescribed: heed the splits that the datasets prescribe. Pairs of `test` stay there, and their tasks get no more;
        pairs of `train` never become test, and are in no split where they share a group with prescribed test pairs.
        False draws all of them anew.
    phash_distance: rows of one group, of equal content (GT or LQ), or with perceptual hashes of their GTs at most this
        many bits of 64 apart move together, whatever their tasks.

    GT-only rows follow their group into test or train; no task of D_ref counts them. Raises UserError when it cannot
    be done, naming the task that lacks something, what it has, and what to do.
    """
    output = output or engine.default_output(manifest, "split")
    refuse_existing(output)
    _check_options(ref, test, phash_distance)
    source = read(manifest)
    engine.require_rows(source)
    table = source.table()
    splits = assign(table, ref=ref, test=test, seed=seed, phash_distance=phash_distance, prescribed=prescribed)
    table = schema.set_column(table, "split", splits, pa.string())
    check(table, ref, phash_distance)
    params = {"ref": ref, "test": test, "seed": seed, "phash_distance": phash_distance, "prescribed": prescribed}
    stage = stage_entry("split", VERSION, params, [source])
    return write(output, table, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])


def _check_options(ref: int, test: float, phash_distance: int) -> None:
    if ref < 1:
        raise UserError(f"--ref {ref}: pairs per task, 1 or more", exit_code=2)
    if not (0 <= test < 1 or (math.isfinite(test) and test == int(test) and test >= 1)):
        raise UserError(f"--test {test:g}: a share below 1, or a whole number of pairs per task", exit_code=2)
    if not 0 <= phash_distance <= 16:
        raise UserError(f"phash_distance {phash_distance}: 0 to 16 of 64 bits", exit_code=2)


@dataclass(frozen=True)
class _Kept:
    """The kept rows: their numbers in the table, what identifies them, and the cluster (0..C-1) that each is in."""

    rows: list[int]
    ids: list[str]
    tasks: list[str | None]  # None for GT-only rows
    pinned: list[bool]  # prescribed test
    trained: list[bool]  # prescribed train
    gt: list[str | None]
    cluster: list[int]

    @property
    def names(self) -> list[str]:
        """The tasks that have pairs, sorted."""
        return sorted({task for task in self.tasks if task is not None})


def assign(
    table: pa.Table,
    *,
    ref: int = 10,
    test: float = 0.1,
    seed: int = 0,
    phash_distance: int = NEAR,
    prescribed: bool = True,
) -> list[str | None]:
    """The split of every row of `table`, in its order; see `split`."""
    kept = _kept(table, phash_distance, prescribed)
    if not kept.names:
        raise UserError("no kept row has an LQ: run 'curate degrade', or ingest pairs with --lq")
    pairs_CxT = _pairs_per_cluster(kept)
    pinned_C = _pinned_clusters(kept, pairs_CxT)
    testable_C = np.ones(len(pairs_CxT), np.bool_)
    testable_C[[c for c, train in zip(kept.cluster, kept.trained, strict=True) if train]] = False
    clusters = Clusters(kept.names, pairs_CxT, _order(kept, len(pairs_CxT), seed), pinned_C, testable_C)
    _require_groups(clusters, ref, test)
    refs, tests = draw(clusters, ref, test)
    place = dict.fromkeys(refs, "ref") | dict.fromkeys([*tests, *np.flatnonzero(pinned_C).tolist()], "test")
    out: list[str | None] = table.column("split").to_pylist()
    unused = set(_surplus(kept, set(refs), ref, seed))
    leaking = {
        row for row, c, train in zip(kept.rows, kept.cluster, kept.trained, strict=True) if train and pinned_C[c]
    }
    for row, cluster in zip(kept.rows, kept.cluster, strict=True):
        out[row] = None if row in unused or row in leaking else place.get(cluster, "train")
    if leaking:
        log.warning("%d rows prescribed train share a group with prescribed test rows: in no split", len(leaking))
    if pairs := sum(k in unused for k, task in zip(kept.rows, kept.tasks, strict=True) if task is not None):
        share = pairs / sum(task is not None for task in kept.tasks)
        log.warning("%d pairs (%.1f %%) are in no split: the surplus of the groups of D_ref", pairs, 100 * share)
    return out


def _kept(table: pa.Table, distance: int, prescribed: bool) -> _Kept:
    column = {name: table.column(name).to_pylist() for name in schema.CORE if name != "decisions"}
    rows = [i for i, status in enumerate(column["status"]) if status == "kept"]

    def of(name: str) -> list[Any]:
        return [column[name][i] for i in rows]

    lq, tasks = of("lq_path"), of("task")
    if nameless := [i for i, path, task in zip(rows, lq, tasks, strict=True) if path and not task]:
        raise UserError(f"row {nameless[0]}: a pair without a task; name it with 'curate ingest --task'")
    paired = [task if path else None for path, task in zip(lq, tasks, strict=True)]
    splits = of("split") if prescribed else [None] * len(rows)
    _check_names(splits)
    trained = [name == "train" for name in splits]
    kept = _Kept(rows, of("pair_id"), paired, _pinned(paired, splits), trained, of("gt_sha256"), [])
    kept.cluster.extend(_clusters(of("group"), kept.gt, of("lq.sha256"), of("phash"), distance))
    return kept


def _check_names(splits: Sequence[str | None]) -> None:
    unknown = Counter(name for name in splits if name is not None and name not in SPLITS)
    if unknown:
        name, count = unknown.most_common(1)[0]
        raise UserError(
            f"split {name!r} ({count} kept rows) is not known; a dataset may prescribe {' or '.join(SPLITS)}: ingest "
            "it again with one of them, or draw all splits anew with --ignore-prescribed"
        )


def _pinned(tasks: Sequence[str | None], splits: Sequence[str | None]) -> list[bool]:
    """Which pairs must stay in test: those prescribed so, unless their task has no others to learn from."""
    free = {task for task, split in zip(tasks, splits, strict=True) if split != "test"} - {None}
    for task in sorted({t for t, s in zip(tasks, splits, strict=True) if t is not None and s == "test"} - free):
        log.warning(
            "%s: its dataset prescribes test for every pair and there are no others, so D_ref and train are drawn "
            "from them: scores on it are not comparable with published ones",
            task,
        )
    return [s == "test" and (t is None or t in free) for t, s in zip(tasks, splits, strict=True)]


def _pinned_clusters(kept: _Kept, pairs_CxT: Ints) -> Bools:
    """(C,) clusters that go to test whole. A GT-only row says so only where its cluster has no pairs."""
    pinned_C = np.zeros(len(pairs_CxT), np.bool_)
    for cluster, task, pin in zip(kept.cluster, kept.tasks, kept.pinned, strict=True):
        pinned_C[cluster] |= pin and (task is not None or not pairs_CxT[cluster].any())
    return pinned_C


def _clusters(
    groups: Sequence[str | None],
    gt: Sequence[str | None],
    lq: Sequence[str | None],
    phashes: Sequence[str | None],
    distance: int,
) -> list[int]:
    """Cluster number of every row. Content joins in any role: the GT of one row may be the LQ of another."""
    n = len(groups)
    sets = Disjoint(2 * n)  # a second node per row stands for its LQ
    join_equal(sets, groups)
    join_equal(sets, [*gt, *lq])
    for i in range(n):
        sets.join(i, n + i)
    join_near(sets, phashes, distance)
    number: dict[int, int] = {}
    return [number.setdefault(sets.find(i), len(number)) for i in range(n)]


def _pairs_per_cluster(kept: _Kept) -> Ints:
    """(C, T) pairs of each task in each cluster."""
    column = {task: t for t, task in enumerate(kept.names)}
    pairs_CxT = np.zeros((max(kept.cluster) + 1, len(column)), np.int64)
    for cluster, task in zip(kept.cluster, kept.tasks, strict=True):
        if task is not None:
            pairs_CxT[cluster, column[task]] += 1
    return pairs_CxT


def _require_groups(clusters: Clusters, ref: int, test: float) -> None:
    """What any solution needs, checked first, so that the message names the plain cause."""
    for t, task in enumerate(clusters.tasks):
        free = clusters.pairs_CxT[~clusters.pinned_C, t]
        groups, pairs = int(np.count_nonzero(free)), int(free.sum())
        tested = test > 0 and bool(clusters.untested()[t])
        need = 3 if tested else 2
        if test > 0 and not tested and not clusters.pairs_CxT[clusters.pinned_C, t].any():
            log.warning(
                "%s: its dataset prescribes train for every group, so it gets no test pairs: ingest its test set as "
                "well, or draw all splits anew with --ignore-prescribed",
                task,
            )
        if groups < need:
            parts = "D_ref, test and train" if tested else "D_ref and train"
            beside = " beside the prescribed test" if clusters.pinned_C.any() else ""
            raise UserError(
                f"task {task!r}: has {groups} group(s) of photographs ({pairs} pairs){beside} where {parts} need one "
                "each: add photographs, or leave the task out"
            )
        if pairs < ref + need - 1:
            raise UserError(
                f"task {task!r}: has {pairs} pairs, too few for {ref} in D_ref and some to train on: add photographs, "
                "cut more crops, or lower --ref"
            )


def _order(kept: _Kept, clusters: int, seed: int) -> Ints:
    """(C,) rank of each cluster in a seeded order that depends on its content alone."""
    first: dict[int, str] = {}
    for cluster, one in zip(kept.cluster, kept.ids, strict=True):
        first[cluster] = min(one, first.get(cluster, one))
    rank_C = np.empty(clusters, np.int64)
    rank_C[sorted(range(clusters), key=lambda c: _hash(seed, first[c]))] = np.arange(clusters)
    return rank_C


def _surplus(kept: _Kept, refs: set[int], ref: int, seed: int) -> list[int]:
    """Rows of the reference clusters that are not among the `ref` of their task.

    The clusters take turns, so that each gives about as many pairs as the others; within a cluster distinct GTs come
    first.
    """
    by_task: dict[str | None, list[int]] = {}
    for k in sorted((k for k, c in enumerate(kept.cluster) if c in refs), key=lambda k: _hash(seed, kept.ids[k])):
        by_task.setdefault(kept.tasks[k], []).append(k)
    surplus = by_task.pop(None, [])
    for members in by_task.values():
        same_gt: Counter[tuple[int, str | None]] = Counter()
        copy: dict[int, int] = {}  # how often the row's GT has come before in its cluster
        for k in members:
            copy[k] = same_gt[kept.cluster[k], kept.gt[k]]
            same_gt[kept.cluster[k], kept.gt[k]] += 1
        turns: Counter[int] = Counter()
        turn: dict[int, int] = {}
        for k in sorted(members, key=copy.__getitem__):
            turn[k] = turns[kept.cluster[k]]
            turns[kept.cluster[k]] += 1
        surplus += sorted(members, key=turn.__getitem__)[ref:]
    return [kept.rows[k] for k in surplus]


def check(table: pa.Table, ref: int, phash_distance: int = NEAR) -> None:
    """Raises UserError unless the splits of the kept rows share no group, content or near-equal GT, D_ref has `ref`
    pairs of every task and nothing else, and every task can be trained on.
    """
    names = ["split", "status", "task", "lq_path", "group", "gt_sha256", "lq.sha256", "phash"]
    rows = [row for row in table.select(names).to_pylist() if row["status"] == "kept" and row["split"] in SPLITS]
    _check_apart("group", [(row["group"], row["split"]) for row in rows])
    contents = [(row[name], row["split"]) for row in rows for name in ("gt_sha256", "lq.sha256")]
    _check_apart("content", contents)
    hashes = _check_apart("phash", [(row["phash"], row["split"]) for row in rows])
    near = list(hashes)
    for a, b in near_pairs(near, phash_distance):
        if hashes[near[a]] != hashes[near[b]]:
            raise UserError(f"near-equal GTs (phash {near[a]} and {near[b]}) are in two splits")
    counts = Counter((row["split"], row["task"]) for row in rows if row["lq_path"])
    if sum(row["split"] == "ref" and not row["lq_path"] for row in rows):
        raise UserError("D_ref has a row without an LQ")
    for task in sorted({task for _, task in counts}):
        if counts["ref", task] != ref:
            raise UserError(f"task {task!r}: D_ref has {counts['ref', task]} pairs where {ref} are wanted")
        if not counts["train", task]:
            raise UserError(f"task {task!r}: no pairs are left to train on; add photographs")


def _check_apart(what: str, keys: Sequence[tuple[str | None, str]]) -> Mapping[str, str]:
    """key → split; raises UserError when a key is in two splits."""
    owner: dict[str, str] = {}
    for key, name in keys:
        if key is not None and owner.setdefault(key, name) != name:
            raise UserError(f"{what} {key} is in two splits: {owner[key]} and {name}")
    return owner


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()
