"""The report: one set of tables, printed and as Markdown, a verdict in a line each, and `--json` figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.mixture import figures
from benchmarks.mixture.figures import BASELINES, UNITS, Estimate, Results
from benchmarks.mixture.settings import Settings
from manifests import files

JUDGED = ("des", "equilibrium")
Figure = dict[str, object]


@dataclass(frozen=True)
class Grid:
    """A table: title, column names, rows of text."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def grids(results: Results) -> list[Grid]:
    """The tables of the report."""
    return [_overview(results), _differences(results), *(_per_task(results, metric) for metric in UNITS)]


def verdicts(results: Results) -> list[str]:
    """A line for DES and equilibrium against mixing and uniform each, as far as they were run."""
    lines: list[str] = []
    for one in JUDGED:
        for other in BASELINES:
            if one in results.records and other in results.records:
                psnr, ssim = (figures.difference(results, one, other, metric) for metric in UNITS)
                lines.append(
                    f"{one} against {other}: {psnr.verdict}: {_signed(psnr, 2)} dB PSNR, {_signed(ssim, 3)} SSIM "
                    f"(mean over the tasks of test, paired over {_seeds(psnr.n)})"
                )
    return lines


def facts(settings: Settings, data: Mapping[str, Any], results: Results, law: Mapping[str, Any] | None) -> list[str]:
    """What was measured on what, a line each."""
    sizes = ", ".join(f"{task} {n}" for task, n in data["train"]["pairs"].items())
    cost = figures.costs(results)
    lines = [
        f"train: {sizes} pairs of {settings.side} px from {', '.join(data['train']['scenes'])}",
        *(
            f"{said}: {max(data[split]['pairs'].values())} pairs a task from {', '.join(data[split]['scenes'])}"
            for split, said in (("ref", "D_ref, which the rules see"), ("test", "test"))
        ),
        f"a run: nafnet {settings.preset}, {settings.steps} steps of {settings.batch} x {settings.crop} px, "
        f"{settings.intervals} intervals; seeds {', '.join(map(str, results.seeds))}; {settings.device}",
        f"cost, medians: {cost['step']:.1f} ms a step, {cost['look']:.2f} s an evaluation of D_ref, "
        f"{cost['run']:.1f} s a run with its test; {platform.machine()}, {os.cpu_count()} CPU cores",
    ]
    if settings.params:
        lines.append(f"parameters that are not the rules' defaults: {settings.params}")
    if law is not None:
        weights = ", ".join(f"{task} {weight:.3f}" for task, weight in law["weights"].items())
        lines.append(f"law: {weights}; {law['reason'] or 'all scores are predicted better than by a constant'}")
        lines.append(
            f"law's price, apart from its runs: {law['runs']} proxy runs of {settings.proxy_steps} steps, "
            f"{law['proxy_seconds']:.0f} s one after the other, and {law['seconds']:.1f} s to fit and optimise, once"
        )
    return lines


def as_figures(results: Results, law: Mapping[str, Any] | None) -> list[Figure]:
    """The list for `--json`: values with half the width of their 95 % intervals beside them."""
    out: list[Figure] = []
    for one in results.strategies:
        for metric, unit in UNITS.items():
            values = figures.estimate(figures.tested(results, one, metric))
            out += _estimated(f"{one}: {metric} on test, mean over tasks", values, unit)
            for other in BASELINES:
                if other in results.records and other != one:
                    gap = figures.difference(results, one, other, metric)
                    goal = 0.0 if one in JUDGED and gap.half is not None else None
                    out += _estimated(f"{one} - {other}: {metric} on test, paired", gap, unit, goal)
            for task in results.tasks:
                values = figures.estimate(figures.tested(results, one, metric, task))
                out += _estimated(f"{one}: {metric} on test, {task}", values, unit)
        if "mixing" in results.records:
            out.append(_figure(f"{one}: steps to mixing's last D_ref PSNR", figures.steps_to_mixing(results, one)[0],
                               "steps; null: not reached"))  # fmt: skip
    cost = figures.costs(results)
    out.append(_figure("a training step", round(cost["step"], 2), "ms"))
    out.append(_figure("a run with its evaluations and test", round(cost["run"], 2), "s"))
    if law is not None:
        out.append(_figure("the law's proxy runs and fit", round(law["proxy_seconds"] + law["seconds"], 1), "s"))
    return out


