"""Runs a stage's units: partitions, workers, progress and resume. Knows nothing of images.

A stage cuts its work into units that depend on its input and parameters only. Every finished unit is kept at once
under `<output>/.work`, so that a run that was killed, started again, redoes at most the unit that each worker was in.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_all_start_methods
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from curate import budget, isolation, progress
from manifests import files, locks
from manifests.errors import UserError
from manifests.table import Manifest, parquet_bytes

T = TypeVar("T")


def default_output(manifest: str, stage: str) -> str:
    """Where a stage writes when nobody says: `<manifest>-<stage>`."""
    plain = manifest.rstrip("/")
    return f"{os.path.abspath(plain) if os.path.basename(plain) in ('', '.', '..') else plain}-{stage}"


def require_rows(source: Manifest) -> None:
    """Raises UserError for a manifest without rows."""
    if not source.rows["rows"]:
        raise UserError(f"{source.path}: the manifest has no rows; nothing to do")


def chosen(table: pa.Table, all_rows: bool) -> list[bool]:
    """Which rows a stage works on: the kept ones, or all with `all_rows`."""
    return [all_rows or status == "kept" for status in table.column("status").to_pylist()]


ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
DASK = {
    "distributed.scheduler.allowed-failures": 0,  # a unit that a worker died of is worked on apart, not again
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",  # these look after themselves ten to fifty times a second
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
    # Dask also has its workers give memory back after every image, which makes decoding a third slower.
    "distributed.nanny.pre-spawn-environ": ONE_THREAD,
}


CONNECT = 10  # seconds


@dataclass(frozen=True)
class Execution:
    """Where units are worked on, and when to give up.

    workers: Dask worker processes on this machine; 0: this process. They are named 0, 1, ...
    address: of a running Dask scheduler, instead of workers of our own.
    max_errors: how many rows may fail, as a number or as a share of all rows ("1%"); None: half of them.
    """

    workers: int = 0
    address: str | None = None
    max_errors: str | None = None

    def budget(self, rows: int) -> float:
        """The number of failed rows, of `rows`, that is still accepted. Raises UserError for nonsense."""
        return budget.allowed(self.max_errors, rows)


def warm_up(workers: int, *modules: str) -> None:
    """Begin what workers wait for longest, their imports, in the background: `modules`, and what every stage needs.

    They happen once, in a fresh process with one thread that knows nothing of this one; worker processes are forked
    from it. To be called as soon as it is known that there will be workers; does nothing the second time.
    """
    if not workers or not _forks():
        return
    from multiprocessing import forkserver

    before = {name: os.environ.get(name) for name in ONE_THREAD}
    forkserver.set_forkserver_preload(["distributed.nanny", "distributed.worker", "pandas", *modules])
    os.environ.update(ONE_THREAD)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _forks() -> bool:
    return "forkserver" in get_all_start_methods()


def run_units(
    work: str,
    units: Sequence[T],
    function: Callable[[T], pa.Table],
    *,
    fingerprint: str,
    label: str,
    execution: Execution | None = None,
    broken: Callable[[T, str], pa.Table] | None = None,
    sizes: Sequence[int] | None = None,
) -> list[pa.Table]:
    """The table that `function` makes of each unit, in the order of `units`.

    work: folder for finished units. Units found there are taken as they are when the run before had the same
        `fingerprint`; otherwise they are discarded.
    function, broken: picklable. `broken` makes the error rows of a unit of one row that `function` fails on or dies of.
    sizes: rows per unit, for the progress bar and the error budget.
    Raises UserError when another process writes there, and with exit code 3 when more rows failed than `execution`
    allows; finished units stay.
    """
    execution = execution or Execution()
    output = os.path.dirname(work)
    locks.hold(output)
    try:
        return _run_units(work, units, function, fingerprint, label, execution, broken, sizes)
    except BaseException:
        locks.release(output)
        raise


def _run_units(
    work: str,
    units: Sequence[T],
    function: Callable[[T], pa.Table],
    fingerprint: str,
    label: str,
    execution: Execution,
    broken: Callable[[T, str], pa.Table] | None,
    sizes: Sequence[int] | None,
) -> list[pa.Table]:
    _prepare(work, fingerprint)
    names = [files.join(work, f"unit-{index:06d}.parquet") for index in range(len(units))]
    size_of = dict(zip(names, sizes or [1] * len(units), strict=True))
    limit, tables, failed = execution.budget(sum(size_of.values())), {}, 0
    todo = [(unit, name) for unit, name in zip(units, names, strict=True) if not files.exists(name)]
    left = {name for _, name in todo}
    with progress.bar(label, sum(size_of.values())) as tick, progress.Log(os.path.dirname(work), label) as log:
        for name in names:
            if name not in left:
                tables[name] = pq.read_table(io.BytesIO(files.read(name)))
                failed += errors(tables[name])
                tick(size_of[name], failed)
        for name, table, seconds in _runner(todo, function, broken, execution):
            tables[name] = table
            failed += errors(table)
            tick(size_of[name], failed)
            log.write(unit=os.path.basename(name), rows=size_of[name], errors=errors(table), seconds=round(seconds, 3))
            if failed > limit:
                raise UserError(
                    f"{label}: {failed} of {sum(size_of.values())} rows failed, more than --max-errors "
                    f"{budget.named(execution.max_errors)} allows; the last reason: {_reason(table)}. What is finished "
                    "is kept, no manifest is written: mend the cause, or allow more (--max-errors 100%), and run the "
                    "same command again",
                    exit_code=3,
                )
    return [tables[name] for name in names]


def errors(table: pa.Table) -> int:
    """How many rows of a unit's table failed: those with an error among their decisions, or with a `problem`."""
    return len(_reasons(table))


