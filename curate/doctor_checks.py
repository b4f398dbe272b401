"""The questions that `curate doctor` asks; each yields findings about the rows of a manifest."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate import hamming
from curate.clusters import NEAR
from curate.complete import metric_of
from curate.doctor import Check, Finding, Mask, Rows
from curate.retry import STAGES as RETRIED

FEW_GROUPS = 5  # of D_ref, below which its scores are of a few photographs
DEGRADED = 0.5
SUPER_RESOLUTION = ("sr", "real_sr", "super_resolution")
MORE = "curate ingest FOLDER --lq LQ_PATTERN --gt GT_PATTERN --task {task} --append {m} -o {m}-more"
REASONS = 3  # of error rows
PAIR_STATES = {  # state -> severity while such pairs are kept, what it means, what mends it
    "other_scene": ("error", "pairs of other scenes: LQ and GT show different things", "curate pairs {m} -o {m}-pairs"),
    "identical": ("error", "pairs whose LQ equals the GT: nothing to learn", "curate pairs {m} -o {m}-pairs"),
    "swapped": ("error", "pairs whose sides look exchanged: the LQ is the better one", "curate pairs {m} -o {m}-pairs"),
    "shifted": ("warning", "pairs whose LQ is shifted against the GT", "curate pairs {m} --align -o {m}-aligned"),
    "upscaled": ("warning", "pairs whose LQ is an enlarged image", "curate show {m} --columns pair.scale_found"),
    "flat": ("note", "pairs with too little structure to compare", "curate show {m} --columns pair.state"),
    "unknown": ("note", "pairs that could not be compared", "curate show {m} --columns pair.state"),
}  # fmt: skip


def _command(rows: Rows, text: str) -> str:
    """`text` with the manifest's path in place of {m}, quoted for a shell where it must be."""
    path = rows.source.path.rstrip("/")
    return text.replace("{m}-", shlex.quote(path) + "-").replace("{m}", shlex.quote(path))


def nothing_kept(rows: Rows, _: int) -> Iterator[Finding]:
    if rows.table.num_rows and not rows.kept.any():
        command = _command(rows, "curate show {m} --limit 20")
        names = rows.names(~rows.kept)
        yield Finding("error", "nothing_kept", "no row is kept", rows.table.num_rows, names, command)


def errors(rows: Rows, _: int) -> Iterator[Finding]:
    """Rows in error, by the most frequent rules that made them so."""
    failed = rows.where("status", "error")
    if not failed.any():
        return
    numbers = np.flatnonzero(failed)
    tally: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], tuple[str, list[int]]] = {}
    decisions = rows.table.column("decisions").take(pa.array(numbers)).combine_chunks()
    parents = numbers[pc.list_parent_indices(decisions).to_numpy()]
    for row, one in zip(parents.tolist(), pc.list_flatten(decisions).to_pylist(), strict=True):
        if one["verdict"] == "error":
            key = (one["stage"], one["rule"])
            tally[key] += 1
            first.setdefault(key, (one["text"], []))[1].append(row)
    for key, count in tally.most_common(REASONS):
        text, members = first[key]
        mask = np.zeros(rows.table.num_rows, bool)
        mask[members] = True
        again = key[0] in RETRIED and key[1] not in ("pair", "size")
        command = "curate retry {m} -o {m}-retry" if again else "curate show {m} --status error"
        severity = "error" if count > rows.table.num_rows / 2 else "warning"
        said = f"rows are errors of {key[0]}/{key[1]}: {text}"
        yield Finding(severity, "errors", said, count, rows.names(mask), _command(rows, command))


def pair_states(rows: Rows, _: int) -> Iterator[Finding]:
    pairs = rows.kept & rows.paired
    unmeasured = pairs & ~rows.has("pair.state")
    if unmeasured.any():
        text = "pairs were not measured: whether LQ and GT show the same scene is not known"
        command = _command(rows, "curate pairs {m} -o {m}-pairs")
        yield Finding("warning", "pairs_unmeasured", text, int(unmeasured.sum()), rows.names(unmeasured), command)
    for state, (severity, text, command) in PAIR_STATES.items():
        mask = rows.where("pair.state", state)
        count, used = int(mask.sum()), int((mask & rows.kept).sum())
        if not count:
            continue
        if severity == "error" and not used:
            severity, command = "warning", "curate show {m} --status dropped"
        said = f"{text} ({'all are kept' if used == count else f'{used} are kept' if used else 'none is kept'})"
        yield Finding(severity, state, said, count, rows.names(mask), _command(rows, command))


