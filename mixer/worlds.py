"""Synthetic worlds: tasks with concave learning curves that help or hurt each other. They show failure modes of rules,
and are no evidence about real training.

Task j has practice x_j >= 0; its true score is a_j - (a_j - s_j) (1 + x_j / tau_j)^-beta_j. Weights w for an interval:

    x_j  <-  x_j (1 - phi (1 - w_j))  +  K sum_i w_i v_i A_ij

(phi: forgetting; A: transfer, its diagonal 1): under uniform weights and without transfer a task gains one unit of
practice an interval. A sample of task i is worth v_i = exp(-(epochs_i - 1) / patience) once its pairs have been seen
more than once (after Muennighoff et al. 2023, arXiv 2305.16264). A task that arrives late has v = 0 and learns nothing
before; a regression takes a share of the practice away.

A world is a YAML file; `schema()` is its JSON schema. Numbers may be ranges [low, high], from which every seed draws.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mixer.errors import MixerError
from mixer.tables import Array

MUSIQ_PER_DB = 5.0
LOGARITHMIC = ("tau", "size")  # ranges of these are drawn log-uniformly


def _ordered(value: float | tuple[float, float]) -> float | tuple[float, float]:
    if isinstance(value, tuple) and value[0] > value[1]:
        raise ValueError(f"the range {list(value)} must be [low, high]")
    return value


Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[Finite | tuple[Finite, Finite], AfterValidator(_ordered)]
Above0 = Annotated[Positive | tuple[Positive, Positive], AfterValidator(_ordered)]
From0 = Annotated[NotNegative | tuple[NotNegative, NotNegative], AfterValidator(_ordered)]
Part = Annotated[Share | tuple[Share, Share], AfterValidator(_ordered)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Regression(_Strict):
    """A task loses a share of its practice at the start of an interval."""

    at: int = Field(ge=1, description="interval at whose start it happens")
    share: Part = Field(description="share of the practice that is lost, 0 to 1")


class Task(_Strict):
    """One task. A field that is not given is that of the world's `defaults`."""

    start: Number | None = Field(default=None, description="score without practice, in the metric's units")
    attainable: Number | None = Field(default=None, description="score with endless practice, above `start`")
    tau: Above0 | None = Field(
        default=None, description="practice that bends the curve, in uniform intervals; log-uniform"
    )
    beta: Above0 | None = Field(default=None, description="power of the curve")
    noise: From0 | None = Field(default=None, description="standard error of one evaluation, in the metric's units")
    unit: Above0 | None = Field(
        default=None, description="units of the metric that count as one dB: 1 for PSNR, 5 for MUSIQ"
    )
    size: Above0 | None = Field(default=None, description="distinct pairs; ranges are drawn log-uniformly")
    arrives: int | None = Field(default=None, ge=0, description="interval from which its data teach anything")
    regressions: list[Regression] | None = Field(default=None, description="shares of practice lost at some intervals")


class Transfer(_Strict):
    """What a sample of one task is worth to another, relative to a sample of its own."""

    default: Number = Field(default=0.0, description="between any two tasks")
    from_: dict[str, Number] = Field(
        default={}, alias="from", description="of these tasks' samples to every other task"
    )
    to: dict[str, Number] = Field(default={}, description="of every other task's samples to these tasks")
    pairs: dict[str, dict[str, Number]] = Field(
        default={}, description="{deblur: {sr: 0.2}}: of deblur's samples to sr"
    )


class World(_Strict):
    """A world as its YAML file says it."""

    name: str = Field(min_length=1)
    about: str = Field(default="", description="what it shows, in a line")
    tasks: dict[str, Task] = Field(min_length=1, description="by name; {} takes all from `defaults`")
    defaults: Task = Task()
    transfer: Transfer = Transfer()
    forgetting: Part = Field(
        default=0.0, description="share of its practice that a task loses in an interval without its data"
    )
    samples: Positive = Field(default=4000.0, description="pairs drawn in one interval, of all tasks")
    patience: Positive = Field(default=15.0, description="epochs after the first in which a pair's worth falls to 1/e")


BASE = Task(start=(14, 20), attainable=(24, 33), tau=(2, 20), beta=(0.4, 1.2), noise=(0.05, 0.2), unit=1.0,
            size=(20000, 500000), arrives=0, regressions=[])  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A world for S seeds: arrays (S, K), or as said. Scores are in the metric's units; unit: how many make one dB.

    transfer: (S, K, K), row i is what a sample of task i is worth to each task. forgetting: (S, 1). kept: (I, S, K),
    the share of practice that survives the start of interval i < I. arrives: (K,).
    """

    name: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    start: Array
    attainable: Array
    tau: Array
    beta: Array
    noise: Array
    unit: Array
    size: Array
    transfer: Array
    forgetting: Array
    kept: Array
    arrives: npt.NDArray[np.int64]
    samples: float
    patience: float

    def score(self, practice: Array) -> Array:
        """True scores of (..., S, K) practice, without the noise of an evaluation."""
        gap = self.attainable - self.start
        return np.asarray(self.attainable - gap * (1 + practice / self.tau) ** -self.beta)

    def worth(self, drawn_SxK: Array) -> Array:
        """What a sample of each task is worth, after so many were drawn."""
        return np.asarray(np.exp(-np.maximum(drawn_SxK / self.size - 1, 0) / self.patience))

    def survives(self, interval: int) -> Array:
        """The share of practice that survives the start of an interval."""
        return self.kept[interval] if interval < len(self.kept) else np.ones_like(self.start)

    def practise(self, practice_SxK: Array, drawn_SxK: Array, weight_SxK: Array, interval: int) -> tuple[Array, Array]:
        """Practice and samples drawn after one more interval with these weights."""
        here_K = self.arrives <= interval
        taught = weight_SxK * self.worth(drawn_SxK) * here_K * len(self.tasks)
        gain = np.einsum("si,sij->sj", taught, self.transfer) * here_K
        kept = practice_SxK * (1 - self.forgetting * (1 - weight_SxK))
        return np.maximum(kept + gain, 0.0), drawn_SxK + weight_SxK * self.samples


def schema() -> dict[str, Any]:
    """The JSON schema of a world's file."""
    return World.model_json_schema()


