"""Our stream against webdataset and mosaicml-streaming, a million samples, and a step's plan: `-m benchmarks.stream`.

All read the same pairs of two tasks at equal weight (webdataset's RandomMix from the same tars, streaming's proportions
from its own format), crop and flip alike, make batches of the same size in the same number of processes, and take
turns. The bound is what nobody can avoid with our decoder: `pread`, decode and crop in as many processes, bare.
`--peers PYTHON` names the interpreter of an environment with mosaicml-streaming, torch and pillow; without it that peer
is left out.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.readers import CROP, SIZE

WORKERS = 2
MILLION, HALF, LARGE = 1_000_000, 500_000, 32  # samples, where a resume is, batch
SMALL = 64  # crop where memory is measured: what is prefetched is then little beside index and plan
STAGES = [{"stage": "benchmark", "version": 1, "params": {}, "inputs": []}]
Figure = dict[str, object]


def main() -> None:
    """Measure, print a table, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer batches and rounds, under a minute")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--peers", help="python of an environment with mosaicml-streaming")
    parser.add_argument("--first", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first:
        _first(options.first, options.start)
        return
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for form in ("png", "jpg"):
            shards = _make_shards(os.path.join(folder, form), form, pairs=12 if options.quick else 48)
            rounds, seconds = (1, 1.5) if options.quick else (7, 5.0)
            figures += _reading(shards, form, options.peers, rounds, seconds)
        figures += _million(folder, rounds=1 if options.quick else 5)
        figures += _planning(folder, steps=200 if options.quick else 1000)
    _print(figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def _make_shards(folder: str, form: str, pairs: int) -> str:
    """Four tars, two of each of two tasks, of `pairs` pairs of 512 x 512 crops of enlarged real photographs."""
    import webdataset

    os.makedirs(folder)
    rows = []
    for shard in range(4):
        task = ("denoise", "low_light")[shard % 2]
        name = f"{task}-train-{shard // 2:04d}.tar"
        with webdataset.TarWriter(os.path.join(folder, name)) as tar:
            for number in range(pairs):
                gt, lq = _pair(task, shard * pairs + number)
                tar.write({"__key__": f"{shard:016d}{number:016d}", f"lq.{form}": _encode(lq, form),
                           f"gt.{form}": _encode(gt, form), "json": {"task": task}})  # fmt: skip
        rows += _index(os.path.join(folder, name), task)
    return _write(folder, rows)


def _pair(task: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """GT and LQ, each at another place so that none is equal."""
    from PIL import Image
    from skimage import data
    from sklearn.datasets import load_sample_image

    source = [data.astronaut, data.coffee, data.rocket, lambda: load_sample_image("china.jpg")][number % 4]()
    rng = np.random.default_rng(number)
    top, left = rng.integers(0, source.shape[0] - 340), rng.integers(0, source.shape[1] - 340)
    part = Image.fromarray(source[top : top + 340, left : left + 340])
    gt = np.asarray(part.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    worse = gt * 0.3 if task == "low_light" else gt + rng.normal(0, 15, gt.shape)
    return gt, np.clip(worse, 0, 255).astype(np.uint8)


def _encode(pixels: np.ndarray, form: str) -> bytes:
    from manifests import images

    return images.encode_png(pixels) if form == "png" else images.encode_jpeg(pixels, 92)


def _index(path: str, task: str) -> list[dict[str, Any]]:
    """The rows of a shard folder for one tar."""
    with tarfile.open(path) as tar:
        members = {member.name: member for member in tar}
    rows: dict[str, dict[str, Any]] = {}
    for name, member in members.items():
        key, side = name.split(".")[:2]
        row = rows.setdefault(key, _row(key, task, os.path.basename(path)))
        if side in ("lq", "gt"):
            row |= {f"{side}_path": name, f"{side}_offset": member.offset_data, f"{side}_size": member.size}
    return list(rows.values())


def _row(key: str, task: str, shard: str) -> dict[str, Any]:
    return {
        "pair_id": key, "group": key, "dataset": "photos", "task": task, "subtask": task, "split": "train",
        "width": SIZE, "height": SIZE, "scale": 1, "shard": shard, "lq_path": f"{key}.lq", "gt_path": f"{key}.gt",
        "lq_offset": 0, "lq_size": 1, "gt_offset": 1, "gt_size": 1,
    }  # fmt: skip


def _write(folder: str, rows: list[dict[str, Any]]) -> str:
    return _write_table(folder, pa.Table.from_pylist(rows))


def _write_table(folder: str, rows: pa.Table) -> str:
    from manifests import table

    table.write(folder, rows, roots={"photos": folder}, stages=STAGES)
    return folder


def _reading(shards: str, form: str, peers: str | None, rounds: int, seconds: float) -> list[Figure]:
    """Samples a second of ours, of the peers and of the bound, in turn, each in processes of its own."""
    if peers:
        _call(peers, "mds", shards)
    names = ["equimix", "webdataset", *(["streaming"] if peers else []), "bound"]
    speed: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            python = peers if name == "streaming" and peers else sys.executable
            speed[name].append(float(_call(python, name, shards, str(WORKERS), str(seconds))))
    what = f"{form.upper()} pairs, {WORKERS} workers"
    figures = [_figure(f"{what}: {name}", statistics.median(speed[name]), "samples/s") for name in names]
    bars = {"webdataset": 1.2, "streaming": 1.1, "bound": 0.9} if form == "png" else dict.fromkeys(names[1:], 1.0)
    bars["bound"] = 0.9
    return figures + [_ratio(f"{what}: equimix / {name}", speed, "equimix", name, bars[name]) for name in names[1:]]


def _call(python: str, *arguments: str) -> str:
    """Run benchmarks.readers in this interpreter; returns the last line that it prints."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    done = subprocess.run(
        [python, "-m", "benchmarks.readers", *arguments], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        sys.exit(f"{python} -m benchmarks.readers {' '.join(arguments)}:\n{done.stderr[-2000:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def _ratio(what: str, speed: dict[str, list[float]], one: str, other: str, target: float) -> Figure:
    ratio = statistics.median(a / b for a, b in zip(speed[one], speed[other], strict=True))
    return _figure(what, ratio, "x", target, ratio >= target)


def _million(folder: str, rounds: int) -> list[Figure]:
    """A million samples in a thousand shards: how soon the first batch is there, and what it takes."""
    shards = os.path.join(folder, "million")
    _make_million(shards)
    found: dict[str, list[dict[str, float]]] = {"0": [], str(HALF // LARGE): []}
    for _ in range(rounds):
        for start, each in found.items():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.stream", "--first", shards, "--start", start],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            each.append(json.loads(done.stdout.strip().splitlines()[-1]))
    first, later = ({key: statistics.median(one[key] for one in each) for key in each[0]} for each in found.values())
    what = "1 000 000 samples in 1 000 shards"
    return [
        _figure(f"{what}: first batch after imports, with 2 workers", first["seconds"], "s", 2.0, first["seconds"] < 2),
        _figure(f"{what}: memory above torch alone, 2 workers", first["memory"], "MiB", 300, first["memory"] < 300),
        _figure(f"{what}: of that, the workers", first["workers"], "MiB"),
        _figure(f"resume at sample {HALF}, of an open stream", later["sought"], "s", 1.0, later["sought"] < 1),
        _figure(f"resume at sample {HALF}, from nothing", later["seconds"], "s", 1.0, later["seconds"] < 1),
    ]


def _first(shards: str, start: int) -> None:
    """What `_million` runs in a process of its own."""
    import torch  # noqa: F401

    alone = _resident(os.getpid())
    from trainer.stream.index import open_index
    from trainer.stream.loader import Stream

    began = time.perf_counter()
    with Stream(lambda: open_index(shards), batch=LARGE, crop=SMALL, seed=0, workers=2) as stream:
        weights = dict.fromkeys(stream.index.strata, 1.0)
        next(stream.batches(weights, {}, start, 10**6, interval_start=0))
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        batches = stream.batches(weights, {}, start + 10_000, 10**6, interval_start=0)
        next(batches)
        sought = time.perf_counter() - began
        for _ in range(8):
            next(batches)
        workers = sum(max(_resident(pid) - alone, 0.0) for pid in stream.pids)
        memory = _resident(os.getpid()) - alone + workers
    print(json.dumps({"seconds": seconds, "sought": sought, "memory": memory, "workers": workers}))


def _resident(pid: int) -> float:
    """Resident memory of a process, MiB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _make_million(folder: str) -> None:
    """A thousand names of one small tar, and an index in which each has a thousand pairs."""
    os.makedirs(folder)
    one = os.path.join(folder, "one.tar")
    gt, lq = _pair("denoise", 0)
    places: dict[str, Any] = {}
    with tarfile.open(one, "w", format=tarfile.USTAR_FORMAT) as tar:
        for side, pixels in (("lq", lq), ("gt", gt)):
            data = _encode(pixels, "png")
            member = tarfile.TarInfo(f"a.{side}.png")
            member.size = len(data)
            places |= {
                f"{side}_offset": np.full(MILLION, tar.offset + 512),
                f"{side}_size": np.full(MILLION, len(data)),
            }
            tar.addfile(member, io.BytesIO(data))
    for number in range(1000):
        os.link(one, os.path.join(folder, f"s{number:04d}.tar"))
    rng, each = np.random.default_rng(0), np.arange(MILLION)
    sides = dict.fromkeys(("width", "height", "lq.width", "lq.height"), np.full(MILLION, SIZE, np.int32))
    columns = {
        "pair_id": _hex(rng, 16), "group": np.char.mod("g%d", each // 4), "dataset": np.repeat("photos", MILLION),
        "task": np.char.mod("task%d", each // 1000 % 10), "subtask": np.repeat("x", MILLION),
        "split": np.repeat("train", MILLION), "lq_path": np.char.mod("lq/%d.png", each),
        "gt_path": np.char.mod("gt/%d.png", each), "gt_sha256": _hex(rng, 32), "lq.sha256": _hex(rng, 32),
        "scale": np.ones(MILLION, np.int32), "shard": np.char.mod("s%04d.tar", each // 1000), **sides, **places,
    }  # fmt: skip
    _write_table(folder, pa.table({name: pa.array(values) for name, values in columns.items()}))


def _hex(rng: np.random.Generator, size: int) -> list[str]:
    text = rng.bytes(MILLION * size).hex()
    return [text[k : k + 2 * size] for k in range(0, len(text), 2 * size)]


def _planning(folder: str, steps: int) -> list[Figure]:
    """Milliseconds to plan a step of 64 slots and look its rows up; nothing is read."""
    from trainer.stream.index import open_index
    from trainer.stream.plan import counts, plan_steps

    rng = np.random.default_rng(0)
    rows = [_row(f"{k:032d}", f"task{k % 8}", f"task{k % 8}-{k // 800:04d}.tar") for k in range(100_000)]
    shards = _write(os.path.join(folder, "rows"), rows)
    figures = []
    for what, strata, target in (("8 tasks", "task", 1.0), ("1000 shards", "shard", 2.0)):
        start = time.perf_counter()
        index = open_index(shards, strata=strata)
        opening = time.perf_counter() - start
        weights = dict(zip(index.strata, rng.dirichlet(np.ones(len(index.strata))).tolist(), strict=True))
        start = time.perf_counter()
        for slots in plan_steps(index, weights, {}, 0, steps, interval_start=0, batch=64, crop=CROP, seed=0):
            for slot in slots:
                _ = index.rows[slot.row]
        spent = (time.perf_counter() - start) / steps * 1e3
        figures.append(_figure(f"plan a step: {what}, B = 64, 100 000 pairs", spent, "ms", target, spent <= target))
        figures.append(_figure(f"open the index: {what}, 100 000 pairs", opening, "s"))
    weights = dict(zip(map(str, range(10_000)), rng.dirichlet(np.ones(10_000)).tolist(), strict=True))
    start = time.perf_counter()
    counts(weights, 64, steps, steps, interval_start=0, seed=0)
    replay = (time.perf_counter() - start) / steps * 1e3
    return [*figures, _figure("replay a step on resume: 10 000 strata, B = 64", replay, "ms", 1.0, replay <= 1.0)]


def _figure(what: str, value: float, unit: str, target: float | None = None, met: bool | None = None) -> Figure:
    return {"what": what, "value": round(value, 3), "unit": unit, "target": target, "met": met}


def _print(figures: list[Figure]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "value", "unit", "target", "met")
    for one in figures:
        table.add_row(*("" if value is None else str(value) for value in one.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
