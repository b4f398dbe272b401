"""Pictures of schedules and simulations: PNG by matplotlib, HTML by plotly (opens offline)."""

from __future__ import annotations

import html
import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from mixer import files, schedule
from mixer.errors import MixerError
from mixer.statistics import interval

if TYPE_CHECKING:
    from mixer.schedule import Schedule
    from mixer.simulate import Outcome, Simulation

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")
LEGEND = 12  # tasks


def plot(schedule_path: str, output: str) -> None:
    """Draw a schedule's weights, and its scores where it has them, into a .png or .html file.

    Raises MixerError for a bad schedule, another suffix, or an output that exists.
    """
    files.refuse_existing(output)
    found, suffix = schedule.read(schedule_path), os.path.splitext(output)[1].lower()
    if suffix not in (".png", ".html"):
        raise MixerError(f"{output}: name it with .png or .html", exit_code=2)
    rows = [(os.path.basename(schedule_path), found)]
    files.write(output, _png(rows) if suffix == ".png" else _html(rows, "Schedule").encode())


def picture(simulation: Simulation) -> bytes:
    """PNG: what each rule gained over uniform, and the weights that it gave the first seed."""
    import matplotlib.pyplot as plt

    outcomes = simulation.outcomes
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.2 + 0.36 * len(outcomes)), layout="constrained")
    names, places = [one.rule for one in outcomes], np.arange(len(outcomes))
    for axis, what, title in ((axes[0], "mean", "mean of the tasks"), (axes[1], "worst", "worst task")):
        bars = [interval(one) for one in (_over_uniform(simulation, outcome, what) for outcome in outcomes)]
        middle, half = np.array([bar[0] for bar in bars]), np.array([bar[1] for bar in bars])
        colours = [
            COLOURS[2] if m - h > 0 else COLOURS[1] if m + h < 0 else COLOURS[6]
            for m, h in zip(middle, half, strict=True)
        ]
        axis.barh(places, middle, xerr=half, color=colours, ecolor="#444444", height=0.7)
        axis.set_yticks(places, names)
        axis.invert_yaxis()
        axis.axvline(0, color="#444444", linewidth=0.8)
        axis.set_xscale("symlog", linthresh=0.1)
        axis.set_xlabel("final score against uniform, dB (95 % of the mean)")
        axis.set_title(f"{simulation.world.name}: {title}, {len(simulation.world.seeds)} seeds", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    return _saved(figure)


def _over_uniform(simulation: Simulation, one: Outcome, what: str) -> Any:
    return getattr(one, what) - simulation.uniform[what]


def page(simulation: Simulation) -> str:
    """HTML: the bars, the table of what each rule reached, and the first seed's weights and scores; opens offline."""
    import base64

    rows = [
        (one.rule, schedule.Schedule("task", one.tasks, one.weights[:, 0], one.scores[:, 0]))
        for one in simulation.outcomes
    ]
    curves = _html(rows, f"World {simulation.world.name}, seed {simulation.world.seeds[0]}")
    bars = base64.b64encode(picture(simulation)).decode()
    style = "body{font-family:sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:right}"
    head = f"<h1>World {html.escape(simulation.world.name)}</h1><img alt='bars' src='data:image/png;base64,{bars}'>"
    return curves.replace("<body>", f"<body><style>{style}</style>{head}{_table(simulation)}", 1)


def _table(simulation: Simulation) -> str:
    """What each rule reached, means over seeds with half the 95 % interval, as HTML."""
    names = ["mean dB", "against uniform", "worst task's gap", "area", *(f"to {name}" for name in simulation.oracle)]
    head = "".join(f"<th>{name}</th>" for name in ("rule", *names, "entropy", "starved", "churn"))
    body = []
    for one in simulation.outcomes:
        values = [one.mean, _over_uniform(simulation, one, "mean"), -one.worst, one.area]
        values += [one.mean - best for best in simulation.oracle.values()]
        cells = [f"{middle:.3f} ±{half:.3f}" for middle, half in map(interval, values)]
        cells += [f"{value.mean():.4f}" for value in (one.entropy, one.starved, one.churn)]
        body.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in (html.escape(one.rule), *cells)) + "</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _html(rows: list[tuple[str, Schedule]], title: str) -> str:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [f"{name}: {what}" for name, _ in rows for what in ("weight", "score")]
    figure = make_subplots(rows=len(rows), cols=2, subplot_titles=titles, vertical_spacing=0.25 / len(rows))
    for row, (_, one) in enumerate(rows, 1):
        for index, name in enumerate(one.names):
            line = {"color": COLOURS[index % len(COLOURS)]}
            for column, values in ((1, one.weights_IxK), (2, one.scores_IxK)):
                if values is None:
                    continue
                first = row == column == 1 and len(one.names) <= LEGEND
                series = values[:, index].round(6).tolist()
                trace = go.Scatter(y=series, name=name, legendgroup=name, showlegend=first, line=line)
                figure.add_trace(trace, row=row, col=column)
    figure.update_layout(height=260 * len(rows) + 80, template="simple_white", title=title)
    figure.update_xaxes(title_text="interval", row=len(rows))
    return str(figure.to_html(include_plotlyjs=True, full_html=True, div_id="simulation"))


def _png(rows: list[tuple[str, Schedule]]) -> bytes:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(rows), 2, figsize=(10, 3.2 * len(rows)), layout="constrained", squeeze=False)
    for (name, one), (left, right) in zip(rows, axes, strict=True):
        for axis, values, what in ((left, one.weights_IxK, "weight"), (right, one.scores_IxK, "score")):
            axis.set_title(f"{name}: {what}", fontsize=10)
            axis.set_xlabel("interval")
            axis.spines[["top", "right"]].set_visible(False)
            if values is None:
                axis.text(0.5, 0.5, "the schedule has no scores", ha="center", transform=axis.transAxes)
                continue
            for index, task in enumerate(one.names):
                axis.plot(values[:, index], label=task, color=COLOURS[index % len(COLOURS)], linewidth=1.4)
        left.set_ylim(bottom=0)
        if len(one.names) <= LEGEND:
            left.legend(fontsize=8, frameon=False)
    return _saved(figure)


def _saved(figure: Any) -> bytes:
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()
