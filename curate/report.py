"""A manifest as one self-contained HTML page: findings, counts, reasons, pairs, histograms, best and worst images."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate import charts, report_pairs, scorers
from curate.signals.table import SIGNALS
from curate.thumbnails import Thumbnails
from manifests import files, outputs, pages
from manifests.errors import UserError
from manifests.table import Manifest, read

PREFIXES = ("iqa.", "degradation.", "daclip.", "judge.")
END = 4  # thumbnails at either end of a score
TITLES = {"iqa": "Quality and signals", "degradation": "Degradations", "daclip": "DA-CLIP", "judge": "Judges"}
NOT_SHOWN = ("caption", "caption_model", "instruction")
REASONS = 40
EXAMPLES = 8  # reasons that get images
Row = dict[str, Any]


def report(manifest: str = "manifest", output: str | None = None) -> str:
    """Write the page to `output` (default: <manifest>-report.html) and return its path.

    It opens offline: images and plotly.js are embedded. Scores are shown per distinct GT of a task; thresholds come
    from the decisions and from the filter's parameters in the lineage. A file that is missing is shown as such. The
    same manifest and files give the same bytes. Raises UserError when the output exists.
    """
    path = output or f"{manifest.rstrip('/')}-report.html"
    if files.exists(path):
        raise outputs.existing(path)
    source = read(manifest)
    rows = Rows(source)
    tasks = sorted(set(rows.task.tolist()))
    colors = {task: pages.color(index) for index, task in enumerate(tasks)}
    columns = _score_columns(rows)
    splits, counts = _counts(rows)
    thumbnails = Thumbnails(source)
    histograms = _histograms(rows, columns, _thresholds(rows), colors)
    content = {
        "findings": _findings(manifest),
        "flagged": report_pairs.flagged(rows, thumbnails),  # first: what comes last may be embedded smaller
        "reasons": _reasons(rows, thumbnails),
        "examples": report_pairs.examples(rows, thumbnails),
        "scores": _scores(rows, histograms, thumbnails),
    }
    page = pages.render(
        os.path.join(os.path.dirname(__file__), "report.html.j2"),
        figures={chart["id"]: chart["figure"] for chart in histograms},
        embedded=thumbnails.embedded,
        name=os.path.basename(os.path.abspath(manifest)),
        fingerprint=source.fingerprint,
        facts=_facts(rows),
        colors=colors,
        splits=splits,
        counts=counts,
        per_task=_per_task(counts),
        stages=[_stage(stage) for stage in source.stages],
        scored=sorted({task for column in columns for task in rows.task[rows.distinct(column)].tolist()}),
        shards=_shards(rows),
        **content,
    )
    files.write(path, page.encode())
    return path


class Rows:
    """A manifest's rows as columns, so that a million of them fit; single rows as dicts only where they are shown."""

    def __init__(self, source: Manifest) -> None:
        self.source = source
        self.table = source.table([n for n in source.column_names if n not in NOT_SHOWN])
        self.task = pc.fill_null(self.table.column("task"), "–").to_numpy()
        self.kept = pc.equal(self.table.column("status"), "kept").to_numpy().astype(bool)
        keys = pc.coalesce(self.table.column("gt_sha256"), self.table.column("pair_id"))
        self.key = np.asarray(keys.to_pandas().factorize(sort=True)[0], np.int64)  # of the GT, in the order of its hash
        self._task_code = np.asarray(self.table.column("task").to_pandas().factorize()[0], np.int64)

    def at(self, index: int) -> Row:
        """Row `index` as a dict."""
        row: Row = self.table.slice(index, 1).to_pylist()[0]
        return row

    def values(self, column: str) -> npt.NDArray[np.float64]:
        """A column as numbers, NaN where a cell holds none that is finite."""
        found = self.table.column(column)
        if not (pa.types.is_floating(found.type) or pa.types.is_integer(found.type)):
            return np.full(self.table.num_rows, np.nan)
        numbers = found.cast(pa.float64()).to_numpy().astype(np.float64)
        return np.where(np.isfinite(numbers), numbers, np.nan)

    def distinct(self, column: str) -> npt.NDArray[np.int64]:
        """Indices of one row per task and distinct GT that has a number in `column`, in manifest order."""
        there = np.flatnonzero(~np.isnan(self.values(column)))
        both = self._task_code[there] * (self.key.max(initial=0) + 1) + self.key[there]
        return np.asarray(there[np.sort(np.unique(both, return_index=True)[1])], np.int64)

    def count(self, names: Sequence[str], *sums: str) -> list[Row]:
        """How many rows have each combination of values in `names` ("rows"), and sums of other columns."""
        grouped = self.table.select([*names, *sums]).group_by(list(names))
        found: list[Row] = grouped.aggregate([([], "count_all"), *((name, "sum") for name in sums)]).to_pylist()
        return found

    def decisions(self) -> pa.Table:
        """All decisions, with the `row` and `task` that each is about."""
        lists = self.table.column("decisions").combine_chunks()
        rows = pc.list_parent_indices(lists)
        flat = pa.Table.from_struct_array(pc.list_flatten(lists))
        return flat.append_column("row", rows).append_column("task", pa.array(self.task).take(rows))


