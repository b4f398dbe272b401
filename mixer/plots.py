"""Pictures of schedules and simulations as PNG, in the colors of the pages."""

from __future__ import annotations

import io
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from manifests import pages
from mixer import files, schedule
from mixer.errors import MixerError
from mixer.statistics import interval

if TYPE_CHECKING:
    from mixer.schedule import Schedule
    from mixer.simulate import Outcome, Simulation

LEGEND = 12  # tasks
PANELS = 24  # tasks whose scores are drawn
ACROSS = 4  # panels of scores side by side
BETTER, WORSE, OPEN, INK = pages.LIGHT[0], pages.LIGHT[1], "#b9bec6", "#444444"
LINES = ("-", "--", ":", "-.")


def plot(schedule_path: str, output: str, *, overwrite: bool = False) -> None:
    """Draw a schedule's weights, and its scores where it has them, into a .png or .html file.

    Raises MixerError for a bad schedule, another suffix, or an output that exists.
    """
    files.refuse_existing(output, overwrite=overwrite, inputs=[schedule_path])
    found, suffix = schedule.read(schedule_path), os.path.splitext(output)[1].lower()
    if suffix not in (".png", ".html"):
        raise MixerError(f"{output}: name it with .png or .html", exit_code=2)
    name = os.path.basename(schedule_path)
    if suffix == ".png":
        files.write(output, _png(name, found))
        return
    from mixer import page

    files.write(output, page.schedule(name, found).encode())


def picture(simulation: Simulation) -> bytes:
    """PNG: what each rule gained over uniform, and the weights that it gave the first seed."""
    import matplotlib.pyplot as plt

    outcomes = simulation.outcomes
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.2 + 0.36 * len(outcomes)), layout="constrained")
    names, places = [one.rule for one in outcomes], np.arange(len(outcomes))
    for axis, what, title in ((axes[0], "mean", "mean of the tasks"), (axes[1], "worst", "worst task")):
        bars = [interval(one) for one in (over_uniform(simulation, outcome, what) for outcome in outcomes)]
        middle, half = np.array([bar[0] for bar in bars]), np.array([bar[1] for bar in bars])
        signs = zip(middle - half, middle + half, strict=True)
        colors = [BETTER if low > 0 else WORSE if high < 0 else OPEN for low, high in signs]
        axis.barh(places, middle, xerr=half, color=colors, ecolor=INK, height=0.7)
        axis.set_yticks(places, names)
        axis.invert_yaxis()
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_xscale("symlog", linthresh=0.1)
        axis.set_xlabel("final score against uniform, dB (95 % of the mean)")
        axis.set_title(f"{simulation.world.name}: {title}, {len(simulation.world.seeds)} seeds", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    return _saved(figure)


def over_uniform(simulation: Simulation, one: Outcome, what: str) -> Any:
    """(S,) what a rule reached more than uniform weights, in dB. what: "mean" or "worst"."""
    return getattr(one, what) - simulation.uniform[what]


def _png(name: str, found: Schedule) -> bytes:
    """Weights on top; below a panel a task with its score, since tasks are scored in units of their own."""
    import matplotlib.pyplot as plt

    tasks = found.names[:PANELS] if found.scores_IxK is not None else ()
    across = min(ACROSS, max(len(tasks), 1))
    rows = 1 + math.ceil(len(tasks) / across)
    figure = plt.figure(figsize=(10, 3.2 + 1.9 * (rows - 1)), layout="constrained")
    grid = figure.add_gridspec(rows, across, height_ratios=[1.6, *[1.0] * (rows - 1)])
    top = figure.add_subplot(grid[0, :])
    for index, task in enumerate(found.names):
        top.plot(found.weights_IxK[:, index], label=task, linewidth=1.6, **_style(index))
    top.set_ylim(bottom=0)
    _label(top, f"{name}: weights" + ("" if tasks else "; it has no scores"), "interval", "weight, share of the batch")
    if len(found.names) <= LEGEND:
        top.legend(fontsize=8, frameon=False, ncols=across)
    for index, task in enumerate(tasks):
        panel = figure.add_subplot(grid[1 + index // across, index % across])
        assert found.scores_IxK is not None
        panel.plot(found.scores_IxK[:, index], linewidth=1.6, **_style(index))
        _label(panel, task, "interval", "score")
    return _saved(figure)


def _style(index: int) -> dict[str, Any]:
    count = len(pages.LIGHT)
    return {"color": pages.LIGHT[index % count], "linestyle": LINES[index // count % len(LINES)]}


def _label(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(x, fontsize=9)
    axis.set_ylabel(y, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _saved(figure: Any) -> bytes:
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()
