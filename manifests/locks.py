"""One writer per output: a lock that the operating system takes back when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
from pathlib import Path

from manifests import files
from manifests.errors import UserError

NAME = ".lock"
_held: dict[str, int] = {}  # folder -> file descriptor


def hold(folder: str) -> None:
    """Lock the output `folder` for this process, until `release` or its end; a second call is harmless.

    Raises UserError naming the process that holds it. Object stores have no locks: a URL is not guarded.
    """
    path = os.path.abspath(folder)
    if files.is_url(folder) or path in _held:
        return
    os.makedirs(path, exist_ok=True)
    lock = os.path.join(path, NAME)
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(f"{folder}: is being written by {_holder(lock)}; wait for it, or name another -o") from None
        if _still_there(lock, descriptor):  # the holder before may have removed the file between open and lock
            break
        os.close(descriptor)
    text = json.dumps({"pid": os.getpid(), "host": platform.node(), "command": " ".join(sys.argv)[:200]})
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    _held[path] = descriptor


def release(folder: str) -> None:
    """Give the lock of `folder` back, if this process holds it."""
    path = os.path.abspath(folder)
    descriptor = _held.pop(path, None)
    if descriptor is not None:
        Path(path, NAME).unlink(missing_ok=True)
        os.close(descriptor)


def _holder(lock: str) -> str:
    try:
        said = json.loads(Path(lock).read_text("utf-8"))
        return f"process {said['pid']} on {said['host']} ({said['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _still_there(lock: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except FileNotFoundError:
        return False