def _findings(manifest: str) -> list[Row]:
    """What `curate doctor` says, the worst first."""
    from curate.doctor import diagnose

    return [
        {
            "severity": finding.severity,
            "task": "",
            "text": f"{finding.count:,} {finding.text}",
            "names": finding.names,
            "advice": "",
            "command": finding.command,
        }
        for finding in diagnose(manifest)
    ]


def _score_columns(rows: Rows) -> list[str]:
    """Columns of numbers that judge a GT and have at least one value, in the order of their prefixes."""
    names = [name for name in rows.table.column_names if name.startswith(PREFIXES)]
    found = [name for name in names if not np.isnan(rows.values(name)).all()]
    return sorted(found, key=lambda n: (next(i for i, p in enumerate(PREFIXES) if n.startswith(p)), n))


def _facts(rows: Rows) -> list[tuple[str, str]]:
    counts = {name: pc.count_distinct(rows.table.column(name)).as_py() for name in ("gt_sha256", "group")}
    figures = [*rows.source.rows.items(), ("distinct GTs", counts["gt_sha256"]), ("groups", counts["group"])]
    return [(f"{value:,}", name) for name, value in figures]


def _counts(rows: Rows) -> tuple[list[str], list[Row]]:
    """Rows by dataset, task and subtask: what became of them, and how many kept ones each split has."""
    tally: dict[tuple[str, ...], Counter[str]] = {}
    in_split: dict[tuple[str, ...], Counter[str]] = {}
    for row in rows.count(["dataset", "task", "subtask", "split", "status"]):
        key = tuple(row[name] or "–" for name in ("dataset", "task", "subtask"))
        tally.setdefault(key, Counter())[row["status"]] += row["count_all"]
        in_split.setdefault(key, Counter())[row["split"] or "no split"] += row["count_all"] * (row["status"] == "kept")
    found = {split for counts in in_split.values() for split in counts}
    splits = [s for s in ("train", "ref", "test") if s in found] + sorted(found - {"train", "ref", "test", "no split"})
    splits += ["no split"] * bool(splits and "no split" in found)
    lines = [
        {
            "key": key,
            "status": [n.total(), n["kept"], n["dropped"], n["error"]],
            "splits": [in_split[key][split] for split in splits],
        }
        for key, n in sorted(tally.items())
    ]
    return splits, lines


def _per_task(lines: Sequence[Row]) -> list[Row]:
    """The lines of `_counts` summed over datasets and subtasks."""
    out: dict[str, Row] = {}
    for line in lines:
        one = out.setdefault(line["key"][1], {"task": line["key"][1], "kept": 0, "splits": [0] * len(line["splits"])})
        one["kept"] += line["status"][1]
        one["splits"] = [a + b for a, b in zip(one["splits"], line["splits"], strict=True)]
    return [out[task] for task in sorted(out)]


def _stage(stage: Mapping[str, Any]) -> Row:
    params = {name: value for name, value in stage["params"].items() if value not in (None, "", [], {})}
    texts = {name: json.dumps(value, ensure_ascii=False, sort_keys=True) for name, value in sorted(params.items())}
    return {
        "name": stage["stage"],
        "version": stage["version"],
        "rows": stage["rows"],
        "params": [(name, text.strip('"')) for name, text in texts.items()],
    }


def _reasons(rows: Rows, thumbnails: Thumbnails) -> list[Row]:
    """Decisions by verdict, stage and rule: how many rows, in which tasks, and the first of them."""
    keys = ["verdict", "stage", "rule"]
    grouped = rows.decisions().group_by([*keys, "task"]).aggregate([([], "count_all"), ("row", "min")]).to_pylist()
    tally: Counter[tuple[str, str, str]] = Counter()
    tasks: dict[tuple[str, str, str], Counter[str]] = {}
    first: dict[tuple[str, str, str], int] = {}
    for one in grouped:
        key = (one["verdict"], one["stage"], one["rule"])
        tally[key] += one["count_all"]
        tasks.setdefault(key, Counter())[one["task"]] += one["count_all"]
        first[key] = min(one["row_min"], first.get(key, one["row_min"]))
    ranked = sorted(tally, key=lambda key: (-tally[key], key))[:REASONS]
    out = []
    for number, key in enumerate(ranked):
        row = rows.at(first[key])
        text = next(one["text"] for one in row["decisions"] if (one["verdict"], one["stage"], one["rule"]) == key)
        out.append(
            {
                "key": key,
                "count": tally[key],
                "tasks": sorted(tasks[key].items()),
                "text": text,
                "path": row["gt_path"] or row["lq_path"] or "–",
                "images": _sides(row, thumbnails) if number < EXAMPLES else [],
            }
        )
    return out


def _sides(row: Row, thumbnails: Thumbnails) -> list[Row]:
    """The images that a row has: LQ and GT, or one of them."""
    return [image for image in thumbnails.pair(row) if row[f"{image['label'].lower()}_path"]]