def copies(rows: Rows, _: int) -> Iterator[Finding]:
    from curate.dedup import judge

    drops = judge(rows.source).drops
    mask = np.zeros(rows.table.num_rows, bool)
    mask[list(drops)] = True
    mask &= rows.kept
    if mask.any():
        command = _command(rows, "curate dedup {m} -o {m}-dedup")
        text = "rows are copies of another pair of the same task: equal files, or GTs and LQs that look alike"
        yield Finding("warning", "copies", text, int(mask.sum()), rows.names(mask), command)


def few_pairs(rows: Rows, min_pairs: int) -> Iterator[Finding]:
    for task, mask in rows.tasks(rows.kept & rows.paired):
        if (count := int(mask.sum())) < min_pairs:
            from curate import degradations

            text = f"kept pairs of task {task}, fewer than {min_pairs}"
            command = MORE.replace("{task}", shlex.quote(task))
            if task in degradations.names() and (rows.kept & rows.has("gt_path") & ~rows.has("lq_path")).any():
                command = f"curate degrade {{m}} --task {task} --crop 256 --crops 8 --dataset more -o {{m}}-more"
            yield Finding("warning", "few_pairs", text, count, rows.names(mask), _command(rows, command))


def scenes(rows: Rows, _: int) -> Iterator[Finding]:
    """Rows whose names and hashes say that they show one scene, in groups of their own."""
    from curate.doctor_scenes import split_scenes

    mask, count = split_scenes(rows)
    if count:
        text = (
            "scenes are cut into several groups: file names and hashes say that their images belong together, so a "
            "split may put one scene into train and test"
        )
        command = "curate ingest FOLDER --lq LQ_PATTERN --gt GT_PATTERN --group '{scene}' -o NEW"
        yield Finding("warning", "scenes_without_group", text, count, rows.names(mask), command)


def references(rows: Rows, _: int) -> Iterator[Finding]:
    ref = rows.kept & rows.paired & rows.where("split", "ref")
    for task, mask in rows.tasks(ref):
        groups = len(np.unique(rows.codes("group", mask)))
        if groups >= FEW_GROUPS:
            continue
        severity = "error" if groups == 1 else "warning"
        what = "one photograph or scene" if groups == 1 else f"{groups} photographs or scenes"
        text = f"pairs of D_ref of task {task} are of {what}: its scores steer the mixture"
        total = len(np.unique(rows.codes("group", rows.kept & rows.paired & rows.where("task", task))))
        command = MORE.replace("{task}", shlex.quote(task))
        if total >= 2 * FEW_GROUPS:
            command = "curate split {m} --seed 1 -o {m}-resplit"
        yield Finding(
            severity, "few_reference_groups", text, int(mask.sum()), rows.names(mask), _command(rows, command)
        )


def absent_splits(rows: Rows, _: int) -> Iterator[Finding]:
    if "shard" not in rows.table.column_names:
        return
    for split, severity, why in (
        ("ref", "error", "the mixture cannot follow scores"),
        ("test", "warning", "there is nothing to report on"),
    ):
        for task, mask in rows.tasks(rows.kept & rows.paired & rows.has("shard")):
            if not (mask & rows.where("split", split)).any():
                text = f"pairs of task {task} and none of split {split}: {why}"
                command = _command(rows, "curate split {m} -o {m}-split && curate shard {m}-split -o {m}-shards")
                yield Finding(severity, f"no_{split}", text, int(mask.sum()), rows.names(mask), command)


def leaks(rows: Rows, _: int) -> Iterator[Finding]:
    """Rows of test and ref that share content, looks or a group with rows of train."""
    held = rows.kept & (rows.where("split", "test") | rows.where("split", "ref"))
    train = rows.kept & rows.where("split", "train")
    if not held.any() or not train.any():
        return
    seen = np.zeros(rows.table.num_rows, bool)
    for kind, text, mask in (
        ("leak_content", "rows of test or ref share a file with train", _same_content(rows, held, train)),
        ("leak_looks", f"rows of test or ref look like rows of train (at most {NEAR} bits)", _near(rows, held, train)),
        ("leak_group", "rows of test or ref share a group with train", _shared(rows, held, train, ("group",))),
    ):
        mask = mask & ~seen
        seen |= mask
        if mask.any():
            command = "curate decontaminate {m} --against {m} -o {m}-clean"
            if kind == "leak_group":
                command = "curate split {m} -o {m}-resplit"
            yield Finding("error", kind, text, int(mask.sum()), rows.names(mask), _command(rows, command))


def _same_content(rows: Rows, held: Mask, train: Mask) -> Mask:
    columns = [name for name in ("gt_sha256", "lq.sha256") if name in rows.table.column_names]
    return _shared(rows, held, train, columns)


