"""Outcomes of a simulation to look at: tables and bars on a terminal, a page with curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mixer.simulate import Outcome

if TYPE_CHECKING:
    from rich.console import Console

BARS, ASCII_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
WIDTH = 48
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")


def show(outcomes: Sequence[Outcome], console: Console | None = None) -> None:
    """Print what each rule reached, and how its weights went."""
    from rich.console import Console
    from rich.table import Table

    console = console or Console()
    table = Table("rule", "mean dB", "vs uniform", "worst task", "gap dB", "starved", box=None, pad_edge=False)
    for one in outcomes:
        numbers = f"{one.mean:.3f}", f"{one.versus_uniform:+.3f}", one.worst_task, f"{one.worst_gap:.2f}"
        table.add_row(one.rule, *numbers, ", ".join(one.starved) or "-")
    console.print(table)
    final = Table("final weight", *(one.rule for one in outcomes), box=None, pad_edge=False)
    for index, task in enumerate(outcomes[0].tasks):
        final.add_row(task, *(f"{one.weights_IxK[-1, index]:.3f}" for one in outcomes))
    console.print()
    console.print(final)
    bars = BARS if console.encoding.lower().startswith("utf") else ASCII_BARS
    wide = max(len(task) for task in outcomes[0].tasks)
    for one in outcomes:
        top = float(one.weights_IxK.max())
        console.print(f"\n{one.rule}: weight by interval, first and last (full bar = {top:.2f})", highlight=False)
        for task, weight_I in zip(one.tasks, one.weights_IxK.T, strict=True):
            line = f"  {task:<{wide}} {spark(weight_I, top, bars)} {weight_I[0]:.3f} {weight_I[-1]:.3f}"
            console.print(line, highlight=False, markup=False)


def spark(values: npt.ArrayLike, top: float, bars: str = BARS) -> str:
    """Values as a line of bars, 0 to `top`; where there are more than WIDTH, runs of them are averaged."""
    array = np.asarray(values, float)
    chunks = np.array_split(array, min(len(array), WIDTH))
    return "".join(bars[round(float(chunk.mean()) / top * (len(bars) - 1)) if top > 0 else 0] for chunk in chunks)


def page(outcomes: Sequence[Outcome]) -> str:
    """HTML with weights (left) and scores (right) over the intervals, a row a rule; opens offline."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [f"{one.rule}: {what}" for one in outcomes for what in ("weight", "score")]
    figure = make_subplots(rows=len(outcomes), cols=2, subplot_titles=titles, vertical_spacing=0.25 / len(outcomes))
    for row, one in enumerate(outcomes, 1):
        for index, task in enumerate(one.tasks):
            line = {"color": COLOURS[index % len(COLOURS)]}
            for column, values_IxK in ((1, one.weights_IxK), (2, one.scores_IxK)):
                first = row == column == 1
                values = values_IxK[:, index].tolist()
                trace = go.Scatter(y=values, name=task, legendgroup=task, showlegend=first, line=line)
                figure.add_trace(trace, row=row, col=column)
    figure.update_layout(height=260 * len(outcomes) + 80, template="simple_white", title="Simulated mixtures")
    figure.update_xaxes(title_text="interval", row=len(outcomes))
    return str(figure.to_html(include_plotlyjs=True, full_html=True, div_id="simulation"))
