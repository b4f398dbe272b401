"""One HTML page about a run that opens offline: result per task, curves of scores and weights, images, settings."""

from __future__ import annotations

import base64
import glob
import html
import io
import json
import os
from typing import Any

import pyarrow.parquet as pq

from manifests import files, images
from manifests.errors import UserError
from trainer import grid, records
from trainer.evaluate import refuse_existing

PALETTE = ("#2563a8", "#d1603d", "#2f8f6b", "#8a5bb0", "#c09a1e", "#b8436f", "#3aa0b8", "#6b6f76", "#7a9a2e", "#8c5a3c")


def report(run: str = "run", *, evaluation: str | None = None, output: str | None = None) -> str:
    """Write the report of a run folder; returns its path, RUN/report.html by default.

    evaluation: a JSON that `trainer eval` wrote; the newest in RUN/eval by default, and the reference scores of the
    run itself where there is none. Raises UserError when the run has no evaluation yet or the output exists.
    """
    import jinja2

    path = output or os.path.join(run, "report.html")
    refuse_existing(path)
    identity = records.read_identity(run)
    if identity is None:
        raise UserError(f"{run}: not a run folder (no config.json in it); 'trainer run -o {run}' makes one")
    rows = _metrics(run)
    scored = _evaluation(run, evaluation)
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    colours = {task: PALETTE[i % len(PALETTE)] for i, task in enumerate(tasks)}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.dirname(__file__)), autoescape=True, undefined=jinja2.StrictUndefined
    )
    table = _table(rows, scored, tasks)
    page = environment.get_template("report.html.j2").render(
        name=os.path.basename(os.path.abspath(run)),
        identity=identity,
        settings=_settings(identity["config"]),
        source=_source(rows, scored),
        conventions=(scored or identity)["conventions"],
        table=table,
        facts=_facts(identity, rows, table),
        colours=colours,
        curves=_curves(rows, tasks, colours),
        plotly=_plotly_script(),
        rows=_images(run, sorted(tasks)),
        missing=(scored or {}).get("missing", {}),
    )
    files.write(path, page.encode())
    return path


def _metrics(run: str) -> list[dict[str, Any]]:
    try:
        data = files.read(os.path.join(run, "metrics.parquet"))
    except FileNotFoundError:
        raise UserError(f"{run}: has no metrics.parquet yet; let the run reach its first evaluation") from None
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
    return rows


def _evaluation(run: str, path: str | None) -> dict[str, Any] | None:
    found = (
        [path] if path else sorted(glob.glob(os.path.join(glob.escape(run), "eval", "*.json")), key=os.path.getmtime)
    )
    if not found:
        return None
    try:
        content: dict[str, Any] = json.loads(files.read(found[-1]))
        content["table"][0]["metric"], content["conventions"]["fingerprint"]
        return content
    except FileNotFoundError:
        raise UserError(f"{found[-1]}: no such file; 'trainer eval' writes one") from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise UserError(f"{found[-1]}: not a result of 'trainer eval'") from None


def _source(rows: list[dict[str, Any]], scored: dict[str, Any] | None) -> str:
    if scored is not None:
        return f"split “{scored['split']}”, checkpoint of step {scored['step']}"
    return f"D_ref at step {rows[-1]['step']} (no 'trainer eval' result in this run)"


def _table(rows: list[dict[str, Any]], scored: dict[str, Any] | None, tasks: list[str]) -> list[dict[str, Any]]:
    """One entry a task and metric: input, restored, gain, standard error, n, first and last weight."""
    last = [row for row in rows if row["step"] == rows[-1]["step"]]
    out = []
    for row in scored["table"] if scored else last:
        weights = [one["weight"] for one in rows if one["task"] == row["task"] and one["weight"] is not None]
        gain = None if row["lq"] is None else row["value"] - row["lq"]
        out.append({**row, "gain": gain, "first": weights[0] if weights else None, "last": (weights or [None])[-1]})
    return sorted(out, key=lambda row: (row["metric"] != out[0]["metric"], row["metric"], row["task"]))


