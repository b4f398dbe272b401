"""What is measured: the data, the runs and the proxy runs. Two sizes are given; flags make others."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from manifests import files
from manifests.errors import UserError

# Task with subtask -> share of its training pairs that is kept. By gain after a short training low_light is the one
# with most to win and fewest pairs, denoise the easiest and largest; deblur and jpeg hardly move: unequal in both.
TASKS = {
    "denoise:gaussian": 1.0,
    "derain:streaks": 0.5,
    "jpeg:single": 0.5,
    "deblur:defocus": 0.25,
    "low_light:dim": 0.125,
}


@dataclass(frozen=True)
class Settings:
    """All that the numbers depend on, seeds and strategies aside. The defaults fit two CPU cores and an hour."""

    tasks: dict[str, float] = field(default_factory=lambda: dict(TASKS))
    photos: str | None = None  # folder of clean photographs, SCENE/FILE; None: those of scikit-image and scikit-learn
    side: int = 96  # of the pairs' GT, pixels
    crops: int = 12  # pairs of a photograph and task
    ref: int = 36  # pairs a task in D_ref; a scene gives `crops` of them
    test: float = 0.25  # share of the scenes
    split: int = 4  # seed of the split. With 4 colour photographs are in all three parts, textures in train and test
    steps: int = 2100
    intervals: int = 15  # evaluations of D_ref after the first, at equal distances
    batch: int = 8
    crop: int = 48  # of the training samples, pixels
    preset: str = "tiny"
    lr: float = 4e-3
    proxies: int = 12  # proxy runs of the law
    proxy_steps: int = 600
    device: str = "cpu"
    # Strategy -> parameters of its rule. With 15 evaluations equilibrium must probe faster than over 100.
    params: dict[str, dict[str, Any]] = field(default_factory=lambda: {"equilibrium": {"start": 3, "turn": 1}})

    @property
    def names(self) -> list[str]:
        """The tasks, sorted."""
        return sorted(task.partition(":")[0] for task in self.tasks)

    @property
    def interval(self) -> int:
        """T, steps."""
        return self.steps // self.intervals


FULL = Settings()
QUICK = replace(
    FULL, side=64, crops=3, ref=6, steps=10, intervals=5, batch=4, crop=32, lr=1e-3, proxies=8, proxy_steps=5
)


def check(settings: Settings) -> Settings:
    """The settings themselves. Raises UserError for those that would not be a fair comparison."""
    from mixer import laws

    tasks = len(settings.tasks)
    if settings.steps % settings.intervals or settings.intervals % tasks:
        raise UserError(
            f"{settings.steps} steps, {settings.intervals} intervals, {tasks} tasks: intervals must divide the steps, "
            "and tasks the intervals, so that sequential and incremental give every task as long",
            exit_code=2,
        )
    if settings.proxies < laws.FEWEST:
        raise UserError(f"--proxies {settings.proxies}: a law needs {laws.FEWEST} or more", exit_code=2)
    return settings


def hold(out: str, settings: Settings) -> None:
    """Enter the settings into the folder `out`. Raises UserError when it was begun with others."""
    path, now = os.path.join(out, "settings.json"), asdict(settings)
    if not os.path.exists(path):
        files.write(path, (json.dumps(now, indent=2) + "\n").encode())
    before: Mapping[str, Any] = json.loads(files.read(path))
    if other := [f"{name} {before.get(name)}, now {now.get(name)}" for name in now if before.get(name) != now[name]]:
        raise UserError(f"{out}: was begun with other settings ({'; '.join(other)}); name another folder with --out")
