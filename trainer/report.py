"""One HTML page about a run that opens offline: diagnosis, result per task, curves, images, settings."""

from __future__ import annotations

import base64
import glob
import io
import json
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from manifests import files, images, pages
from manifests.errors import UserError
from manifests.outputs import refuse_existing
from trainer import diagnosis, gallery, grid, records

Image = npt.NDArray[np.uint8]
Entry = dict[str, Any]

UNITS = {"psnr": "dB"}  # other metrics have no unit
DIRECTED = ("psnr", "ssim")  # a gain above 0 is good
LOSSES = {  # name → what it is, unit
    "psnr": ("−PSNR", "dB"),
    "psnr-floor": ("−PSNR with a floor at 30 dB", "dB"),
    "l1": ("mean absolute difference", "share of the full range"),
    "charbonnier": ("Charbonnier distance", "share of the full range"),
}
QUALITY = 92  # of the JPEGs in the page
AMPLIFIED = 4  # times, in difference images
UNCHANGED = 0.0005  # a gain that is shown as +0.000


def report(
    run: str = "run", *, evaluation: str | None = None, output: str | None = None, overwrite: bool = False
) -> str:
    """Write the report of a run folder; returns its path, RUN/report.html by default.

    evaluation: a JSON that `trainer eval` wrote; the newest in RUN/eval by default, and the reference scores of the
    run itself where there is none. Raises UserError when the run has no evaluation yet or the output exists.
    """
    path = output or os.path.join(run, "report.html")
    refuse_existing(path, overwrite=overwrite)
    identity = records.read_identity(run)
    if identity is None:
        raise UserError(f"{run}: not a run folder (no config.json in it); 'trainer run -o {run}' makes one")
    rows = _metrics(run)
    found, scored = _evaluation(run, evaluation)
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    table = _table(rows, scored)
    charts = _charts(rows, tasks, identity["config"]["optimiser"]["loss"])
    page = pages.render(
        os.path.join(os.path.dirname(__file__), "report.html.j2"),
        figures={name: chart["figure"] for name, chart in charts.items()},
        name=os.path.basename(os.path.abspath(run)),
        identity=identity,
        settings=_settings(identity["config"]),
        source=_source(rows, scored),
        conventions=(scored or identity)["conventions"],
        table=table,
        has_gain_se=any(row["gain_se"] is not None for row in table),
        facts=_facts(identity, rows, table),
        findings=_findings(run, table),
        number={task: index for index, task in enumerate(tasks)},
        charts=charts,
        shown=_images(run, found, tasks),
        amplified=AMPLIFIED,
        missing=(scored or {}).get("missing", {}),
    )
    files.write(path, page.encode())
    return path


def _metrics(run: str) -> list[Entry]:
    try:
        data = files.read(os.path.join(run, "metrics.parquet"))
    except FileNotFoundError:
        raise UserError(f"{run}: has no metrics.parquet yet; let the run reach its first evaluation") from None
    rows: list[Entry] = pq.read_table(io.BytesIO(data)).to_pylist()
    return rows


def _evaluation(run: str, path: str | None) -> tuple[str | None, Entry | None]:
    """Path and content of an evaluation's JSON."""
    found = (
        [path] if path else sorted(glob.glob(os.path.join(glob.escape(run), "eval", "*.json")), key=os.path.getmtime)
    )
    if not found:
        return None, None
    try:
        content: Entry = json.loads(files.read(found[-1]))
        content["table"][0]["metric"], content["conventions"]["fingerprint"]
        return found[-1], content
    except FileNotFoundError:
        raise UserError(f"{found[-1]}: no such file; 'trainer eval' writes one") from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise UserError(f"{found[-1]}: not a result of 'trainer eval'") from None


def _source(rows: list[Entry], scored: Entry | None) -> str:
    if scored is not None:
        return f"split “{scored['split']}”, checkpoint of step {scored['step']}"
    return f"D_ref at step {rows[-1]['step']} (no 'trainer eval' result in this run)"


