"""The whole way from and to a real S3 server on loopback, its restart in the middle included."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import fsspec
import pytest

from curate import scorers
from curate.filter import filter as filter_
from curate.ingest import ingest
from curate.score import score
from curate.shard import shard
from manifests import files, table
from manifests.errors import UserError


class Server:
    """moto's S3 server on a free port of this machine; everything it stores is lost when it stops."""

    def __init__(self, port):
        self.port, self.process = port, None

    def start(self):
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/moto-api/", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("the S3 server does not answer")

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def bucket(monkeypatch, hazy):
    """A bucket that holds the photographs of `hazy` below s3://photos/data."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Server(probe.getsockname()[1])
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.start()
    fill(hazy)
    yield server
    server.stop()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def fill(hazy):
    s3 = fsspec.filesystem("s3", skip_instance_cache=True)
    s3.mkdir("photos")
    s3.put(str(hazy), "photos/data", recursive=True)


PATTERNS = {"lq": "hazy/{id}_*.jpg", "gt": "clear/{id}.png", "task": "dehaze", "dataset": "d", "split": "train"}


@pytest.mark.slow
def test_from_s3_to_s3_gives_what_local_folders_give(bucket, hazy, tmp_path):
    local = ingest(str(hazy), str(tmp_path / "m"), **PATTERNS)
    made = ingest("s3://photos/data", "s3://photos/m", **PATTERNS)
    assert made.table().equals(local.table())
    assert made.roots == {"d": "s3://photos/data"}
    scored = score("s3://photos/m", "s3://photos/s", iqa=["contrast"])
    assert scored.table().equals(score(local.path, str(tmp_path / "s"), iqa=["contrast"]).table())
    kept = filter_("s3://photos/s", "s3://photos/f", minimum={"contrast": 0.0})
    placed = shard("s3://photos/f", "s3://photos/shards")
    here = shard(filter_(str(tmp_path / "s"), str(tmp_path / "f"), minimum={"contrast": 0.0}).path, str(tmp_path / "h"))
    for name in {row["shard"] for row in placed.table().to_pylist()}:
        assert files.read(f"s3://photos/shards/{name}") == files.read(os.path.join(here.path, name))
    assert kept.rows["kept"] == 12
    assert not files.exists("s3://photos/shards/.work")
    with pytest.raises(UserError, match="exists already"):
        ingest("s3://photos/data", "s3://photos/m", **PATTERNS)


@pytest.mark.slow
def test_a_server_that_goes_away_is_said_and_the_run_goes_on_later(bucket, hazy, tmp_path, monkeypatch):
    ingest("s3://photos/data", str(tmp_path / "m"), **PATTERNS)
    calls, real = [], scorers.measure

    def measure(*given):
        calls.append(1)
        if len(calls) == 3:
            bucket.stop()
        return real(*given)

    monkeypatch.setattr(scorers, "measure", measure)
    monkeypatch.setattr("curate.score.UNIT_IMAGES", 2)
    with pytest.raises(UserError, match=r"s3://photos/data.*does not answer"):
        score(str(tmp_path / "m"), str(tmp_path / "s"), iqa=["contrast"])
    bucket.start()
    fill(hazy)
    done = score(str(tmp_path / "m"), str(tmp_path / "s"), iqa=["contrast"])
    assert done.rows == {"rows": 12, "kept": 12, "dropped": 0, "error": 0}
    assert table.read(str(tmp_path / "s")).rows["kept"] == 12
