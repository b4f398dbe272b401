"""Bytes at a path or URL: local paths take the short way, everything else goes through fsspec."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from manifests.errors import UserError, brief


def is_url(path: str) -> bool:
    """True for `s3://bucket/x` and the like, False for local paths."""
    return "://" in path


@contextmanager
def remote(path: str) -> Iterator[None]:
    """Tells a file that is not there from a storage that cannot be reached, which stops a run and is no row's fault.

    Raises UserError for the second.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, UserError):
        raise
    except ImportError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # every storage library has exceptions of its own
        reason = brief(error, 200)
        raise UserError(
            f"{path}: the storage does not answer ({reason}); what is finished is kept, run the same command again"
        ) from None


def join(root: str, path: str) -> str:
    """`root/path`, where `root` may be a local folder or a URL. An absolute or URL `path` stands for itself."""
    if is_url(path) or os.path.isabs(path):
        return path
    return f"{root.rstrip('/')}/{path}" if is_url(root) else os.path.normpath(os.path.join(root, path))


def read(path: str, offset: int = 0, size: int = -1) -> bytes:
    """`size` bytes from `offset` (all that follow for -1). Raises OSError when the file cannot be read."""
    if not is_url(path):
        if not os.path.isfile(path) and stat.S_ISFIFO(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "a pipe, not a file", path)  # would wait for a writer for ever
        with open(path, "rb") as file:
            if offset:
                file.seek(offset)
            return file.read(size)
    import fsspec

    with remote(path), fsspec.open(path, "rb") as file:
        if offset:
            file.seek(offset)
        data: bytes = file.read(size)
        return data


def write(path: str, data: bytes) -> None:
    """Write atomically: a reader sees the whole new file or none of it, whenever the process dies."""
    if is_url(path):
        import fsspec

        with remote(path), fsspec.open(path, "wb") as file:  # object stores publish an object only when it is complete
            file.write(data)
        return
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def touch(path: str) -> None:
    """Make an empty file in a folder that is there. It need not outlive a power cut, so nothing waits for the disk."""
    if is_url(path):
        write(path, b"")
    else:
        Path(path).touch()


def copy(source: str, target: str) -> None:
    """Copy a file that is never changed again; on one disk that is another name for it."""
    if not (is_url(source) or is_url(target)):
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        Path(target).unlink(missing_ok=True)
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or one without links
            pass
    write(target, read(source))


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    if not is_url(path):
        return os.path.exists(path)
    import fsspec

    with remote(path):
        fs, inner = fsspec.core.url_to_fs(path)
        return bool(fs.exists(inner))


def remove(path: str) -> None:
    """Delete a file of ours, if it is there."""
    if not is_url(path):
        Path(path).unlink(missing_ok=True)
        return
    import fsspec

    fs, inner = fsspec.core.url_to_fs(path)
    if fs.exists(inner):
        fs.rm_file(inner)


def remove_tree(path: str) -> None:
    """Delete a folder of ours, if it is there."""
    if not is_url(path):
        import shutil

        shutil.rmtree(path, ignore_errors=True)
        return
    import fsspec

    fs, inner = fsspec.core.url_to_fs(path)
    if fs.exists(inner):
        fs.rm(inner, recursive=True)


def relative_root(root: str, base: str) -> str:
    """`root` as a manifest in folder `base` stores it: relative for local folders, unchanged for URLs.

    Relative roots keep manifests free of absolute paths: a tree of data and manifests can be moved as one.
    """
    if is_url(root) or is_url(base):
        return root if is_url(root) else os.path.abspath(root)
    return Path(os.path.relpath(os.path.realpath(root), os.path.realpath(base))).as_posix()


def digest(value: Any) -> str:
    """32 hex digits of the SHA-256 of a JSON-able value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
