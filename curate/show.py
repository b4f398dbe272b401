"""The rows of a manifest as a table for people: which pair, where it stands, and why it is not kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.compute as pc

from manifests.errors import UserError
from manifests.table import Manifest, read

COLUMNS = ("pair_id", "task", "split", "status", "lq", "gt", "reasons")
STATUSES = ("kept", "dropped", "error")
_PATHS = {"lq": "lq_path", "gt": "gt_path"}


def show(
    manifest: str = "manifest",
    *,
    status: str | None = None,
    task: str | None = None,
    limit: int = 20,
    columns: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The first `limit` rows (all where it is 0) in manifest order, of one status and one task where these are given.

    A row has `pair_id` (8 digits), `task`, `split`, `status`, `lq`, `gt` (paths), `columns`, and `reasons`: the texts
    of its decisions. Raises UserError for a column, task or status that there is not.
    """
    source = read(manifest)
    if status is not None and status not in STATUSES:
        raise UserError(f"--status {status}: choose {', '.join(STATUSES)}", exit_code=2)
    if limit < 0:
        raise UserError(f"--limit {limit}: 0 for all rows, or more", exit_code=2)
    if lacking := [name for name in columns if name not in source.column_names]:
        known = [name for name in source.column_names if name not in ("decisions", "status")]
        raise UserError(f"{manifest}: has no column {lacking[0]!r}; it has {', '.join(known)}", exit_code=2)
    found = list(itertools.islice(_rows(source, status, task, columns), limit or None))
    if not found and task is not None and task not in (known := _tasks(source)):
        raise UserError(f"{manifest}: has no task {task!r}; it has {', '.join(known) or 'none'}", exit_code=2)
    return found


def _rows(source: Manifest, status: str | None, task: str | None, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    wanted = ["pair_id", "task", "split", "status", "lq_path", "gt_path", "decisions", *columns]
    for part in source.parts(list(dict.fromkeys(wanted))):
        for name, value in (("status", status), ("task", task)):
            if value is not None:
                part = part.filter(pc.fill_null(pc.equal(part.column(name), value), False))
        for start in range(0, part.num_rows, 1000):
            for row in part.slice(start, 1000).to_pylist():
                shown = {name: row[_PATHS.get(name, name)] for name in COLUMNS[:-1]} | {"pair_id": row["pair_id"][:8]}
                shown |= {name: row[name] for name in columns}
                yield shown | {"reasons": [f"{one['stage']}: {one['text']}" for one in row["decisions"] or ()]}


def _tasks(source: Manifest) -> list[str]:
    found = {task for part in source.parts(["task"]) for task in pc.unique(part.column("task")).to_pylist()}
    return sorted(filter(None, found))