def _reasons(table: pa.Table) -> list[str]:
    if "problem" in table.column_names:
        return [text for text in table.column("problem").to_pylist() if text]
    if "decisions" not in table.column_names:
        return []
    found = []
    for decisions in table.column("decisions").to_pylist():
        texts = [one["text"] for one in decisions or () if one["verdict"] == "error"]
        found += texts[:1]
    return found


def _reason(table: pa.Table) -> str:
    found = _reasons(table)
    return found[-1] if found else "unknown"


def clean(work: str) -> None:
    """Forget the finished units, once the stage's output stands."""
    files.remove_tree(work)


def work_folder(output: str) -> str:
    """Where the units of the stage that writes `output` are kept until it is finished."""
    return files.join(output, ".work")


def _prepare(work: str, fingerprint: str) -> None:
    plan = files.join(work, "plan.json")
    try:
        same = json.loads(files.read(plan)) == {"fingerprint": fingerprint}
    except (FileNotFoundError, ValueError):
        same = False
    if not same:
        files.remove_tree(work)
        files.write(plan, json.dumps({"fingerprint": fingerprint}).encode())


Done = tuple[str, pa.Table, float]  # file of the unit, its table, seconds


def _runner(
    todo: Sequence[tuple[T, str]],
    function: Callable[[T], pa.Table],
    broken: Callable[[T, str], pa.Table] | None,
    execution: Execution,
) -> Iterator[Done]:
    """Works on the units; those that a process has died of once first, in processes of their own.

    First, so that no model lies in memory twice: here and there.
    """
    fatal = [(unit, name) for unit, name in todo if files.exists(_marker(name))]
    usual = [(unit, name) for unit, name in todo if not files.exists(_marker(name))]
    for unit, name in fatal:
        yield _apart(unit, name, function, broken)
        files.remove(_marker(name))
    if execution.workers or execution.address:
        yield from _in_cluster(usual, function, broken, execution)
    else:
        for unit, name in usual:
            files.touch(_marker(name))
            try:
                done = _one(unit, name, function, broken)
            finally:
                files.remove(_marker(name))
            yield done


def worker_number() -> int:
    """The number of the worker process that this is, from 0; 0 where there is one process only."""
    if "distributed" not in sys.modules:
        return 0
    from dask.distributed import get_worker

    try:
        name = get_worker().name
    except ValueError:
        return 0
    return name if isinstance(name, int) else 0


def _marker(name: str) -> str:
    """The file that stands while this very process works on a unit: if it is found, that process died."""
    return name.removesuffix(".parquet") + ".running"


def _one(unit: T, name: str, function: Callable[[T], pa.Table], broken: Callable[[T, str], pa.Table] | None) -> Done:
    start = time.perf_counter()
    table = isolation.run(unit, function, broken)
    files.write(name, parquet_bytes(table))
    return name, table, time.perf_counter() - start


def _apart(unit: T, name: str, function: Callable[[T], pa.Table], broken: Callable[[T, str], pa.Table] | None) -> Done:
    start = time.perf_counter()
    table = isolation.run_apart(unit, function, broken)
    files.write(name, parquet_bytes(table))
    return name, table, time.perf_counter() - start


def _in_cluster(
    todo: Sequence[tuple[T, str]],
    function: Callable[[T], pa.Table],
    broken: Callable[[T, str], pa.Table] | None,
    execution: Execution,
) -> Iterator[Done]:
    if not todo:
        return
    import dask
    import distributed.utils
    from dask.distributed import Client, KilledWorker, LocalCluster, as_completed

    method = "forkserver" if _forks() else "spawn"
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({**DASK, "distributed.worker.multiprocessing-method": method}))
        if execution.address:
            try:
                client = stack.enter_context(Client(execution.address, timeout=CONNECT))
            except (OSError, ValueError, ImportError) as error:
                raise UserError(
                    f"--dask-address {execution.address}: no Dask scheduler answers there ({type(error).__name__})"
                ) from None
        else:
            warm_up(execution.workers)
            distributed.utils._forkserver_preload_set = True  # Dask would import a second's worth of packages here
            cluster = LocalCluster(
                env=os.environ | ONE_THREAD,  # of now, not of when the first process was started
                n_workers=min(execution.workers, len(todo)),
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",
            )
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        print(f"Dask dashboard: {client.dashboard_link}", file=sys.stderr)
        futures = {client.submit(_one, u, name, function, broken, pure=False): (u, name) for u, name in todo}
        for future in as_completed(futures):
            unit, name = futures[future]
            try:
                yield future.result()
            except KilledWorker:
                yield _apart(unit, name, function, broken)