def _thresholds(rows: Rows) -> dict[str, list[charts.Threshold]]:
    """column → thresholds that its values were judged by, from the lineage and from the decisions themselves."""
    found: dict[tuple[str, str, str | None], float] = {}
    for stage in rows.source.stages:
        if stage["stage"] == "filter":
            for rule in ("min", "max"):
                for name, value in stage["params"].get(rule, {}).items():
                    found[rule, name, None] = value
    grouped = rows.decisions().group_by(["rule", "threshold", "task"]).aggregate([("row", "max")]).to_pylist()
    for one in sorted(grouped, key=lambda one: one["row_max"]):
        rule, _, name = one["rule"].partition(":")
        if name and one["threshold"] is not None:
            found[rule, name, one["task"] if rule == "worst" else None] = one["threshold"]
    out: dict[str, list[charts.Threshold]] = {}
    for (rule, name, task), value in sorted(found.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or "")):
        column = _column_of(name)
        out.setdefault(column, []).append(charts.Threshold(rule, value, task))
    return out


def _column_of(name: str) -> str:
    try:
        return scorers.column_of(name)
    except UserError:  # a metric of another version
        return name


def _histograms(
    rows: Rows,
    columns: Sequence[str],
    thresholds: Mapping[str, Sequence[charts.Threshold]],
    colors: Mapping[str, str],
) -> list[Row]:
    """One chart a score: distinct GTs stacked by task, thresholds drawn."""
    out = []
    for number, column in enumerate(columns, 1):
        chosen = rows.distinct(column)
        numbers, tasks = rows.values(column)[chosen], rows.task[chosen]
        values = {task: numbers[tasks == task] for task in sorted(set(tasks.tolist()))}
        figure = charts.histogram(values, thresholds.get(column, ()), colors, _unit(column))
        out.append({"column": column, "better": _better(column), "id": f"chart-{number}", "figure": figure})
    return out


def _unit(column: str) -> str:
    """The unit of a score's axis."""
    if column.startswith(("degradation.", "daclip.")):
        return "probability"
    signal = SIGNALS.get(column.removeprefix("iqa."))
    return (signal.unit or "no unit") if signal else "score"


def _scores(rows: Rows, histograms: Sequence[Row], thumbnails: Thumbnails) -> list[Row]:
    """Charts by the prefix of their column, each with the images at either end."""
    out: dict[str, Row] = {}
    for chart in histograms:
        prefix = chart["column"].partition(".")[0]
        group = out.setdefault(prefix, {"title": TITLES.get(prefix, prefix), "charts": []})
        extremes = _extremes(rows, chart["column"], thumbnails)
        group["charts"].append({**{name: chart[name] for name in ("column", "better", "id")}, "ends": extremes})
    return list(out.values())


def _better(column: str) -> str:
    direction = scorers.direction_of(column)
    return {True: "higher is better", False: "lower is better", None: "neither end is better"}[direction]


def _extremes(rows: Rows, column: str, thumbnails: Thumbnails) -> list[tuple[str, list[Row]]]:
    """Images of the distinct GTs at either end of a score, the worse end first where there is one."""
    chosen = rows.distinct(column)
    chosen = chosen[np.sort(np.unique(rows.key[chosen], return_index=True)[1])]  # a GT of two tasks is shown once
    ranked = chosen[np.lexsort((rows.key[chosen], rows.values(column)[chosen]))].tolist()
    half = min(END, -(-len(ranked) // 2))
    low, high = ranked[:half], ranked[half:][-END:][::-1]
    direction = scorers.direction_of(column)
    names = {True: ("worst", "best"), False: ("best", "worst"), None: ("lowest", "highest")}[direction]
    ends = [
        (name, [_shown(rows.at(index), column, thumbnails) for index in end])
        for name, end in zip(names, (low, high), strict=True)
        if end
    ]
    return ends[::-1] if direction is False else ends


def _shown(row: Row, column: str, thumbnails: Thumbnails) -> Row:
    return {
        "image": thumbnails.of(row, "gt"),
        "value": f"{row[column]:.3g}" if row[column] == 0 or abs(row[column]) >= 1e-3 else "<0.001",
        "path": row["gt_path"] or "–",
        "status": row["status"],
    }


def _shards(rows: Rows) -> list[Row]:
    """Per split and task: shards, samples, bytes; and each shard. Empty for a manifest without shards."""
    if "shard" not in rows.table.column_names:
        return []
    tars: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for one in rows.count(["split", "task", "shard"], "sample_size"):
        if one["shard"]:
            key = (one["split"] or "–", one["task"] or "–")
            tars.setdefault(key, {})[one["shard"]] = (one["count_all"], one["sample_size_sum"] or 0)
    return [
        {
            "split": split,
            "task": task,
            "samples": sum(n for n, _ in named.values()),
            "size": sum(size for _, size in named.values()),
            "tars": [(name, n, size) for name, (n, size) in sorted(named.items())],
        }
        for (split, task), named in sorted(tars.items())
    ]
