"""Tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from manifests.console import out, printable
from manifests.errors import UserError

if TYPE_CHECKING:
    from trainer.evaluate import Evaluation


def show_evaluation(result: Evaluation) -> None:
    """Print an evaluation: one table a metric, what is missing, and the conventions."""
    console = out()
    for metric in dict.fromkeys(row.metric for row in result.table):
        table = Table("task", title=f"{metric} on {result.split}, step {result.step}", title_justify="left")
        for name in ("n", "groups", "input", "restored", "± SE", "gain", "± SE"):
            table.add_column(name, justify="right")
        for row in (row for row in result.table if row.metric == metric):
            groups = "–" if row.groups is None else str(row.groups)
            values = (_figure(value) for value in (row.lq, row.value, row.se))
            table.add_row(
                printable(row.task), str(row.n), groups, *values, _figure(row.gain, sign="+"), _figure(row.gain_se)
            )
        console.print(table)
    for reason in result.missing.values():
        console.print(printable(f"missing: {reason}"))
    for name, text in result.conventions.items():
        console.print(f"{name}: {text}", style="dim")
    console.print(result.path)


def show_run(folder: str) -> None:
    """Print what stands in a run folder. Raises UserError when it is none."""
    import os

    import yaml

    from trainer import checkpoint, records

    said = records.read_identity(folder)
    if said is None:
        raise UserError(f"{folder}: has no config.json; is it a folder that 'trainer run' wrote?")
    console = out()
    console.print(yaml.safe_dump(said["config"], sort_keys=False).rstrip())
    for name in ("resolved", "versions", "git", "fingerprints", "data"):
        console.print(f"{name}: {said.get(name)}")
    rows = _last(os.path.join(folder, "metrics.parquet"))
    steps = said["config"]["optimiser"]["steps"]
    done = rows[0]["step"] if rows else 0
    title = f"evaluated at step {done} of {steps}"
    table = Table("task", "metric", title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("input", "value", "± SE", "gain", "± SE", "weight", "samples", "epochs"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        gain = row["value"] - row["lq"] if row.get("gain") is None and row["lq"] is not None else row.get("gain")
        numbers = [_figure(row[name]) for name in ("lq", "value", "se")]
        numbers += [_figure(gain, sign="+"), _figure(row.get("gain_se")), _figure(row["weight"])]
        table.add_row(printable(row["task"]), row["metric"], *numbers, str(row["samples_seen"]), _figure(row["epochs"]))
    if rows:
        console.print(table)
    found, problems = checkpoint.newest(os.path.join(folder, "checkpoints"))
    for problem in problems:
        console.print(printable(f"damaged: {problem}"))
    console.print("no checkpoint yet" if found is None else f"newest checkpoint: {found.path}")


def _last(path: str) -> list[dict[str, Any]]:
    """Rows of the last evaluation in metrics.parquet; none before the first."""
    import os

    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist() if os.path.exists(path) else []
    return [row for row in rows if row["step"] == max(one["step"] for one in rows)]


def _figure(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"
