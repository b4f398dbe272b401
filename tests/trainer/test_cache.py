"""The cache of remote shards: bounded, shared by processes, few misses, nothing left behind by the killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from manifests.errors import UserError
from tests.trainer.test_stream import build_shards
from trainer.stream.cache import Cache
from trainer.stream.index import open_index
from trainer.stream.loader import Stream

THIRDS = {"denoise": 1 / 3, "low_light": 1 / 3, "sr": 1 / 3}


def _tars(folder: Path, count: int, size: int) -> list[str]:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.tar").write_bytes(bytes([number]) * size)
    return [f"file://{folder / f'{number}.tar'}" for number in range(count)]


def test_a_shard_is_brought_once_and_the_longest_unread_goes(tmp_path: Path) -> None:
    urls = _tars(tmp_path / "far", 4, 1000)
    cache = Cache(str(tmp_path / "near"), limit=3000)
    held = cache.open(urls[0])
    for number in (0, 1, 2, 0, 2, 1):
        time.sleep(0.01)  # the clock of the file system
        with cache.open(urls[number]) as file:
            assert file.read() == bytes([number]) * 1000
    assert cache.fetched == 3
    cache.open(urls[3]).close()  # 0 goes: it was read longest ago
    assert cache.fetched == 4 and len(list((tmp_path / "near").glob("*.tar"))) == 3
    assert held.read() == bytes(1000)  # who has it open reads on
    cache.open(urls[1]).close()
    assert cache.fetched == 4
    cache.open(urls[0]).close()
    assert cache.fetched == 5


def test_a_shard_that_was_written_again_is_another_one(tmp_path: Path) -> None:
    (url,) = _tars(tmp_path / "far", 1, 10)
    cache = Cache(str(tmp_path / "near"), limit=1 << 20)
    assert cache.open(url).read() == bytes(10)
    (tmp_path / "far" / "0.tar").write_bytes(b"new")
    os.utime(tmp_path / "far" / "0.tar", (1, 1))
    assert cache.open(url).read() == b"new"


def test_many_threads_bring_a_shard_once(tmp_path: Path) -> None:
    urls = _tars(tmp_path / "far", 3, 100_000)
    caches = [Cache(str(tmp_path / "near"), limit=1 << 20) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda cache: [cache.open(url).close() for url in urls], caches))
    assert sum(cache.fetched for cache in caches) == 3


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    urls = _tars(tmp_path / "far", 3, 1000)
    cache = Cache(str(tmp_path / "near"), limit=2500)
    cache.open(urls[0]).close()
    left = tmp_path / "near" / ("0" * 32 + ".tar.part")
    left.write_bytes(bytes(5000))
    os.utime(left, (1, 1))
    cache.open(urls[1]).close()
    assert not left.exists() and len(list((tmp_path / "near").glob("*.tar"))) == 2


def test_a_storage_that_is_away_is_asked_again_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.local import LocalFileSystem

    from trainer.stream import cache as module

    (url,) = _tars(tmp_path / "far", 1, 10)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    whole, calls = LocalFileSystem.get_file, list[str]()

    def away(self: LocalFileSystem, inner: str, path: str) -> None:
        calls.append(inner)
        if len(calls) < 3:
            raise ConnectionError("no route")
        whole(self, inner, path)

    monkeypatch.setattr(LocalFileSystem, "get_file", away)
    assert Cache(str(tmp_path / "near"), limit=100).open(url).read() == bytes(10)
    monkeypatch.setattr(LocalFileSystem, "get_file", lambda *_: (_ for _ in ()).throw(ConnectionError("no route")))
    with pytest.raises(UserError, match=r"0\.tar: the storage does not answer"):
        Cache(str(tmp_path / "other"), limit=100).open(url)
    with pytest.raises(FileNotFoundError):
        Cache(str(tmp_path / "other"), limit=100).open(f"file://{tmp_path}/none.tar")


@pytest.mark.slow
def test_remote_shards_give_the_local_batches_with_few_misses(manifest: str, tmp_path: Path) -> None:
    shards = build_shards(manifest, tmp_path / "shards", per_shard=1)
    near, far = open_index(shards), open_index(f"file://{shards}")
    assert near.block is None and far.block == 16
    far.block = near.block = 3  # of 8 shards a task
    size = max(path.stat().st_size for path in Path(shards).glob("*.tar"))
    cache = Cache(str(tmp_path / "cache"), limit=size * 3 * (3 + 3))  # the block of each task, and the next one
    steps, batch = 40, 12  # 20 epochs of 24 pairs
    options = {"batch": batch, "crop": 32, "seed": 5}
    with Stream(near, **options) as stream:  # type: ignore[arg-type]
        expected = list(stream.batches(THIRDS, {}, 0, steps, interval_start=0))
    with Stream(far, workers=2, cache=cache, **options) as stream:  # type: ignore[arg-type]
        found = list(stream.batches(THIRDS, {}, 0, steps, interval_start=0))
    for one, other in zip(expected, found, strict=True):
        assert one.pair_id == other.pair_id and torch.equal(one.lq, other.lq) and torch.equal(one.gt, other.gt)
    epochs = steps * batch / 24
    assert sum(one.fetched for one in found) <= 1.1 * 24 * epochs
    assert sum(path.stat().st_size for path in Path(cache.folder).glob("*.tar")) <= cache.limit


SCRIPT = """
import sys
from trainer.stream.cache import Cache
from trainer.stream.index import open_index
from trainer.stream.loader import Stream
if __name__ == "__main__":
    index = open_index("file://" + sys.argv[1])
    with Stream(index, batch=6, crop=32, seed=0, workers=2, cache=Cache(sys.argv[2], limit=1 << 30)) as stream:
        print(*stream.pids, flush=True)
        for batch in stream.batches({"denoise": 1.0}, {}, 0, 10**6, interval_start=0):
            print(batch.step, flush=True)
"""


@pytest.mark.slow
def test_sigkill_leaves_nothing_in_shared_memory_and_no_process(manifest: str, tmp_path: Path) -> None:
    shards = build_shards(manifest, tmp_path / "shards", per_shard=2)
    (tmp_path / "read.py").write_text(SCRIPT)
    before = set(os.listdir("/dev/shm"))
    command = [sys.executable, str(tmp_path / "read.py"), shards, str(tmp_path / "cache")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert running.stdout is not None
    pids = running.stdout.readline().split()
    assert len(pids) == 2
    for line in running.stdout:
        if int(line) == 30:
            break
    running.send_signal(signal.SIGKILL)
    running.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        left = [pid for pid in pids if os.path.exists(f"/proc/{pid}")], set(os.listdir("/dev/shm")) - before
        if not any(left):
            break
        time.sleep(0.2)
    assert left == ([], set())
    with Cache(str(tmp_path / "cache"), limit=1 << 30).open(open_index(f"file://{shards}").rows[0].lq.url) as file:
        assert file.read(1)
