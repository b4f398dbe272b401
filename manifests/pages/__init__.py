"""The style of every HTML page: one stylesheet, one set of colors, one look of plots, one viewer for images.

A page is a Jinja2 template that extends `page.html.j2`. It opens offline: stylesheet, scripts and plotly.js stand in
the page, and its Content-Security-Policy lets a browser load nothing. Colors are CSS variables with a light and a dark
value, and plots name them too (`var(--c1)`), so that a page follows the reader's `prefers-color-scheme`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

# Series of plots, on white and on the dark ground. Chosen by simulated annealing: CIEDE2000 between any two is at least
# 13 for normal sight and for protanopia, deuteranopia and tritanopia (Machado et al., 2009), contrast at least 3.
LIGHT = ("#1f6a96", "#d87d4c", "#34a08e", "#a584dc", "#696713", "#92495a", "#181391", "#5b1810")
DARK = ("#6ab9c7", "#e9af91", "#59fce1", "#a07ff5", "#d9d533", "#ae7284", "#5c74a4", "#d85734")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "cross", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot")
Figure = dict[str, Any]


def color(index: int) -> str:
    """The color of series `index` as a CSS variable; it comes again after `len(LIGHT)` series."""
    return f"var(--c{index % len(LIGHT) + 1})"


def symbol(index: int) -> str:
    """The marker of series `index`, so that color alone never tells two lines apart."""
    return SYMBOLS[index % len(SYMBOLS)]


def dash(index: int) -> str:
    """The dash of series `index`: solid for the first round of colors, another for each round after it."""
    return DASHES[index // len(LIGHT) % len(DASHES)]


def layout(x: str = "", y: str = "", *, height: int = 300, **more: Any) -> Figure:
    """A Plotly layout in the pages' style. x, y: titles of the axes with their units; height in pixels."""
    axis = {
        "gridcolor": "var(--grid)", "linecolor": "var(--line)", "zerolinecolor": "var(--line)", "ticks": "outside",
        "tickcolor": "var(--line)", "automargin": True,
    }  # fmt: skip
    base: Figure = {
        "height": height,
        "margin": {"l": 48, "r": 12, "t": 12, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--ink)"},
        "hoverlabel": {"bgcolor": "var(--card)", "bordercolor": "var(--line)", "font": {"color": "var(--ink)"}},
        "legend": {"orientation": "h", "yanchor": "top", "y": -0.22, "x": 0, "bgcolor": "rgba(0,0,0,0)"},
        "xaxis": {**axis, "title": {"text": x, "standoff": 6}, "showgrid": False, **more.pop("xaxis", {})},
        "yaxis": {**axis, "title": {"text": y, "standoff": 6}, **more.pop("yaxis", {})},
    }
    return {**base, **more}


def line(index: int, name: str, x: Sequence[Any], y: Sequence[Any], *, points: bool = True, **more: Any) -> Figure:
    """A Plotly trace of series `index`. points: draw a marker at every value."""
    return {
        "type": "scatter",
        "mode": "lines+markers" if points else "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": color(index), "width": 2, "dash": dash(index), **more.pop("line", {})},
        "marker": {"size": 6, "symbol": symbol(index), "color": color(index)},
        **more,
    }


def as_json(value: Any) -> str:
    """JSON that can stand inside a script element; the same value gives the same text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def render(
    template: str, *, figures: Mapping[str, Figure] | None = None, embedded: Sequence[str] = (), **values: Any
) -> str:
    """The page of the template at path `template`, which extends `page.html.j2`.

    figures: id of an element → Plotly figure ({"data", "layout"}) that is drawn in it; plotly.js stands in the page
    where there is at least one. embedded: data URIs of images that the template names by number. values: what the
    template names. Text in values is escaped. The same arguments give the same page.
    """
    environment = _environment(os.path.dirname(template))
    page: str = environment.get_template(os.path.basename(template)).render(
        figures=as_json(dict(figures or {})),
        embedded=as_json(list(embedded)),
        plotly=_plotly() if figures else "",
        **values,
    )
    return page


def stylesheet() -> str:
    """The stylesheet of all pages."""
    return _text("page.css").replace("/*SERIES*/", _series(LIGHT)).replace("/*DARK SERIES*/", _series(DARK))


def _series(colors: Sequence[str]) -> str:
    return " ".join(f"--c{number}: {value};" for number, value in enumerate(colors, 1))


def _environment(folder: str) -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, os.path.dirname(__file__)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(stylesheet=stylesheet(), script=_text("page.js"), color=color)
    return environment


def _text(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script
