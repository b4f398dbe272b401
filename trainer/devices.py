"""Where torch computes: which device, how many threads, and repeatably on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from manifests.errors import UserError


def resolve(device: str) -> str:
    """`auto` as "cuda" where there is one, else "cpu". Raises UserError when CUDA is asked for and absent."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device; use --device cpu", exit_code=2)
    return device


def uses_bf16(precision: str, device: str) -> bool:
    """Whether the forward pass runs under bf16 autocast."""
    return precision == "bf16" or (precision == "auto" and device.startswith("cuda") and torch.cuda.is_bf16_supported())


@contextlib.contextmanager
def computing(device: str, threads: int | None) -> Iterator[int]:
    """Set torch's threads and, on the CPU, deterministic algorithms; undone at the end. Yields the threads in use."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
