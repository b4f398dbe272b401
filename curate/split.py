"""Split into D_ref, test and train: whole groups move, across all tasks, and the result is checked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from curate import engine
from curate.clusters import NEAR, Disjoint, join_equal, join_near, near_pairs
from manifests import schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
Rows = list[int]


def split(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    ref: int = 10,
    test: float = 0.1,
    seed: int = 0,
    distance: int = NEAR,
) -> Manifest:
    """Set `split` of the kept pairs to ref, test or train.

    ref: pairs per task in D_ref, exactly; they are drawn from as few groups as possible, and the surplus pairs of those
        groups are in no split. test: share of the groups (at least one per task). seed: which groups.
    distance: groups whose GTs have equal content, or perceptual hashes at most this many bits apart, move together.
    Raises UserError when it cannot be done, naming the task that has too little. Rows without an LQ have no split.
    """
    output = output or engine.default_output(manifest, "split")
    refuse_existing(output)
    if not 0 < test < 1:
        raise UserError(f"--test {test:g}: a share between 0 and 1", exit_code=2)
    source = read(manifest)
    engine.require_rows(source)
    table = source.table()
    splits = assign(table, ref=ref, test=test, seed=seed, distance=distance)
    table = schema.set_column(table, "split", splits, pa.string())
    check(table, ref, distance)
    params = {"ref": ref, "test": test, "seed": seed, "distance": distance}
    stage = stage_entry("split", VERSION, params, [source])
    return write(output, table, roots=source.roots, stages=[*source.stages, stage], expected_rows=table.num_rows)


def assign(table: pa.Table, *, ref: int, test: float, seed: int, distance: int = NEAR) -> list[str | None]:
    """The split of every row; independent of row order. See `split`."""
    pairs = _pairs(table)
    if not pairs:
        raise UserError("no kept row has an LQ; run 'curate degrade', or ingest pairs with --lq")
    tasks: list[str] = table.column("task").to_pylist()
    ids: list[str] = table.column("pair_id").to_pylist()
    wanted = dict.fromkeys(sorted({tasks[i] for i in pairs}), ref)
    groups = _united(table, pairs, distance)
    order = sorted(groups, key=lambda members: _hash(seed, min(ids[i] for i in members)))
    refs = _choose(order, tasks, wanted, "D_ref")
    rest = [members for members in order if members not in refs]
    tests = _choose(rest, tasks, dict.fromkeys(wanted, 1), "the test split")
    count = round(test * len(order))
    tests += [members for members in rest if members not in tests][: max(0, count - len(tests))]
    trains = [members for members in rest if members not in tests]
    out: list[str | None] = [None] * len(ids)
    for name, chosen in (("ref", refs), ("test", tests), ("train", trains)):
        for i in (i for members in chosen for i in members):
            out[i] = name
    _trim(out, tasks, ids, ref, seed)
    lacking = set(wanted) - {tasks[i] for i in pairs if out[i] == "train"}
    if lacking:
        raise UserError(
            f"task {min(lacking)!r}: no group is left for train after D_ref and test took theirs "
            f"({len(order)} groups in all); add data, or lower --ref or --test"
        )
    return out


def check(table: pa.Table, ref: int, distance: int = NEAR) -> None:
    """Raises UserError unless splits share no group, GT content or near-equal GT, and D_ref is equal over tasks."""
    rows = [row for row in table.select(["split", "task", "group", "gt_sha256", "phash"]).to_pylist() if row["split"]]
    for name in ("group", "gt_sha256"):
        owner: dict[str, str] = {}
        for row in rows:
            if row[name] and owner.setdefault(row[name], row["split"]) != row["split"]:
                raise UserError(f"{name} {row[name]} is in two splits: {owner[row[name]]} and {row['split']}")
    hashes = {row["phash"]: row["split"] for row in rows if row["phash"]}
    names = list(hashes)
    for a, b in near_pairs(names, distance):
        if hashes[names[a]] != hashes[names[b]]:
            raise UserError(f"near-equal GTs (phash {names[a]}, {names[b]}) are in two splits")
    counts = Counter(row["task"] for row in rows if row["split"] == "ref")
    if uneven := [task for task in {row["task"] for row in rows} if counts[task] != ref]:
        raise UserError(f"D_ref has {counts[min(uneven)]} pairs of {min(uneven)!r} where {ref} are wanted")


def _pairs(table: pa.Table) -> Rows:
    columns = (table.column("status").to_pylist(), table.column("lq_path").to_pylist())
    return [i for i, (status, lq) in enumerate(zip(*columns, strict=True)) if status == "kept" and lq]


def _united(table: pa.Table, pairs: Rows, distance: int) -> list[Rows]:
    """Sets of rows that must stay together: by group, GT content (an LQ may be another's GT) and perceptual hash."""
    column = {n: table.column(n).to_pylist() for n in ("group", "gt_sha256", "lq.sha256", "phash")}
    sets = Disjoint(len(pairs))
    join_equal(sets, [column["group"][i] for i in pairs])
    join_equal(sets, [column["gt_sha256"][i] for i in pairs])
    join_near(sets, [column["phash"][i] for i in pairs], distance)
    owner = {column["gt_sha256"][i]: position for position, i in enumerate(pairs)}
    for position, i in enumerate(pairs):
        if column["lq.sha256"][i] in owner:
            sets.join(position, owner[column["lq.sha256"][i]])
    members: dict[int, Rows] = {}
    for position, i in enumerate(pairs):
        members.setdefault(sets.find(position), []).append(i)
    return list(members.values())


def _choose(order: Sequence[Rows], tasks: Sequence[str], wanted: Mapping[str, int], what: str) -> list[Rows]:
    """Few groups that together have `wanted` pairs of every task: greedy, the group that fills most comes first."""
    need = dict(wanted)
    chosen: list[Rows] = []
    left = [(members, Counter(tasks[i] for i in members)) for members in order]
    while any(need.values()):
        gains = [sum(min(count[task], need[task]) for task in need) for _, count in left]
        best = max(range(len(left)), key=lambda k: (gains[k], -len(left[k][0]), -k), default=None)
        if best is None or gains[best] == 0:
            task = next(task for task, number in need.items() if number)
            have = sum(1 for members in order for i in members if tasks[i] == task)
            raise UserError(
                f"task {task!r}: {what} needs {wanted[task]} pairs, {have} are there in groups of their own; "
                "add data, cut more crops, or lower --ref"
            )
        members, count = left.pop(best)
        chosen.append(members)
        need = {task: max(0, number - count[task]) for task, number in need.items()}
    return chosen


def _trim(out: list[str | None], tasks: Sequence[str], ids: Sequence[str], ref: int, seed: int) -> None:
    """Leave exactly `ref` pairs per task in D_ref; the surplus of its groups is in no split."""
    by_task: dict[str, Rows] = {}
    for i in sorted((i for i, name in enumerate(out) if name == "ref"), key=lambda i: _hash(seed, ids[i])):
        by_task.setdefault(tasks[i], []).append(i)
    for i in _surplus(by_task.values(), ref):
        out[i] = None


def _surplus(rows: Iterable[Rows], ref: int) -> Iterable[int]:
    return (i for members in rows for i in members[ref:])


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()
