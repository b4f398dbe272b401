"""Mark the pairs that are there already: the same files twice, or another copy of a photograph for the same task."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate import engine, hamming, scorers
from curate.clusters import NEAR
from manifests import schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
RULES = ("exact", "perceptual")
COLUMN = "cluster"
_FACTS = [
    *("pair_id", "dataset", "task", "subtask", "scale", "split", "group", "gt_path"),
    *("gt_sha256", "lq.sha256", "phash", "lq.phash", "width", "height"),
]


def dedup(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    distance: int = NEAR,
    by: str | None = None,
    exact: bool = False,
) -> Manifest:
    """Drop every copy of a pair but the best one. Nothing is deleted: copies carry a decision that names the kept pair.

    exact: two rows with the same GT file and the same LQ file (by SHA-256), whatever their task. `exact=True` stops
        here, without the second rule.
    perceptual: two *different* GT files that look the same (perceptual hashes at most `distance` bits of 64 apart), for
        the same task, subtask and scale, whose LQs look the same too (or are both absent).

    What is not a copy: rows that share one GT file with different LQs (RESIDE has 35 a GT: a perceptual hash does not
    see how thick haze or noise is, so only their bytes are asked); the same photograph for another task; two shots of
    one dataset within a group that its layout names (frames of a clip, exposures of a scene). A flat image has no
    perceptual hash, and is compared exactly.

    Of a cluster stays the pair with the best `by` (a metric or a column such as `degradation.noise`, by its own
    direction; nulls last), then the one with most pixels, then the first by pair_id; pairs of the splits `test` and
    `ref` go before all others. Every dropped pair is itself near to the kept one: clusters do not grow by chaining.
    Column `cluster` holds the kept pair's id in all rows of a cluster, and null where a pair stands alone.

    Judged are kept rows and those that only an earlier dedup dropped; the others pass through. So run it after
    `filter`: when the kept copy was filtered out meanwhile, the next best one comes back.
    Raises UserError for a distance outside 0-16, an unknown metric or one that the manifest lacks.
    """
    if not 0 <= distance <= hamming.MAX_DISTANCE:
        raise UserError(f"--distance {distance}: 0 to {hamming.MAX_DISTANCE} of 64 bits", exit_code=2)
    direction = _direction(by)
    output = output or engine.default_output(manifest, "dedup")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    if by is not None and scorers.column_of(by) not in source.column_names:
        raise UserError(f"{source.path}: has no column {scorers.column_of(by)!r}; run the stage that makes it first")
    verdicts = judge(source, distance=distance, by=by, direction=direction, exact=exact)
    params = {"distance": distance, "by": by, "exact": exact}
    stages = [*source.stages, stage_entry("dedup", VERSION, params, [source])]
    parts = _marked(source.parts(), verdicts)
    return write(output, parts, roots=source.roots, stages=stages, expected_rows=source.rows["rows"])


def _direction(by: str | None) -> bool:
    """Whether more of `by` is better. Raises UserError where neither end is."""
    if by is None:
        return True
    scorers.column_of(by)
    direction = scorers.direction_of(by)
    if direction is None:
        raise UserError(f"--metric {by}: neither end of it is better; name another metric", exit_code=2)
    return direction


@dataclass(frozen=True)
class Verdicts:
    """What dedup says of the rows of a manifest, by their number in it."""

    judged: list[bool]
    drops: dict[int, dict[str, Any]]  # the decision on every row that is a copy
    clusters: dict[int, str]  # the kept pair's id, for all rows of clusters


def judge(
    source: Manifest, *, distance: int = NEAR, by: str | None = None, direction: bool = True, exact: bool = False
) -> Verdicts:
    """Which rows of `source` are copies, of what, and why; see `dedup`. `direction`: more of `by` is better."""
    rows = _Rows({name: [] for name in [*_FACTS, *([scorers.column_of(by)] if by else [])]})
    judged: list[bool] = []
    for part in source.parts([*rows, "decisions"]):
        judged += [all(d["stage"] == "dedup" for d in one) for one in part.column("decisions").to_pylist()]
        for name, values in rows.items():
            values += part.column(name).to_pylist()
    scores = rows[scorers.column_of(by)] if by else None
    order = _rank(rows, [i for i, use in enumerate(judged) if use and rows["gt_sha256"][i]], scores, direction)
    same = _same_files(rows, order)
    near = {} if exact else _copies(rows, [i for i in order if i not in same], distance)
    kept = {i: near[first].row if first in near else first for i, first in same.items()}
    kept |= {i: copy.row for i, copy in near.items()}
    ids = rows["pair_id"]
    drops = {i: _exact_drop(ids, first, kept[i]) for i, first in same.items()}
    drops |= {i: _perceptual_drop(ids[copy.row], copy, distance) for i, copy in near.items()}
    clusters = {i: ids[root] for i, root in kept.items()} | {root: ids[root] for root in kept.values()}
    return Verdicts(judged, drops, clusters)


def _marked(parts: Iterable[pa.Table], verdicts: Verdicts) -> Iterator[pa.Table]:
    """The parts of the manifest that was judged, with `decisions` and `cluster` as the verdicts say."""
    start = 0
    for part in parts:
        decisions = part.column("decisions").to_pylist()
        clusters = part.column(COLUMN).to_pylist() if COLUMN in part.column_names else [None] * part.num_rows
        for k, use in enumerate(verdicts.judged[start : start + part.num_rows]):
            if use:
                drop = verdicts.drops.get(start + k)
                decisions[k] = schema.decide(decisions[k], "dedup", RULES, [drop] if drop else [])
                clusters[k] = verdicts.clusters.get(start + k)
        start += part.num_rows
        part = schema.set_column(part, COLUMN, clusters, pa.string())
        yield schema.set_column(part, "decisions", decisions, schema.CORE["decisions"])


_Rows = dict[str, list[Any]]  # column -> the value of every row of the table


def _rank(rows: _Rows, judged: Sequence[int], scores: Sequence[float | None] | None, more_is_better: bool) -> list[int]:
    """The judged rows, best first. The rows of one GT file stay together, so that one file wins with all its LQs."""
    ids, gts = rows["pair_id"], rows["gt_sha256"]
    first: dict[str, str] = {}
    for i in judged:
        first[gts[i]] = min(ids[i], first.get(gts[i], ids[i]))

    def key(i: int) -> tuple[bool, float, int, str, str]:
        score = None if scores is None else scores[i]
        cost = math.inf if score is None else -score if more_is_better else score
        pixels = (rows["width"][i] or 0) * (rows["height"][i] or 0)
        return rows["split"][i] not in ("test", "ref"), cost, -pixels, first[gts[i]], ids[i]

    return sorted(judged, key=key)


def _same_files(rows: _Rows, order: Sequence[int]) -> dict[int, int]:
    """Row → the first row in `order` with the same two files, for those that are not the first."""
    first: dict[tuple[str, str | None], int] = {}
    gts, lqs = rows["gt_sha256"], rows["lq.sha256"]
    found = {i: first.setdefault((gts[i], lqs[i]), i) for i in order}
    return {i: one for i, one in found.items() if one != i}


@dataclass(frozen=True, order=True)
class _Copy:
    """What a row is a copy of. The smallest is the nearest, then the best ranked."""

    bits: int  # apart, GT and LQ together
    rank: int
    row: int
    gt_bits: int


def _copies(rows: _Rows, order: Sequence[int], distance: int) -> dict[int, _Copy]:
    """Row → the kept row that it is a copy of, by looks. Greedy: best rows first, each kept unless near a kept one."""
    hashes = rows["phash"]
    near = _neighbours(sorted({hashes[i] for i in order if hashes[i]}), distance)
    scenes = _scenes(rows)
    kept: dict[tuple[Any, ...], dict[Any, list[tuple[int, int]]]] = {}  # look and task -> scene or GT -> (rank, row)
    found: dict[int, _Copy] = {}
    for rank, i in enumerate(order):
        if not hashes[i]:
            continue
        kind = (rows["task"][i], rows["subtask"][i] or "", rows["scale"][i])
        own = scenes[i] or rows["gt_sha256"][i]
        best: _Copy | None = None
        for look, gt_bits in ((hashes[i], 0), *near.get(hashes[i], ())):
            if best is not None and best.bits < gt_bits:
                break
            for other, members in kept.get((look, *kind), {}).items():
                if other != own:
                    best = min(_matches(rows, i, members, gt_bits, distance, best), default=best)
        if best is None:
            kept.setdefault((hashes[i], *kind), {}).setdefault(own, []).append((rank, i))
        else:
            found[i] = best
    return found


def _matches(
    rows: _Rows, i: int, members: Sequence[tuple[int, int]], gt_bits: int, distance: int, best: _Copy | None
) -> Iterator[_Copy]:
    """`best`, and the members (best ranked first) that row i is a copy of by its LQ."""
    if best is not None:
        yield best
    gts, lqs, looks = rows["gt_sha256"], rows["lq.sha256"], rows["lq.phash"]
    gt, lq, look = gts[i], lqs[i], int(looks[i], 16) if looks[i] else None
    for rank, k in members:
        if gts[k] == gt:
            continue
        if lqs[k] == lq:  # the same file, or none in both
            bits = 0
        elif look is None or not looks[k]:
            continue
        else:
            bits = (int(looks[k], 16) ^ look).bit_count()
        if bits <= distance:
            yield _Copy(gt_bits + bits, rank, k, gt_bits)
        if bits == 0:
            return  # no later member is nearer


def _neighbours(hashes: Sequence[str], distance: int) -> Mapping[str, list[tuple[str, int]]]:
    """Hash → the other hashes at most `distance` bits from it, with their distances, nearest first."""
    near: dict[str, list[tuple[str, int]]] = {}
    for left, right, apart in hamming.pairs_within(hamming.numbers(hashes), distance):
        for a, b, bits in np.stack([left, right, apart.astype(np.int64)], axis=1).tolist():
            near.setdefault(hashes[a], []).append((hashes[b], bits))
            near.setdefault(hashes[b], []).append((hashes[a], bits))
    for found in near.values():
        found.sort(key=lambda one: one[1])
    return near


def _scenes(rows: _Rows) -> list[tuple[str, str] | None]:
    """(dataset, group) of every row whose layout names its scene; None where the group was only guessed.

    A guessed group is called after a file of its own (see `groups.assign_groups`), a scene never is.
    """
    columns = (rows["dataset"], rows["gt_path"], rows["group"])
    guessed = {f"{dataset}/{path}" for dataset, path in zip(rows["dataset"], rows["gt_path"], strict=True)}
    return [(d, group) if group and group not in guessed else None for d, _, group in zip(*columns, strict=True)]


def _exact_drop(ids: Sequence[str], first: int, kept: int) -> dict[str, Any]:
    text = f"the same files as pair {ids[first]}"
    return schema.decision("dedup", "exact", "drop", text if first == kept else f"{text}, a copy of pair {ids[kept]}")


def _perceptual_drop(kept: str, copy: _Copy, distance: int) -> dict[str, Any]:
    text = f"another copy of pair {kept}: GTs {copy.gt_bits} bits apart, LQs {copy.bits - copy.gt_bits}"
    return schema.decision("dedup", "perceptual", "drop", text, value=float(copy.gt_bits), threshold=float(distance))
