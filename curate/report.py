"""A manifest as one self-contained HTML page: counts, reasons, histograms with thresholds, best and worst images."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
import jinja2
import numpy as np

from manifests import files, images
from manifests.errors import UserError
from manifests.table import Manifest, read

THUMBNAIL = 160  # pixels, the longer side
SHOWN = 6
BINS = 40
Row = dict[str, Any]


def report(manifest: str = "manifest", output: str | None = None) -> str:
    """Write the page to `output` (default: <manifest>-report.html) and return its path.

    It opens offline: images and plotly.js are embedded. Raises UserError when the output exists.
    """
    path = output or f"{manifest.rstrip('/')}-report.html"
    if files.exists(path):
        raise UserError(f"{path}: exists already; name another with -o, or delete it first")
    source = read(manifest)
    rows = source.table().to_pylist()
    scores = sorted(n for n in source.column_names if n.startswith(("iqa.", "degradation.", "daclip.", "judge.")))
    numbers = [n for n in scores if any(isinstance(row[n], float) for row in rows)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.dirname(__file__)), autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template("report.html.j2").render(
        name=os.path.basename(os.path.abspath(manifest)),
        rows=source.rows,
        stages=source.stages,
        counts=_counts(rows),
        reasons=_reasons(rows),
        plots=_histograms(rows, numbers),
        extremes=[(name, *_extremes(source, rows, name)) for name in numbers if name.startswith("iqa.")],
        pairs=_examples(source, rows),
    )
    files.write(path, text.encode())
    return path


def _counts(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Rows by dataset, task, subtask and split, with what became of them."""
    keys = ("dataset", "task", "subtask", "split")
    tally: dict[tuple[Any, ...], Counter[str]] = {}
    for row in rows:
        tally.setdefault(tuple(row[k] or "–" for k in keys), Counter())[row["status"]] += 1
    return [(*key, n.total(), n["kept"], n["dropped"], n["error"]) for key, n in sorted(tally.items())]


def _reasons(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    tally: Counter[tuple[str, str, str]] = Counter()
    example: dict[tuple[str, str, str], str] = {}
    for row in rows:
        for one in row["decisions"] or ():
            key = (one["verdict"], one["stage"], one["rule"])
            tally[key] += 1
            example.setdefault(key, f"{row['gt_path'] or row['lq_path']}: {one['text']}")
    return [(*key, count, example[key]) for key, count in tally.most_common(30)]


def _histograms(rows: Sequence[Row], names: Sequence[str]) -> str:
    """One histogram a score over distinct GTs, with every threshold that a decision was made by; plotly, inlined."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    if not names:
        return ""
    distinct = list({row["gt_sha256"]: row for row in rows if row["gt_sha256"]}.values())
    columns = 3
    lines = -(-len(names) // columns)
    figure = make_subplots(rows=lines, cols=columns, subplot_titles=list(names))
    for index, name in enumerate(names):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        values = [row[name] for row in distinct if row[name] is not None]
        heights, edges = np.histogram(values, bins=BINS)
        middles = (edges[:-1] + edges[1:]) / 2
        figure.add_trace(go.Bar(x=middles, y=heights, marker_color="#4477aa", showlegend=False), **place)
        for threshold in sorted(_thresholds(rows, name)):
            figure.add_vline(x=threshold, line_color="#cc3311", line_dash="dash", **place)
    figure.update_layout(height=210 * lines + 60, bargap=0, template="simple_white", margin={"t": 40, "b": 30})
    return str(figure.to_html(include_plotlyjs=True, full_html=False))


def _thresholds(rows: Sequence[Row], column: str) -> set[float]:
    from curate.scorers import column_of

    found = {
        (d["rule"].partition(":")[2], d["threshold"]) for r in rows for d in r["decisions"] or () if ":" in d["rule"]
    }
    return {value for name, value in found if value is not None and column_of(name) == column}


def _extremes(source: Manifest, rows: Sequence[Row], name: str) -> tuple[list[Any], list[Any]]:
    """Thumbnails of the GTs with the lowest and the highest value."""
    distinct = {row["gt_sha256"]: row for row in rows if row["gt_sha256"] and row[name] is not None}
    ranked = sorted(distinct.values(), key=lambda row: (row[name], row["gt_sha256"]))
    show = [(_thumbnail(source, row, "gt_path"), f"{row[name]:.3g}", row["gt_path"]) for row in ranked[:SHOWN]]
    high = [(_thumbnail(source, row, "gt_path"), f"{row[name]:.3g}", row["gt_path"]) for row in ranked[-SHOWN:][::-1]]
    return show, high


def _examples(source: Manifest, rows: Sequence[Row]) -> list[tuple[str, str | None, str | None]]:
    """The first kept pair of every task and subtask."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row["lq_path"] and row["status"] == "kept":
            first.setdefault((row["task"], row["subtask"] or ""), row)
    return [
        (" ".join(key), _thumbnail(source, row, "lq_path"), _thumbnail(source, row, "gt_path"))
        for key, row in sorted(first.items())
    ]


def _thumbnail(source: Manifest, row: Row, side: str) -> str | None:
    """A data URI, or None when the file is not there (any more)."""
    try:
        pixels = images.to_8_bit(images.decode(files.read(source.locate(row["dataset"], row[side]))).pixels)
    except (OSError, images.ImageError):
        return None
    factor = THUMBNAIL / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST))
    return "data:image/jpeg;base64," + base64.b64encode(images.encode_jpeg(small, 88)).decode()
