"""What a recipe ended with: per task the PSNR of LQ and restored on the evaluated split, and how its weight moved."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from manifests.console import out, printable
from pipelines.recipe import Recipe


def rows(recipe: Recipe, places: Mapping[str, str]) -> list[dict[str, Any]]:
    """One mapping a task: task, n, groups, lq, restored, gain and its standard error (dB), first and last weight.

    Empty without a trainer.eval step.
    """
    from mixer import schedule

    evaluation = next((places[step.name] for step in reversed(recipe.steps) if step.run == "trainer.eval"), None)
    run = next((places[step.name] for step in reversed(recipe.steps) if step.run == "trainer.run"), None)
    if evaluation is None or run is None:
        return []
    with open(evaluation, encoding="utf-8") as file:
        table = json.load(file)["table"]
    weights = schedule.read(os.path.join(run, "schedule.parquet"))
    first, last = weights.weights(0), weights.weights(10**9)
    return [
        {
            "task": row["task"],
            "n": row["n"],
            "lq": row["lq"],
            "restored": row["value"],
            "groups": row.get("groups"),
            "gain": row["value"] - row["lq"] if row.get("gain") is None else row["gain"],
            "gain_se": row.get("gain_se"),
            "first": first.get(row["task"]),
            "last": last.get(row["task"]),
        }
        for row in table
        if row["metric"] == "psnr"
    ]


def show(recipe: Recipe, places: Mapping[str, str]) -> None:
    """Print the table, and where the reports are."""
    from rich.table import Table

    console = out()
    found = rows(recipe, places)
    if found:
        table = Table("task", title="PSNR on the test split, dB", title_justify="left")
        for name in ("n", "groups", "LQ", "restored", "gain ± SE", "weight first", "last"):
            table.add_column(name, justify="right")
        for row in found:
            gain = f"{row['gain']:+.2f}" + ("" if row["gain_se"] is None else f" ± {row['gain_se']:.2f}")
            groups = "-" if row["groups"] is None else str(row["groups"])
            shares = ["-" if row[name] is None else f"{row[name]:.3f}" for name in ("first", "last")]
            table.add_row(
                printable(row["task"]),
                str(row["n"]),
                groups,
                f"{row['lq']:.2f}",
                f"{row['restored']:.2f}",
                gain,
                *shares,
            )
        console.print(table)
        better = sum(row["restored"] > row["lq"] for row in found)
        console.print(f"restored beats LQ on {better} of {len(found)} tasks")
    for step in recipe.steps:
        if step.run.endswith(".report"):
            console.print(f"{step.run}: {places[step.name]}", soft_wrap=True)
