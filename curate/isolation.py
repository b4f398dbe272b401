"""One bad row never takes its unit with it: what fails is bisected until the row is found that does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

import pyarrow as pa

from manifests.errors import UserError

T = TypeVar("T")
Work = Callable[[T], pa.Table]
Broken = Callable[[T, str], pa.Table]  # a unit of one row, and why it failed -> its rows as errors

DIED = "the process that worked on it died (out of memory, or a crash in a library)"


def run(unit: T, work: Work[T], broken: Broken[T] | None) -> pa.Table:
    """`work(unit)`; where it raises, the rows that can be done and the others as `broken` makes them.

    A UserError is the user's to mend and passes through, as everything does without `broken`.
    """
    try:
        return work(unit)
    except UserError:
        raise
    except Exception as error:  # any library may fail on one image in a million
        if broken is None:
            raise
        if (halves := _halves(unit)) is None:
            return broken(unit, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return _joined([run(half, work, broken) for half in halves])


def run_apart(unit: T, work: Work[T], broken: Broken[T] | None) -> pa.Table:
    """The same in processes of its own, each used until it dies: for a unit that has killed one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(run, unit, work, broken).result()
        except BrokenProcessPool:
            if broken is None:
                raise UserError(f"{DIED}; nothing that was finished is lost") from None
            if (halves := _halves(unit)) is None:
                return broken(unit, DIED)
    return _joined([run_apart(half, work, broken) for half in halves])


def _halves(unit: T) -> list[T] | None:
    """The unit in two, or None when it is one row (or no sequence)."""
    if not isinstance(unit, Sequence) or len(unit) < 2:
        return None
    parts: Any = unit
    middle = len(parts) // 2
    return [parts[:middle], parts[middle:]]


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="default")
