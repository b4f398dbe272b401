"""All of a run that is no tensor, and how steps and scores are entered into it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.evaluate import Summary
    from trainer.mixture import Mixture


@dataclass
class State:
    """All of a run that is no tensor, as JSON holds it. `evaluated` is also where the current interval began."""

    step: int = 0
    evaluated: int = -1
    rule: dict[str, Any] | None = None
    weights: dict[str, float] = field(default_factory=dict)  # per stratum, held now
    cursors: dict[str, int] = field(default_factory=dict)  # per stratum, at the start of the interval
    loss: dict[str, list[float]] = field(default_factory=dict)  # task → sum and count since the last evaluation
    drawn: dict[str, int] = field(default_factory=dict)  # task → samples since the last evaluation
    samples_seen: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    replaced: dict[str, int] = field(default_factory=dict)  # pair_id that cannot be read → how often it came
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


def metric_rows(state: State, mixture: Mixture, summaries: list[Summary]) -> list[dict[str, Any]]:
    """The summaries as rows of metrics.parquet, with what happened since the last evaluation."""
    before = {row["task"]: row["lq"] for row in state.metrics[: len(summaries)]}
    total = sum(state.drawn.values())
    requested = mixture.by_task(state.weights) if total else {}
    rows = []
    for one in summaries:
        loss = state.loss.get(one.task)
        rows.append(
            {
                "step": state.step,
                **asdict(one),
                "lq": before[one.task] if before else one.lq,
                "train_loss": loss[0] / loss[1] if loss else None,
                "weight": requested.get(one.task),
                "share": state.drawn.get(one.task, 0) / total if total else None,
                "samples_seen": state.samples_seen.get(one.task, 0),
            }
        )
    return rows


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