@cache
def zoo() -> tuple[str, ...]:
    """Names of the worlds that Equimix brings."""
    folder = resources.files("mixer").joinpath("zoo")
    return tuple(sorted(one.name.removesuffix(".yaml") for one in folder.iterdir() if one.name.endswith(".yaml")))


def text(name: str) -> str:
    """A world's YAML. Raises MixerError when there is no such world or file."""
    if name in zoo():
        return resources.files("mixer").joinpath("zoo", f"{name}.yaml").read_text("utf-8")
    if os.path.isfile(name):
        with open(name, encoding="utf-8") as file:
            return file.read()
    raise MixerError(f"unknown world {name!r}; known: {', '.join(zoo())}, or a YAML file", exit_code=2)


def load(name: str, tasks: Sequence[str] | None = None) -> World:
    """The world of a YAML file, or of the zoo by its name.

    tasks: play these instead: those that the world names as it says, others by its defaults. Raises MixerError naming
    the file and what is wrong with it.
    """
    try:
        world = World.model_validate(yaml.safe_load(text(name)))
    except yaml.YAMLError as error:
        raise MixerError(f"{name}: is no YAML ({' '.join(str(error).split())[:160]})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise MixerError(f"{name}: {where}: {first['msg']}") from None
    if tasks is not None:
        if not tasks or not all(tasks) or len(set(tasks)) != len(tasks):
            raise MixerError("a world needs one task or more, each named once", exit_code=2)
        world = world.model_copy(update={"tasks": {task: world.tasks.get(task, Task()) for task in tasks}})
    return world


def draw(world: World, seeds: Sequence[int]) -> Drawn:
    """The world for each seed; a pure function of world and seed. Raises MixerError for what cannot be."""
    if not seeds or min(seeds) < 0:
        raise MixerError("seeds count from 0, and there is one or more", exit_code=2)
    said = world.transfer
    named = [*said.from_, *said.to, *said.pairs, *(task for one in said.pairs.values() for task in one)]
    if strangers := set(named) - set(world.tasks):
        raise MixerError(f"world {world.name!r}: transfer names {min(strangers)!r}, which is none of its tasks")
    rngs = [np.random.default_rng([seed, zlib.crc32(world.name.encode())]) for seed in seeds]
    columns = {name: list[Array]() for name in Task.model_fields if name not in ("arrives", "regressions")}
    tasks = {name: _filled(world, task) for name, task in world.tasks.items()}
    for task in tasks.values():
        for name, column in columns.items():
            column.append(_numbers(getattr(task, name), rngs, name in LOGARITHMIC))
    arrays = {name: np.array(column).T for name, column in columns.items()}
    if (arrays["attainable"] <= arrays["start"]).any():
        place = int((arrays["attainable"] <= arrays["start"]).any(axis=0).argmax())
        raise MixerError(f"world {world.name!r}: task {list(tasks)[place]!r}: attainable must be above start")
    last = max((one.at for task in tasks.values() for one in task.regressions or []), default=0)
    kept = np.ones((last + 1, len(seeds), len(tasks)))
    for place, task in enumerate(tasks.values()):
        for one in task.regressions or []:
            kept[one.at, :, place] *= 1 - _numbers(one.share, rngs)
    return Drawn(
        name=world.name,
        tasks=tuple(tasks),
        seeds=tuple(seeds),
        transfer=_transfer(world, rngs),
        forgetting=_numbers(world.forgetting, rngs)[:, None],
        kept=kept,
        arrives=np.array([task.arrives for task in tasks.values()], np.int64),
        samples=world.samples,
        patience=world.patience,
        **arrays,
    )


def _filled(world: World, task: Task) -> Task:
    given = {**_said(BASE), **_said(world.defaults), **_said(task)}
    return Task(**given)


def _said(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in Task.model_fields if getattr(task, name) is not None}


def _numbers(value: float | tuple[float, float], rngs: Sequence[np.random.Generator], log: bool = False) -> Array:
    """One number a seed; also of a fixed value a draw is spent, so that the other numbers do not depend on it."""
    share = np.array([rng.random() for rng in rngs])
    low, high = value if isinstance(value, tuple) else (value, value)
    if log:
        return np.asarray(low * (high / low) ** share)
    return np.asarray(low + (high - low) * share)


def _transfer(world: World, rngs: Sequence[np.random.Generator]) -> Array:
    """(S, K, K); the most specific of default, to, from and pairs holds."""
    names, said = list(world.tasks), world.transfer
    out = np.empty((len(rngs), len(names), len(names)))
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            value = said.to.get(other, said.default)
            value = said.pairs.get(one, {}).get(other, said.from_.get(one, value))
            out[:, i, j] = 1.0 if i == j else _numbers(value, rngs)
    return out