def _table(rows: list[Entry], scored: Entry | None) -> list[Entry]:
    """One entry a task and metric: input, restored, the paired gain with its standard error, n, weights.

    kind: "good" and "bad" for a gain in PSNR or SSIM beyond its standard error, else "" (also where none is known).
    """
    out: list[Entry] = []
    for row in scored["table"] if scored else [row for row in rows if row["step"] == rows[-1]["step"]]:
        weights = [entry["weight"] for entry in rows if entry["task"] == row["task"] and entry["weight"] is not None]
        gain: float | None = row.get("gain")
        if gain is None and row["lq"] is not None:
            gain = row["value"] - row["lq"]
        se = row.get("gain_se")
        kind = ""
        if gain is not None and se is not None and abs(gain) > max(se, UNCHANGED) and row["metric"] in DIRECTED:
            kind = "good" if gain > 0 else "bad"
        more = {"groups": row.get("groups"), "unit": UNITS.get(row["metric"], "")}
        ends = {"first": weights[0], "last": weights[-1]} if weights else {"first": None, "last": None}
        out.append({**row, **more, **ends, "gain": gain, "gain_se": se, "kind": kind})
    return sorted(out, key=lambda row: (row["metric"] != out[0]["metric"], row["metric"], row["task"]))


def _facts(identity: Entry, rows: list[Entry], table: list[Entry]) -> list[tuple[str, str]]:
    """The figures at the top of the page: (figure, what it is)."""
    psnr = [row for row in table if row["metric"] == "psnr" and row["gain"] is not None]
    facts = []
    if psnr:
        facts.append((f"{sum(row['gain'] > UNCHANGED for row in psnr)} of {len(psnr)}", "tasks restored above input"))
        facts.append((f"{sum(row['gain'] for row in psnr) / len(psnr):+.2f} dB", "mean gain in PSNR"))
    mixture, model = identity["config"]["mixture"], identity["config"]["model"]
    facts.append((f"{rows[-1]['step']:,}", "steps"))
    facts.append(
        (f"{identity['resolved']['parameters'] / 1e6:.2f} M", f"parameters, {model['name']} {model['preset']}")
    )
    facts.append(("schedule" if mixture["schedule"] else mixture["rule"], "sets the mixture"))
    return facts


def _findings(run: str, table: list[Entry]) -> list[Entry]:
    """What the run diagnosed while it trained, and tasks that end unchanged or below their input."""
    stood = diagnosis.read(run)
    found: list[Entry] = [
        {
            "severity": "warning", "task": one.task, "names": (), "command": "", "advice": one.advice,
            "text": f"{one.text} (step {one.step:,})",
        }
        for one in stood
    ]  # fmt: skip
    diagnosed = {one.task for one in stood}
    for row in table:
        if row["metric"] != "psnr" or row["gain"] is None:
            continue
        base = {"task": row["task"], "names": (), "command": ""}
        if abs(row["gain"]) < UNCHANGED and row["task"] not in diagnosed:
            text = "the output equals the input (gain +0.000 dB): the model has not learned this task"
            advice = "Train for more steps or with a higher rate (--steps, --lr), or try --loss charbonnier."
            found.append({**base, "severity": "warning", "text": text, "advice": advice})
        elif row["kind"] == "bad" or (row["gain_se"] is None and row["gain"] <= -UNCHANGED):
            se = " (its standard error is not known)" if row["gain_se"] is None else f" ± {row['gain_se']:.3f}"
            advice = "See its worst images below; give the task more weight or more steps."
            severity = "note" if row["gain_se"] is None else "warning"
            text = f"restored below its input, gain {row['gain']:+.3f} dB{se}"
            found.append({**base, "severity": severity, "text": text, "advice": advice})
    return found


def _settings(config: Entry) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (section, [(name, "–" if value is None else json.dumps(value).strip('"')) for name, value in values.items()])
        for section, values in config.items()
    ]


