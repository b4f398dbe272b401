"""Outputs that are there already: refused in one sentence, or replaced when `--overwrite` asks for it.

Only what Equimix wrote is replaced. A folder must hold the file that marks its kind, and nothing that its kind does not
write; a file must be a plain file of the form that its suffix names. The root, the home, the working folder, an input
and any folder around these are never replaced.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from manifests import files
from manifests.errors import UserError

DRAFT, OLD = ".overwrite-", ".replaced-"  # before the name, while an output is replaced
STARTS = {  # what a file of ours begins with, by suffix
    ".html": (b"<!doctype html", b"<!DOCTYPE html", b"<html"),
    ".json": (b"{", b"["),
    ".parquet": (b"PAR1",),
    ".png": (b"\x89PNG",),
}


@dataclass(frozen=True)
class Kind:
    """A kind of folder that Equimix writes: its name, the file that marks it, and the names that it may hold."""

    name: str
    mark: str
    names: str  # regular expression of paths below the folder, with slashes


MANIFEST = Kind(
    "manifest",
    "manifest.json",
    r"manifest\.json|part-\d+\.parquet|run\.jsonl|\.lock|\.shards\.json|\.work/.*",
)
MORE = {  # what a stage writes beside its manifest
    "shard": r"(train|ref|test)/[^/]+-\d{5}\.tar",
    "pairs": r"aligned/[0-9a-f]+-(lq|gt)\.png",
    "degrade": r"images/([^/]+/){1,2}[^/]+-[0-9a-f]{8}-\d+\.png",
}
RUN = Kind(
    "run folder",
    "config.json",
    r"(config\.json|run\.jsonl|\.lock|schedule\.parquet|metrics\.parquet|report\.html|events\.out\.[^/]*)"
    r"|(checkpoints|eval|samples|tensorboard|trackers)/.*",
)
MODEL = Kind("model folder", "model.safetensors", r"model\.safetensors|config\.json|README\.md")


def existing(path: str, option: str = "-o") -> UserError:
    """The error for an output that is there already."""
    return UserError(f"{path}: exists already; name another with {option}, or replace it with --overwrite")


def refuse_existing(path: str, *, overwrite: bool = False, option: str = "-o", inputs: Sequence[str] = ()) -> None:
    """Raises UserError when something is at `path`; with `overwrite` only when it is no file that may be replaced."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise existing(path, option)
    _protect(path, inputs)
    if os.path.islink(path) or not os.path.isfile(path):
        raise UserError(f"{path}: is no plain file, so --overwrite does not replace it; name another with {option}")
    starts = STARTS.get(os.path.splitext(path)[1].lower())
    with open(path, "rb") as file:
        head = file.read(16)
    if starts and head and not head.startswith(starts):
        raise UserError(
            f"{path}: is not what its suffix says, so it was not written here and --overwrite does not replace it"
        )


def refuse_foreign(path: str) -> None:
    """Raises UserError when `path` is a file, or a local folder with files that no stage writes (a dataset, say)."""
    if files.is_url(path) or not os.path.lexists(path):
        return
    if not os.path.isdir(path):
        raise UserError(f"{path}: is no folder; a manifest is one: name another with -o")
    if os.path.isdir(os.path.join(path, ".work")):
        return  # an interrupted stage, which goes on there
    ours = re.compile("|".join([MANIFEST.names, *MORE.values(), r"\..*", r".*\.tmp"]))
    if other := next(_foreign(os.path.realpath(path), ours), None):
        raise UserError(f"{path}: holds {other!r}, which is no part of a manifest; name another with -o")


def check_folder(path: str, kind: Kind, inputs: Sequence[str] = ()) -> None:
    """Raises UserError unless the folder at `path` is one of ours that may be deleted."""
    _protect(path, inputs)
    if not os.path.isdir(path):
        raise UserError(f"{path}: is not a folder, so --overwrite does not replace it; name another with -o")
    if not os.path.isfile(os.path.join(path, kind.mark)):
        raise UserError(
            f"{path}: is no {kind.name} (it has no {kind.mark}); --overwrite does not replace it, name another with -o"
        )
    names = "|".join([kind.names, *_more(path)]) if kind is MANIFEST else kind.names
    if other := next(_foreign(os.path.realpath(path), re.compile(names)), None):
        raise UserError(
            f"{path}: holds {other!r}, which is no part of a {kind.name}; move it away, or name another with -o"
        )


