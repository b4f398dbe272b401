"""How noisy the evaluations of a run were, and how large D_ref and the interval should be."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

import numpy as np

from mixer import files
from mixer.errors import MixerError
from mixer.tables import Array

ENOUGH = 0.05  # of what was gained: the standard error that is small enough
SIGNAL = 2.0  # times the jitter: the gain of an interval that a rule can see
EVALUATIONS = 4
GROUPS = 5  # scenes of D_ref below which its standard error is itself not known


@dataclass(frozen=True)
class Noise:
    """One task's metric over the evaluations of a run, all in the metric's units.

    images: of D_ref; groups: the scenes that they are of, None where the run does not say. se: standard error of the
    mean, over groups where these are known, the median over evaluations; NaN for a single group. jitter: standard error
    of one evaluation against its neighbours (from second differences, so that a steady gain does not count); on a fixed
    D_ref this is what a rule sees as noise. gain: change per evaluation over the last half of the run.
    images_needed: for a standard error of a twentieth of what the whole run gained, where it has gained anything.
    longer: how many times as long the interval should be for a gain of twice the jitter; None where nothing is gained
    any more.
    """

    task: str
    metric: str
    images: int
    se: float
    jitter: float
    gain: float
    images_needed: int
    longer: int | None
    groups: int | None = None

    @property
    def advice(self) -> str:
        """What to do, in words; "enough" only where that can be known."""
        said = []
        count, what = (self.images, "images") if self.groups is None else (self.groups, "scenes")
        if count < GROUPS:
            unsure = f"known within about {100 / math.sqrt(2 * (count - 1)):.0f} %" if count > 1 else "not known"
            said.append(
                f"not enough: {GROUPS} {what} of D_ref or more (it has {count}, so the standard error is {unsure})"
            )
        if self.images_needed > self.images:
            said.append(f"{self.images_needed} images of D_ref")
        if self.longer is None:
            said.append("nothing is gained any more: average several evaluations")
        elif self.longer > 1:
            said.append(f"evaluate every {self.longer} intervals")
        return "; ".join(said) or "enough"


def noise(run: str) -> list[Noise]:
    """The noise of every task and metric of a run folder (its metrics.parquet).

    Raises MixerError when there is none, or when it has fewer than four evaluations.
    """
    path = os.path.join(run, "metrics.parquet")
    if not os.path.exists(path):
        raise MixerError(f"{run}: has no metrics.parquet; is it a folder that 'trainer run' wrote?")
    found: dict[tuple[str, str], dict[int, tuple[float, float, int]]] = {}
    groups: dict[tuple[str, str], int | None] = {}
    for row in files.read_rows(path, text=("task", "metric")):
        value, se = row.get("value"), row.get("se")
        if value is not None and math.isfinite(value):
            numbers = float(value), math.nan if se is None else float(se), int(row.get("n") or 0)
            found.setdefault((row["task"], row["metric"]), {})[int(row["step"])] = numbers
            groups[row["task"], row["metric"]] = None if row.get("groups") is None else int(row["groups"])
    out = [
        replace(_noise(*name, np.array([by_step[step] for step in sorted(by_step)])), groups=groups[name])
        for name, by_step in found.items()
    ]
    if not out or min(len(by_step) for by_step in found.values()) < EVALUATIONS:
        raise MixerError(f"{path}: has fewer than {EVALUATIONS} evaluations; noise cannot be told from gain yet")
    return sorted(out, key=lambda one: (one.metric, one.task))


def _noise(task: str, metric: str, table_Nx3: Array) -> Noise:
    value, images = table_Nx3[:, 0], int(table_Nx3[-1, 2])
    se = float(np.nanmedian(table_Nx3[:, 1])) if np.isfinite(table_Nx3[:, 1]).any() else math.nan
    if len(value) < EVALUATIONS:
        return Noise(task, metric, images, se, 0.0, 0.0, images, 1)
    half = value[len(value) // 2 :]
    jitter = jitter_of(value)
    gain = float(np.polyfit(np.arange(len(half)), half, 1)[0])
    gained = abs(float(np.median(value[-3:]) - value[0]))
    needed = math.ceil(images * (se / (ENOUGH * gained)) ** 2) if gained > 2 * se else images  # else (or NaN): unknown
    longer = max(1, math.ceil(SIGNAL * jitter / abs(gain))) if abs(gain) > 0.05 * jitter else None
    return Noise(task, metric, images, se, jitter, gain, max(2, needed), longer)


def jitter_of(value_N: Array) -> float:
    """Standard error of one evaluation, from the second differences of the last half of a series."""
    half = value_N[min(len(value_N) // 2, max(0, len(value_N) - 8)) :]
    if len(half) < 3:
        return 0.0
    return float(np.sqrt(np.mean(np.diff(half, 2) ** 2) / 6))
