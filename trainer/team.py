"""The processes that train together: one, or as many as `accelerate launch` or `torchrun` started.

All of them hold the same state and plan the same steps; rank 0 alone writes files and asks the rule for weights.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from manifests.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """This process among the `world` that train. device: "cpu", "cuda", or "cuda:N" of several."""

    device: str
    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder and talks to the person."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training: its gradients are averaged over the processes."""
        if self.world == 1:
            return model
        # a depthwise kernel's gradient has other strides in its dimension of size 1, which costs nothing
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        devices = [torch.device(self.device)] if self.device.startswith("cuda") else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)

    def gather(self, value: T) -> list[T]:
        """Everybody's value, by rank. Values are pickled."""
        if self.world == 1:
            return [value]
        out: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(out, value)
        return out

    def exchange(self, values: Sequence[float], lengths: Sequence[int]) -> list[list[float]]:
        """Everybody's numbers, by rank; `lengths` says how many each has. Quicker than `gather`."""
        if self.world == 1:
            return [list(values)]
        mine = torch.zeros(max(lengths), dtype=torch.float64)
        mine[: len(values)] = torch.tensor(values, dtype=torch.float64)
        mine = mine.to(self.device)
        out: list[Tensor] = [torch.empty_like(mine) for _ in lengths]
        torch.distributed.all_gather(out, mine)
        return [one[:length].tolist() for one, length in zip(out, lengths, strict=True)]

    def lead(self, action: Callable[[], T]) -> T:
        """What `action` gives rank 0, for everybody. When it fails, rank 0 raises and the others leave in silence."""
        if self.world == 1:
            return action()
        box: list[Any] = [None, None]
        if self.is_main:
            try:
                box[0] = action()
            except BaseException as error:
                self._broadcast([None, getattr(error, "exit_code", 1)])
                raise
        self._broadcast(box)
        if box[1] is not None:
            raise SystemExit(box[1])
        result: T = box[0]
        return result

    def after_lead(self, action: Callable[[], T]) -> T:
        """`action` in every process, in rank 0 first: what is wrong for all of them is said once."""
        mine: list[T] = []
        self.lead(lambda: mine.append(action()))
        return mine[0] if mine else action()

    def ending(self, error: UserError) -> BaseException:
        """What to raise where every process ends with this error: rank 0 alone says it."""
        return error if self.is_main else SystemExit(error.exit_code)

    def agree(self, error: UserError | None) -> None:
        """Raises that error, the first there is, on rank 0, and ends the others, when any process brings one."""
        found = [text for text in self.gather(None if error is None else str(error)) if text is not None]
        if not found:
            return
        if self.is_main:
            raise error or UserError(found[0])
        raise SystemExit(1)

    def _broadcast(self, box: list[Any]) -> None:
        torch.distributed.broadcast_object_list(box, src=0)


def join(device: str) -> Team:
    """The team of this process, from what the launcher put into the environment; `device` as `devices.resolve` has it.

    Raises UserError when there are more processes than GPUs on this machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Team(device)
    from accelerate import PartialState

    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda" and local >= torch.cuda.device_count():
        raise UserError(
            f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}; start fewer",
            exit_code=2,
        )
    state = PartialState(cpu=device == "cpu")
    name = "cpu" if device == "cpu" else str(state.device)  # accelerate counts CPUs as well
    return Team(name, state.process_index, state.num_processes)


@contextlib.contextmanager
def without_sync(wrapped: nn.Module, *, when: bool) -> Any:
    """Hold back the averaging of gradients, for all but the last part of an accumulated step."""
    if when and isinstance(wrapped, nn.parallel.DistributedDataParallel):
        with wrapped.no_sync():
            yield
    else:
        yield
