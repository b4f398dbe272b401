"""Decide which GTs are good enough: a policy over columns that reruns in seconds. Missing scores are measured first."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate import budget, consensus, engine, scorers
from curate.complete import Completed, complete, measurable
from curate.identifier import TYPES
from curate.policy import Policy, Ranking, Worst, decide
from manifests import files, schema
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
    measure: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """Score what is missing, then drop the GTs that the policy refuses; each distinct GT is judged once (per task).

    iqa: metrics to have scored (`signals` for the built-in ones). With no threshold at all, the worst 5 % per task by
        each of them are dropped, and `say` announces it.
    minimum, maximum: metric, or a column such as `degradation.noise`, -> threshold (equal passes).
    drop_worst: metric -> per cent.
    bf16: see `curate.score.score`.
    max_degradation: the same maximum for every `degradation.<type>`.
    policy: a file of `curate.consensus` instead of all these.
    measure: measure `iqa.<metric>` and `degradation.<type>` for the rows that lack what a rule reads; without it, and
        for other columns, such a row is an error of that rule. A row without a GT is not judged.
    max_errors: a number of rows or a share ("1%"); half of them where it is None. Past it UserError, exit code 3.

    A looser policy run again on the output revives what a stricter one dropped: rules are remembered by name.
    """
    output = output or engine.default_output(manifest, "filter")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    how = Measuring(weights or {}, device, workers, max_errors, dask_address, bf16, all_rows, measure, say)
    if policy is not None:
        if iqa or minimum or maximum or drop_worst or max_degradation is not None:
            raise UserError("--policy stands for itself: leave --iqa, --min, --max and the others out", exit_code=2)
        done = _by_file(source, policy, output, how)
    else:
        done = _by_rules(source, _policy(iqa, minimum, maximum, drop_worst, max_degradation, say), iqa, output, how)
    engine.clean(engine.work_folder(output))
    return done


@dataclass(frozen=True)
class Measuring:
    """How scores that rows lack are measured; see `filter`."""

    weights: Mapping[str, str]
    device: str
    workers: int
    max_errors: str | None
    dask_address: str | None
    bf16: bool
    all_rows: bool
    measure: bool
    say: Callable[[str], None]

    def complete(self, source: Manifest, columns: Sequence[str], output: str) -> Completed:
        """The manifest with `columns` measured where they are missing, unless nothing is to be measured."""
        if not self.measure:
            return Completed(source, None, False, self.all_rows)
        done = complete(
            source, columns, output, weights=self.weights, device=self.device, workers=self.workers,
            dask_address=self.dask_address, max_errors=self.max_errors, all_rows=self.all_rows, bf16=self.bf16,
        )  # fmt: skip
        if done.scores and done.scores.measured:
            names = ", ".join(done.scores.made)
            self.say(f"{len(done.scores.measured)} distinct GTs lacked a score; measured first: {names}")
        return done


def _by_rules(source: Manifest, rules: Policy, iqa: Sequence[str], output: str, how: Measuring) -> Manifest:
    completed = _complete(source, rules, iqa, output, how)
    worst = _worst(completed, rules, how.all_rows)
    decided = (_with_decisions(part, decide(part, rules, worst, all_rows=how.all_rows)) for part in completed.parts())
    params = completed.params | {
        "min": dict(rules.minimum), "max": dict(rules.maximum), "drop_worst": dict(rules.worst)
    }  # fmt: skip
    return _written(source, decided, params, output, how)


def _by_file(source: Manifest, policy: str, output: str, how: Measuring) -> Manifest:
    judge, completed = _judge(source, policy, output, how)
    rules = judge.policy
    decided = (_with_decisions(part, judge.decide(part)) for part in completed.parts())
    budget_ = rules.budget and {"pairs": rules.budget.pairs, "by": rules.budget.by, "sign": rules.budget.sign}
    measured = completed.params if completed.scores and (completed.scores.measured or completed.identifies) else {}
    params = measured | {"policy": {name: str(clause) for name, clause in rules.clauses.items()}, "budget": budget_}
    return _written(source, decided, params, output, how)


def _written(
    source: Manifest, tables: Iterator[pa.Table], params: Mapping[str, Any], output: str, how: Measuring
) -> Manifest:
    tables = budget.within(tables, source, "filter", how.max_errors)
    stage = stage_entry("filter", VERSION, params, [source])
    return write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])


def preview(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    iqa: Sequence[str] = (),
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
    drop_worst: Mapping[str, float] | None = None,
    max_degradation: float | None = None,
    weights: Mapping[str, str] | None = None,
    device: str = "cpu",
    all_rows: bool = False,
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
    bf16: bool = False,
    measure: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, int]]:
    """What `filter` would do: task -> rows, kept, dropped, error. Writes no manifest.

    Scores that are missing are measured, as `filter` does; they are kept in `output`/.work, from where `filter` with
    the same metrics and output takes them.
    """
    source = read(manifest)
    engine.require_rows(source)
    rules = _policy(iqa, minimum, maximum, drop_worst, max_degradation, say)
    how = Measuring(weights or {}, device, workers, max_errors, dask_address, bf16, all_rows, measure, say)
    with _work(manifest, output, say) as place:
        completed = _complete(source, rules, iqa, place, how)
        worst = _worst(completed, rules, all_rows)
        tally: dict[str, dict[str, int]] = {}
        for part in completed.parts(rules.columns):
            status = schema.status(decide(part, rules, worst, all_rows=all_rows))
            groups = pa.table({"task": part.column("task"), "status": status}).group_by(["task", "status"])
            for one in groups.aggregate([([], "count_all")]).to_pylist():
                row = tally.setdefault(one["task"] or "-", {"rows": 0, "kept": 0, "dropped": 0, "error": 0})
                row["rows"] += one["count_all"]
                row[one["status"]] += one["count_all"]
    return dict(sorted(tally.items()))


def preview_policy(
    manifest: str,
    policy: str,
    output: str | None = None,
    *,
    weights: Mapping[str, str] | None = None,
    device: str = "cpu",
    all_rows: bool = False,
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
    bf16: bool = False,
    measure: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """What `filter(policy=...)` would do, without writing a manifest: a row per task and clause.

    removes: rows that the clause refuses. only it: rows that no other clause refuses. unknown: rows that it cannot
    judge, which become errors. The clause "" stands for the whole: rows judged, and kept. Missing scores are measured
    as in `preview`.
    """
    source = read(manifest)
    engine.require_rows(source)
    how = Measuring(weights or {}, device, workers, max_errors, dask_address, bf16, all_rows, measure, say)
    with _work(manifest, output, say) as place:
        judge, completed = _judge(source, policy, place, how)
        return judge.tally(lambda: completed.parts(judge.policy.columns))


@contextmanager
def _work(manifest: str, output: str | None, say: Callable[[str], None]) -> Iterator[str]:
    """Where a dry run keeps what it measures: in the output of the real run, or, where that exists, nowhere."""
    place = output or engine.default_output(manifest, "filter")
    if files.exists(files.join(place, "manifest.json")):
        with tempfile.TemporaryDirectory() as temporary:
            yield temporary
        return
    yield place
    if files.exists(files.join(engine.work_folder(place), "plan.json")):
        say(f"the scores are kept in {place}: the same command without --dry-run goes on with them")


def _complete(source: Manifest, rules: Policy, iqa: Sequence[str], output: str, how: Measuring) -> Completed:
    """The manifest with all that the rules read. Raises UserError for a column that nothing measures."""
    wanted = list(dict.fromkeys([*map(scorers.column_of, [*scorers.expand(iqa), *rules.names])]))
    for column in wanted:
        if column not in source.column_names and not (how.measure and measurable(column)):
            raise UserError(f"{source.path}: has no column {column!r}; run the stage that makes it first")
    return how.complete(source, wanted, output)


def _worst(completed: Completed, rules: Policy, all_rows: bool) -> dict[tuple[str, str], Worst]:
    ranking = Ranking(rules, all_rows)
    if rules.worst:
        for part in completed.parts(rules.columns):
            ranking.add(part)
    return ranking.worst()


def _judge(source: Manifest, policy: str, output: str, how: Measuring) -> tuple[consensus.Judge, Completed]:
    """The policy of a file, which has looked at the completed manifest. Raises UserError with the file's name."""
    columns = source.column_names
    rules = consensus.read(policy, columns, measurable if how.measure else lambda name: False)
    absent = [pa.field(name, pa.float64()) for name in rules.scores if name not in columns]
    judge = consensus.Judge(rules, how.all_rows)
    try:
        judge.check(pa.schema([*source.schema, *absent]))  # before anything is measured
    except UserError as error:
        raise UserError(f"{policy}: {error}", exit_code=2) from None
    completed = how.complete(source, rules.needed, output)
    return judge.look(lambda: completed.parts(rules.columns)), completed


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
            raise UserError(
                "nothing to filter by: give a threshold, for example --max-degradation 0.5, or a metric (--iqa musiq)",
                exit_code=2,
            )
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