@contextmanager
def replacing(
    path: str, *, overwrite: bool = True, kind: Kind | None = MANIFEST, inputs: Sequence[str] = ()
) -> Iterator[str]:
    """Where to write what shall stand at `path`; an earlier output stays there until the new one is whole.

        >>> with replacing("manifest-split", inputs=["manifest"]) as target:  # doctest: +SKIP
        ...     split("manifest", target)

    kind: of folder; None for a file. Yields `path` itself when nothing is there or `overwrite` is False: the writer
    then refuses what exists. Otherwise the draft lies beside it (`.overwrite-NAME`), and work that was interrupted goes
    on there. An object store cannot rename, so there the old manifest is deleted first. Raises UserError.
    """
    path = path.rstrip("/") or path
    if not overwrite or not _finished(path, kind):
        yield path
        return
    if files.is_url(path):
        _protect_url(path, inputs)
        print(f"{path}: the earlier output is deleted first, as an object store cannot rename", file=sys.stderr)
        files.remove_tree(path)
        yield path
        return
    if kind is None:
        refuse_existing(path, overwrite=True, inputs=inputs)
    else:
        check_folder(path, kind, inputs)
    real = os.path.realpath(path)  # a link stays, and what it names is replaced
    draft = os.path.join(os.path.dirname(real), DRAFT + os.path.basename(real))
    if kind is not None and os.path.exists(os.path.join(draft, kind.mark)):
        shutil.rmtree(draft)  # whole, but killed before it was given its name: by which command is not known
    try:
        yield draft
    except BaseException:
        if not os.path.isdir(os.path.join(draft, ".work")):
            _remove(draft)
        raise
    if os.path.lexists(draft):
        swap(draft, real)


def swap(draft: str, path: str) -> None:
    """Give the finished `draft` the name `path`; what was there is deleted afterwards."""
    if os.path.isfile(draft):
        os.replace(draft, path)
        return
    old = os.path.join(os.path.dirname(path), f"{OLD}{os.path.basename(path)}.{os.getpid()}")
    if os.path.lexists(path):
        os.rename(path, old)
    try:
        os.rename(draft, path)
    except OSError:
        os.rename(old, path)
        raise
    _remove(old)


def _finished(path: str, kind: Kind | None) -> bool:
    """Whether an output is there, and not only what an interrupted stage left, which the same command goes on with."""
    if kind is None:
        return os.path.lexists(path)
    if files.is_url(path):
        return files.exists(files.join(path, kind.mark))
    if not os.path.lexists(path):
        return False
    if os.path.isdir(path) and not os.path.exists(os.path.join(path, kind.mark)):
        names = set(os.listdir(path))
        return bool(names) and ".work" not in names
    return True


def _protect(path: str, inputs: Sequence[str]) -> None:
    """Raises UserError for a place that is never deleted."""
    real = os.path.realpath(path)
    for name, other in (("the root", "/"), ("your home", os.path.expanduser("~")), ("the working folder", os.getcwd())):
        if _holds(real, os.path.realpath(other)):
            raise UserError(f"{path}: is {name} or a folder around it; --overwrite does not replace it")
    for other in inputs:
        if not files.is_url(other) and _holds(real, os.path.realpath(other)):
            raise UserError(f"{path}: is or holds the input {other}; name another output with -o")


def _protect_url(path: str, inputs: Sequence[str]) -> None:
    for other in inputs:
        if f"{other.rstrip('/')}/".startswith(f"{path.rstrip('/')}/"):
            raise UserError(f"{path}: is or holds the input {other}; name another output with -o")


def _holds(folder: str, other: str) -> bool:
    return os.path.commonpath([folder, other]) == folder


def _more(path: str) -> list[str]:
    """Names of what the last stage of the manifest wrote beside it. Raises UserError for a manifest.json of others."""
    try:
        stage = json.loads(files.read(os.path.join(path, MANIFEST.mark)))["stages"][-1]["stage"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise UserError(
            f"{path}: its manifest.json is not of Equimix, so --overwrite does not replace it; name another with -o"
        ) from None
    return [MORE[stage]] if stage in MORE else []


def _foreign(folder: str, names: re.Pattern[str]) -> Iterator[str]:
    """Files below a folder that its kind does not write."""
    for base, folders, found in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(base, name))]
        for name in sorted([*found, *links]):
            inner = Path(os.path.relpath(os.path.join(base, name), folder)).as_posix()
            if not names.fullmatch(inner):
                yield inner


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        Path(path).unlink(missing_ok=True)
