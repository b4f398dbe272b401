"""Mixing rules by training for real: `python -m benchmarks.mixture`.

A small NAFNet is trained with equal steps under every strategy, several seeds each, on real photographs that were
degraded to tasks of unequal size and difficulty; the means over the tasks of held-out scenes are compared, paired by
seed. Four strategies are table 2 of FoundIR-v2 (arXiv 2512.09282): mixing (by size), sequential, incremental, des.
Every finished run is kept in --out, so a benchmark that was killed, started again, goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.mixture import data, figures, plots, report, runs, settings, strategies
from benchmarks.mixture.figures import Results
from benchmarks.mixture.runs import Unit
from benchmarks.mixture.settings import Settings
from manifests.errors import UserError
from mixer.errors import MixerError

OUT = "build/mixture"
NUMBERS = {
    "steps": "steps of a run", "intervals": "evaluations of D_ref after the first", "batch": "samples of a step",
    "crop": "pixels of a training sample's side", "lr": "largest learning rate",
    "proxies": "proxy runs of the law", "proxy_steps": "their steps",
    "side": "pixels of a pair's side", "crops": "pairs of a photograph and task", "ref": "pairs a task in D_ref",
    "split": "seed of the split into scenes",
}  # fmt: skip


def main() -> None:
    """Measure what is not kept yet, then report."""
    options = _parser().parse_args()
    try:
        wanted = settings.check(_settings(options))
        names = options.strategies.split(",")
        strategies.check(names)
        seeds = range(options.seeds or (2 if options.quick else 5))
        if options.quick and options.out is None:
            with tempfile.TemporaryDirectory() as folder:
                failed = _measure(folder, wanted, names, seeds, options)
        else:
            failed = _measure(options.out or OUT, wanted, names, seeds, options)
    except (UserError, MixerError) as error:
        sys.exit(f"mixture: {error}")
    sys.exit(1 if failed else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixture", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same on far less, under a minute; nothing is kept")
    parser.add_argument("--out", help=f"folder of the units, the report and the pictures; default: {OUT}")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--report", action="store_true", help="only report what --out has so far")
    parser.add_argument("--seeds", type=int, help="runs of every strategy; default: 5, with --quick 2")
    parser.add_argument("--strategies", default=",".join(strategies.NAMES), help="or any rule; default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="STRATEGY.NAME=X", help="parameter of a rule")
    parser.add_argument("--workers", type=int, default=2, help="runs side by side, a thread each; default: 2")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: cpu")
    parser.add_argument("--preset", help="of NAFNet; default: tiny")
    parser.add_argument(
        "--photos", help="folder of clean photographs, SCENE/FILE; default: scikit-image's and sklearn's"
    )
    parser.add_argument("--tasks", help="TASK:SUBTASK=SHARE,... of the training pairs; default: %(default)s",
                        default=",".join(f"{task}={share:g}" for task, share in settings.TASKS.items()))  # fmt: skip
    for name, said in NUMBERS.items():
        default = getattr(settings.FULL, name)
        said = f"{said}; default: {default}, with --quick {getattr(settings.QUICK, name)}"
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), help=said)
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    """The size that was asked for, with what flags change."""
    names = [*NUMBERS, "device", "preset", "photos"]
    given: dict[str, Any] = {name: value for name in names if (value := getattr(options, name)) is not None}
    params = {name: dict(own) for name, own in settings.FULL.params.items()}
    try:
        shares = {task: float(share) for task, share in (one.split("=") for one in options.tasks.split(","))}
        for one in options.set:
            target, text = one.split("=", 1)
            strategy, name = target.split(".")
            params.setdefault(strategy, {})[name] = json.loads(text)
    except ValueError as error:
        raise UserError(f"--tasks and --set: {error}", exit_code=2) from None
    return replace(settings.QUICK if options.quick else settings.FULL, tasks=shares, params=params, **given)


def _measure(
    out: str, wanted: Settings, names: Sequence[str], seeds: Sequence[int], options: argparse.Namespace
) -> dict[str, str]:
    """Data, proxy runs, runs, report. Returns unit -> why it failed."""
    settings.hold(out, wanted)
    shards = data.build(out, wanted)
    mixtures = strategies.proxies(wanted) if "law" in names else []
    proxies = [runs.proxy(i, weights, shards, wanted) for i, weights in enumerate(mixtures)]
    failed: dict[str, str] = {}
    if not options.report:
        with runs.pool(options.workers) as processes:
            failed |= runs.execute(processes, proxies, out)
            law = _law(out, proxies, mixtures)
            units = [
                runs.unit(name, seed, strategies.mixture(name, wanted, law and law["weights"]), shards, wanted)
                for seed in seeds
                for name in names
                if name != "law" or law
            ]
            failed |= runs.execute(processes, units, out)
    results = figures.collect(out, names, seeds)
    if results is None:
        why = next((f"{name}: {one}" for name, one in failed.items()), "start it again without --report")
        raise UserError(f"{out}: no seed is finished under every strategy that was begun; {why}")
    _report(out, wanted, data.describe(shards), results, _law(out, proxies, mixtures), options.json)
    for name, one in failed.items():
        print(f"failed: {name}: {one}")
    return failed


def _law(out: str, proxies: Sequence[Unit], mixtures: Sequence[dict[str, float]]) -> dict[str, Any] | None:
    """The law's optimum and its price; None unless every proxy run is finished."""
    records = [record for one in proxies if (record := runs.load(out, one.name))]
    if not records or len(records) < len(proxies):
        return None
    steps = proxies[0].config["optimiser"]["steps"]
    scores = [{row["task"]: row["value"] for row in record["curve"] if row["step"] == steps} for record in records]
    price = sum(sum(record["seconds"].values()) for record in records)
    return {**strategies.fit(out, mixtures, scores), "runs": len(records), "proxy_seconds": price}


def _report(
    out: str,
    wanted: Settings,
    described: dict[str, Any],
    results: Results,
    law: dict[str, Any] | None,
    path: str | None,
) -> None:
    """Print the tables, the facts and the verdicts; write them with the pictures into `out`, and `--json`."""
    lines, said, tables = report.facts(wanted, described, results, law), report.verdicts(results), report.grids(results)
    for grid in tables:
        report.show(grid)
    if wanted.steps < settings.FULL.steps:
        said = [
            f"{line}; a run as short as this shows that the benchmark works, not which rule is better" for line in said
        ]
    for line in [*lines, *said]:
        print(line)
    pictures = plots.draw(out, results, wanted.interval)
    report.markdown(os.path.join(out, "report.md"), said, lines, tables, pictures)
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report.as_figures(results, law), file, indent=2)


if __name__ == "__main__":
    main()
