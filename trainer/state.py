"""All of a run that is no tensor, and how steps and scores are entered into it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.evaluate import Scored, Summary
    from trainer.mixture import Mixture


@dataclass
class State:
    """All of a run that is no tensor, as JSON holds it.

    step, weights, cursors, begun: the last weight event was at step `begun`, set these weights, and found these
    cursors; what is drawn until the next one follows from them.
    """

    step: int = 0
    evaluated: int = -1
    begun: int = 0
    rule: dict[str, Any] | None = None
    requested: dict[str, float] = field(default_factory=dict)  # per stratum, as rule or schedule want them
    weights: dict[str, float] = field(default_factory=dict)  # per stratum, held now: within the epochs that are allowed
    cursors: dict[str, int] = field(default_factory=dict)  # per stratum, samples drawn before step `begun`
    loss: dict[str, list[float]] = field(default_factory=dict)  # task → sum and count since the last evaluation
    drawn: dict[str, int] = field(default_factory=dict)  # task → samples since the last evaluation
    samples_seen: dict[str, int] = field(default_factory=dict)
    gradient: dict[str, Any] = field(default_factory=dict)  # since the last evaluation, see diagnosis.tally
    skipped: int = 0
    skipped_before: int = 0  # the last evaluation
    recent: list[float] = field(default_factory=list)  # losses that a spike is measured by, where one is looked for
    off: int = 0  # steps in a row above them
    rollbacks: int = 0
    inputs: dict[str, float] = field(
        default_factory=dict
    )  # pair_id of D_ref → score of its LQ, from the first evaluation
    best: dict[str, dict[str, float]] = field(default_factory=dict)  # mean, worst → step and value
    replaced: dict[str, int] = field(default_factory=dict)  # pair_id that cannot be read → how often it came
    diagnoses: list[dict[str, Any]] = field(default_factory=list)  # that stood at the last evaluation
    schedule: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)


def count(state: State, tasks: list[str], values: list[float] | None) -> float:
    """Enter a step into the state; returns its mean loss, NaN for a void one."""
    state.step += 1
    for task in tasks:
        state.drawn[task] = state.drawn.get(task, 0) + 1
        state.samples_seen[task] = state.samples_seen.get(task, 0) + 1
    if values is None:
        state.skipped += 1
        return math.nan
    for task, value in zip(tasks, values, strict=True):
        total = state.loss.setdefault(task, [0.0, 0])
        total[0] += value
        total[1] += 1
    return math.fsum(values) / len(values)


def paired(state: State, scored: list[Scored]) -> list[Scored]:
    """The scores with those of their inputs, which are measured at the first evaluation and kept in the state."""
    if not state.inputs:
        state.inputs = {one.pair_id: one.lq for one in scored if one.lq is not None}
    return [replace(one, lq=state.inputs.get(one.pair_id)) if one.lq is None else one for one in scored]


def metric_rows(state: State, mixture: Mixture, summaries: list[Summary]) -> list[dict[str, Any]]:
    """The summaries as rows of metrics.parquet, with what happened since the last evaluation."""
    before = {row["task"]: row["lq"] for row in state.metrics[: len(summaries)]}
    total = sum(state.drawn.values())
    requested = mixture.by_task(state.requested) if total else {}
    rows = []
    for one in summaries:
        loss = state.loss.get(one.task)
        lq = before[one.task] if before else one.lq
        rows.append(
            {
                "step": state.step,
                **asdict(one),
                "lq": lq,
                "gain": one.value - lq if one.gain is None and lq is not None else one.gain,
                "train_loss": loss[0] / loss[1] if loss else None,
                "weight": requested.get(one.task),
                "share": state.drawn.get(one.task, 0) / total if total else None,
                "samples_seen": state.samples_seen.get(one.task, 0),
                "epochs": state.samples_seen.get(one.task, 0) / max(mixture.task_size.get(one.task, 0), 1),
            }
        )
    return rows


def note_best(state: State, rows: list[dict[str, Any]], higher_is_better: Mapping[str, bool]) -> bool:
    """Whether the scores of this step are the best so far, on average or of the worst task; entered into the state.

    A task counts by what it has gained over its input (over its score before training, where the input has none).
    """
    first = {row["task"]: row for row in state.metrics[: len(rows)]}
    gains = []
    for row in rows:
        start = first[row["task"]]["value"] if row["lq"] is None else row["lq"]
        gains.append((row["value"] - start) * (1.0 if higher_is_better[row["task"]] else -1.0))
    if not gains or not all(map(math.isfinite, gains)):
        return False
    found = False
    for name, value in (("mean", math.fsum(gains) / len(gains)), ("worst", min(gains))):
        if name not in state.best or value > state.best[name]["value"]:
            state.best[name] = {"step": state.step, "value": value}
            found = True
    return found


def observation(row: dict[str, Any], mixture: Mixture, oriented: dict[str, float]) -> dict[str, Any]:
    """A row of metrics.parquet as the rule's observation; its score is higher-is-better."""
    return {
        "task": row["task"],
        "score": oriented[row["task"]],
        "score_se": row["se"],
        "n": row["n"],
        "train_loss": row["train_loss"],
        "samples_seen": row["samples_seen"],
        "task_size": mixture.task_size[row["task"]],
    }
