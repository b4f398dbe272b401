"""Runs a stage's units: partitions, workers, progress and resume. Knows nothing of images.

A stage cuts its work into units that depend on its input and parameters only. Every finished unit is kept at once
under `<output>/.work`, so that a run that was killed, started again, redoes at most the unit that each worker was in.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import files
from manifests.errors import UserError
from manifests.table import Manifest, parquet_bytes

T = TypeVar("T")
Tick = Callable[[int], None]


def default_output(manifest: str, stage: str) -> str:
    """Where a stage writes when nobody says: `<manifest>-<stage>`."""
    return f"{manifest.rstrip('/')}-{stage}"


def require_rows(source: Manifest) -> None:
    """Raises UserError for a manifest without rows."""
    if not source.rows["rows"]:
        raise UserError(f"{source.path}: the manifest has no rows; nothing to do")


def chosen(table: pa.Table, all_rows: bool) -> list[bool]:
    """Which rows a stage works on: the kept ones, or all with `all_rows`."""
    return [all_rows or status == "kept" for status in table.column("status").to_pylist()]


def run_units(
    work: str,
    units: Sequence[T],
    function: Callable[[T], pa.Table],
    *,
    fingerprint: str,
    label: str,
    workers: int = 0,
    sizes: Sequence[int] | None = None,
) -> list[pa.Table]:
    """The table that `function` makes of each unit, in the order of `units`.

    work: folder for finished units. Units found there are taken as they are when the run before had the same
        `fingerprint`; otherwise they are discarded.
    function: picklable; called in this process (`workers` 0) or in that many spawned Dask workers.
    sizes: rows per unit, for the progress bar.
    """
    _prepare(work, fingerprint)
    names = [files.join(work, f"unit-{index:06d}.parquet") for index in range(len(units))]
    done = {name for name in names if files.exists(name)}
    todo = [(unit, name) for unit, name in zip(units, names, strict=True) if name not in done]
    size_of = dict(zip(names, sizes or [1] * len(units), strict=True))
    with progress(label, sum(size_of.values())) as tick:
        tick(sum(size_of[name] for name in done))
        runner = _here(todo, function) if workers == 0 else _in_cluster(todo, function, workers)
        for name in runner:
            tick(size_of[name])
    return [pq.read_table(io.BytesIO(files.read(name))) for name in names]


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


def _one(unit: T, name: str, function: Callable[[T], pa.Table]) -> str:
    files.write(name, parquet_bytes(function(unit)))
    return name


def _here(todo: Sequence[tuple[T, str]], function: Callable[[T], pa.Table]) -> Iterator[str]:
    for unit, name in todo:
        yield _one(unit, name, function)


def _in_cluster(todo: Sequence[tuple[T, str]], function: Callable[[T], pa.Table], workers: int) -> Iterator[str]:
    if not todo:
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the workers; more only makes them wait for each other
    from dask.distributed import Client, LocalCluster, as_completed

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        futures = [client.submit(_one, unit, name, function, pure=False) for unit, name in todo]
        for future in as_completed(futures):
            yield future.result()


@contextmanager
def progress(label: str, total: int) -> Iterator[Tick]:
    """A progress bar on stderr; call the value with the number of rows just finished."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(f"{label:<10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=total == 0) as bar:
        task = bar.add_task(label, total=total)

        def tick(rows: int) -> None:
            bar.update(task, advance=rows)

        yield tick


def summary(manifest: Manifest) -> list[dict[str, Any]]:
    """Rows per task: total, kept, dropped, error; for printing."""
    table = manifest.table(["task", "status"])
    tally: dict[str, dict[str, int]] = {}
    for task, status in zip(table.column("task").to_pylist(), table.column("status").to_pylist(), strict=True):
        row = tally.setdefault(task or "-", {"rows": 0, "kept": 0, "dropped": 0, "error": 0})
        row["rows"] += 1
        row[status] += 1
    return [{"task": task, **tally[task]} for task in sorted(tally)]


def reasons(manifest: Manifest) -> Mapping[str, int]:
    """How many rows each (stage, rule) dropped or failed, most first."""
    tally: dict[str, int] = {}
    for decisions in manifest.table(["decisions"]).column("decisions").to_pylist():
        for one in decisions or ():
            name = f"{one['verdict']} by {one['stage']}/{one['rule']}"
            tally[name] = tally.get(name, 0) + 1
    return dict(sorted(tally.items(), key=lambda item: (-item[1], item[0])))
