"""`schedule.parquet`: weights by interval. Interval i covers steps [iT, (i+1)T); its score is measured at step iT."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from mixer import files
from mixer.errors import MixerError

Array = npt.NDArray[np.float64]
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Schedule:
    """Weights over I intervals, of K tasks or K shards.

    strata_column: "task", or "shard" (each shard is then a stratum of its own; `task_of` names its task).
    names: the K strata, in the order of the columns. weights_IxK: rows sum to 1. scores_IxK: higher is better, in the
    metric's units, NaN where unknown; None when none is known.
    """

    strata_column: str
    names: tuple[str, ...]
    weights_IxK: Array
    scores_IxK: Array | None = None
    task_of: Mapping[str, str] | None = None

    @property
    def intervals(self) -> int:
        """Number of intervals."""
        return int(self.weights_IxK.shape[0])

    def weights(self, interval: int) -> dict[str, float]:
        """Name -> weight of an interval from 0; those past the end hold the last row."""
        if interval < 0:
            raise MixerError(f"interval {interval}: intervals count from 0")
        row_K = self.weights_IxK[min(interval, self.intervals - 1)]
        return {name: float(value) for name, value in zip(self.names, row_K, strict=True)}

    def rows(self) -> list[dict[str, Any]]:
        """One mapping per interval and stratum, as `write` takes them."""
        out = []
        for interval in range(self.intervals):
            for index, name in enumerate(self.names):
                row: dict[str, Any] = {"interval": interval, self.strata_column: name}
                if self.task_of is not None:
                    row["task"] = self.task_of[name]
                if self.scores_IxK is not None:
                    score = float(self.scores_IxK[interval, index])
                    row["score"] = None if math.isnan(score) else score
                out.append({**row, "weight": float(self.weights_IxK[interval, index])})
        return out


def write(path: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows (interval, task, score, weight; or interval, shard, task, weight) as Parquet, replacing the file.

    Atomic, and the same rows give the same bytes. Raises MixerError, and writes nothing, unless they are a schedule.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(rows)
    made = _located(path, rows)
    if os.path.splitext(path)[1].lower() != ".parquet":
        raise MixerError(f"{path}: a schedule is written as Parquet; name it with .parquet", exit_code=2)
    names = ("interval", "task", "score", "weight")
    if made.strata_column == "shard":
        names = ("interval", "shard", "task", "weight")
    kinds = {"interval": pa.int64(), "score": pa.float64(), "weight": pa.float64()}
    columns = {name: pa.array([_null(row.get(name)) for row in rows], kinds.get(name, pa.string())) for name in names}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    files.write(path, buffer.getvalue())


def read(path: str) -> Schedule:
    """The schedule in a Parquet or CSV file. Raises MixerError naming the file and what is wrong with it."""
    if not os.path.exists(path):
        raise MixerError(f"{path}: no such schedule; 'mixer simulate' and 'mixer replay' write one")
    return _located(path, files.read_rows(path, text=("task", "shard")))


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Schedule:
    """A Schedule from its rows. Raises MixerError unless intervals are 0, 1, ... and weights a mixture in each."""
    rows = list(rows)
    if not rows:
        raise MixerError("the schedule has no rows")
    column = "shard" if "shard" in rows[0] else "task"
    needed = ("interval", "shard", "task", "weight") if column == "shard" else ("interval", "task", "weight")
    for name in needed:
        if name not in rows[0]:
            raise MixerError(f"has no column {name!r}; a schedule has {', '.join(needed)}")
    for number, row in enumerate(rows, 1):
        if not all(isinstance(row.get(name), str) and row[name] for name in needed[1:-1]):
            raise MixerError(f"row {number} has no {column}")
        _check_numbers(row, number, column)
    names = tuple(dict.fromkeys(row[column] for row in rows))
    found = {int(row["interval"]) for row in rows}
    if found != set(range(len(found))):
        raise MixerError("its intervals must be 0, 1, 2, ... without a gap")
    weights_IxK, scores_IxK = _matrices(rows, column, names, len(found))
    task_of = {row["shard"]: row["task"] for row in rows} if column == "shard" else None
    return Schedule(column, names, weights_IxK, None if np.isnan(scores_IxK).all() else scores_IxK, task_of)


def _located(path: str, rows: list[Any]) -> Schedule:
    try:
        return from_rows(rows)
    except MixerError as error:
        raise MixerError(f"{path}: {error}") from None


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _check_numbers(row: Mapping[str, Any], number: int, column: str) -> None:
    interval, weight, score = (_null(row.get(name)) for name in ("interval", "weight", "score"))
    if not _finite(interval) or interval < 0 or interval != int(interval):
        raise MixerError(f"row {number}: its interval is {interval}, it must be 0, 1, 2, ...")
    if not _finite(weight) or weight < 0:
        raise MixerError(f"interval {int(interval)}: the weight of {row[column]!r} is {weight}, it must be 0 or more")
    if score is not None and not _finite(score):
        raise MixerError(f"interval {int(interval)}: the score of {row[column]!r} is {score}, no finite number")


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _matrices(
    rows: list[Mapping[str, Any]], column: str, names: tuple[str, ...], intervals: int
) -> tuple[Array, Array]:
    """weights_IxK and scores_IxK. Raises MixerError unless every interval has each name once, and sums to 1."""
    place = {name: index for index, name in enumerate(names)}
    weights_IxK, scores_IxK = np.full((2, intervals, len(names)), np.nan)
    for row in rows:
        where = int(row["interval"]), place[row[column]]
        if not math.isnan(weights_IxK[where]):
            raise MixerError(f"interval {where[0]}: {row[column]!r} stands twice")
        weights_IxK[where] = row["weight"]
        if row.get("score") is not None:
            scores_IxK[where] = row["score"]
    for interval, row_K in enumerate(weights_IxK):
        if np.isnan(row_K).any():
            raise MixerError(f"interval {interval}: no weight for {names[int(np.isnan(row_K).argmax())]!r}")
        total = math.fsum(row_K)
        if abs(total - 1) > SUM_TOLERANCE:
            raise MixerError(f"interval {interval}: the weights sum to {total:.9g}, not to 1")
    return weights_IxK, scores_IxK
