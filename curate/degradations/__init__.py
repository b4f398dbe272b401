"""Clean photographs to LQ versions: one module per task, found by looking into this folder.

    >>> import numpy as np
    >>> from curate import degradations
    >>> degradations.names()
    ('deblur', 'dehaze', 'denoise', 'derain', 'desnow', 'jpeg', 'low_light', 'sr')
    >>> gt = np.full((16, 16, 3), 128, np.uint8)
    >>> degradations.degrade(gt, "sr", "x2", seed=7).shape
    (8, 8, 3)

A task module holds ``SUBTASKS`` and two functions:

- ``sample(subtask, rng, severity)`` draws the parameters, a dict that JSON can hold;
- ``degrade(gt, subtask, params, rng)`` applies them; ``rng`` draws what is too large for a row (noise, flakes).

``severity`` lies in [0, 1] and is the task's own ease-to-hard scale; it is drawn uniformly when it is not given.
A new task is a new module here and its test.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

Params = dict[str, Any]
Image = npt.NDArray[np.uint8]


class TaskModule(Protocol):
    """What a module in this folder offers."""

    SUBTASKS: tuple[str, ...]

    def sample(self, subtask: str, rng: np.random.Generator, severity: float) -> Params: ...

    def degrade(self, gt: Image, subtask: str, params: Params, rng: np.random.Generator) -> Image: ...


@cache
def _modules() -> dict[str, TaskModule]:
    found = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return {name: cast(TaskModule, importlib.import_module(f"{__name__}.{name}")) for name in found}


def names() -> tuple[str, ...]:
    """The tasks, in alphabetical order."""
    return tuple(_modules())


def subtasks(task: str) -> tuple[str, ...]:
    """The subtasks of ``task``, in the order its module declares them."""
    return _module(task).SUBTASKS


def scale(task: str, subtask: str) -> int:
    """How many times the GT is larger than the LQ per side (1 for all but sr)."""
    return int(getattr(_checked(task, subtask), "SCALES", {}).get(subtask, 1))


def sample(task: str, subtask: str, seed: int | bytes, severity: float | None = None) -> Params:
    """The parameters that :func:`degrade` draws for the same arguments: JSON-able, with ``severity`` among them."""
    return _draw(_checked(task, subtask), subtask, _generator(seed), severity)


def degrade(gt: Image, task: str, subtask: str, seed: int | bytes, severity: float | None = None) -> Image:
    """The LQ version of a clean photograph.

    Args:
        gt: (H, W, 3) uint8, sRGB. For sr both sides must be divisible by the scale.
        task: One of :func:`names`.
        subtask: One of :func:`subtasks`.
        seed: Non-negative integer, or bytes read as a big-endian integer. It alone decides what is drawn.
        severity: In [0, 1]; None draws it uniformly.

    Returns:
        (H, W, 3) uint8, sRGB; (H/s, W/s, 3) for sr. The same arguments give the same bytes.
    """
    if gt.dtype != np.uint8 or gt.ndim != 3 or gt.shape[2] != 3 or 0 in gt.shape:
        raise ValueError(f"a GT must be (H, W, 3) uint8, not {gt.shape} {gt.dtype}")
    module, rng = _checked(task, subtask), _generator(seed)
    params = _draw(module, subtask, rng, severity)
    return module.degrade(gt, subtask, params, rng)


def _module(task: str) -> TaskModule:
    if task not in _modules():
        raise ValueError(f"unknown task {task!r}; known are {', '.join(names())}")
    return _modules()[task]


def _checked(task: str, subtask: str) -> TaskModule:
    module = _module(task)
    if subtask not in module.SUBTASKS:
        raise ValueError(f"{task} has no subtask {subtask!r}; it has {', '.join(module.SUBTASKS)}")
    return module


def _generator(seed: int | bytes) -> np.random.Generator:
    number = int.from_bytes(seed, "big") if isinstance(seed, bytes) else seed
    return np.random.Generator(np.random.PCG64(number))


def _draw(module: TaskModule, subtask: str, rng: np.random.Generator, severity: float | None) -> Params:
    drawn = float(rng.uniform())  # drawn even when given, so that the rest of the stream stays the same
    level = drawn if severity is None else float(severity)
    if not 0.0 <= level <= 1.0:
        raise ValueError(f"severity must lie in [0, 1], not {level}")
    return {"severity": round(level, 6), **module.sample(subtask, rng, level)}
