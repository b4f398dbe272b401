"""The plan's slots as tensors: the main process plans, loader processes read, decode and crop, and know nothing else.

Every worker is told which rows and crops to make, so any number of them gives the same batches in the same order. Of
several training processes each plans the whole step and loads its part of the slots.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from manifests.errors import UserError
from trainer.stream import plan
from trainer.stream.cache import Cache
from trainer.stream.index import Index
from trainer.stream.plan import Slot
from trainer.stream.worker import Job, Made, Maker, Sample, collate
from trainer.stream.workers import Pool, Tensors, as_tensor

ATTEMPTS = 8  # pairs that are tried in place of one that cannot be read


@dataclass(frozen=True)
class Batch:
    """One step's samples of this process, in the order of their slots.

    lq, gt: (B, 3, crop, crop) float32 in [0, 1], RGB, channels last in memory. They travel as `lq_pixels`, `gt_pixels`:
    uint8 when every file of the batch has 8 bits a channel, else float32. step_task, step_pair: the task and pair_id of
    every slot of the step, also of those that other processes have. replaced: pair_id and reason of every pair that
    could not be read; its slot holds another pair of the same stratum. fetched: remote shards that were brought for it.
    """

    step: int
    slots: list[Slot]
    task: list[str]
    pair_id: list[str]
    lq_pixels: Tensor
    gt_pixels: Tensor
    step_task: list[str] = field(default_factory=list)
    step_pair: list[str] = field(default_factory=list)
    replaced: list[tuple[str, str]] = field(default_factory=list)
    fetched: int = 0

    @cached_property
    def lq(self) -> Tensor:
        """The inputs."""
        return _unit(self.lq_pixels)

    @cached_property
    def gt(self) -> Tensor:
        """The targets."""
        return _unit(self.gt_pixels)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on `device`."""
        return replace(
            self,
            lq_pixels=self.lq_pixels.to(device, non_blocking=True),
            gt_pixels=self.gt_pixels.to(device, non_blocking=True),
        )

    def parts(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """LQ and GT in `count` parts of nearly equal size, for gradient accumulation."""
        lq, gt = (torch.tensor_split(side, count) for side in (self.lq_pixels, self.gt_pixels))
        return [(_unit(one), _unit(other)) for one, other in zip(lq, gt, strict=True) if len(one)]


def _unit(pixels: Tensor) -> Tensor:
    return pixels.div(255.0) if pixels.dtype == torch.uint8 else pixels


class _Jobs:
    """The batch sampler: hands out this process's jobs of the current plan and remembers which are under way."""

    def __init__(self, index: Index, rank: int, world: int) -> None:
        self._index, self._rank, self._world = index, rank, world
        self._steps: Iterator[list[Slot]] = iter(())
        self.under_way: deque[tuple[Job, list[str], list[str]]] = deque()

    def set(self, steps: Iterator[list[Slot]]) -> None:
        """Go over to another plan."""
        self._steps = steps
        self.under_way.clear()

    def __iter__(self) -> Iterator[Job]:
        for slots in self._steps:
            mine = plan.part(slots, self._rank, self._world)
            job = [(slot, self._index.rows[slot.row]) for slot in mine]
            tasks = [self._index.task_of[slot.stratum] for slot in slots]
            self.under_way.append((job, tasks, [self._index.rows[slot.row].pair_id for slot in slots]))
            yield job


class Stream:
    """Batches of an index, step by step, under weights that change between intervals.

        >>> with Stream(index, batch=16, crop=128, seed=0, workers=2) as stream:  # doctest: +SKIP
        ...     for batch in stream.batches(weights, cursors, 0, 1000, interval_start=0):
        ...         loss(model(batch.lq), batch.gt)

    index: the pairs, or what opens them (`lambda: open_index("shards")`): workers then start at the same time.
    batch: samples of a step, over all training processes. crop: side in GT pixels. workers: processes that read and
    decode; 0 does it here. prefetch: steps that each worker is ahead, never past the `stop` of the call. rank, world:
    which of how many training processes this is. upsampling: nearest, bilinear, bicubic, or random, of an LQ that is
    smaller than its GT. cache: where remote shards are kept; None reads them by ranged requests. pin: give tensors in
    pinned memory. Raises UserError when a scale of the index does not divide the crop, or a process would get nothing.
    """

    def __init__(
        self,
        index: Index | Callable[[], Index],
        *,
        batch: int,
        crop: int,
        seed: int,
        workers: int = 0,
        prefetch: int = 2,
        rank: int = 0,
        world: int = 1,
        upsampling: str = "random",
        cache: Cache | None = None,
        pin: bool = False,
    ) -> None:
        if not callable(index):
            plan.check_crop(index, crop)
        if batch < world:
            raise UserError(
                f"batch {batch}: is shared by {world} processes, so it must be {world} or more", exit_code=2
            )
        self.batch, self.crop, self.seed, self._calls = batch, crop, seed, 0
        self._maker = Maker(crop, upsampling, cache)
        most = len(plan.part(range(batch), world - 1, world))
        self._pool = Pool(self._maker, workers, prefetch, most, pin=pin) if workers else None
        try:
            self.index = index() if callable(index) else index
            plan.check_crop(self.index, crop)
        except BaseException:
            self.close()
            raise
        self._walks = plan.Walks(self.index, seed)
        self._jobs = _Jobs(self.index, rank, world)

    def batches(
        self,
        weights: Mapping[str, float],
        cursors: Mapping[str, int],
        start: int,
        stop: int,
        *,
        interval_start: int,
    ) -> Iterator[Batch]:
        """The steps [start, stop), all in the weight interval that began at `interval_start`.

        weights, cursors: per stratum; the cursors are those at `interval_start` (`plan.advance` gives the next
        interval's). A new call ends an unfinished one. A pair that cannot be read is replaced by another of its
        stratum (`Batch.replaced`); raises UserError when eight others cannot be read either.
        """
        steps = plan.plan_steps(
            self.index, weights, cursors, start, stop,
            interval_start=interval_start, batch=self.batch, crop=self.crop, seed=self.seed, walks=self._walks,
        )  # fmt: skip
        self._calls += 1
        return self._batches(self._calls, steps)

    def _batches(self, call: int, steps: Iterator[list[Slot]]) -> Iterator[Batch]:
        self._check_current(call)
        self._jobs.set(steps)
        for tensors, made in self._made():
            job, step_task, step_pair = self._jobs.under_way.popleft()
            replaced: list[tuple[str, str]] = []
            if tensors is None:
                tensors, replaced = self._mended(made.samples, job)
            slots = [slot for slot, _ in job]
            tasks, ids = [row.task for _, row in job], [row.pair_id for _, row in job]
            yield Batch(slots[0].step, slots, tasks, ids, *tensors, step_task, step_pair, replaced, made.fetched)
            self._check_current(call)

    def _mended(self, samples: list[Sample | UserError], job: Job) -> tuple[Tensors, list[tuple[str, str]]]:
        """LQ and GT, with another pair in every slot whose own cannot be read (also in `job`); which, and why."""
        replaced: list[tuple[str, str]] = []
        for place, sample in enumerate(samples):
            first = job[place][0]
            for attempt in range(1, ATTEMPTS + 1):
                if not isinstance(sample, UserError):
                    break
                replaced.append((job[place][1].pair_id, str(sample)))
                slot = plan.replacement(self.index, first, attempt, crop=self.crop, seed=self.seed)
                job[place] = slot, self.index.rows[slot.row]
                samples[place] = sample = self._maker.sample(*job[place])
            if isinstance(sample, UserError):
                raise UserError(f"{sample}; {ATTEMPTS} other pairs of {first.stratum!r} could not be read either")
        whole = [one for one in samples if not isinstance(one, UserError)]
        return _tensors(*collate(whole)), replaced

    def _made(self) -> Iterator[tuple[Tensors | None, Made]]:
        if self._pool is not None:
            yield from self._pool.run(iter(self._jobs))
            return
        for job in self._jobs:
            made = self._maker.make(job)
            yield None if made.pixels is None else _tensors(*made.pixels), made

    def _check_current(self, call: int) -> None:
        if call != self._calls:
            raise RuntimeError("these batches ended when Stream.batches or Stream.close was called after them")

    def close(self) -> None:
        """End the loader processes and close the files; batches that are under way are lost."""
        self._calls += 1
        if self._pool is not None:
            self._pool.close()
        self._maker.close()

    @property
    def pids(self) -> list[int]:
        """Of the loader processes."""
        return [] if self._pool is None else self._pool.pids

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _tensors(lq: Any, gt: Any) -> Tensors:
    return as_tensor(lq), as_tensor(gt)
