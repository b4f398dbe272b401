"""The loader processes as the training process sees them: jobs in, tensors out, in order.

Each has a pipe, and a few buffers in memory that both see and that no file name leads to: when the training process
is killed, the pipe breaks, the processes end, and nothing is left. Nobody is forked, so threads and CUDA are safe.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifests.errors import UserError
from trainer.stream.worker import Job, Made, Maker

Tensors = tuple[Tensor, Tensor]

# A decoder's room is taken and given back with every image; asking the system for it each time costs a quarter of the
# speed. So glibc keeps up to 128 MiB of it; other systems do not look at these.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(128 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


class Worker:
    """One loader process with `prefetch` buffers for batches of `batch` samples."""

    def __init__(self, maker: Maker, prefetch: int, batch: int) -> None:
        shape = (prefetch, 2, batch, maker.crop, maker.crop, 3)
        memory = _anonymous(int(np.prod(shape)))
        here, there = Pipe()
        try:
            call = f"from trainer.stream.worker import main; main({there.fileno()}, {memory}, {shape})"
            path = os.pathsep.join(one or os.getcwd() for one in sys.path)
            environment = {**MALLOC, **os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(
                [sys.executable, "-c", call],
                env=environment,
                pass_fds=(there.fileno(), memory),
                stdin=subprocess.DEVNULL,
            )
            self.buffers = np.frombuffer(mmap.mmap(memory, 0), np.uint8)[: int(np.prod(shape))].reshape(shape)
        finally:
            os.close(memory)
            there.close()
        self.pipe: Connection = here
        self.pipe.send(maker)

    def send(self, place: int, job: Job) -> None:
        """Ask for a job's tensors, in buffer `place`."""
        try:
            self.pipe.send((place, job))
        except OSError:
            self._died()

    def receive(self) -> Made:
        """The answer to the oldest job. Raises UserError when the process has died, RuntimeError for a defect."""
        try:
            answer: Made | str = self.pipe.recv()
        except (EOFError, OSError):
            self._died()
        if isinstance(answer, str):
            raise RuntimeError(f"in a loader process:\n{answer}")
        return answer

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        self.process.kill()
        self.process.wait()

    def _died(self) -> Any:
        code = self.process.wait()
        how = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with exit code {code}"
        raise UserError(f"a loader process {how}; go on with --resume, with fewer --workers if memory is short")


class Pool:
    """Several workers. Jobs are dealt out in turn and answered in order, whatever their number."""

    def __init__(self, maker: Maker, workers: int, prefetch: int, batch: int, *, pin: bool) -> None:
        self._prefetch, self._pin = prefetch, pin
        self._workers = [Worker(maker, prefetch, batch) for _ in range(workers)]
        self._asked = self._answered = 0  # jobs

    def run(self, jobs: Iterator[Job]) -> Iterator[tuple[Tensors | None, Made]]:
        """The tensors of each job, or None where a sample of it cannot be read. Ends what an earlier call has left."""
        self._drain()
        waiting: deque[int] = deque()
        for _ in range(len(self._workers) * self._prefetch):
            self._ask(jobs, waiting)
        while waiting:
            size = waiting.popleft()
            worker, place = self._turn(self._answered)
            made = worker.receive()
            self._answered += 1
            tensors = None
            if made.pixels is not None:
                tensors = self._own(*made.pixels)
            elif not made.samples:
                tensors = self._own(*worker.buffers[place, :, :size])
            self._ask(jobs, waiting)
            yield tensors, made

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.close()

    def _ask(self, jobs: Iterator[Job], waiting: deque[int]) -> None:
        if (job := next(jobs, None)) is not None:
            worker, place = self._turn(self._asked)
            worker.send(place, job)
            self._asked += 1
            waiting.append(len(job))

    def _turn(self, number: int) -> tuple[Worker, int]:
        """Who makes job `number`, and in which of its buffers."""
        return self._workers[number % len(self._workers)], number // len(self._workers) % self._prefetch

    def _drain(self) -> None:
        while self._answered < self._asked:
            self._turn(self._answered)[0].receive()
            self._answered += 1

    def _own(self, lq: Any, gt: Any) -> Tensors:
        """Copies that outlive the buffer, in pinned memory if that is wanted."""
        return _copy(lq, pin=self._pin), _copy(gt, pin=self._pin)


def as_tensor(pixels: Any) -> Tensor:
    """(B, crop, crop, 3) pixels as (B, 3, crop, crop), channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _copy(pixels: Any, *, pin: bool) -> Tensor:
    there = as_tensor(pixels)
    return torch.empty_like(there, pin_memory=pin).copy_(there)


def _anonymous(size: int) -> int:
    """A file descriptor of memory without a name; of a file without one where the system has no such thing."""
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("equimix")
    else:
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
    os.truncate(memory, size)
    return memory
