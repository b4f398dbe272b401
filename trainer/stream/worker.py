"""What runs in a loader process: it is told rows and crops, reads, decodes, crops, and knows nothing else.

It imports neither torch nor the script that trains, so that it starts in a fraction of a second and is small.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from manifests.errors import UserError
from trainer.stream import crops
from trainer.stream.cache import Cache
from trainer.stream.plan import Slot
from trainer.stream.reading import Reader, Row

Job = list[tuple[Slot, Row]]
Sample = tuple[Any, Any]  # LQ and GT, (crop, crop, 3)
Buffer = npt.NDArray[np.uint8]  # (2, B, crop, crop, 3): LQ and GT


class Made(NamedTuple):
    """What becomes of a job: LQ and GT, (B, crop, crop, 3), or its samples one by one where a pair cannot be read.

    pixels: None on the way from a loader process when they are in its buffer. fetched: remote shards that it took.
    """

    pixels: tuple[Any, Any] | None
    samples: list[Sample | UserError]
    fetched: int


class Maker:
    """Makes samples. crop: side in GT pixels. upsampling, cache: as in `Stream`."""

    def __init__(self, crop: int, upsampling: str, cache: Cache | None) -> None:
        self.crop, self.upsampling, self.cache = crop, upsampling, cache
        self._reader = Reader(cache)

    def make(self, job: Job, buffer: Buffer | None = None) -> Made:
        """The pixels of a job: in `buffer`, where all files have 8 bits."""
        before = self.cache.fetched if self.cache else 0
        if buffer is None:
            buffer = np.empty((2, len(job), self.crop, self.crop, 3), np.uint8)
        places: list[Sample] = [(buffer[0, k], buffer[1, k]) for k in range(len(job))]
        samples = [self.sample(*one, place) for one, place in zip(job, places, strict=True)]
        fetched = self.cache.fetched - before if self.cache else 0
        whole = [one for one in samples if not isinstance(one, UserError)]
        if len(whole) < len(samples):
            return Made(None, [_own(one) for one in samples], fetched)
        if all(one is place for one, place in zip(whole, places, strict=True)):
            return Made((buffer[0, : len(job)], buffer[1, : len(job)]), [], fetched)
        return Made(collate(whole), [], fetched)

    def sample(self, slot: Slot, row: Row, into: Sample | None = None) -> Sample | UserError:
        """One slot's crops (in `into`, if that is given and fits), or what is wrong with its pair."""
        try:
            pair = self._reader.pair(row, bottom=slot.top + self.crop, margin=crops.MARGIN)
            return crops.cut(pair, row.scale, slot, self.crop, self.upsampling, into)
        except UserError as error:
            return error

    def close(self) -> None:
        """Close its files."""
        self._reader.close()


def collate(samples: Sequence[Sample]) -> tuple[Any, Any]:
    """LQ and GT of samples, (B, crop, crop, 3) each: uint8 when all are, else float32 in [0, 1]."""
    lq, gt = zip(*samples, strict=True)
    return crops.collate(lq), crops.collate(gt)


def _own(sample: Sample | UserError) -> Sample | UserError:
    return sample if isinstance(sample, UserError) else (sample[0].copy(), sample[1].copy())


def main(pipe: int, memory: int, shape: tuple[int, ...]) -> None:
    """Answer jobs until the other end of the pipe is closed, which its death does as well.

    pipe: file descriptor. memory: of the shared buffers, of `shape` (buffers, 2, B, crop, crop, 3) bytes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training process ends us
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    import mmap

    connection = Connection(pipe)
    buffers = np.frombuffer(mmap.mmap(memory, 0), np.uint8)[: int(np.prod(shape))].reshape(shape)
    jobs: queue.SimpleQueue[tuple[int, Job]] = queue.SimpleQueue()
    maker: Maker = connection.recv()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    while True:
        place, job = jobs.get()
        try:
            answer: Made | str = _sent(maker.make(job, buffers[place]), buffers[place])
        except Exception:  # a defect of ours: the training process shows it
            answer = traceback.format_exc()
        try:
            connection.send(answer)
        except OSError:
            os._exit(0)


def _sent(made: Made, buffer: Buffer) -> Made:
    in_buffer = made.pixels is not None and np.shares_memory(made.pixels[0], buffer)
    return made._replace(pixels=None) if in_buffer else made


def _listen(connection: Connection, jobs: queue.SimpleQueue[tuple[int, Job]]) -> None:
    """Take jobs off the pipe at once, so that who sends them never waits."""
    while True:
        try:
            jobs.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)