def _charts(rows: list[Entry], tasks: Sequence[str], loss: str) -> dict[str, Entry]:
    """Id → caption and figure: weights, a chart of scores for each metric (units never share an axis), losses."""
    charts: dict[str, Entry] = {}
    mine = {task: [row for row in rows if row["task"] == task] for task in tasks}
    weights = []
    for index, task in enumerate(tasks):
        held = [row for row in mine[task] if row["weight"] is not None]
        if held:
            steps = [0, *(row["step"] for row in held)]
            shares = [held[0]["weight"], *(row["weight"] for row in held)]
            template = "%{fullData.name} %{y:.3f}<extra></extra>"
            shape = {"shape": "vh"}
            weights.append(pages.line(index, task, steps, shares, points=False, hovertemplate=template, line=shape))
    caption = "Weights of the mixture, held from one evaluation to the next"
    charts["weights"] = _chart(caption, "share of the batch", weights, rangemode="tozero")
    for metric in dict.fromkeys(row["metric"] for row in rows):
        unit = f", {UNITS[metric]}" if metric in UNITS else ""
        traces = [
            _score_line(index, task, mine[task])
            for index, task in enumerate(tasks)
            if mine[task][0]["metric"] == metric
        ]
        caption = (
            f"{metric.upper()} on the reference images since the first evaluation; hover for score and standard error"
        )
        charts[f"scores-{len(charts)}"] = _chart(caption, f"change of {metric.upper()}{unit}", traces)
    losses = []
    for index, task in enumerate(tasks):
        known = [row for row in mine[task] if row["train_loss"] is not None]
        steps, values = [row["step"] for row in known], [row["train_loss"] for row in known]
        losses.append(pages.line(index, task, steps, values, hovertemplate="%{fullData.name} %{y:.4g}<extra></extra>"))
    what, unit = LOSSES.get(loss, (loss, "no unit"))
    caption = f"Training loss per task: {what}, mean since the evaluation before; lower is better"
    charts["losses"] = _chart(caption, f"loss, {unit}", losses)
    return charts


def _score_line(index: int, task: str, rows: list[Entry]) -> Entry:
    """Change of a task's score since its first evaluation."""
    change = [None if _absent(row["value"]) else row["value"] - rows[0]["value"] for row in rows]
    known = [[row["value"], row["se"] or 0.0] for row in rows]
    template = "%{fullData.name} %{customdata[0]:.3f} ± %{customdata[1]:.3f}<extra></extra>"
    return pages.line(index, task, [row["step"] for row in rows], change, customdata=known, hovertemplate=template)


def _absent(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def _chart(caption: str, y: str, traces: list[Entry], **yaxis: Any) -> Entry:
    layout = pages.layout("step", y, height=360, yaxis=yaxis, hovermode="x unified")
    return {"caption": caption, "figure": {"data": traces, "layout": layout}}


def _images(run: str, evaluation: str | None, tasks: Sequence[str]) -> list[Entry]:
    """Per task: worst, median and best image of the evaluation, or of D_ref; else the first reference image."""
    candidates = [os.path.join(run, "samples", "gallery.png")]
    if evaluation is not None:
        candidates.insert(0, os.path.splitext(evaluation)[0] + ".png")
    rows = next((rows for rows in map(gallery.read, candidates) if rows), [])
    if not rows:
        return _first_images(run, sorted(tasks))
    return [
        {"task": task, "rows": [_row(triple, _title(shown)) for shown, triple in rows if shown.task == task]}
        for task in dict.fromkeys(shown.task for shown, _ in rows)
    ]


def _title(shown: gallery.Shown) -> tuple[str, str]:
    unit = f" {UNITS[shown.metric]}" if shown.metric in UNITS else ""
    values = f"{shown.value:.2f}{unit}" if shown.lq is None else f"{shown.lq:.2f} → {shown.value:.2f}{unit}"
    return f"{shown.rank} of {shown.n}", f"{shown.metric.upper()} {values} · pair {shown.pair_id[:8]}"


def _first_images(run: str, tasks: Sequence[str]) -> list[Entry]:
    """Images of the newest sheet of samples: one a task."""
    sheets = sorted(glob.glob(os.path.join(glob.escape(run), "samples", "step-*.png")))
    if not sheets:
        return []
    cells = grid.cut(images.decode(files.read(sheets[-1])).pixels)
    return [
        {"task": task, "rows": [_row(row, ("first reference image", os.path.basename(sheets[-1])))]}
        for task, row in zip(tasks, cells, strict=True)
    ]


def _row(triple: Sequence[Image], title: tuple[str, str]) -> Entry:
    """LQ, output, GT and the amplified difference of output and GT as data URIs, with a title of two parts."""
    difference = np.abs(triple[1].astype(np.int16) - triple[2].astype(np.int16))
    amplified = np.minimum(difference * AMPLIFIED, 255).astype(np.uint8)
    cells = [(label, _uri(pixels)) for label, pixels in zip(("LQ", "output", "GT"), triple, strict=True)]
    return {"title": title, "cells": cells, "difference": _uri(amplified)}


def _uri(pixels: Image) -> str:
    from PIL import Image as PILImage

    buffer = io.BytesIO()
    PILImage.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