def show(grid: Grid) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*grid.columns, title=grid.title, title_justify="left")
    for row in grid.rows:
        table.add_row(*row)
    Console().print(table)


def markdown(
    path: str, said: Sequence[str], lines: Sequence[str], tables: Sequence[Grid], images: Sequence[str]
) -> None:
    """Write the same as Markdown. images: file names beside it."""
    parts = ["# Mixing rules on real photographs", "\n".join(f"- {line}" for line in lines)]
    parts.append("\n".join(f"- **{line}**" for line in said))
    for grid in tables:
        head = [f"| {' | '.join(grid.columns)} |", "|---" * len(grid.columns) + "|"]
        parts.append("\n".join([f"## {grid.title}\n", *head, *(f"| {' | '.join(row)} |" for row in grid.rows)]))
    parts += [f"![{os.path.splitext(name)[0]}]({name})" for name in images]
    files.write(path, ("\n\n".join(part for part in parts if part) + "\n").encode())


def _overview(results: Results) -> Grid:
    """Means over the tasks, and the steps to mixing's score."""
    n = len(results.seeds)
    rows = [["(input)", *(f"{figures.untouched(results, metric):.{_places(metric)}f}" for metric in UNITS), ""]]
    for one in results.strategies:
        row = [one, *(_plain(figures.estimate(figures.tested(results, one, m)), _places(m)) for m in UNITS), ""]
        if "mixing" in results.records:
            first, reached = figures.steps_to_mixing(results, one)
            row[-1] = f"{'not reached' if first is None else first} ({reached} of {n})"
        rows.append(row)
    title = f"Test, mean over tasks and {_seeds(n)}, 95 % intervals; steps until D_ref is as good as mixing's last"
    return Grid(title, ["strategy", "PSNR, dB", "SSIM", "steps"], rows)


def _differences(results: Results) -> Grid:
    """What every strategy is above mixing and above uniform."""
    others = [other for other in BASELINES if other in results.records]
    rows = []
    for one in results.strategies:
        row = [one]
        for other in others:
            gaps = [(figures.difference(results, one, other, metric), _places(metric)) for metric in UNITS]
            row += ["" if one == other else _signed(gap, places) for gap, places in gaps]
        rows.append(row)
    columns = [f"{metric.upper()} − {other}" for other in others for metric in UNITS]
    return Grid("Test, mean over tasks: differences, paired by seed, 95 % intervals", ["strategy", *columns], rows)


def _per_task(results: Results, metric: str) -> Grid:
    """A metric task by task."""
    places = _places(metric)
    rows = [["(input)", *(f"{figures.untouched(results, metric, task):.{places}f}" for task in results.tasks)]]
    for one in results.strategies:
        each = [figures.estimate(figures.tested(results, one, metric, task)) for task in results.tasks]
        rows.append([one, *(_plain(value, places) for value in each)])
    unit = f", {UNITS[metric]}" if UNITS[metric] else ""
    return Grid(f"{metric.upper()} per task on test{unit}", ["strategy", *results.tasks], rows)


def _seeds(number: int) -> str:
    return f"{number} seed{'s' * (number != 1)}"


def _places(metric: str) -> int:
    return 2 if metric == "psnr" else 3


def _plain(value: Estimate, places: int) -> str:
    return f"{value.mean:.{places}f}" + ("" if value.half is None else f" ±{value.half:.{places}f}")


def _signed(value: Estimate, places: int) -> str:
    return f"{value.mean:+.{places}f}" + ("" if value.half is None else f" ±{value.half:.{places}f}")


def _estimated(what: str, value: Estimate, unit: str, target: float | None = None) -> list[Figure]:
    """The mean, met when its whole interval is above the target; and half the interval's width."""
    met = None if target is None or value.half is None else value.mean - value.half > target
    out = [_figure(what, round(value.mean, 5), unit, target, met)]
    if value.half is not None:
        out.append(_figure(f"{what}: half of the 95 % interval, {value.n} seeds", round(value.half, 5), unit))
    return out


def _figure(what: str, value: Any, unit: str, target: float | None = None, met: bool | None = None) -> Figure:
    return {"what": what, "value": value, "unit": unit, "target": target, "met": met}
