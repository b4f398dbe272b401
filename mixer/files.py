"""Files of the mixer: tables in, whole files out."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mixer.errors import MixerError

STARTS = {".parquet": b"PAR1", ".png": b"\x89PNG", ".html": b"<", ".json": b"{"}  # of files that the mixer writes
SIMULATION = "results.parquet"  # marks a folder of a simulation


def refuse_existing(path: str, *, overwrite: bool = False, inputs: Sequence[str] = ()) -> None:
    """Raises MixerError when something is at `path`; with `overwrite` only when it is no file that may be replaced.

    That is a plain file, of the form that its suffix names, and none of the `inputs`.
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise MixerError(f"{path}: exists already; name another with -o, or replace it with --overwrite")
    _refuse_input(path, inputs)
    if os.path.islink(path) or not os.path.isfile(path):
        raise MixerError(f"{path}: is no plain file, so --overwrite does not replace it; name another with -o")
    with open(path, "rb") as file:
        head = file.read(16)
    if head and not head.startswith(STARTS.get(os.path.splitext(path)[1].lower(), b"")):
        raise MixerError(
            f"{path}: is not what its suffix says, so it was not written here and --overwrite does not replace it"
        )


def check_simulation(path: str, inputs: Sequence[str] = ()) -> None:
    """Raises MixerError unless the folder is one that 'mixer simulate' wrote, with nothing else in it."""
    _refuse_input(path, inputs)
    if not os.path.isfile(os.path.join(path, SIMULATION)):
        raise MixerError(
            f"{path}: is no simulation (it has no {SIMULATION}); --overwrite does not replace it, name another with -o"
        )
    ours = {SIMULATION, "simulation.png", "simulation.html", "schedule.parquet"}
    for _, _, names in os.walk(path):
        if other := sorted(set(names) - ours):
            raise MixerError(f"{path}: holds {other[0]!r}, which is no part of a simulation; move it, or name another")


def _refuse_input(path: str, inputs: Sequence[str]) -> None:
    real = os.path.realpath(path)
    for other in (*inputs, os.getcwd(), os.path.expanduser("~")):
        if os.path.commonpath([real, os.path.realpath(other)]) == real:
            raise MixerError(f"{path}: is or holds {other}; name another output with -o")


def write(path: str, data: bytes) -> None:
    """Write a file atomically, making its folder: a reader sees the whole new file or the old one."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_parquet(path: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a Parquet file, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), buffer, compression="zstd")
    write(path, buffer.getvalue())


def read_rows(path: str, *, text: Collection[str]) -> list[dict[str, Any]]:
    """Rows of a table: CSV by default, Parquet or JSON by the suffix.

    JSON is a list of objects, or one object `{"deblur": 27.1, ...}` of scores by task. The columns named in `text` stay
    text; elsewhere a CSV's cells become numbers where they can, and None where they are empty.
    Raises MixerError naming the file when it is missing or no table.
    """
    if not os.path.exists(path):
        raise MixerError(f"{path}: no such file")
    suffix = os.path.splitext(path)[1].lower()
    try:
        rows = {".json": _json, ".parquet": _parquet}.get(suffix, _csv)(path)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise MixerError(f"{path}: cannot be read as a table ({' '.join(str(error).split())[:160]})") from None
    return [{name: _cell(value, name in text) for name, value in row.items()} for row in rows]


def _csv(path: str) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    for number, row in enumerate(rows, 1):
        if None in row:
            raise ValueError(f"row {number} has more cells than the header")
    return rows


def _json(path: str) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        content = json.load(file, object_pairs_hook=_without_repeats)
    if isinstance(content, Mapping):
        return [{"task": task, "score": score} for task, score in content.items()]
    return [dict(row) for row in content]


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice")
    return dict(pairs)


def _parquet(path: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def _cell(value: Any, text: bool) -> Any:
    if value is None or value == "":
        return None
    if text or not isinstance(value, str):
        return str(value) if text else value
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value
