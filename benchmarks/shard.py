"""Writing shards against `tar` and fsync of the same files: `python -m benchmarks.shard`.

Pairs of 2 MP JPEGs in one task. `tar` neither checks a hash nor writes an index; both end with the bytes on the disk.
Runs alternate; the ratio of their speeds is what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable

from benchmarks.curate import _mosaics
from curate.ingest import ingest
from curate.shard import shard
from curate.split import split

TARGET = 0.8


def main() -> None:
    """Measure, print, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 pairs, half a minute")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = _measure(folder, 100 if options.quick else 2000, rounds=6)
    for name, value in figures.items():
        print(f"{name:<45}{value:>10.3g}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def _measure(folder: str, pairs: int, rounds: int) -> dict[str, float]:
    photos, plan, out = (os.path.join(folder, name) for name in ("photos", "plan", "shards"))
    _mosaics(os.path.join(photos, "gt"), pairs)
    shutil.copytree(os.path.join(photos, "gt"), os.path.join(photos, "lq"))
    ingest(photos, os.path.join(folder, "m"), lq="lq/{id}.jpg", gt="gt/{id}.jpg", task="jpeg", dataset="b")
    split(os.path.join(folder, "m"), plan, ref=1, test=0)
    size = sum(os.path.getsize(os.path.join(base, name)) for base, _, names in os.walk(photos) for name in names)
    peer = os.path.join(folder, "peer.tar")
    runs: dict[str, Callable[[], object]] = {
        "tar": lambda: _tar(photos, peer),
        "shard": lambda: shard(plan, out, samples_per_shard=200),
        "shard 2": lambda: shard(plan, out, samples_per_shard=200, workers=2),
    }
    seconds = {name: list[float]() for name in runs}
    for number in range(rounds):
        for name in sorted(runs, reverse=bool(number % 2)):  # who follows whom matters to the disk
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
            os.unlink(peer) if name == "tar" else shutil.rmtree(out)
    taken = {name: statistics.median(of) for name, of in seconds.items()}
    return {
        "MB in all": size / 1e6,
        "tar and fsync, MB/s": size / taken["tar"] / 1e6,
        f"curate shard, share of that speed ({TARGET} wanted)": taken["tar"] / taken["shard"],
        "the same, 2 workers, their start included": taken["tar"] / taken["shard 2"],
    }


def _tar(source: str, target: str) -> None:
    subprocess.run(["tar", "-cf", target, "-C", source, "."], check=True)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
