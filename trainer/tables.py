"""An evaluation as the table of a paper: a row per task and dataset, a column per metric; Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import math
import os
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from manifests import files
from manifests.errors import UserError
from manifests.outputs import refuse_existing
from trainer.clustered import mean_and_error

if TYPE_CHECKING:
    from trainer.evaluate import Evaluation, Scored

SUFFIXES = (".md", ".tex", ".csv")
KINDS = ("", " (input)", " (gain)", " (gain SE)")


def check_path(path: str, *, overwrite: bool = False) -> None:
    """Raises UserError unless the table can be written to `path`: by its suffix, and nothing stands there."""
    if os.path.splitext(path)[1].lower() not in SUFFIXES:
        raise UserError(f"{path}: name the table with {', '.join(SUFFIXES)}", exit_code=2)
    refuse_existing(path, overwrite=overwrite, option="--table")


def write(result: Evaluation, path: str, *, overwrite: bool = False) -> None:
    """Write the table of `result` in the form that the suffix of `path` names; conventions stand below or beside it."""
    check_path(path, overwrite=overwrite)
    header, rows = cells(result)
    form = {".md": _markdown, ".tex": _latex, ".csv": _csv}[os.path.splitext(path)[1].lower()]
    files.write(path, form(header, rows, result.conventions).encode())


def cells(result: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Header and rows: task, dataset, images, groups, then each metric of the restored and of the input, the gain and
    its standard error over groups; a mean at the end.

    A metric without a value, or whose weights are missing, is "–", never 0. The mean is over rows; it has no standard
    error, since rows share scenes.
    """
    metrics = list(dict.fromkeys(one.metric for one in result.images)) + list(result.missing)
    header = ["task", "dataset", "images", "groups", *(f"{name}{kind}" for name in metrics for kind in KINDS)]
    numbers: list[list[float | None]] = []
    rows: list[list[str]] = []
    for task, dataset in sorted({(one.task, one.dataset) for one in result.images}):
        mine = [one for one in result.images if (one.task, one.dataset) == (task, dataset)]
        line: list[float | None] = []
        for name in metrics:
            scored = [one for one in mine if one.metric == name]
            line += [_mean([one.value for one in scored]), _mean([one.lq for one in scored]), *_gain(scored)]
        numbers.append(line)
        groups = {one.group for one in mine}
        counts = [str(len({one.pair_id for one in mine})), "–" if None in groups else str(len(groups))]
        rows.append([task, dataset, *counts, *map(_shown, line)])
    if len(rows) > 1:
        means = [_mean(column) if None not in column else None for column in zip(*numbers, strict=True)]
        means[len(KINDS) - 1 :: len(KINDS)] = [None] * len(metrics)
        rows.append(["mean", "", "", "", *map(_shown, means)])
    return header, rows


def _gain(scored: Sequence[Scored]) -> tuple[float | None, float | None]:
    """Mean of value - lq over the images that have both, and its standard error."""
    pairs = [
        (one.value - one.lq, one.group)
        for one in scored
        if one.value is not None and one.lq is not None and math.isfinite(one.value - one.lq)
    ]
    return mean_and_error(*zip(*pairs, strict=True))[:2] if pairs else (None, None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(known) if known else None


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) >= 2 else f"{value:.4f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], conventions: dict[str, str]) -> str:
    lines = [header, ["---"] * 2 + ["---:"] * (len(header) - 2), *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return table + "\n\n" + "\n".join(f"- {name}: {text}" for name, text in conventions.items()) + "\n"


def _latex(header: Sequence[str], rows: Sequence[Sequence[str]], conventions: dict[str, str]) -> str:
    notes = "\n".join(f"% {name}: {text}" for name, text in conventions.items())
    begin = f"\\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}\n\\toprule"
    body = [" & ".join(map(_escaped, line)) + r" \\" for line in (header, *rows)]
    last = [r"\midrule"] if rows and rows[-1][0] == "mean" and len(rows) > 1 else []
    parts = [begin, body[0], r"\midrule", *body[1 : len(body) - len(last)], *last, *body[len(body) - len(last) :]]
    return "\n".join([notes, *parts, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _escaped(cell: str) -> str:
    for sign in "&%$#_{}":
        cell = cell.replace(sign, f"\\{sign}")
    return cell.replace("–", "--")


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]], conventions: dict[str, str]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*header, "conventions"])
    for row in rows:
        writer.writerow([*("" if cell == "–" else cell for cell in row), conventions.get("fingerprint", "")])
    return buffer.getvalue()
