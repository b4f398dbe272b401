"""Manifests of millions of rows: filter, its dry run, the report: `python -m benchmarks.manifest`.

The rows are made: 20 scores, captions, five tasks. Every measurement is a process of its own, so that its peak memory
is its own; the writing run is compared with a pyarrow copy of the same parts, in alternation.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from manifests import schema, table

PART = 50_000
TASKS = np.array(["deblur", "dehaze", "denoise", "derain", "sr"])
RUN = """
import resource, sys, time
from curate import {module}
start = time.perf_counter()
{call}
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
COPY = """
import os, resource, sys, time
import pyarrow.parquet as pq
start = time.perf_counter()
for name in sorted(os.listdir({source!r})):
    if name.endswith(".parquet"):
        with pq.ParquetFile(os.path.join({source!r}, name)) as file:
            with pq.ParquetWriter(os.path.join({target!r}, name), file.schema_arrow, compression="zstd") as out:
                for batch in file.iter_batches():
                    out.write_batch(batch)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def main() -> None:
    """Measure, print a table, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=1e6, help="rows of the manifest (1e7 needs 3 GB of disk)")
    parser.add_argument("--quick", action="store_true", help="200 000 rows, under a minute")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    rows = 200_000 if options.quick else int(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        figures = _measure(folder, rows)
    _print(rows, figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"rows": rows, "figures": figures}, file, indent=2)


def _made(rows: int) -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    for start in range(0, rows, PART):
        count = min(PART, rows - start)
        ids, hashes = rng.bytes(count * 16).hex(), rng.bytes(count * 32).hex()
        columns = {
            "pair_id": [ids[32 * i : 32 * i + 32] for i in range(count)],
            "gt_sha256": [hashes[64 * i : 64 * i + 64] for i in range(count)],
            "dataset": ["d"] * count,
            "task": TASKS[rng.integers(len(TASKS), size=count)].tolist(),
            "gt_path": [f"gt/{start + i:08d}.png" for i in range(count)],
            "lq_path": [f"lq/{start + i:08d}.png" for i in range(count)],
            "caption": [f"A photograph of object number {start + i}, evenly exposed, vivid." for i in range(count)],
        }
        arrays = {name: pa.array(values, schema.CORE.get(name, pa.string())) for name, values in columns.items()}
        scores = {"iqa.piqe" if k == 0 else f"iqa.m{k:02d}": rng.normal(50, 10, count) for k in range(20)}
        yield pa.table({**arrays, **scores})


def _measure(folder: str, rows: int) -> list[dict[str, object]]:
    source, target = os.path.join(folder, "m"), os.path.join(folder, "out")
    made = {"stage": "made", "version": 1, "params": {}, "inputs": []}
    table.write(source, _made(rows), roots={"d": folder}, stages=[made])
    dry, gigabytes = _run("filter", f"filter.preview({source!r}, maximum={{'piqe': 66.4}})")
    worst, more = _run("filter", f"filter.preview({source!r}, drop_worst={{'piqe': 5}})")
    ratios, seconds = [], []
    for _ in range(3):
        writing = _run("filter", f"filter.filter({source!r}, {target!r}, maximum={{'piqe': 66.4}})")[0]
        shutil.rmtree(target)
        os.makedirs(target)
        copy = _python(COPY.format(source=source, target=target))[0]
        shutil.rmtree(target)
        ratios.append(writing / copy)
        seconds.append(writing)
    page = os.path.join(folder, "page.html")
    report, _ = _run("report", f"report.report({source!r}, {page!r})")
    return [
        _figure("filter --max piqe=66.4 --dry-run", dry, "s", "20 for 10 M rows"),
        _figure("  its peak memory", gigabytes, "GiB", "2 for 10 M rows"),
        _figure("filter --drop-worst piqe=5% --dry-run", worst, "s", "20 for 10 M rows"),
        _figure("  its peak memory", more, "GiB", "2 for 10 M rows"),
        _figure("filter --max piqe=66.4, writing", statistics.median(seconds), "s"),
        _figure("  against a pyarrow copy of the parts", statistics.median(ratios), "x", "1.5"),
        _figure("report", report, "s", "30 for 1 M rows"),
        _figure("  its page", os.path.getsize(page) / 1e6, "MB", "10"),
    ]


def _run(module: str, call: str) -> tuple[float, float]:
    return _python(RUN.format(module=module, call=call))


def _python(code: str) -> tuple[float, float]:
    """What `code` prints, in a process of its own: seconds, and gigabytes at its peak."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, gigabytes = done.stdout.split()[-2:]
    return float(seconds), float(gigabytes)


def _figure(what: str, value: float, unit: str, target: str = "") -> dict[str, object]:
    return {"what": what, "value": round(value, 2), "unit": unit, "target": target}


def _print(rows: int, figures: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(f"{rows:,} rows", "value", "unit", "target")
    for one in figures:
        shown.add_row(*(str(one[name]) for name in ("what", "value", "unit", "target")))
    Console().print(shown)


if __name__ == "__main__":
    main()
