"""A manifest as one self-contained HTML page: counts, reasons, histograms with thresholds, best and worst images."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from curate import charts, scorers
from curate.thumbnails import Thumbnails
from manifests import files
from manifests.errors import UserError
from manifests.table import Manifest, read

PREFIXES = ("iqa.", "degradation.", "daclip.", "judge.")
END = 6  # thumbnails at either end of a score
PAIRS = 3  # examples per task
REASONS = 40
EXAMPLES = 12  # reasons that get a thumbnail
Row = dict[str, Any]


def report(manifest: str = "manifest", output: str | None = None) -> str:
    """Write the page to `output` (default: <manifest>-report.html) and return its path.

    It opens offline: thumbnails and plotly.js are embedded. Scores are shown per distinct GT of a task; thresholds come
    from the decisions and from the filter's parameters in the lineage. A file that is missing is shown as such. The
    same manifest and files give the same bytes. Raises UserError when the output exists.
    """
    path = output or f"{manifest.rstrip('/')}-report.html"
    if files.exists(path):
        raise UserError(f"{path}: exists already; name another with -o, or delete it first")
    source = read(manifest)
    rows: list[Row] = source.table().to_pylist()
    tasks = sorted({row["task"] or "–" for row in rows})
    colours = {task: charts.PALETTE[i % len(charts.PALETTE)] for i, task in enumerate(tasks)}
    columns = _score_columns(rows, source.column_names)
    splits, counts = _counts(rows)
    thumbnails = Thumbnails(source)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.dirname(__file__)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        name=os.path.basename(os.path.abspath(manifest)),
        fingerprint=source.fingerprint,
        facts=_facts(source, rows),
        colours=colours,
        splits=splits,
        counts=counts,
        per_task=_per_task(counts),
        stages=[_stage(stage) for stage in source.stages],
        reasons=_reasons(rows, thumbnails),
        histograms=_histograms(rows, columns, _thresholds(rows, source), colours),
        scored=sorted({task for column in columns for task in _distinct(rows, column)}),
        extremes=[_extremes(rows, column, thumbnails) for column in columns],
        examples=_examples(rows, thumbnails),
        shards=_shards(rows),
        plotly=charts.plotly_script() if columns else "",
    )
    files.write(path, page.encode())
    return path


def _score_columns(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Columns of numbers that judge a GT and have at least one value, in the order of their prefixes."""
    found = [n for n in names if n.startswith(PREFIXES) and any(charts.is_number(row[n]) for row in rows)]
    return sorted(found, key=lambda n: (next(i for i, p in enumerate(PREFIXES) if n.startswith(p)), n))


def _facts(source: Manifest, rows: Sequence[Row]) -> list[tuple[str, str]]:
    distinct = len({row["gt_sha256"] for row in rows if row["gt_sha256"]})
    groups = len({row["group"] for row in rows if row["group"]})
    figures = [*source.rows.items(), ("distinct GTs", distinct), ("groups", groups)]
    return [(f"{value:,}", name) for name, value in figures]


def _counts(rows: Sequence[Row]) -> tuple[list[str], list[Row]]:
    """Rows by dataset, task and subtask: what became of them, and how many kept ones each split has."""
    tally: dict[tuple[str, ...], Counter[str]] = {}
    in_split: dict[tuple[str, ...], Counter[str]] = {}
    for row in rows:
        key = tuple(row[name] or "–" for name in ("dataset", "task", "subtask"))
        tally.setdefault(key, Counter())[row["status"]] += 1
        in_split.setdefault(key, Counter())[row["split"] or "no split"] += row["status"] == "kept"
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


def _reasons(rows: Sequence[Row], thumbnails: Thumbnails) -> list[Row]:
    """Decisions by verdict, stage and rule: how many rows, in which tasks, and the first of them."""
    tally: Counter[tuple[str, str, str]] = Counter()
    tasks: dict[tuple[str, str, str], Counter[str]] = {}
    first: dict[tuple[str, str, str], tuple[Row, str]] = {}
    for row in rows:
        for one in row["decisions"]:
            key = (one["verdict"], one["stage"], one["rule"])
            tally[key] += 1
            tasks.setdefault(key, Counter())[row["task"] or "–"] += 1
            first.setdefault(key, (row, one["text"]))
    ranked = sorted(tally, key=lambda key: (-tally[key], key))[:REASONS]
    return [
        {
            "key": key,
            "count": tally[key],
            "tasks": sorted(tasks[key].items()),
            "text": first[key][1],
            "path": first[key][0]["gt_path"] or first[key][0]["lq_path"] or "–",
            "picture": thumbnails.of(first[key][0], "gt") if number < EXAMPLES else None,
            "shown": number < EXAMPLES,
        }
        for number, key in enumerate(ranked)
    ]


