"""One reader for some seconds, in a process of its own: `python -m benchmarks.readers NAME FOLDER WORKERS SECONDS`.

Prints samples a second. `webdataset` and `streaming` are used as their documentation has it; they need nothing of ours,
so that this file runs in an environment of theirs as well.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

SIZE, CROP, BATCH = 512, 256, 8
WARM = 10  # batches before the clock starts: worker start, imports, prefetch
TASKS = ("denoise", "low_light")


def main() -> None:
    """Measure the reader that the command line names."""
    name, folder, workers, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    speed = (
        bound(folder, max(workers, 1), seconds) if name == "bound" else _speed(READERS[name](folder, workers), seconds)
    )
    print(json.dumps(speed))


def _speed(source: Iterator[int], seconds: float) -> float:
    for _ in range(WARM):
        next(source)
    start, samples = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        samples += next(source)
    spent = time.perf_counter() - start
    source.close()  # type: ignore[attr-defined]
    return samples / spent


def equimix(folder: str, workers: int) -> Iterator[int]:
    """Our stream, both tasks at half the weight."""
    from trainer.stream.index import open_index
    from trainer.stream.loader import Stream

    with Stream(open_index(folder), batch=BATCH, crop=CROP, seed=0, workers=workers) as stream:
        for batch in stream.batches(dict.fromkeys(TASKS, 0.5), {}, 0, 10**6, interval_start=0):
            yield len(batch.lq_pixels)


def webdataset(folder: str, workers: int) -> Iterator[int]:
    """RandomMix of one pipeline a task: resampled shards, shuffle, decode, map, batches, DataLoader."""
    import torch
    import webdataset as wds

    parts = []
    for task in TASKS:
        tars = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(task))
        part = wds.WebDataset(tars, resampled=True, shardshuffle=False).shuffle(16).decode("rgb8")
        parts.append(part.map(_of_sample))
    mixed = wds.DataPipeline(wds.RandomMix(parts, [0.5, 0.5]), wds.batched(BATCH, collation_fn=_stack))
    for lq, _ in torch.utils.data.DataLoader(mixed, batch_size=None, num_workers=workers):
        yield len(lq)


def streaming(folder: str, workers: int) -> Iterator[int]:
    """StreamingDataset over one Stream a task with a proportion, the images as bytes, decoded by Pillow."""
    import torch
    from streaming import Stream, StreamingDataset

    class Pairs(StreamingDataset):
        def __getitem__(self, index: int) -> Any:
            sample = super().__getitem__(index)
            return tuple(_channels_first(one) for one in _crop(*(_decoded(sample[side]) for side in ("lq", "gt"))))

    streams = [Stream(local=os.path.join(folder, "mds", task), proportion=0.5) for task in TASKS]
    data = Pairs(streams=streams, batch_size=BATCH, shuffle=True, epoch_size=1_000_000, shuffle_block_size=64)
    for lq, _ in torch.utils.data.DataLoader(data, batch_size=BATCH, num_workers=workers):
        yield len(lq)


def bound(folder: str, processes: int, seconds: float) -> float:
    """`pread`, our decoder and a crop in a loop, in so many processes: no plan, no guards, no batch."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return sum(pool.starmap(_bare, [(folder, seconds, number) for number in range(processes)]))


def _bare(folder: str, seconds: float, seed: int) -> float:
    from manifests import images
    from trainer.stream.index import open_index

    rows, dice = list(open_index(folder).rows), random.Random(seed)
    handles = {url: os.open(url, os.O_RDONLY) for url in {row.lq.url for row in rows}}
    start, samples = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        row, top, left = dice.choice(rows), dice.randrange(SIZE - CROP + 1), dice.randrange(SIZE - CROP + 1)
        for one in (row.lq, row.gt):
            data = os.pread(handles[one.url], one.size, one.offset)
            images.decode_rows(data, top + CROP)[0][top : top + CROP, left : left + CROP].copy()
        samples += 1
    return samples / (time.perf_counter() - start)


def _of_sample(sample: dict[str, Any]) -> tuple[Any, ...]:
    form = "png" if "lq.png" in sample else "jpg"
    return _crop(sample[f"lq.{form}"], sample[f"gt.{form}"])


def _decoded(data: bytes) -> Any:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _crop(*pair: Any) -> tuple[Any, ...]:
    """The same random crop and flips of both."""
    top, left = random.randrange(SIZE - CROP + 1), random.randrange(SIZE - CROP + 1)
    turns = [random.random() < 0.5 for _ in range(3)]

    def one(pixels: Any) -> Any:
        part = pixels[top : top + CROP, left : left + CROP]
        part = part[:, ::-1] if turns[0] else part
        part = part[::-1] if turns[1] else part
        return part.transpose(1, 0, 2) if turns[2] else part

    return tuple(map(one, pair))


def _channels_first(pixels: Any) -> Any:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _stack(samples: list[Any]) -> tuple[Any, ...]:
    """Two (B, 3, crop, crop) uint8 tensors."""
    import torch

    return tuple(
        torch.from_numpy(np.stack([_channels_first(one) for one in side])) for side in zip(*samples, strict=True)
    )


def write_mds(folder: str) -> None:
    """The pairs of the tars once more in mosaicml-streaming's own format, below `folder`/mds."""
    import tarfile

    from streaming import MDSWriter

    for task in TASKS:
        with MDSWriter(out=os.path.join(folder, "mds", task), columns={"lq": "bytes", "gt": "bytes"}) as writer:
            for name in sorted(one for one in os.listdir(folder) if one.startswith(task)):
                with tarfile.open(os.path.join(folder, name)) as tar:
                    pairs: dict[str, dict[str, bytes]] = {}
                    for member in tar:
                        key, side = member.name.split(".")[:2]
                        if side in ("lq", "gt"):
                            pairs.setdefault(key, {})[side] = tar.extractfile(member).read()  # type: ignore[union-attr]
                for pair in pairs.values():
                    writer.write(pair)


READERS = {"equimix": equimix, "webdataset": webdataset, "streaming": streaming}

if __name__ == "__main__":
    write_mds(sys.argv[2]) if sys.argv[1] == "mds" else main()