def _shared(rows: Rows, held: Mask, train: Mask, columns: tuple[str, ...] | list[str]) -> Mask:
    """Rows of `held` one of whose values in `columns` stands in one of them in a row of `train`."""
    train_values = pa.concat_arrays(
        [rows.table.column(name).filter(pa.array(train)).combine_chunks() for name in columns]
    ).drop_null()
    out = np.zeros(rows.table.num_rows, bool)
    for name in columns:
        column = rows.table.column(name)
        out |= pc.and_(pc.is_valid(column), pc.is_in(column, value_set=train_values)).to_numpy().astype(bool)
    return out & held


def _near(rows: Rows, held: Mask, train: Mask) -> Mask:
    out = np.zeros(rows.table.num_rows, bool)
    sides = []
    for mask in (held, train):
        mine = np.flatnonzero(mask & rows.has("phash"))
        hashes = rows.table.column("phash").take(pa.array(mine)).to_pylist()
        sides.append((mine, hamming.numbers(hashes)))
    for left, _, _ in hamming.pairs_between(sides[0][1], sides[1][1], NEAR):
        out[sides[0][0][left]] = True
    return out


def degraded(rows: Rows, _: int) -> Iterator[Finding]:
    """Kept GTs that the identifier takes for degraded."""
    for name in rows.scores:
        if not name.startswith("degradation."):
            continue
        values = rows.table.column(name).cast(pa.float64()).to_numpy().astype(np.float64)
        with np.errstate(invalid="ignore"):
            mask = rows.kept & (values > DEGRADED)
        if count := len(np.unique(rows.codes("gt_sha256", mask))) if mask.any() else 0:
            text = f"kept GTs look degraded: {name} > {DEGRADED}"
            command = _command(rows, f"curate filter {{m}} --max {name}={DEGRADED} -o {{m}}-filter")
            yield Finding("warning", "degraded_gt", text, count, rows.names(mask), command)


def missing_scores(rows: Rows, _: int) -> Iterator[Finding]:
    """Columns of scores that some kept GTs have and others lack."""
    use = rows.kept & rows.has("gt_sha256")
    lacking: dict[str, tuple[Mask, list[str]]] = {}
    for name in rows.scores:
        mask = use & ~rows.has(name)
        if mask.any() and (use & ~mask).any():
            metric = metric_of(name)
            command = "curate identify {m} -o {m}-identify"
            if name.startswith("iqa."):
                signal = metric in _signals()
                command = f"curate score {{m}} --iqa {'signals' if signal else metric or name[4:]} -o {{m}}-score"
            before = lacking.get(command)
            lacking[command] = (mask if before is None else before[0] | mask, [*(before[1] if before else ()), name])
    for command, (mask, columns) in lacking.items():
        shown = columns[0] if len(columns) == 1 else f"{columns[0]} and {len(columns) - 1} more columns"
        text = f"kept rows lack {shown}, which other rows have"
        yield Finding("note", "missing_scores", text, int(mask.sum()), rows.names(mask), _command(rows, command))


def _signals() -> set[str]:
    from curate.scorers import signal_metrics

    return set(signal_metrics())


def licenses(rows: Rows, _: int) -> Iterator[Finding]:
    mask = rows.kept & ~rows.has("license")
    if mask.any():
        datasets = sorted(filter(None, pc.unique(rows.table.column("dataset").filter(pa.array(mask))).to_pylist()))
        text = f"kept rows have no license (datasets: {', '.join(datasets[:5])}{', …' if len(datasets) > 5 else ''})"
        command = "curate ingest FOLDER --lq LQ_PATTERN --gt GT_PATTERN --task TASK --license NAME -o NEW"
        yield Finding("note", "no_license", text, int(mask.sum()), rows.names(mask), command)


def equal_sizes(rows: Rows, _: int) -> Iterator[Finding]:
    """Super-resolution pairs whose LQ is as large as the GT."""
    same = np.ones(rows.table.num_rows, bool)
    for name in ("width", "height"):
        sizes = [_integers(rows, column) for column in (name, f"lq.{name}")]
        same &= (sizes[0] == sizes[1]) & (sizes[0] > 0)
    sr = np.zeros(rows.table.num_rows, bool)
    for task, mask in rows.tasks(rows.kept & rows.paired):
        if task in SUPER_RESOLUTION:
            sr |= mask
    if (mask := same & sr).any():
        text = "pairs of a super-resolution task have an LQ as large as the GT"
        command = _command(rows, "curate show {m} --task sr --columns width,lq.width,pair.state")
        yield Finding("warning", "equal_sizes", text, int(mask.sum()), rows.names(mask), command)


def _integers(rows: Rows, column: str) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = pc.fill_null(rows.table.column(column).cast(pa.int64()), 0).to_numpy()
    return found


CHECKS: tuple[Check, ...] = (
    nothing_kept, errors, pair_states, leaks, scenes, references, absent_splits, copies, few_pairs, degraded,
    equal_sizes, missing_scores, licenses,
)  # fmt: skip
