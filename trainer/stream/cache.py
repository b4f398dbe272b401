"""A bounded folder of remote shards, shared by all processes of a machine; whoever is killed leaves it usable.

    >>> from trainer.stream.cache import Cache
    >>> with Cache("/scratch/shards", limit=32 << 30).open("s3://bucket/train/sr-00000.tar") as file:  # doctest: +SKIP
    ...     file.read(512)

A shard is fetched whole, once, by the process that asks first; the others wait for it. When there are more bytes than
`limit`, the shards that were read longest ago are removed; who has one of them open reads on. Locks are the kernel's
(`flock`), so they end with their process; nothing is in shared memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from manifests import files
from manifests.errors import UserError

LOCKS = 64  # lock files; two shards may share one
TRIES, PAUSE = 4, 1.0  # of a storage that does not answer; seconds, doubled each time


@dataclass
class Cache:
    """One process's view of the folder. limit: bytes. fetched: shards that this process has brought."""

    folder: str
    limit: int
    fetched: int = 0

    def open(self, url: str) -> io.FileIO:
        """The shard as a local file, open for reading. Raises OSError for one that is not there, UserError."""
        path = os.path.join(self.folder, f"{_key(url)}.tar")
        while True:
            try:
                file = io.FileIO(path)
                os.utime(path)
                return file
            except FileNotFoundError:  # not yet, or no more
                self._bring(url, path)

    def _bring(self, url: str, path: str) -> None:
        os.makedirs(self.folder, exist_ok=True)
        with self._locked(path):
            if os.path.exists(path):
                return
            draft = f"{path}.part"  # one that a killed process left is written over
            _fetch(url, draft)
            os.replace(draft, path)
            self.fetched += 1
        self._trim(keep=path)

    def _trim(self, keep: str) -> None:
        """Remove what was read longest ago until the folder is within its limit."""
        with self._locked("trim"):
            found = []
            for entry in os.scandir(self.folder):
                with contextlib.suppress(FileNotFoundError):
                    if entry.name.endswith((".tar", ".part")):
                        found.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
            total = sum(size for _, size, _ in found)
            for _, size, path in sorted(found):
                if total <= self.limit:
                    break
                if path != keep and (path.endswith(".tar") or self._is_left(path)):
                    Path(path).unlink(missing_ok=True)
                    total -= size

    def _is_left(self, draft: str) -> bool:
        """Whether nobody is writing this draft any more."""
        import fcntl

        with open(self._lock_path(draft.removesuffix(".part")), "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        import fcntl

        with open(self._lock_path(name), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _lock_path(self, name: str) -> str:
        number = "trim" if name == "trim" else int(hashlib.sha256(name.encode()).hexdigest(), 16) % LOCKS
        return os.path.join(self.folder, f".lock-{number}")


def default_folder() -> str:
    """Where shards go when nobody says: $XDG_CACHE_HOME/equimix/shards, or the same below ~/.cache."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "equimix", "shards")


def _key(url: str) -> str:
    """Names the shard and the state that it is in: a shard that was written again is another one."""
    import fsspec

    fs, inner = fsspec.core.url_to_fs(url)
    with files.remote(url):
        try:
            state = str(fs.ukey(inner))
        except NotImplementedError:
            state = str(fs.info(inner).get("size"))
    return hashlib.sha256(f"{url}\n{state}".encode()).hexdigest()[:32]


def _fetch(url: str, path: str) -> None:
    import fsspec

    fs, inner = fsspec.core.url_to_fs(url)
    for attempt in range(TRIES):
        try:
            with files.remote(url):
                fs.get_file(inner, path)
            return
        except UserError:
            if attempt == TRIES - 1:
                raise
            time.sleep(PAUSE * 2**attempt)
