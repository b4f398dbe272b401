"""Fused ingest + signals + identify against plain decoding of the same files: `python -m benchmarks.curate`.

The bound is what nobody can avoid: reading and decoding every file once with Pillow. Both run in this process, one
thread each, in alternation on the same files; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

TARGET = 3.0  # times the cost of plain decoding


def main() -> None:
    """Measure, print a table, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer files and rounds, under a minute")
    parser.add_argument("--photos", help="folder of photographs; default: those of scikit-image, enlarged to 2 MP")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.photos or _enlarged(os.path.join(folder, "photos"), 8 if options.quick else 48)
        figures = _measure(source, folder, rounds=3 if options.quick else 5)
    _print(figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def _enlarged(folder: str, count: int) -> str:
    """`count` JPEG files of 2 MP: crops of real photographs, enlarged, each at another place so that none is equal."""
    import skimage.data
    import sklearn.datasets

    sources = [skimage.data.astronaut(), skimage.data.coffee(), sklearn.datasets.load_sample_image("china.jpg")]
    os.makedirs(folder)
    for index in range(count):
        pixels = sources[index % len(sources)]
        shift = index // len(sources)
        cropped = pixels[shift : shift + 380, shift : shift + 500]
        image = Image.fromarray(np.ascontiguousarray(cropped)).resize((1640, 1232), Image.Resampling.LANCZOS)
        image.save(os.path.join(folder, f"{index:03d}.jpg"), quality=92)
    return folder


def _measure(source: str, folder: str, rounds: int) -> list[dict[str, object]]:
    from curate.ingest import ingest
    from manifests.images import SUFFIXES

    paths = sorted(
        os.path.join(base, name)
        for base, _, names in os.walk(source)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    number = iter(range(1000))

    def decode() -> None:
        for path in paths:
            with open(path, "rb") as file:
                np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))

    def plain() -> None:
        ingest(source, os.path.join(folder, f"m{next(number)}"), gt="**/{id}.*", task="clean", dataset="b")

    def fused() -> None:
        output = os.path.join(folder, f"m{next(number)}")
        ingest(source, output, gt="**/{id}.*", task="clean", dataset="b", score=["signals"], identify=True)

    seconds: dict[str, list[float]] = {"decode": [], "ingest": [], "fused": []}
    fused()  # imports and caches
    for _ in range(rounds):
        for name, function in (("decode", decode), ("ingest", plain), ("fused", fused)):
            seconds[name].append(_seconds(function))
    decoding = statistics.median(seconds["decode"])
    ratio = statistics.median(f / d for f, d in zip(seconds["fused"], seconds["decode"], strict=True))
    alone = statistics.median(f / d for f, d in zip(seconds["ingest"], seconds["decode"], strict=True))
    return [
        _figure("plain decoding (Pillow)", len(paths) / decoding, "images/s"),
        _figure("ingest alone", alone, "x the time of plain decoding"),
        _figure("ingest + signals + identify", ratio, "x the time of plain decoding", TARGET, ratio <= TARGET),
    ]


def _seconds(function: Callable[[], None]) -> float:
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
