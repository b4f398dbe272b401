"""Decide which GTs are good enough: a policy over columns that reruns in seconds. Missing scores are measured first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate import consensus, engine, scorers
from curate.identify import COLUMNS, TYPES, add_probabilities
from curate.policy import Policy, Ranking, decide
from curate.score import execution_for, measure, request_for
from manifests import schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
DEFAULT_WORST = 5.0  # per cent


def filter(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    iqa: Sequence[str] = (),
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
    drop_worst: Mapping[str, float] | None = None,
    max_degradation: float | None = None,
    policy: str | None = None,
    weights: Mapping[str, str] | None = None,
    device: str = "cpu",
    all_rows: bool = False,
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
    bf16: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """Score what is missing, then drop the GTs that the policy refuses; each distinct GT is judged once (per task).

    iqa: metrics to have scored (`signals` for the built-in ones). With no threshold at all, the worst 5 % per task by
        each of them are dropped, and `say` announces it.
    minimum, maximum: metric, or a column such as `degradation.noise`, -> threshold (equal passes).
    drop_worst: metric -> per cent.
    bf16: see `curate.score.score`.
    max_degradation: the same maximum for every `degradation.<type>`; identifies first where that is missing.
    policy: a file of `curate.consensus` instead of all these, over columns that are there.

    A looser policy run again on the output revives what a stricter one dropped: rules are remembered by name.
    """
    output = output or engine.default_output(manifest, "filter")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    if policy is not None:
        if iqa or minimum or maximum or drop_worst or max_degradation is not None:
            raise UserError("--policy stands for itself: leave --iqa, --min, --max and the others out", exit_code=2)
        return _by_file(source, policy, output, all_rows)
    rules = _policy(iqa, minimum, maximum, drop_worst, max_degradation, say)
    metrics = [*iqa, *(name for name in rules.names if "." not in name)]
    identifies = _identifies(source, rules)
    request = request_for([*metrics, *(["signals"] if identifies else [])], weights, device, workers)
    _columns(source, rules, provided=[*request.columns, *(COLUMNS if identifies else [])])
    execution = execution_for(request, workers, dask_address, max_errors)
    scores = measure(source, request, output, all_rows=all_rows, execution=execution, bf16=bf16)

    def prepared() -> Iterator[pa.Table]:
        for part in source.parts():
            joined = scores.join(part)
            yield add_probabilities(joined, engine.chosen(joined, all_rows)) if identifies else joined

    ranking = Ranking(rules, all_rows)
    if rules.worst:
        for part in prepared() if scores.measured else source.parts(_columns(source, rules)):
            ranking.add(part)
    worst = ranking.worst()
    tables = (_with_decisions(part, decide(part, rules, worst, all_rows=all_rows)) for part in prepared())
    params = scores.params | {
        "min": dict(rules.minimum), "max": dict(rules.maximum), "drop_worst": dict(rules.worst)
    }  # fmt: skip
    stage = stage_entry("filter", VERSION, params, [source])
    done = write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    return done


def preview(
    manifest: str = "manifest",
    *,
    iqa: Sequence[str] = (),
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
    drop_worst: Mapping[str, float] | None = None,
    max_degradation: float | None = None,
    all_rows: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, int]]:
    """What `filter` would do, from the scores that are there: task -> rows, kept, dropped, error. Writes nothing.

    Raises UserError when a score that the policy needs has never been measured.
    """
    source = read(manifest)
    engine.require_rows(source)
    policy = _policy(iqa, minimum, maximum, drop_worst, max_degradation, say)
    columns = _columns(source, policy)
    ranking = Ranking(policy, all_rows)
    if policy.worst:
        for part in source.parts(columns):
            ranking.add(part)
    worst = ranking.worst()
    tally: dict[str, dict[str, int]] = {}
    for part in source.parts(columns):
        status = schema.status(decide(part, policy, worst, all_rows=all_rows))
        groups = pa.table({"task": part.column("task"), "status": status}).group_by(["task", "status"])
        for one in groups.aggregate([([], "count_all")]).to_pylist():
            row = tally.setdefault(one["task"] or "-", {"rows": 0, "kept": 0, "dropped": 0, "error": 0})
            row["rows"] += one["count_all"]
            row[one["status"]] += one["count_all"]
    return dict(sorted(tally.items()))


def preview_policy(manifest: str, policy: str, *, all_rows: bool = False) -> list[dict[str, Any]]:
    """What `filter(policy=...)` would do, without writing anything: a row per task and clause.

    removes: rows that the clause refuses. only it: rows that no other clause refuses. unknown: rows that it cannot
    judge, which become errors. The clause "" stands for the whole: rows judged, and kept.
    """
    source = read(manifest)
    engine.require_rows(source)
    judge = _judge(source, policy, all_rows)
    return judge.tally(lambda: source.parts(judge.policy.columns))


def _judge(source: Manifest, policy: str, all_rows: bool) -> consensus.Judge:
    """The policy of a file, which has looked at the manifest. Raises UserError with the file's name."""
    rules = consensus.read(policy, source.column_names)
    judge = consensus.Judge(rules, all_rows)
    try:
        judge.check(source.schema)
    except UserError as error:
        raise UserError(f"{policy}: {error}", exit_code=2) from None
    return judge.look(lambda: source.parts(rules.columns))


