"""Where models run: the devices that `--device` means, and which of them is this process's own."""

from __future__ import annotations

import re

from curate import engine
from manifests.errors import UserError


def count(device: str) -> int:
    """How many CUDA devices `device` means: all that there are for "cuda", one for "cuda:1", none for the CPU.

    Raises UserError where there is none.
    """
    if device == "cpu":
        return 0
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise UserError(f"--device {device}: choose cpu, cuda, or one device such as cuda:1", exit_code=2)
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"--device {device}: this machine has no CUDA device; leave it out to use the CPU")
    there = torch.cuda.device_count()
    if device == "cuda":
        return there
    if int(device.removeprefix("cuda:")) >= there:
        raise UserError(f"--device {device}: there are {there} CUDA devices, from cuda:0 on")
    return 1


def mine(device: str) -> str:
    """The device that this process computes on: "cuda" is shared out among the worker processes by their number."""
    found = count(device)
    return f"cuda:{engine.worker_number() % found}" if device == "cuda" else device
