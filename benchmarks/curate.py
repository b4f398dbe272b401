"""Fused ingest + signals + identify against plain decoding of the same files: `python -m benchmarks.curate`.

The bound is what nobody can avoid: reading and decoding every file once with libjpeg-turbo (simplejpeg). Both run on
the same files in alternation, one thread each, in this process and then in two; the ratio is what counts. The Dask
workers are started anew for every run, as a user's are; the two decoding processes stand ready. `--cleanvision PYTHON`
names the interpreter of an environment of its own that has cleanvision, which then looks for its default issues in
the same files with two processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

TARGET = 2.0  # times the cost of plain decoding
SCALING, FASTER = 1.8, 10.0
PEER = """
import sys, time
from cleanvision import Imagelab
if __name__ == "__main__":
    lab = Imagelab(data_path=sys.argv[1])
    start = time.perf_counter()
    lab.find_issues(n_jobs=2, verbose=False)
    print(time.perf_counter() - start)
"""
SIZE = (1640, 1232)  # pixels, width and height: 2 MP


def main() -> None:
    """Measure, print a table, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer files and rounds, under a minute")
    parser.add_argument("--photos", help="folder of photographs; default: mosaics of scikit-image's, 2 MP")
    parser.add_argument("--cleanvision", metavar="PYTHON", help="interpreter of an environment that has cleanvision")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.photos or _mosaics(os.path.join(folder, "photos"), 60 if options.quick else 2000)
        figures = _measure(source, folder, rounds=3, peer=options.cleanvision)
    _print(figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def _mosaics(folder: str, count: int) -> str:
    """`count` JPEG files of 2 MP: real photographs side by side at their own resolution, each file another cut."""
    import skimage.data
    import sklearn.datasets

    sources = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    sources += [sklearn.datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    height, width = 300, 450
    strip = np.hstack([photo[:height, :width] for photo in sources])
    wall = np.vstack([np.roll(strip, 331 * row, axis=1) for row in range(6)])
    os.makedirs(folder)
    for index in range(count):
        rolled = np.roll(wall, (37 * index, 53 * index), axis=(0, 1))[: SIZE[1], : SIZE[0]]
        Image.fromarray(np.ascontiguousarray(rolled)).save(os.path.join(folder, f"{index:04d}.jpg"), quality=92)
    return folder


def _decode(paths: Sequence[str]) -> int:
    for path in paths:
        with open(path, "rb") as file:
            simplejpeg.decode_jpeg(file.read(), "RGB", fastdct=False, fastupsample=False)
    return len(paths)


def _peer(python: str, source: str, folder: str) -> float:
    """Seconds that cleanvision takes to look at the files."""
    script = os.path.join(folder, "peer.py")
    with open(script, "w", encoding="utf-8") as file:
        file.write(PEER)
    done = subprocess.run([python, script, source], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _measure(source: str, folder: str, rounds: int, peer: str | None) -> list[dict[str, object]]:
    from curate.ingest import ingest
    from manifests.images import SUFFIXES

    paths = sorted(
        os.path.join(base, name)
        for base, _, names in os.walk(source)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    number = iter(range(1000))

    def fused(workers: int, **options: Any) -> None:
        output = os.path.join(folder, f"m{next(number)}")
        ingest(source, output, gt="**/{id}.*", task="clean", dataset="b", workers=workers, **options)

    everything: dict[str, Any] = {"score": ["signals"], "identify": True}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        halves = [paths[::2], paths[1::2]]
        runs: dict[str, Callable[[], object]] = {
            "decode": lambda: _decode(paths),
            "ingest": lambda: fused(0),
            "fused": lambda: fused(0, **everything),
            "decode 2": lambda: list(pool.map(_decode, halves)),
            "fused 1": lambda: fused(1, **everything),
            "fused 2": lambda: fused(2, **everything),
        }
        for warm in ("decode 2", "fused"):
            runs[warm]()
        seconds = {name: list[float]() for name in runs}
        for _ in range(rounds):
            for name, function in runs.items():
                seconds[name].append(_seconds(function))

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    one, two, scaling = ratio("fused", "decode"), ratio("fused 2", "decode 2"), ratio("fused 1", "fused 2")
    speed = {name: len(paths) / statistics.median(taken) for name, taken in seconds.items()}
    figures = [
        _figure("plain decoding (simplejpeg), 1 process", speed["decode"], "images/s"),
        _figure("ingest alone", ratio("ingest", "decode"), "x the time of plain decoding"),
        _figure("ingest + signals + identify, 1 process", one, "x the time of plain decoding", TARGET, one <= TARGET),
        _figure("the same, 2 workers, their start included", two, "x decoding in 2 processes", TARGET, two <= TARGET),
        _figure("ingest + signals + identify, 2 workers", speed["fused 2"], "images/s"),
        _figure("1 worker -> 2 workers, start included", scaling, "x as fast", SCALING, scaling >= SCALING),
    ]
    if peer:
        theirs = len(paths) / _peer(peer, source, folder)
        faster = speed["fused 2"] / theirs
        figures.append(_figure("cleanvision, its default issues, 2 processes", theirs, "images/s"))
        figures.append(_figure("  Equimix, 2 workers", faster, "x as fast", FASTER, faster >= FASTER))
    return figures


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _figure(
    what: str, value: float, unit: str, target: float | None = None, met: bool | None = None
) -> dict[str, object]:
    return {"what": what, "value": round(value, 3), "unit": unit, "target": target, "met": met}


def _print(figures: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "value", "unit", "target")
    for one in figures:
        table.add_row(
            *(str(one[name]) if one[name] is not None else "" for name in ("what", "value", "unit", "target"))
        )
    Console().print(table)


if __name__ == "__main__":
    main()