def _distinct(rows: Sequence[Row], column: str) -> dict[str, list[Row]]:
    """task → one row per distinct GT that has a number in `column`."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if charts.is_number(row[column]):
            found.setdefault(row["task"] or "–", {}).setdefault(row["gt_sha256"] or row["pair_id"], row)
    return {task: list(found[task].values()) for task in sorted(found)}


def _thresholds(rows: Sequence[Row], source: Manifest) -> dict[str, list[charts.Threshold]]:
    """column → thresholds that its values were judged by, from the lineage and from the decisions themselves."""
    found: dict[tuple[str, str, str | None], float] = {}
    for stage in source.stages:
        if stage["stage"] == "filter":
            for rule in ("min", "max"):
                for name, value in stage["params"].get(rule, {}).items():
                    found[rule, name, None] = value
    for row in rows:
        for one in row["decisions"]:
            rule, _, name = one["rule"].partition(":")
            if name and one["threshold"] is not None:
                found[rule, name, row["task"] if rule == "worst" else None] = one["threshold"]
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
    rows: Sequence[Row],
    columns: Sequence[str],
    thresholds: Mapping[str, Sequence[charts.Threshold]],
    colours: Mapping[str, str],
) -> list[Row]:
    """One chart a score: distinct GTs stacked by task, thresholds drawn."""
    out = []
    for column in columns:
        values = {task: [float(row[column]) for row in found] for task, found in _distinct(rows, column).items()}
        figure = charts.histogram(values, thresholds.get(column, ()), colours)
        out.append({"column": column, "better": _better(column), "figure": charts.as_json(figure)})
    return out


def _better(column: str) -> str:
    direction = scorers.direction_of(column)
    return {True: "higher is better", False: "lower is better", None: "neither end is better"}[direction]


def _extremes(rows: Sequence[Row], column: str, thumbnails: Thumbnails) -> Row:
    """Thumbnails of the distinct GTs at either end of a score, the worse end first where there is one."""
    every = {row["gt_sha256"] or row["pair_id"]: row for found in _distinct(rows, column).values() for row in found}
    ranked = sorted(every.values(), key=lambda row: (row[column], row["gt_sha256"] or row["pair_id"]))
    half = min(END, -(-len(ranked) // 2))
    low, high = ranked[:half], ranked[half:][-END:][::-1]
    direction = scorers.direction_of(column)
    names = {True: ("worst", "best"), False: ("best", "worst"), None: ("lowest", "highest")}[direction]
    ends = [
        (name, [_shown(row, column, thumbnails) for row in end])
        for name, end in zip(names, (low, high), strict=True)
        if end
    ]
    return {"column": column, "ends": ends[::-1] if direction is False else ends}


def _shown(row: Row, column: str, thumbnails: Thumbnails) -> Row:
    return {
        "picture": thumbnails.of(row, "gt"),
        "value": f"{row[column]:.3g}" if row[column] == 0 or abs(row[column]) >= 1e-3 else "<0.001",
        "path": row["gt_path"] or "–",
        "status": row["status"],
    }


def _examples(rows: Sequence[Row], thumbnails: Thumbnails) -> list[Row]:
    """Per task up to PAIRS pairs, of as many subtasks and groups as there are; tasks without a kept pair say so."""
    out = []
    for task in sorted({row["task"] or "–" for row in rows if row["lq_path"]}):
        kept = [r for r in rows if (r["task"] or "–") == task and r["lq_path"] and r["status"] == "kept"]
        chosen: list[Row] = []
        for different in (("subtask", "group"), ("subtask",), ("group",), ("pair_id",)):
            for row in kept if len(chosen) < PAIRS else ():
                if all(row[name] not in {one[name] for one in chosen} for name in (*different, "pair_id")):
                    chosen.append(row)
                if len(chosen) == PAIRS:
                    break
        pairs = [
            {
                "lq": thumbnails.of(row, "lq"),
                "gt": thumbnails.of(row, "gt"),
                "title": row["subtask"] or task,
                "path": row["lq_path"],
                "size": f"{row['width'] or '?'}×{row['height'] or '?'}",
                "scale": row["scale"] or 1,
            }
            for row in chosen
        ]
        out.append({"task": task, "kept": len(kept), "pairs": pairs})
    return out


def _shards(rows: Sequence[Row]) -> list[Row]:
    """Per split and task: shards, samples, bytes; and each shard. Empty for a manifest without shards."""
    tars: dict[tuple[str, str], dict[str, list[int]]] = {}
    for row in rows:
        if row.get("shard"):
            tar = tars.setdefault((row["split"] or "–", row["task"] or "–"), {}).setdefault(row["shard"], [0, 0])
            tar[0] += 1
            tar[1] += row["sample_size"] or 0
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
