"""The two tables of a law from run folders: what each run was trained on, and what it reached."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixer import directions, files, tables
from mixer.errors import MixerError

PICKS = ("last", "best")


@dataclass(frozen=True)
class _Run:
    """name: of the folder. shares: task -> share of the samples drawn. scores: `metric.task` -> value."""

    folder: str
    name: str
    steps: int
    reference: str | None  # fingerprint of D_ref
    shares: dict[str, float]
    scores: dict[str, float]


def collect(runs: Sequence[str], output: str, pick: str = "last", *, overwrite: bool = False) -> tuple[str, str]:
    """Write `output`/mixtures.csv and `output`/scores.csv for `mixer fit`; returns their paths.

    A run's mixture is the share of each task among all samples that it drew. Scores are those of the last evaluation,
    or the best of each task; columns are called METRIC.TASK. A column `steps` is there where runs differ in length.
    Raises MixerError naming the run that is unfinished, or differs from the first in tasks, metrics or D_ref.
    """
    if pick not in PICKS:
        raise MixerError(f"--pick {pick}: last or best", exit_code=2)
    paths = os.path.join(output, "mixtures.csv"), os.path.join(output, "scores.csv")
    for path in paths:
        files.refuse_existing(path, overwrite=overwrite)
    read = [_read(folder, pick) for folder in runs]
    for run in read[1:]:
        _check_alike(read[0], run)
    names = [run.name for run in read]
    labels = tuple(run.folder if names.count(run.name) > 1 else run.name for run in read)
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise MixerError(f"{twice}: the run is given twice", exit_code=2)
    tasks, columns = tuple(sorted(read[0].shares)), tuple(sorted(read[0].scores))
    shares = np.array([[run.shares[task] for task in tasks] for run in read])
    if len({run.steps for run in read}) > 1:
        steps = np.array([[float(run.steps)] for run in read])
        mixtures = tables.Table("run", labels, (*tasks, "steps"), np.concatenate([shares, steps], axis=1))
    else:
        mixtures = tables.Table("run", labels, tasks, shares)
    scores = np.array([[run.scores[name] for name in columns] for run in read])
    tables.write(paths[0], mixtures)
    tables.write(paths[1], tables.Table("run", labels, columns, scores))
    return paths


def _read(folder: str, pick: str) -> _Run:
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            identity = json.load(file)
        config = identity["config"]
        steps = int(config.get("optimizer", config.get("optimiser"))["steps"])
        reference = identity["fingerprints"].get("reference data")
    except FileNotFoundError:
        raise MixerError(f"{folder}: has no config.json; is it a folder that 'trainer run' wrote?") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MixerError(f"{folder}/config.json: not what 'trainer run' writes") from None
    path = os.path.join(folder, "metrics.parquet")
    rows = files.read_rows(path, text=("task", "metric"))
    reached = max((int(row["step"]) for row in rows), default=0)
    if reached < steps:
        raise MixerError(f"{folder}: is unfinished: evaluated up to step {reached} of {steps}; go on with --resume")
    last = [row for row in rows if row["step"] == reached]
    drawn = {row["task"]: int(row["samples_seen"]) for row in last}
    total = sum(drawn.values())
    if not total:
        raise MixerError(f"{folder}: has drawn no samples")
    scores = {f"{row['metric']}.{row['task']}": _score(rows, row, pick, folder) for row in last}
    name = os.path.basename(os.path.abspath(folder))
    return _Run(folder, name, steps, reference, {task: count / total for task, count in drawn.items()}, scores)


def _score(rows: Sequence[dict[str, Any]], last: dict[str, Any], pick: str, folder: str) -> float:
    """The last score of a task, or its best."""
    mine = [row["value"] for row in rows if (row["task"], row["metric"]) == (last["task"], last["metric"])]
    if pick == "best":
        way = directions.common([last["metric"]], None, folder)
        known = [value for value in mine if value is not None and math.isfinite(value)]
        mine = [(max if way == "max" else min)(known)] if known else [None]
    if mine[-1] is None or not math.isfinite(mine[-1]):
        raise MixerError(f"{folder}: task {last['task']!r} has no {last['metric']} at the last evaluation")
    return float(mine[-1])


def _check_alike(first: _Run, run: _Run) -> None:
    """Raises MixerError, naming what differs."""
    for what, one, other in (
        ("tasks", sorted(first.shares), sorted(run.shares)),
        ("metrics", sorted(first.scores), sorted(run.scores)),
        ("the fingerprint of D_ref", first.reference, run.reference),
    ):
        if one != other:
            said = [", ".join(value) if isinstance(value, list) else value for value in (one, other)]
            raise MixerError(f"{run.folder}: differs from {first.folder} in {what}: {said[1]}, not {said[0]}")
