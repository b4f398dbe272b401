"""Pairs from a list: which LQ belongs to which GT stands in a CSV, JSONL or two-column text file."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from curate.layouts import split_name
from curate.listing import list_folder
from curate.patterns import nfc
from curate.sources import Source
from manifests import files
from manifests.errors import UserError

COLUMNS = ("lq", "gt", "task", "subtask", "split", "group", "license")

Line = tuple[int, dict[str, str]]  # its number, and what it says


@dataclass(frozen=True)
class Defaults:
    """What holds for lines that do not say it themselves."""

    task: str | None = None
    subtask: str = ""
    split: str | None = None
    group: str | None = None
    license: str | None = None


def read(path: str, folder: str, defaults: Defaults) -> list[Source]:
    """The rows that the list `path` asks for, sorted by GT as `sources_of` does.

    A `.csv` has a header with `lq`, `gt` and any of task, subtask, split, group, license; a `.jsonl` has these as keys;
    every other file has two columns, LQ and GT, with a comma, a tab or spaces between them. An empty LQ or GT means
    that there is none. Paths are relative to `folder`, or absolute and below it. A file that is not there becomes an
    error row later. Raises UserError, naming file and line, for a line that cannot be read, a path outside the folder,
    an unknown column, and a pair that is listed twice.
    """
    try:
        text = files.read(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text", exit_code=2) from None
    suffix = os.path.splitext(path)[1].lower()
    lines = _csv(path, text) if suffix == ".csv" else _jsonl(path, text) if suffix == ".jsonl" else _columns(path, text)
    split = defaults.split and split_name(defaults.split, "--split")
    place = _Places(folder)
    seen: dict[tuple[str | None, ...], int] = {}
    out = []
    for number, said in lines:
        where = f"{path}, line {number}"
        lq, gt = (place.relative(said.get(side, ""), where) for side in ("lq", "gt"))
        task = said.get("task") or defaults.task
        if not (lq or gt):
            raise UserError(f"{where}: names neither an LQ nor a GT", exit_code=2)
        if not task:
            raise UserError(f"{where}: has no task; give --task for lines without one", exit_code=2)
        subtask = said.get("subtask") or defaults.subtask
        first = seen.setdefault((task, subtask, lq, gt), number)
        if first != number:
            raise UserError(f"{where}: the same pair as in line {first}", exit_code=2)
        named = split_name(said["split"], f"{where}: split") if said.get("split") else split
        group, license = (said.get(name) or getattr(defaults, name) for name in ("group", "license"))
        out.append(Source(lq, gt, task, subtask, named, group, license))
    if not out:
        raise UserError(f"{path}: lists no pair", exit_code=2)
    return sorted(out, key=lambda s: (s.gt is None, s.gt or "", s.lq or "", s.task, s.subtask))


def _csv(path: str, text: str) -> Iterator[Line]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_names(f"{path}, line 1", header)
        if not {"lq", "gt"} & set(header):
            raise UserError(f"{path}, line 1: a .csv begins with a header that names lq and gt", exit_code=2)
        end = reader.line_num
        for cells in reader:
            number, end = end + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{path}, line {number}: has {len(cells)} cells where the header has {len(header)}", exit_code=2
                )
            yield number, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not readable as CSV ({error})", exit_code=2) from None


def _check_names(where: str, names: list[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise UserError(
                f"{where}: {name!r} is none of {', '.join(COLUMNS)}; scores are joined by --join-scores", exit_code=2
            )
    if len(set(names)) < len(names):
        raise UserError(f"{where}: names a column twice", exit_code=2)


def _jsonl(path: str, text: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            said: Any = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{where}: not valid JSON", exit_code=2) from None
        if not isinstance(said, Mapping):
            raise UserError(f'{where}: not an object such as {{"lq": "a.png", "gt": "b.png"}}', exit_code=2)
        _check_names(where, list(said))
        if wrong := [name for name, value in said.items() if value is not None and not isinstance(value, str)]:
            raise UserError(f"{where}: {wrong[0]} is not text", exit_code=2)
        yield number, {name: value or "" for name, value in said.items()}


def _columns(path: str, text: str) -> Iterator[Line]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        mark = next((mark for mark in ("\t", ",") if mark in line), None)
        cells = [cell.strip() for cell in (line.split(mark) if mark else line.split())]
        if len(cells) != 2 or not all(cells) or re.fullmatch(r"\(.*\)", cells[1]):
            raise UserError(
                f"{path}, line {number}: not an LQ and a GT with a tab, a comma or spaces between them", exit_code=2
            )
        yield number, {"lq": cells[0], "gt": cells[1]}


class _Places:
    """Paths of a list, as paths below the folder that exist there where they can."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.local = not files.is_url(folder)
        if self.local and not os.path.isdir(folder):
            raise UserError(f"{folder}: no such folder")
        self._by_form = cache(self._listed)

    def relative(self, path: str, where: str) -> str | None:
        """The path below the folder; None for an empty one. Raises UserError for one that leads out of it."""
        if not path:
            return None
        if "\0" in path:
            raise UserError(f"{where}: a path with a null character", exit_code=2)
        inner = path
        if self.local and os.path.isabs(path):
            inner = os.path.relpath(path, os.path.abspath(self.folder))
            if inner.startswith(".."):
                inner = os.path.relpath(os.path.realpath(path), os.path.realpath(self.folder))
        elif not self.local:
            inner = path.removeprefix(self.folder.rstrip("/") + "/")
        inner = os.path.normpath(inner).replace(os.sep, "/")
        if inner == ".." or inner.startswith(("../", "/")) or (not self.local and "://" in path and inner == path):
            raise UserError(f"{where}: {path!r} lies outside {self.folder}", exit_code=2)
        if self.local and not os.path.lexists(os.path.join(self.folder, inner)):
            return self._by_form().get(nfc(inner), inner)
        return inner

    def _listed(self) -> Mapping[str, str]:
        """Composed form of a file's path -> the path as the disk has it."""
        return {nfc(path): path for path in list_folder(self.folder).images}
