"""Train on all ground truth, on what the filter keeps, and on as much at random; print test PSNR with intervals."""

from __future__ import annotations

import argparse
import json
import os
import statistics
from dataclasses import replace
from typing import Any

from benchmarks.gt_cleaning import data
from benchmarks.mixture import runs
from benchmarks.mixture.figures import estimate
from benchmarks.stream import Figure, _figure, _print


def main() -> None:
    """Build the data, carry out the runs, print a table, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default="gt_cleaning", help="folder of data and runs; what is there is kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of each run")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side")
    parser.add_argument("--quick", action="store_true", help="two seeds and 40 steps, to see that it works")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    settings, seeds = data.Settings(), options.seeds
    if options.quick:
        settings, seeds = replace(settings, steps=40, crops=4), 2
    if options.steps:
        settings = replace(settings, steps=options.steps)
    manifests, found = data.build(options.output, settings)
    units = [_unit(name, seed, path, settings) for seed in range(seeds) for name, path in manifests.items()]
    with runs.pool(options.processes) as processes:
        failed = runs.execute(processes, units, options.output)
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: {next(iter(failed.values()))}")
    figures = _figures(options.output, seeds, found)
    _print(figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def _unit(name: str, seed: int, manifest: str, settings: data.Settings) -> runs.Unit:
    """One run. Seeds are paired: the same initial parameters for all variants."""
    config = {
        "data": {"manifest": os.path.abspath(manifest), "batch": settings.batch, "crop": settings.crop, "workers": 0},
        "optimiser": {"steps": settings.steps, "lr": settings.lr, "warmup": settings.steps // 20},
        "mixture": {"rule": "static"},
        "evaluation": {"interval": settings.steps},
        "run": {"seed": seed, "device": "cpu", "threads": 1, "keep": 1},
    }
    return runs.Unit(name, seed, config)


def _figures(out: str, seeds: int, found: dict[str, Any]) -> list[Figure]:
    figures = []
    for kind in (*data.KINDS, "clean"):
        share = found[kind]["dropped"] / max(found[kind]["GTs"], 1)
        figures.append(_figure(f"GTs of {kind}, dropped by the filter", share, "share"))
    figures.append(_figure("GTs kept", found["kept"], f"of {found['GTs']}"))
    psnr = {name: [_test(out, f"{name}-{seed:03d}") for seed in range(seeds)] for name in data.VARIANTS}
    for name, values in psnr.items():
        figures.append(_figure(f"trained on {name}: test PSNR, mean over tasks", statistics.fmean(values), "dB"))
    for other in ("all", "random"):
        gains = [one - two for one, two in zip(psnr["filtered"], psnr[other], strict=True)]
        paired = estimate(gains)
        mean, half = paired.mean, paired.half
        what = f"filtered - {other}, paired over {seeds} seeds"
        if half is None:  # one seed says nothing about others
            figures.append(_figure(what, mean, "dB"))
        else:
            figures.append(_figure(f"{what}, ± {half:.3f} (95 %)", mean, "dB", 0.0, mean - half > 0))
    return figures


def _test(out: str, name: str) -> float:
    record = runs.load(out, name)
    assert record is not None  # it was carried out
    return statistics.fmean(row["value"] for row in record["test"] if row["metric"] == "psnr")


if __name__ == "__main__":
    main()
