"""Tables of proxy runs: one row a run, its first column the run's name; weights in one table, scores in another."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixer.errors import MixerError

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
SCALES = ("steps", "samples")  # columns of a table of mixtures that are no weights
NEAR_ONE = 0.01  # how far a row's sum may be off: published tables are rounded


@dataclass(frozen=True)
class Table:
    """N rows: `runs` names them (as text), `label` is the name of that column; values_NxM under M `names`."""

    label: str
    runs: tuple[str, ...]
    names: tuple[str, ...]
    values_NxM: Array

    def rows(self, chosen: Sequence[int]) -> Table:
        """The rows of these numbers."""
        return Table(self.label, tuple(self.runs[i] for i in chosen), self.names, self.values_NxM[list(chosen)])


@dataclass(frozen=True)
class Mixtures:
    """N mixtures of K tasks: weights_NxK sum to 1; scale_N is the steps or samples of each run, if the table says."""

    label: str
    runs: tuple[str, ...]
    tasks: tuple[str, ...]
    weights_NxK: Array
    scale: str | None = None
    scale_N: Array | None = None

    @property
    def inputs(self) -> Array:
        """(N, D), what laws read: the weights, then the logarithm of the scale where there is one."""
        if self.scale_N is None:
            return self.weights_NxK
        return np.column_stack([self.weights_NxK, np.log(self.scale_N)])


def read(path: str) -> Table:
    """A CSV or Parquet table of numbers whose first column names the rows.

    Raises MixerError naming the row and column of a cell that is no finite number, and repeated names.
    """
    import pandas as pd

    if not os.path.isfile(path):
        raise MixerError(f"{path}: no such file")
    try:
        frame = pd.read_parquet(path) if path.lower().endswith(".parquet") else pd.read_csv(path, dtype=str)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise MixerError(f"{path}: cannot be read as a table ({' '.join(str(error).split())[:160]})") from None
    if frame.index.name is not None:
        frame = frame.reset_index()
    if frame.shape[1] < 2 or not len(frame):
        raise MixerError(f"{path}: {len(frame)} rows, {frame.shape[1]} columns; a name and a value are needed at least")
    runs = tuple(str(one).strip() for one in frame.iloc[:, 0])
    if len(set(runs)) < len(runs):
        twice = next(run for run in runs if runs.count(run) > 1)
        raise MixerError(f"{path}: row {twice!r} stands twice")
    names = tuple(str(name) for name in frame.columns[1:])
    values = frame.iloc[:, 1:].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        i, j = wrong[0]
        cell = frame.iloc[i, j + 1]
        raise MixerError(f"{path}: row {runs[i]}, column {names[j]!r}: {cell!r} is not a finite number")
    return Table(str(frame.columns[0]), runs, names, values)


def mixtures(path: str) -> Mixtures:
    """A table of weights. Sums within 0.01 of 1 are brought to 1, with a warning.

    A column called steps or samples is the length of each run. Raises MixerError for negative weights and other sums.
    """
    table = read(path)
    scale = next((name for name in table.names if name in SCALES), None)
    tasks = tuple(name for name in table.names if name != scale)
    weights = table.values_NxM[:, [table.names.index(name) for name in tasks]]
    scale_N = None if scale is None else table.values_NxM[:, table.names.index(scale)]
    if not tasks:
        raise MixerError(f"{path}: has no column of weights")
    if (weights < 0).any():
        i, j = np.argwhere(weights < 0)[0]
        raise MixerError(f"{path}: row {table.runs[i]}: weight {weights[i, j]:g} of {tasks[j]!r} is negative")
    sums = weights.sum(axis=1)
    far = int(np.abs(sums - 1).argmax())
    if abs(sums[far] - 1) > NEAR_ONE:
        raise MixerError(f"{path}: the weights of row {table.runs[far]} sum to {sums[far]:.6g}, not to 1")
    if abs(sums[far] - 1) > 1e-6:
        off = int((np.abs(sums - 1) > 1e-6).sum())
        warnings.warn(
            f"{path}: {off} rows do not sum to 1 (by {abs(sums[far] - 1):.2g} at most) and were scaled", stacklevel=2
        )
    if scale_N is not None and (scale_N <= 0).any():
        i = int(scale_N.argmin())
        raise MixerError(f"{path}: row {table.runs[i]}: {scale} is {scale_N[i]:g}, a number above 0 is needed")
    return Mixtures(table.label, table.runs, tasks, weights / sums[:, None], scale, scale_N)


def joined(mixtures: Mixtures, scores: Table, where: str = "the tables") -> tuple[Mixtures, Table]:
    """The runs that both have, in the order of `mixtures`; warns of the others. Raises MixerError for none."""
    places = {run: i for i, run in enumerate(scores.runs)}
    both = [i for i, run in enumerate(mixtures.runs) if run in places]
    if not both:
        ours, theirs = mixtures.runs[0], scores.runs[0]
        raise MixerError(f"{where}: no name stands in both first columns (one has {ours!r}, the other {theirs!r})")
    lost = len(mixtures.runs) + len(scores.runs) - 2 * len(both)
    if lost:
        warnings.warn(f"{where}: {lost} rows stand in one table only and were left out", stacklevel=2)
    scale_N = None if mixtures.scale_N is None else mixtures.scale_N[both]
    runs = tuple(mixtures.runs[i] for i in both)
    chosen = Mixtures(mixtures.label, runs, mixtures.tasks, mixtures.weights_NxK[both], mixtures.scale, scale_N)
    return chosen, scores.rows([places[run] for run in runs])


def write(path: str, table: Table) -> None:
    """Write a table as CSV (or Parquet, by the suffix), its first column the rows' names."""
    import io

    import pandas as pd

    from mixer import files

    frame = pd.DataFrame(table.values_NxM, columns=list(table.names))
    frame.insert(0, table.label, list(table.runs))
    buffer = io.BytesIO()
    if path.lower().endswith(".parquet"):
        frame.to_parquet(buffer, index=False)
    else:
        buffer.write(frame.to_csv(index=False).encode())
    files.write(path, buffer.getvalue())


def finite(value: float) -> float | None:
    """The number, or None for what JSON has no word for."""
    return float(value) if math.isfinite(value) else None
