"""What a rule sees at an interval's start: one observation a task. Loop, simulator, replay and step share it.

A score may be missing (no row, None, NaN or infinite): evaluation fails now and then, and training goes on.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any

import numpy as np

from mixer import directions, files
from mixer.errors import MixerError
from mixer.tables import Array


@dataclass(frozen=True)
class Observation:
    """One task at one evaluation. All but the first may be None; a rule names what it needs.

    score: higher is better (lower-is-better metrics are negated on entry), in the metric's own units.
    score_se: its standard error. n: images it is a mean over. train_loss, reference_loss: means since the last one.
    samples_seen: pairs of the task drawn so far. task_size: distinct pairs that the task has.
    """

    task: str
    score: float | None = None
    score_se: float | None = None
    n: int | None = None
    train_loss: float | None = None
    reference_loss: float | None = None
    samples_seen: int | None = None
    task_size: int | None = None


FIELDS = tuple(field.name for field in fields(Observation))
COUNTS = ("n", "samples_seen", "task_size")


def parse(rows: Iterable[Observation | Mapping[str, Any]]) -> list[Observation]:
    """Observations from mappings with Observation's fields (others are refused), numbers as Python's own.

    A score that is no finite number becomes None. Raises MixerError for a missing or repeated task, and for impossible
    values.
    """
    out = [_checked(asdict(row) if isinstance(row, Observation) else row) for row in rows]
    names = [one.task for one in out]
    if twice := {name for name in names if names.count(name) > 1}:
        raise MixerError(f"task {min(twice)!r} has more than one observation")
    return out


def aligned(rows: Iterable[Observation | Mapping[str, Any]], tasks: Sequence[str]) -> list[Observation]:
    """The observations in the order of `tasks`; a task without one has no score. Raises MixerError for other tasks."""
    by_task = {one.task: one for one in parse(rows)}
    if unknown := [task for task in by_task if task not in tasks]:
        raise MixerError(f"unknown task {unknown[0]!r}; the mixture has {', '.join(tasks)}")
    return [by_task.get(task, Observation(task)) for task in tasks]


@dataclass(frozen=True)
class Seen:
    """The same for S runs at once, as arrays (S, K); fields that were not observed are NaN.

    interval: from 0. weights: of the interval that ends now. initial: of interval 0.
    """

    interval: int
    weights: Array
    initial: Array
    score: Array
    score_se: Array
    n: Array
    train_loss: Array
    reference_loss: Array
    samples_seen: Array
    task_size: Array

    @property
    def tasks(self) -> int:
        """K."""
        return int(self.weights.shape[1])

    @classmethod
    def of(
        cls, rows: Sequence[Observation], interval: int, weights_K: Sequence[float], initial_K: Sequence[float]
    ) -> Seen:
        """One run's observations, S = 1."""
        columns = {name: np.array([[getattr(row, name) for row in rows]], float) for name in FIELDS[1:]}
        return cls(interval, np.array([weights_K], float), np.array([initial_K], float), **columns)


def read(path: str, *, lower_is_better: Collection[str] | bool | None = ()) -> list[dict[str, Any]]:
    """Rows of a CSV, Parquet or JSON table of observations, with its `interval` where it has one; other columns go.

    lower_is_better: tasks whose scores are negated (True: all; False: none, also where a metric's name says otherwise;
    none named: those whose column `metric` names one of which lower is better). Raises MixerError naming the file and
    what is wrong.
    """
    out: list[dict[str, Any]] = []
    rows = files.read_rows(path, text=("task", "metric"))
    lower_is_better = _lower(rows, path) if lower_is_better is None or lower_is_better == () else lower_is_better
    for number, row in enumerate(rows, 1):
        if "task" not in row or "score" not in row:
            raise MixerError(f"{path}: needs the columns task and score, has {', '.join(map(str, row)) or 'none'}")
        try:
            one = _checked({name: value for name, value in row.items() if name in FIELDS})
            interval = None if row.get("interval") is None else _count(row["interval"], "interval", one.task)
        except MixerError as error:
            raise MixerError(f"{path}: row {number}: {error}") from None
        negate = lower_is_better if isinstance(lower_is_better, bool) else one.task in lower_is_better
        known = {name: value for name, value in asdict(one).items() if value is not None}
        place = {} if interval is None else {"interval": interval}
        score = -one.score if negate and one.score is not None else one.score
        out.append({**place, **known, "score": score})
    if not out:
        raise MixerError(f"{path}: has no rows")
    if not isinstance(lower_is_better, bool) and (strangers := set(lower_is_better) - {row["task"] for row in out}):
        raise MixerError(f"{path}: has no scores of {min(strangers)!r}, which is named as lower-is-better")
    return out


def _lower(rows: Sequence[Mapping[str, Any]], path: str) -> set[str]:
    """Tasks of which a lower score is better, by their column `metric`; higher is better where none is named."""
    ways: dict[str, str | None] = {}
    for row in rows:
        metric, task = row.get("metric"), row.get("task")
        if metric and task and ways.setdefault(task, directions.of(metric)) is None:
            raise MixerError(
                f"{path}: the metric {metric!r} of task {task!r} does not tell which end is better: say "
                "--higher-is-better, --lower-is-better, or --lower-is-better-for TASK",
                exit_code=2,
            )
    return {task for task, way in ways.items() if way == "min"}


def _checked(row: Mapping[str, Any]) -> Observation:
    if unknown := [name for name in row if name not in FIELDS]:
        raise MixerError(f"an observation has no field {unknown[0]!r}; it has {', '.join(FIELDS)}")
    task = row.get("task")
    if not isinstance(task, str) or not task:
        raise MixerError("an observation has no task")
    score = row.get("score")
    missing = score is None or (isinstance(score, Real) and not isinstance(score, bool) and not math.isfinite(score))
    values: dict[str, Any] = {} if missing else {"score": _number(score, "score", task)}
    for name in FIELDS[2:]:
        value = row.get(name)
        if value is not None and not (value != value and name not in COUNTS):  # NaN: not known
            values[name] = _count(value, name, task) if name in COUNTS else _number(value, name, task)
    if values.get("score_se", 0.0) < 0:
        raise MixerError(f"task {task!r}: its score_se is {values['score_se']}, 0 or more is needed")
    return Observation(task, **values)


def _number(value: Any, name: str, task: str) -> float:
    if value is None:
        raise MixerError(f"task {task!r}: it has no {name}, a finite number is needed")
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise MixerError(f"task {task!r}: its {name} is {value}, a finite number is needed")
    return float(value)


def _count(value: Any, name: str, task: str) -> int:
    if _number(value, name, task) < 0 or value != int(value):
        raise MixerError(f"task {task!r}: its {name} is {value}, a whole number of 0 or more is needed")
    return int(value)
