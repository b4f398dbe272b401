"""Near pairs among a million 64-bit hashes: `python -m benchmarks.dedup`. One process, one thread.

Random hashes with planted copies (0 to `distance` bits flipped), so that recall is measured as well; each search in a
process of its own, for its peak memory. The old way, all pairs, is timed on a sample and scaled by its square. Last the
whole stage, `curate dedup`, on a manifest of as many rows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from typing import Any

import numpy as np

from curate import hamming

ROWS = 1_000_000
SECONDS, GIB = 60.0, 4.0  # the targets
COPIES = 0.1  # share of the hashes that are copies of another
SAMPLE = 20_000  # hashes that all pairs are compared of


def main() -> None:
    """Measure, print a table, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="distance 4 alone and a smaller manifest, under a minute")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    figures = []
    for distance in (4,) if options.quick else (4, 8):
        figures += _apart(_search, ROWS, distance)
    figures += _apart(_all_pairs, ROWS)
    figures += _apart(_stage, ROWS // 10 if options.quick else ROWS)
    _print(figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


Figures = list[dict[str, Any]]


def _apart(function: Any, *arguments: int) -> Figures:
    """What `function` measures, run in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found: Figures = pool.apply(function, arguments)
        return found


def hashes(rows: int, distance: int, seed: int = 0) -> tuple[hamming.Hashes, hamming.Rows]:
    """(rows,) random hashes, and (P, 2) pairs of rows i < j: planted copies, at most `distance` bits apart."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**64, rows, dtype=np.uint64)
    planted = rng.permutation(rows)[: 2 * int(rows * COPIES)].reshape(-1, 2)
    flips = np.uint64(1) << rng.integers(0, 64, (len(planted), distance), dtype=np.uint64)
    used = np.arange(distance) < rng.integers(0, distance + 1, len(planted))[:, None]
    masks = np.bitwise_xor.reduce(np.where(used, flips, np.uint64(0)), axis=1)
    values[planted[:, 1]] = values[planted[:, 0]] ^ masks
    return values, np.sort(planted, axis=1)


def _search(rows: int, distance: int) -> Figures:
    values, planted = hashes(rows, distance)
    before = _peak()
    start = time.perf_counter()
    blocks = [np.stack([a, b], axis=1) for a, b, _ in hamming.pairs_within(values, distance)]
    seconds = time.perf_counter() - start
    found = np.concatenate(blocks)
    keys = found[:, 0] * rows + found[:, 1]
    recall = float(np.isin(planted[:, 0] * rows + planted[:, 1], keys).mean())
    what = f"{rows:,} hashes, distance {distance}"
    target = SECONDS if distance == 4 else None
    return [
        _figure(f"{what}: search", seconds, "s", target),
        _figure(f"{what}: peak memory (with {before:.2f} before)", _peak(), "GiB", GIB),
        _figure(f"{what}: planted copies found", 100 * recall, "%", 100.0, recall == 1),
        _figure(f"{what}: pairs found, each once", len(keys), "pairs", None, None),
        _figure(f"{what}: pairs found twice", len(keys) - len(np.unique(keys)), "pairs", 0),
    ]


def _all_pairs(rows: int) -> Figures:
    values, _ = hashes(SAMPLE, 4)
    start = time.perf_counter()
    for i in range(len(values)):
        np.flatnonzero(np.bitwise_count(values[i + 1 :] ^ values[i]) <= 4)
    seconds = (time.perf_counter() - start) * (rows / SAMPLE) ** 2
    return [_figure(f"{rows:,} hashes: all pairs instead (from {SAMPLE:,}, scaled)", seconds, "s", None, None)]


def _stage(rows: int) -> Figures:
    from curate.dedup import dedup

    with tempfile.TemporaryDirectory() as folder:
        _manifest(rows, os.path.join(folder, "m"))
        start = time.perf_counter()
        done = dedup(os.path.join(folder, "m"), os.path.join(folder, "out"))
        seconds = time.perf_counter() - start
    what = f"curate dedup, {rows:,} rows"
    return [
        _figure(what, seconds, "s", SECONDS),
        _figure(f"{what}: peak memory", _peak(), "GiB", GIB),
        _figure(f"{what}: dropped", done.rows["dropped"], "rows", None, None),
    ]


def _manifest(rows: int, path: str) -> None:
    """A manifest of `rows` clean photographs, COPIES of which stand in it twice, by their looks."""
    import pyarrow as pa

    from manifests import schema
    from manifests.table import write

    looks = [f"{int(one):016x}" for one in hashes(rows, 4)[0]]
    ids = [f"{i:032x}" for i in range(rows)]
    columns: dict[str, list[Any]] = {
        "pair_id": ids,
        "gt_sha256": [2 * one for one in ids],
        "phash": looks,
        "task": ["clean"] * rows,
        "dataset": ["d"] * rows,
        "gt_path": [f"{i}.jpg" for i in range(rows)],
        "group": [f"d/{i}.jpg" for i in range(rows)],
        "width": [2048] * rows,
        "height": [1024] * rows,
    }
    table = pa.table({name: pa.array(values, schema.CORE[name]) for name, values in columns.items()})
    write(path, table, roots={"d": os.path.dirname(path)}, stages=[{"stage": "made"}])


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _figure(what: str, value: float, unit: str, target: float | None, met: bool | None = None) -> dict[str, Any]:
    """`met` follows from the target, at most, unless it is said."""
    if met is None and target is not None:
        met = value <= target
    return {"what": what, "value": round(value, 3), "unit": unit, "target": target, "met": met}


def _print(figures: Figures) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "value", "unit", "target", "met")
    for one in figures:
        table.add_row(
            *("" if one[name] is None else str(one[name]) for name in ("what", "value", "unit", "target", "met"))
        )
    Console().print(table)


if __name__ == "__main__":
    main()
