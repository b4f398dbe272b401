"""Decide which GTs are good enough: a policy over columns that reruns in seconds. Missing scores are measured first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate import engine, scorers
from curate.identify import TYPES, add_probabilities
from curate.score import add_scores, params_of, request_for
from manifests import schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
DEFAULT_WORST = 5.0  # per cent


@dataclass(frozen=True)
class Policy:
    """Thresholds by metric or column name: a GT below a minimum, above a maximum, or among the worst is dropped.

    worst: per cent of the distinct GTs of each task, by the metric's own direction.
    """

    minimum: Mapping[str, float]
    maximum: Mapping[str, float]
    worst: Mapping[str, float]

    @property
    def names(self) -> list[str]:
        """All metrics and columns that the policy reads."""
        return list(dict.fromkeys([*self.minimum, *self.maximum, *self.worst]))


def filter(
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
    say: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """Score what is missing, then drop the GTs that the policy refuses; each distinct GT is judged once (per task).

    iqa: metrics to have scored (`signals` for the built-in ones). With no threshold at all, the worst 5 % per task by
        each of them are dropped, and `say` announces it.
    minimum, maximum: metric, or a column such as `degradation.noise`, -> threshold (equal passes).
    drop_worst: metric -> per cent.
    max_degradation: the same maximum for every `degradation.<type>`; identifies first where that is missing.

    A looser policy run again on the output revives what a stricter one dropped: rules are remembered by name.
    """
    output = output or engine.default_output(manifest, "filter")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    policy = _policy(iqa, minimum, maximum, drop_worst, max_degradation, say)
    metrics = [*iqa, *(name for name in policy.names if "." not in name)]
    identifies = any(name.startswith("degradation.") for name in policy.names)
    columns = set(source.column_names)
    need_types = identifies and not columns.issuperset(n for n in policy.names if n.startswith("degradation."))
    request = request_for([*metrics, *(["signals"] if need_types else [])], weights, device)
    table = add_scores(source, source.table(), request, output, all_rows=all_rows, execution=engine.Execution(workers))
    if need_types:
        table = add_probabilities(table, engine.chosen(table, all_rows))
    table = apply(table, policy, source.path, all_rows=all_rows)
    params = params_of(request) | {
        "min": dict(policy.minimum), "max": dict(policy.maximum), "drop_worst": dict(policy.worst)
    }  # fmt: skip
    stage = stage_entry("filter", VERSION, params, [source])
    done = write(output, table, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    return done


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


def apply(table: pa.Table, policy: Policy, path: str, *, all_rows: bool = False) -> pa.Table:
    """`table` with the policy's verdicts in `decisions` and `status`.

    Judged are kept rows and those that only an earlier filter dropped (`all_rows`: every row); a row without
    the value that a rule needs is an error of that rule.
    """
    columns = {}
    for name in policy.names:
        column = scorers.column_of(name)
        if column not in table.column_names:
            raise UserError(f"{path}: has no column {column!r}; run the stage that makes it first")
        columns[name] = table.column(column).to_pylist()
    old = table.column("decisions").to_pylist()
    judged = [all_rows or all(d["stage"] == "filter" for d in decisions) for decisions in old]
    # a row dropped before it was ever scored stays dropped: only a kept one must have the value
    judged = [
        use and (status == "kept" or all(columns[name][index] is not None for name in policy.names))
        for index, (use, status) in enumerate(zip(judged, table.column("status").to_pylist(), strict=True))
    ]
    tasks, shas = table.column("task").to_pylist(), table.column("gt_sha256").to_pylist()
    drops: list[list[dict[str, Any]]] = [[] for _ in old]
    rules = []
    for name, threshold in policy.minimum.items():
        rules.append(f"min:{name}")
        _threshold(drops, judged, columns[name], name, threshold, is_minimum=True)
    for name, threshold in policy.maximum.items():
        rules.append(f"max:{name}")
        _threshold(drops, judged, columns[name], name, threshold, is_minimum=False)
    for name, share in policy.worst.items():
        rules.append(f"worst:{name}")
        _drop_worst(drops, judged, columns[name], name, share, tasks, shas)
    decisions = [
        schema.decide(before, "filter", rules, new) if use else before
        for before, new, use in zip(old, drops, judged, strict=True)
    ]
    return schema.conform(schema.set_column(table, "decisions", decisions, schema.CORE["decisions"]))


def _threshold(
    drops: list[list[dict[str, Any]]],
    judged: Sequence[bool],
    values: Sequence[float | None],
    name: str,
    threshold: float,
    *,
    is_minimum: bool,
) -> None:
    rule = f"{'min' if is_minimum else 'max'}:{name}"
    for row, use, value in zip(drops, judged, values, strict=True):
        if not use:
            continue
        if value is None:
            row.append(schema.decision("filter", rule, "error", f"has no {name} to be judged by"))
            continue
        if value < threshold if is_minimum else value > threshold:
            word = "below" if is_minimum else "above"
            text = f"{name} {value:.4g} is {word} {threshold:g}"
            row.append(schema.decision("filter", rule, "drop", text, value=value, threshold=threshold))


def _drop_worst(
    drops: list[list[dict[str, Any]]],
    judged: Sequence[bool],
    values: Sequence[float | None],
    name: str,
    share: float,
    tasks: Sequence[str],
    shas: Sequence[str | None],
) -> None:
    sign = 1.0 if scorers.direction_of(name) else -1.0
    per_task: dict[str, dict[str, float]] = {}
    for use, value, task, sha in zip(judged, values, tasks, shas, strict=True):
        if use and value is not None and sha:
            per_task.setdefault(task, {})[sha] = sign * value
    worst: dict[str, set[str]] = {}
    limit: dict[str, float] = {}
    for task, scores in per_task.items():
        ranked = sorted(scores, key=lambda sha: (scores[sha], sha))
        count = math.floor(len(ranked) * share / 100 + 1e-9)
        worst[task] = set(ranked[:count])
        limit[task] = sign * scores[ranked[min(count, len(ranked) - 1)]]
    for row, use, value, task, sha in zip(drops, judged, values, tasks, shas, strict=True):
        if use and value is not None and sha in worst.get(task, ()):
            text = f"{name} {value:.4g} is among the worst {share:g} % of {task}"
            row.append(schema.decision("filter", f"worst:{name}", "drop", text, value=value, threshold=limit[task]))