def _facts(identity: dict[str, Any], rows: list[dict[str, Any]], table: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The figures at the top of the page: (figure, what it is)."""
    psnr = [row["gain"] for row in table if row["metric"] == "psnr" and row["gain"] is not None]
    facts = []
    if psnr:
        facts.append((f"{sum(gain > 0 for gain in psnr)} of {len(psnr)}", "tasks restored above their input"))
        facts.append((f"{sum(psnr) / len(psnr):+.2f} dB", "mean gain in PSNR"))
    mixture, model = identity["config"]["mixture"], identity["config"]["model"]
    facts.append((f"{rows[-1]['step']:,}", "steps"))
    facts.append(
        (f"{identity['resolved']['parameters'] / 1e6:.2f} M", f"parameters, {model['name']} {model['preset']}")
    )
    facts.append(("schedule" if mixture["schedule"] else mixture["rule"], "sets the mixture"))
    return facts


def _settings(config: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (section, [(name, "–" if value is None else json.dumps(value).strip('"')) for name, value in values.items()])
        for section, values in config.items()
    ]


def _curves(rows: list[dict[str, Any]], tasks: list[str], colours: dict[str, str]) -> list[tuple[str, str]]:
    """(caption, HTML) of the three charts."""
    by_task = {task: [row for row in rows if row["task"] == task] for task in tasks}
    units = " and ".join(dict.fromkeys(row["metric"].upper() for row in rows))
    weights = _figure("share of the batch", "vh")
    scores = _figure(f"{units} on D_ref, change since step 0", "linear")
    losses = _figure("training loss", "linear")
    for task, mine in by_task.items():
        held = [row for row in mine if row["weight"] is not None]
        if held:
            steps = [0, *(row["step"] for row in held)]
            _line(weights, task, colours[task], steps, [held[0]["weight"], *(row["weight"] for row in held)], "vh")
        start = mine[0]["value"]
        errors = [row["se"] or 0.0 for row in mine]
        _line(scores, task, colours[task], [row["step"] for row in mine], [row["value"] - start for row in mine])
        scores.data[-1].customdata = [[row["value"], se] for row, se in zip(mine, errors, strict=True)]
        scores.data[-1].hovertemplate = task + " %{customdata[0]:.3f} ± %{customdata[1]:.3f}<extra></extra>"
        known = [row for row in mine if row["train_loss"] is not None]
        _line(losses, task, colours[task], [row["step"] for row in known], [row["train_loss"] for row in known])
    captions = (
        "Weights of the mixture, held from one evaluation to the next",
        "Scores on the reference images since the first evaluation; hover for the score and its standard error",
        "Mean training loss per task since the evaluation before",
    )
    charts = zip(("weights", "scores", "losses"), captions, (weights, scores, losses), strict=True)
    return [(text, _html(figure, name)) for name, text, figure in charts]


def _figure(title: str, shape: str) -> Any:
    from plotly import graph_objects as go

    axis = {"gridcolor": "#e7e9ec", "zerolinecolor": "#c9cdd3", "linecolor": "#c9cdd3", "ticks": "outside"}
    return go.Figure(
        layout={
            "xaxis": {**axis, "title": "step"},
            "yaxis": {**axis, "title": title, "rangemode": "tozero" if shape == "vh" else "normal"},
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#2a2e34"},
            "paper_bgcolor": "#fff", "plot_bgcolor": "#fff", "hovermode": "x unified", "height": 340,
            "margin": {"l": 60, "r": 20, "t": 16, "b": 48}, "legend": {"orientation": "v"},
            "template": None,
        }
    )  # fmt: skip


def _line(figure: Any, name: str, colour: str, x: list[Any], y: list[Any], shape: str = "linear") -> None:
    figure.add_scatter(
        x=x, y=y, name=name, mode="lines" if shape == "vh" else "lines+markers", marker={"size": 5},
        line={"color": colour, "width": 2, "shape": shape}, hovertemplate=name + " %{y:.4f}<extra></extra>",
    )  # fmt: skip


def _html(figure: Any, name: str) -> str:
    settings = {"displaylogo": False, "responsive": True}
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, config=settings, div_id=name)
    return text


def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def _images(run: str, tasks: list[str]) -> list[dict[str, Any]]:
    """Per task the data URIs of LQ, output and GT of the last evaluation."""
    sheets = sorted(glob.glob(os.path.join(glob.escape(run), "samples", "step-*.png")))
    if not sheets:
        return []
    cells = grid.cut(images.decode(files.read(sheets[-1])).pixels)
    return [
        {"task": task, "cells": [(kind, _uri(cell)) for kind, cell in zip(("LQ", "output", "GT"), row, strict=True)]}
        for task, row in zip(tasks, cells, strict=True)
    ]


def _uri(cell: Any) -> str:
    return "data:image/png;base64," + html.escape(base64.b64encode(images.encode_png(cell)).decode())
