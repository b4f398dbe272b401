"""Tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from trainer.evaluate import Evaluation


def show_evaluation(result: Evaluation) -> None:
    """Print an evaluation: one table a metric, what is missing, and the conventions."""
    console = Console(highlight=False)
    for metric in dict.fromkeys(row.metric for row in result.table):
        table = Table("task", title=f"{metric} on {result.split}, step {result.step}", title_justify="left")
        for name in ("n", "input", "restored", "± SE", "gain"):
            table.add_column(name, justify="right")
        for row in (row for row in result.table if row.metric == metric):
            gain = None if row.lq is None else row.value - row.lq
            table.add_row(
                row.task, str(row.n), _figure(row.lq), _figure(row.value), _figure(row.se), _figure(gain, sign="+")
            )
        console.print(table)
    for reason in result.missing.values():
        console.print(f"missing: {reason}", markup=False)
    for name, text in result.conventions.items():
        console.print(f"{name}: {text}", style="dim", markup=False)
    console.print(result.path, markup=False)


def _figure(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"
