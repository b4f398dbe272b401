"""Two pictures: D_ref over the steps under every strategy, and the weights of the rules that move them."""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.mixture import figures
from benchmarks.mixture.figures import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOVING = ("des", "equilibrium")


def draw(out: str, results: Results, interval: int) -> list[str]:
    """Write the PNGs into `out`; their names. interval: steps that a weight is held."""
    import matplotlib as mpl

    mpl.use("Agg")
    names = [_scores(out, results)]
    moving = [one for one in MOVING if one in results.records]
    return [*names, _weights(out, results, moving, interval)] if moving else names


def _scores(out: str, results: Results) -> str:
    """Mean PSNR over the tasks of D_ref, mean over the seeds, with its 95 % interval as a band."""
    figure, axes = _axes(1)
    for one in results.strategies:
        steps, lines = figures.curves(results, one)
        points = [figures.estimate(values) for values in zip(*lines, strict=True)]
        (line,) = axes[0].plot(steps, [point.mean for point in points], label=one, linewidth=1.6)
        low, high = ([point.mean + sign * (point.half or 0.0) for point in points] for sign in (-1, 1))
        axes[0].fill_between(steps, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes[0].set_title(f"D_ref, mean over tasks; {len(results.seeds)} seeds, bands: 95 % intervals")
    axes[0].set_ylabel("PSNR, dB")
    return _save(figure, axes, out, "scores.png")


def _weights(out: str, results: Results, moving: list[str], interval: int) -> str:
    """The weights of the first seed, held from one evaluation to the next; dots: what mixing holds."""
    seed = results.seeds[0]
    figure, axes = _axes(len(moving))
    for place, one in zip(axes, moving, strict=True):
        rows = results.records[one][seed]["weights"]
        for task in results.tasks:
            mine = [row["weight"] for row in rows if row["task"] == task]
            (line,) = place.step(
                [i * interval for i in range(len(mine) + 1)], [*mine, mine[-1]], where="post", label=task
            )
            if "mixing" in results.records:
                fixed = statistics.fmean(
                    row["weight"] for row in results.records["mixing"][seed]["weights"] if row["task"] == task
                )
                place.axhline(fixed, color=line.get_color(), linestyle=":", linewidth=0.8)
        place.set_title(f"{one}, seed {seed}" + ("; dotted: mixing" if "mixing" in results.records else ""))
        place.set_ylabel("weight")
        place.set_ylim(0, None)
    return _save(figure, axes, out, "weights.png")


def _axes(count: int) -> tuple[Any, list[Axes]]:
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(1, count, figsize=(1.5 + 6 * count, 4.6), squeeze=False)
    return figure, list(grid[0])


def _save(figure: Any, axes: list[Axes], out: str, name: str) -> str:
    import matplotlib.pyplot as plt

    for place in axes:
        place.set_xlabel("step")
        place.grid(alpha=0.25)
        place.spines[["top", "right"]].set_visible(False)
    axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(os.path.join(out, name), dpi=130)
    plt.close(figure)
    return name
