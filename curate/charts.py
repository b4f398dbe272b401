"""Histograms of scores as Plotly figures: counted here, so that a page holds bars and never the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests import pages

BINS = 40
FAR = 4  # spans of the values: a threshold further off would squeeze them
LINE = "var(--mark)"
LABEL = 12  # pixels: height of a threshold's label
LEVELS = 3  # labels of neighbouring thresholds stand above each other
Figure = dict[str, Any]


@dataclass(frozen=True)
class Threshold:
    """A value that a rule ("min", "max", "worst") judged by; `task` where the rule has one per task."""

    rule: str
    value: float
    task: str | None = None


def histogram(
    values: Mapping[str, npt.NDArray[np.float64]],
    thresholds: Sequence[Threshold],
    colors: Mapping[str, str],
    unit: str = "",
) -> Figure:
    """A figure of `values` (task → finite numbers) as stacked bars over common bins, thresholds as vertical lines.

    unit: of the values, the title of their axis.
    """
    ends = [float(end) for numbers in values.values() if len(numbers) for end in (np.min(numbers), np.max(numbers))]
    edges = _edges(ends, [t.value for t in thresholds])
    middles = [float(f"{x:.6g}") for x in (edges[:-1] + edges[1:]) / 2]
    bars = [
        {
            "type": "bar",
            "name": task,
            "x": middles,
            "y": np.histogram(numbers, bins=edges)[0].tolist(),
            "marker": {"color": colors.get(task, pages.color(0)), "line": {"width": 0}},
            "hovertemplate": "%{fullData.name}<br>%{x:.4g}: %{y}<extra></extra>",
        }
        for task, numbers in values.items()
    ]
    tallest = max(np.sum([bar["y"] for bar in bars], axis=0)) if bars else 0
    lines = _lines(thresholds, colors, float(edges[0]), float(edges[-1]))
    rows = min(max(len(lines["annotations"]), 1), LEVELS)
    layout = pages.layout(
        unit, "ground truths", height=190, barmode="stack", bargap=0.04, showlegend=False,
        margin={"l": 40, "r": 10, "t": 6 + LABEL * rows, "b": 36},
        xaxis={"range": [float(edges[0]), float(edges[-1])]},
        yaxis={"rangemode": "tozero", **({"dtick": 1} if tallest < 6 else {"nticks": 5})},
    )  # fmt: skip
    layout["font"]["size"] = 11
    return {"data": bars, "layout": {**layout, **lines}}


def _edges(values: Sequence[float], thresholds: Sequence[float]) -> Any:
    """(BINS + 1,) edges that cover all values, and the thresholds where they do not lie far off."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    span = high - low or max(abs(high), 1.0) * 0.1
    near = [t for t in thresholds if low - FAR * span <= t <= high + FAR * span]
    low, high = min([low, *near]), max([high, *near])
    margin = (high - low or span) * 0.02
    return np.linspace(low - margin, high + margin, BINS + 1)


def _lines(thresholds: Sequence[Threshold], colors: Mapping[str, str], low: float, high: float) -> Figure:
    """Shapes and labels: one line per value, in its task's color where tasks have values of their own. A threshold
    outside the axis has its label at that end, with an arrow.
    """
    distinct: dict[tuple[str, float], list[str | None]] = {}
    for one in thresholds:
        distinct.setdefault((one.rule, one.value), []).append(one.task)
    several = len({value for rule, value in distinct if rule == "worst"}) > 1
    shapes, labels = [], []
    for level, (rule, value) in enumerate(sorted(distinct, key=lambda key: (key[1], key[0]))):
        tasks = distinct[rule, value]
        color = colors.get(tasks[0] or "", LINE) if several and len(tasks) == 1 else LINE
        place, text = {"xref": "x", "yref": "paper"}, f"{rule} {value:.4g}"
        where = (value - low) / (high - low)
        labels.append(
            {
                **place, "x": min(max(value, low), high), "y": 1, "yanchor": "bottom", "showarrow": False,
                "xanchor": "left" if where < 0.15 else "right" if where > 0.85 else "center",
                "yshift": LABEL * (level % LEVELS),
                "text": f"← {text}" if where < 0 else f"{text} →" if where > 1 else text,
                "font": {"color": color, "size": 11},
            }
        )  # fmt: skip
        if 0 <= where <= 1:
            line = {"color": color, "width": 1.5, "dash": "dash"}
            shapes.append({**place, "type": "line", "x0": value, "x1": value, "y0": 0, "y1": 1, "line": line})
    return {"shapes": shapes, "annotations": labels}
