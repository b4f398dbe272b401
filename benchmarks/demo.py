"""The demo's result under several splits of its photographs: `python -m benchmarks.demo --seeds 1-5 -o FOLDER`.

Runs a recipe (quickstart by default) once per seed of its split step, in one folder, so that the steps before are done
once; the bar is every task above its input by 0.5 dB, and 3 dB on average, on the test split.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from typing import Any

from pipelines import recipe as recipe_
from pipelines import results, runner

LEAST, MEAN = 0.5, 3.0  # dB over the input, of every task and on average


def main() -> None:
    """Run, print a table, and write `--json`; exit 1 when a seed misses the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1-5", help="of the split: 1-5, or 1,3,7")
    parser.add_argument("--recipe", default="quickstart", help="name or YAML file")
    parser.add_argument("-o", "--output", default="demo-seeds", help="folder; a seed replaces the one before")
    parser.add_argument("--quick", action="store_true", help="60 steps: tests that it runs, says nothing of quality")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    figures = []
    for seed in _seeds(options.seeds):
        figures.append(_measure(options.recipe, options.output, seed, 60 if options.quick else None))
        _print(figures[-1])
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(figures, file, indent=2)
    passed = [figure["passed"] for figure in figures]
    print(f"{sum(passed)} of {len(passed)} seeds pass")
    raise SystemExit(0 if all(passed) else 1)


def _seeds(text: str) -> list[int]:
    out: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


def _measure(name: str, output: str, seed: int, steps: int | None) -> dict[str, Any]:
    """Gains per task, seconds and CPU seconds of the recipe with this seed of its split."""
    loaded = recipe_.load(name)
    for step in loaded.steps:
        if step.run == "curate.split":
            step.params["seed"] = seed
        if step.run == "trainer.run" and steps is not None:
            step.params.update(steps=steps, interval=steps // 2)
    began, cpu = time.monotonic(), _cpu()
    rows = results.rows(loaded, runner.run(loaded, output))
    gains = {row["task"]: row["restored"] - row["lq"] for row in rows}
    mean = sum(gains.values()) / len(gains)
    return {
        "seed": seed, "gains": gains, "mean": mean, "n": {row["task"]: row["n"] for row in rows},
        "passed": min(gains.values()) >= LEAST and mean >= MEAN,
        "seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(_cpu() - cpu, 1), "cores": os.cpu_count(),
    }  # fmt: skip


def _cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _print(figure: dict[str, Any]) -> None:
    gains = "  ".join(f"{task} {gain:+.2f}" for task, gain in figure["gains"].items())
    verdict = "pass" if figure["passed"] else "miss"
    print(
        f"seed {figure['seed']}: {verdict}  mean {figure['mean']:+.2f} dB  {gains}  "
        f"({figure['seconds']:.0f} s, {figure['cpu_seconds']:.0f} CPU s)",
        flush=True,
    )


if __name__ == "__main__":
    main()
