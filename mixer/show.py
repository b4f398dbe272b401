"""Simulations on a terminal: tables with intervals and paired tests, and weights as lines of bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mixer import comparisons
from mixer.simulate import Outcome, Simulation
from mixer.statistics import interval

if TYPE_CHECKING:
    from rich.console import Console

BARS, ASCII_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
WIDTH = 48
BARRED = 12  # tasks; more make no picture


def show(simulation: Simulation, console: Console | None = None) -> None:
    """Print what each rule reached, how it compares with ours, and how its weights went."""
    from rich.console import Console

    console = console or Console(markup=False, emoji=False)
    seeds = simulation.world.seeds
    console.print(f"{simulation.world.name}: {len(seeds)} {'seeds' if len(seeds) > 1 else 'seed'}", highlight=False)
    _scores(simulation, console)
    _habits(simulation, console)
    _verdicts(simulation, console)
    if len(seeds) == 1:
        _weights(simulation.outcomes, console)


def _scores(simulation: Simulation, console: Console) -> None:
    from rich.table import Table

    table = Table("rule", "mean dB", "vs uniform", "worst gap", "area", box=None, pad_edge=False)
    for name in simulation.oracle:
        table.add_column("to " + name.replace(" oracle", ""))
    for one in simulation.outcomes:
        gain = interval(one.mean - simulation.uniform["mean"])
        cells = [f"{one.mean.mean():.3f}", _with(gain, "+.3f"), _with(interval(-one.worst), ".2f")]
        cells += [f"{one.area.mean():.2f}"]
        cells += [f"{float((one.mean - best).mean()):+.3f}" for best in simulation.oracle.values()]
        table.add_row(one.rule, *cells)
    console.print(table, highlight=False)


def _with(value: tuple[float, float], form: str) -> str:
    """A mean with half its 95 % interval."""
    return f"{value[0]:{form}}" + (f" ±{value[1]:.{form[-2]}f}" if value[1] else "")


def _habits(simulation: Simulation, console: Console) -> None:
    from rich.table import Table

    table = Table("rule", "entropy", "starved", "churn", "worst task", box=None, pad_edge=False)
    for one in simulation.outcomes:
        names, counts = np.unique(one.worst_task, return_counts=True)
        worst = str(names[counts.argmax()])
        often = f" in {counts.max() / len(one.seeds):.0%}" if len(one.seeds) > 1 else ""
        numbers = f"{one.entropy.mean():.3f}", f"{one.starved.mean():.2f}", f"{one.churn.mean():.4f}"
        table.add_row(one.rule, *numbers, worst + often)
    console.print()
    console.print(table, highlight=False)


def _verdicts(simulation: Simulation, console: Console) -> None:
    """Our rule against every other, on the same seeds; where a published rule wins, it says so."""
    from rich.table import Table

    found = comparisons.against(simulation)
    if not found:
        return
    title = f"{comparisons.OURS} against"
    table = Table(title, "mean dB", "p", "", "worst task dB", "p", "", box=None, pad_edge=False)
    for rule, differences in found.items():
        cells = [
            text
            for one in differences.values()
            for text in (f"{one.mean:+.3f} ±{one.half:.3f}", f"{one.p:.1g}", one.verdict)
        ]
        table.add_row(rule, *cells)
    console.print()
    console.print(table, highlight=False)
    console.print(f"p: paired t tests, corrected for {comparisons.count(found)} comparisons (Holm)", style="dim")


def _weights(outcomes: Sequence[Outcome], console: Console) -> None:
    bars = BARS if console.encoding.lower().startswith("utf") else ASCII_BARS
    for one in outcomes:
        if len(one.tasks) > BARRED:
            continue
        weights = one.weights[:, 0]
        top, wide = float(weights.max()), max(len(task) for task in one.tasks)
        console.print(f"\n{one.rule}: weight by interval, first and last (full bar = {top:.2f})", highlight=False)
        for task, weight_I in zip(one.tasks, weights.T, strict=True):
            line = f"  {task:<{wide}} {spark(weight_I, top, bars)} {weight_I[0]:.3f} {weight_I[-1]:.3f}"
            console.print(line, highlight=False, markup=False)


def spark(values: npt.ArrayLike, top: float, bars: str = BARS) -> str:
    """Values as a line of bars, 0 to `top`; where there are more than WIDTH, runs of them are averaged."""
    array = np.asarray(values, float)
    chunks = np.array_split(array, min(len(array), WIDTH))
    return "".join(bars[round(float(chunk.mean()) / top * (len(bars) - 1)) if top > 0 else 0] for chunk in chunks)
