"""Numbers from finished units: means with 95 % intervals over the seeds, paired differences, steps to a score."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.mixture import runs
from benchmarks.mixture.runs import Record

LEVEL = 0.95
BASELINES = ("mixing", "uniform")
UNITS = {"psnr": "dB", "ssim": ""}


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and half the width of its 95 % t interval; None of a single seed."""

    mean: float
    half: float | None
    n: int

    @property
    def verdict(self) -> str:
        """Of a difference: wins, loses, or what may not be said."""
        if self.half is None:
            return "one seed, no verdict"
        if abs(self.mean) <= self.half:
            return f"no difference that {self.n} seeds show"
        return "wins" if self.mean > 0 else "loses"


@dataclass(frozen=True)
class Results:
    """strategy -> seed -> record, for the seeds that all of these strategies have finished."""

    records: dict[str, dict[int, Record]]
    seeds: list[int]

    @property
    def strategies(self) -> list[str]:
        """In the order they were asked for."""
        return list(self.records)

    @property
    def tasks(self) -> list[str]:
        """The tasks of the test split, sorted."""
        first = self.records[self.strategies[0]][self.seeds[0]]
        return sorted({row["task"] for row in first["test"]})


def collect(out: str, strategies: Sequence[str], seeds: Sequence[int]) -> Results | None:
    """What is kept in `out`; strategies with nothing are left out. None when no seed is common to the others."""
    found = {one: {seed: runs.load(out, f"{one}-{seed:03d}") for seed in seeds} for one in strategies}
    there = {one: {seed: record for seed, record in of.items() if record} for one, of in found.items()}
    there = {one: of for one, of in there.items() if of}
    common = sorted(set.intersection(*(set(of) for of in there.values()))) if there else []
    return Results({one: {seed: of[seed] for seed in common} for one, of in there.items()}, common) if common else None


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and half the width of its 95 % interval, by Student's t."""
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Estimate(mean, None, n)
    return Estimate(mean, float(t.ppf((1 + LEVEL) / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n), n)


def tested(results: Results, strategy: str, metric: str, task: str | None = None) -> list[float]:
    """psnr (dB) or ssim on the test split, seed by seed: of one task, or the mean over the tasks."""
    chosen = [task] if task else results.tasks
    return [
        statistics.fmean(row["value"] for row in record["test"] if row["metric"] == metric and row["task"] in chosen)
        for record in results.records[strategy].values()
    ]


def untouched(results: Results, metric: str, task: str | None = None) -> float:
    """The same of the input, which no strategy changes."""
    chosen, record = [task] if task else results.tasks, results.records[results.strategies[0]][results.seeds[0]]
    return statistics.fmean(row["lq"] for row in record["test"] if row["metric"] == metric and row["task"] in chosen)


def difference(results: Results, strategy: str, baseline: str, metric: str) -> Estimate:
    """strategy - baseline, paired by seed, of the mean over the tasks of the test split."""
    pairs = zip(tested(results, strategy, metric), tested(results, baseline, metric), strict=True)
    return estimate([one - other for one, other in pairs])


def curves(results: Results, strategy: str) -> tuple[list[int], list[list[float]]]:
    """The steps of the evaluations, and per seed the mean PSNR over the tasks of D_ref at each, dB."""
    lines = []
    for record in results.records[strategy].values():
        by_step: dict[int, list[float]] = {}
        for row in record["curve"]:
            by_step.setdefault(row["step"], []).append(row["value"])
        lines.append(by_step)
    steps = sorted(lines[0])
    return steps, [[statistics.fmean(line[step]) for step in steps] for line in lines]


def steps_to_mixing(results: Results, strategy: str) -> tuple[int | None, int]:
    """The first evaluation at which the strategy's D_ref PSNR, mean over tasks and seeds, is at least mixing's last.

    None when it never is. Beside it the number of seeds that reach mixing's last of the same seed.
    """
    steps, mine = curves(results, strategy)
    goals = [line[-1] for line in curves(results, "mixing")[1]]
    reached = sum(max(line) >= goal for line, goal in zip(mine, goals, strict=True))
    mean = [statistics.fmean(values) for values in zip(*mine, strict=True)]
    first = next((step for step, value in zip(steps, mean, strict=True) if value >= statistics.fmean(goals)), None)
    return first, reached


def costs(results: Results) -> dict[str, float]:
    """Medians over the runs: ms a step, s an evaluation of D_ref, s a run with its test."""
    every = [record for of in results.records.values() for record in of.values()]
    steps = [record["config"]["optimiser"]["steps"] for record in every]
    seconds = [record["seconds"] for record in every]
    looks = len(curves(results, results.strategies[0])[0])
    return {
        "step": 1000 * statistics.median(one["train"] / n for one, n in zip(seconds, steps, strict=True)),
        "look": statistics.median(one["evaluate"] for one in seconds) / looks,
        "run": statistics.median(sum(one.values()) for one in seconds),
    }
