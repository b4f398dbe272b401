"""Our stream against plain `webdataset` on the same tars, and the time to plan a step: `python -m benchmarks.stream`.

Both read the same shards, decode with Pillow, crop and flip alike, make batches of the same size in the same number of
processes, and take turns. The bound is what nobody can avoid with that decoder: `pread`, decode and crop, bare.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

SIZE, CROP, BATCH = 512, 256, 8
WARM = 5  # batches before the clock starts: worker start, imports, prefetch
STAGES = [{"stage": "benchmark", "version": 1, "params": {}, "inputs": []}]
Figure = dict[str, object]


def main() -> None:
    """Measure, print a table, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer batches and rounds, under a minute")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for form in ("png", "jpg"):
            shards = _make_shards(os.path.join(folder, form), form, pairs=12 if options.quick else 48)
            figures += _reading(shards, form, rounds=3 if options.quick else 7, batches=6 if options.quick else 24)
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
    from manifests import table

    table.write(folder, pa.Table.from_pylist(rows), roots={"photos": folder}, stages=STAGES)
    return folder


def _reading(shards: str, form: str, rounds: int, batches: int) -> list[Figure]:
    """Samples a second of ours and of the peer, for 0 and 2 workers, and of the bound."""
    speed: dict[str, list[float]] = {}
    for _ in range(rounds):
        for workers in (0, 2):
            for name, source in (("equimix", _ours), ("webdataset", _peer)):
                speed.setdefault(f"{name} {workers}", []).append(_speed(source(shards, workers), batches))
        speed.setdefault("bound 0", []).append(_speed(_bound(shards), batches))
    figures = []
    for workers in (0, 2):
        what = f"{form.upper()} pairs, {workers} workers"
        figures += [
            _figure(f"{what}: {name}", statistics.median(speed[f"{name} {workers}"]), "samples/s")
            for name in ("equimix", "webdataset")
        ]
        figures.append(_ratio(f"{what}: equimix / webdataset", speed, f"equimix {workers}", f"webdataset {workers}", 1))
    figures.append(_ratio(f"{form.upper()} pairs, 0 workers: equimix / bound", speed, "equimix 0", "bound 0", 0.9))
    return figures


def _ratio(what: str, speed: dict[str, list[float]], one: str, other: str, target: float) -> Figure:
    ratio = statistics.median(a / b for a, b in zip(speed[one], speed[other], strict=True))
    return _figure(what, ratio, "x", target, ratio >= target)


def _speed(source: Iterator[int], batches: int) -> float:
    """Samples a second, once it runs."""
    for _ in range(WARM):
        next(source)
    start = time.perf_counter()
    samples = sum(next(source) for _ in range(batches))
    seconds = time.perf_counter() - start
    source.close()  # type: ignore[attr-defined]
    return samples / seconds


def _ours(shards: str, workers: int) -> Iterator[int]:
    from trainer.stream.index import open_index
    from trainer.stream.loader import Stream

    with Stream(open_index(shards), batch=BATCH, crop=CROP, seed=0, workers=workers) as stream:
        for batch in stream.batches({"denoise": 0.5, "low_light": 0.5}, {}, 0, 10**6, interval_start=0):
            yield len(batch.lq) + 0 * len(batch.gt)


def _peer(shards: str, workers: int) -> Iterator[int]:
    """`webdataset` as its documentation has it: resampled shards, shuffle, decode, map, batches, DataLoader."""
    import torch
    import webdataset

    tars = sorted(os.path.join(shards, name) for name in os.listdir(shards) if name.endswith(".tar"))
    data = webdataset.WebDataset(tars, resampled=True, shardshuffle=False).shuffle(16).decode("rgb8")
    data = data.map(_crop_sample).batched(BATCH, collation_fn=_stack)
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers)
    for lq, gt in loader:
        yield len(lq.div(255.0)) + 0 * len(gt.div(255.0))


def _crop_sample(sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    form = "png" if "lq.png" in sample else "jpg"
    return _crop(sample[f"lq.{form}"], sample[f"gt.{form}"])


def _crop(lq: np.ndarray, gt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same random crop and flips of both."""
    top, left = random.randrange(SIZE - CROP + 1), random.randrange(SIZE - CROP + 1)
    turns = [random.random() < 0.5 for _ in range(3)]

    def one(pixels: np.ndarray) -> np.ndarray:
        part = pixels[top : top + CROP, left : left + CROP]
        part = part[:, ::-1] if turns[0] else part
        part = part[::-1] if turns[1] else part
        return part.transpose(1, 0, 2) if turns[2] else part

    return one(lq), one(gt)


def _stack(samples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Any, Any]:
    """Two (B, 3, crop, crop) uint8 tensors."""
    import torch

    lq, gt = (np.stack([pixels.transpose(2, 0, 1) for pixels in side]) for side in zip(*samples, strict=True))
    return torch.from_numpy(lq), torch.from_numpy(gt)


def _bound(shards: str) -> Iterator[int]:
    """`pread`, Pillow and a crop in a loop: no plan, no guards, no batch."""
    from PIL import Image

    from trainer.stream.index import open_index

    rows = list(open_index(shards).rows)
    handles = {url: os.open(url, os.O_RDONLY) for url in {row.lq.url for row in rows}}
    try:
        while True:
            for row in random.sample(rows, BATCH):
                data = [os.pread(handles[one.url], one.size, one.offset) for one in (row.lq, row.gt)]
                _crop(*(np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in data))
            yield BATCH
    finally:
        for handle in handles.values():
            os.close(handle)


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
