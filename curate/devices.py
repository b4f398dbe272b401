"""Where models run: the devices that `--device` means, and which of them is this process's own."""

from __future__ import annotations

from curate import engine
from manifests.errors import UserError


def count(device: str) -> int:
    """How many CUDA devices `device` means: all that there are for "cuda", one for "cuda:1", none for the CPU.

    Raises UserError where there is none.
    """
    if not device.startswith("cuda"):
        return 0
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"--device {device}: this machine has no CUDA device; leave it out to use the CPU")
    return torch.cuda.device_count() if device == "cuda" else 1


def mine(device: str) -> str:
    """The device that this process computes on: "cuda" is shared out among the worker processes by their number."""
    found = count(device)
    return f"cuda:{engine.worker_number() % found}" if device == "cuda" else device