def _by_file(source: Manifest, policy: str, output: str, all_rows: bool) -> Manifest:
    judge = _judge(source, policy, all_rows)
    rules = judge.policy
    tables = (_with_decisions(part, judge.decide(part)) for part in source.parts())
    budget = rules.budget and {"pairs": rules.budget.pairs, "by": rules.budget.by, "sign": rules.budget.sign}
    params = {"policy": {name: str(clause) for name, clause in rules.clauses.items()}, "budget": budget}
    stage = stage_entry("filter", VERSION, params, [source])
    return write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])


def _identifies(source: Manifest, policy: Policy) -> bool:
    """Whether the identifier has to run first."""
    wanted = {name for name in policy.names if name.startswith("degradation.")}
    return bool(wanted - set(source.column_names))


def _columns(source: Manifest, policy: Policy, provided: Sequence[str] = ()) -> list[str]:
    """The columns that the policy reads. Raises UserError for one that is neither there nor `provided`."""
    for column in policy.columns:
        if column not in source.column_names and column not in provided:
            raise UserError(f"{source.path}: has no column {column!r}; run the stage that makes it first")
    return policy.columns


def _with_decisions(part: pa.Table, decisions: pa.ListArray) -> pa.Table:
    return schema.set_column(part, "decisions", decisions)


def _policy(
    iqa: Sequence[str],
    minimum: Mapping[str, float] | None,
    maximum: Mapping[str, float] | None,
    worst: Mapping[str, float] | None,
    max_degradation: float | None,
    say: Callable[[str], None],
) -> Policy:
    names = scorers.expand(iqa)
    low, high, share = dict(minimum or {}), dict(maximum or {}), dict(worst or {})
    if max_degradation is not None:
        high = {f"degradation.{name}": max_degradation for name in TYPES} | high
    if not (low or high or share):
        if not names:
            raise UserError("nothing to filter by: name a metric, for example --iqa musiq or --iqa piqe", exit_code=2)
        share = {name: DEFAULT_WORST for name in names if scorers.direction_of(name) is not None}
        if not share:
            raise UserError(f"{names[0]}: neither end is better, so give --min or --max", exit_code=2)
        say(f"no threshold given: dropping the worst {DEFAULT_WORST:g} % of each task's GTs by {', '.join(share)}")
    for name, value in {**low, **high, **share}.items():
        if not math.isfinite(value):
            raise UserError(f"threshold {name}={value}: must be a finite number", exit_code=2)
        scorers.column_of(name)
    for name, value in share.items():
        if not 0 <= value <= 100:
            raise UserError(f"--drop-worst {name}={value:g}%: a share lies between 0 and 100 %", exit_code=2)
        if scorers.direction_of(name) is None:
            raise UserError(f"--drop-worst {name}: neither end of it is better; give --min or --max", exit_code=2)
    return Policy(low, high, share)
