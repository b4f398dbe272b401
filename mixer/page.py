"""HTML pages of simulations and schedules; they open offline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from manifests import pages
from mixer import comparisons
from mixer.plots import over_uniform
from mixer.statistics import interval
from mixer.tables import Array

if TYPE_CHECKING:
    from mixer.schedule import Schedule
    from mixer.simulate import Simulation

PANELS = 24  # tasks of a schedule whose scores are drawn
Chart = dict[str, Any]


def simulation(done: Simulation) -> str:
    """What each rule gained over uniform weights, what it reached, comparisons, and the first seed's curves."""
    world = done.world
    units = [float(unit) for unit in world.unit[0]]
    seeds = len(world.seeds)
    charts = [_bars(done, measure, title) for measure, title in comparisons.MEASURES.items()]
    parts = []
    for number, one in enumerate(done.outcomes):
        panels = [_lines(f"w{number}", "weights", "weight, share of the batch", one.tasks, one.weights[:, 0])]
        panels += [
            _lines(f"s{number}-{place}", f"scores, {title}", f"score, {title}", one.tasks, one.scores[:, 0], members)
            for place, (title, members) in enumerate(_by_unit(units))
        ]
        parts.append({"title": one.rule, "charts": panels})
    found = comparisons.against(done)
    return _render(
        f"World {world.name}",
        f"{len(world.tasks)} tasks, {len(done.outcomes)} rules, {len(done.outcomes[0].weights)} intervals, "
        f"{seeds} {'seeds' if seeds > 1 else 'seed'}; curves are of seed {world.seeds[0]}",
        world.tasks,
        bars=charts,
        table=_table(done),
        compared=_compared(found),
        ours=comparisons.OURS,
        comparisons=comparisons.count(found),
        parts=parts,
    )


def schedule(name: str, found: Schedule) -> str:
    """A schedule's weights and, a panel a task, its scores, which are in units of their own."""
    charts = [_lines("weights", "weights", "weight, share of the batch", found.names, found.weights_IxK)]
    if found.scores_IxK is not None:
        charts += [
            _lines(f"score-{index}", task, "score, in the unit of its metric", found.names, found.scores_IxK, [index])
            for index, task in enumerate(found.names[:PANELS])
        ]
    count = f"{found.intervals} intervals, {len(found.names)} {found.strata_column}s"
    scores = "" if found.scores_IxK is not None else "; the schedule has no scores"
    parts = [{"title": "weights and scores", "charts": charts}]
    return _render(name, count + scores, found.names, parts=parts)


def _render(title: str, about: str, tasks: Sequence[str], *, parts: list[Chart], **values: Any) -> str:
    empty: dict[str, Any] = {"bars": [], "table": None, "compared": [], "ours": "", "comparisons": 0}
    values = {**empty, **values}
    charts = [*values["bars"], *(chart for part in parts for chart in part["charts"])]
    return pages.render(
        os.path.join(os.path.dirname(__file__), "simulation.html.j2"),
        figures={chart["id"]: chart["figure"] for chart in charts},
        title=title,
        about=about,
        tasks=list(tasks),
        parts=parts,
        **values,
    )


def _by_unit(units: Sequence[float]) -> list[tuple[str, list[int]]]:
    """Places of the tasks by the unit of their score, so that units never share an axis; dB first."""
    out = []
    for unit in sorted(set(units)):
        members = [place for place, own in enumerate(units) if own == unit]
        title = (
            "dB" if unit == 1 else f"units of the metric, {unit:g} to the dB" + (" as of MUSIQ" if unit == 5 else "")
        )
        out.append((title, members))
    return out


def _bars(done: Simulation, measure: str, title: str) -> Chart:
    """What every rule reached more than uniform, with 95 % intervals."""
    bars = [interval(over_uniform(done, one, measure)) for one in done.outcomes]
    kinds = [0 if middle - half > 0 else 1 if middle + half < 0 else None for middle, half in bars]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [round(middle, 6) for middle, _ in bars],
        "y": [one.rule for one in done.outcomes],
        "error_x": {"type": "data", "array": [round(half, 6) for _, half in bars], "color": "var(--soft)", "width": 3},
        "marker": {"color": ["var(--line)" if kind is None else pages.color(kind) for kind in kinds]},
        "hovertemplate": "%{y}: %{x:+.3f} ± %{error_x.array:.3f} dB<extra></extra>",
    }
    axes: dict[str, Any] = {
        "yaxis": {"autorange": "reversed", "showgrid": False, "type": "category"},
        "xaxis": {"showgrid": True, "zeroline": True, "zerolinecolor": "var(--soft)"},
    }
    layout = pages.layout("more than uniform, dB", height=90 + 24 * len(bars), showlegend=False, bargap=0.3, **axes)
    return {"id": f"bars-{measure}", "title": title, "figure": {"data": [trace], "layout": layout}}


def _lines(
    name: str, title: str, y: str, tasks: Sequence[str], values: Array, members: Sequence[int] | None = None
) -> Chart:
    """Lines of (I, K) values over intervals, of the tasks at the places `members`, or of all."""
    traces = []
    for place in range(len(tasks)) if members is None else members:
        known = [None if np.isnan(value) else round(float(value), 6) for value in values[:, place]]
        hover = "%{fullData.name} %{y:.4g}<extra></extra>"
        steps = range(len(known))
        traces.append(pages.line(place, tasks[place], steps, known, points=len(known) <= 20, hovertemplate=hover))
    below = {"rangemode": "tozero"} if "weight" in y else {}
    layout = pages.layout("interval", y, height=240, showlegend=False, yaxis=below)
    return {"id": name, "title": title, "figure": {"data": traces, "layout": layout}}


def _table(done: Simulation) -> Chart:
    """What each rule reached, means over seeds with half the 95 % interval."""
    heads = ["mean, dB", "against uniform, dB", "gap of the worst task, dB", "area, dB"]
    heads += [f"to the {name}, dB" for name in done.oracle]
    heads += ["entropy, 1 is uniform", "starved tasks", "churn of weights"]
    rows = []
    for one in done.outcomes:
        values = [one.mean, over_uniform(done, one, "mean"), -one.worst, one.area]
        values += [one.mean - best for best in done.oracle.values()]
        cells = [f"{middle:.3f}" + (f" ± {half:.3f}" if half else "") for middle, half in map(interval, values)]
        cells += [f"{value.mean():.4f}" for value in (one.entropy, one.starved, one.churn)]
        rows.append((one.rule, cells))
    return {"heads": heads, "rows": rows}


def _compared(found: comparisons.Against) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Other rule → per measure: difference with its interval, p, verdict."""
    return [
        (rule, [(f"{one.mean:+.3f} ± {one.half:.3f}", f"{one.p:.1g}", one.verdict) for one in measures.values()])
        for rule, measures in found.items()
    ]
