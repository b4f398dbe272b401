"""How often pair checks are right, and what they cost: `python -m benchmarks.pairs`. One process, one thread.

Right pairs (every degradation of the installed photographs, of those in `--photographs FOLDER`, and the real pairs of
`--manifest MANIFEST`) and the same with planted faults; models fitted to four fifths of the scenes judge the others, in
turn. `--fit` fits them to all and writes curate/pair_checks/model.json. `--quick` judges a few installed photographs
with the models of the package, in less than a minute; they were fitted to these photographs too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import pair_fit
from benchmarks.dedup import _figure, _print
from benchmarks.pair_faults import CLEAR, Pair, Seen, folder, installed, real, seen, synthetic
from curate import degradations, pair_checks
from curate.pair_checks import evidence, judge, model, shift, tasks
from manifests import images

BARS = {"other scene": 99.0, "shifted": 95.0, "exchanged": 99.9, "identical": 100.0}  # percent found at least
ALARMS = 1.0  # percent of right pairs dropped or marked as shifted, at most
MILLISECONDS = 1.0
BLURRED = ("deblur",)  # whose shifts are not told
QUICK = 3  # photographs
COST = (1080, 1920)


def main() -> None:
    """Measure, print the tables, and write `--json` and, with `--fit`, the models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", nargs="*", default=[], help="folders of clean photographs")
    parser.add_argument("--manifest", nargs="*", default=[], help="manifests of real pairs; groups are scenes")
    parser.add_argument("--crops", type=int, default=2, help="crops of every photograph")
    parser.add_argument("--fit", action="store_true", help="write curate/pair_checks/model.json")
    parser.add_argument("--quick", action="store_true", help="a few installed photographs and the package's models")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    figures = cost()
    photographs = dict(list(installed().items())[:QUICK]) if options.quick else installed()
    for path in options.photographs:
        photographs |= folder(path)
    records = gather([*(p for path in options.manifest for p in real(path))], photographs, options.crops)
    if options.quick:
        judged = [(record, _state(record, model.load())) for record in records]
    else:
        judged = [
            (record, _state(record, fitted))
            for train, test in pair_fit.folds(records)
            for fitted in [pair_fit.fit(train)]
            for record in test
        ]
    print(table(judged))
    figures += summary(judged)
    _print(figures)
    if options.fit:
        model.FILE.write_text(json.dumps(pair_fit.fit(records), indent=1) + "\n", encoding="utf-8")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def gather(pairs: Sequence[Pair], photographs: dict[str, Any], crops: int) -> list[Seen]:
    """All records: of the real pairs, then of the synthetic ones, one photograph in memory at a time."""
    rng = np.random.default_rng(5)
    records = [record for index in range(len(pairs)) for record in seen(pairs, index, rng)]
    names = list(photographs)
    for number, name in enumerate(names):
        other = names[(number + 1) % len(names)]
        some = list(synthetic({name: photographs[name]}, crops, number))
        foreign = list(synthetic({other: photographs[other]}, 1, number))
        for index in range(len(some)):
            records += seen([*some, *foreign], index, rng)
        print(f"\r{number + 1}/{len(names)} photographs", end="", flush=True)
    print()
    return records


def _state(record: Seen, fitted: model.Fitted) -> tuple[str, bool | None]:
    """The state of a pair; and whether it would be found if its sides were exchanged (None where nobody tells)."""
    if record.flat:
        return "flat", None
    columns = dict.fromkeys(pair_checks.KINDS) | {"pair.psnr": 0.0, "pair.ncc": record.ncc, "scale": record.scale}
    values = columns | evidence.conclude(record, record.task, fitted=fitted)
    swapped = values["pair.swapped"]
    return str(judge.state(values, judge.Policy())), None if swapped is None else 1 - swapped > judge.Policy.swapped


Judged = Sequence[tuple[Seen, tuple[str, bool | None]]]


def rates(judged: Judged) -> dict[str, tuple[int, int]]:
    """What is counted -> (how often, of how many), for pairs that have structure."""
    found: dict[str, list[bool]] = defaultdict(list)
    for record, (state, exchanged) in judged:
        if state == "flat":
            continue
        if record.fault == CLEAR:
            found["false alarm"].append(state in ("other_scene", "swapped", "shifted", "identical"))
            if exchanged is not None:
                found["exchanged"].append(exchanged)
        elif record.fault == "shifted":
            found["shifted"].append(state == "shifted")
        else:
            found[record.fault].append(state == "other_scene")
    return {name: (sum(values), len(values)) for name, values in found.items()}


def table(judged: Judged) -> str:
    """A Markdown table: a row per task, real pairs apart."""
    names = ("false alarm", "other scene", "neighboring crop", "shifted", "exchanged")
    groups: dict[str, list[Any]] = defaultdict(list)
    for record, state in judged:
        groups[f"{record.task}{', real' if record.real else ''}"].append((record, state))
    lines = ["| task | pairs | flat | " + " | ".join(names) + " |", "|---|" + "--:|" * (len(names) + 2)]
    for name in sorted(groups):
        counts = rates(groups[name])
        cells = [f"{counts[key][0]} of {counts[key][1]}" if key in counts else "" for key in names]
        own = [state[0] for record, state in groups[name] if record.fault == CLEAR]
        lines.append(f"| {name} | {len(own)} | {own.count('flat')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(judged: Judged) -> list[dict[str, Any]]:
    """The bars: over all tasks; shifts without those of blurs, which are not told."""
    told = [one for one in judged if tasks.known(one[0].task) not in BLURRED and one[0].task != "foundir"]
    counts = rates(judged) | {"shifted": rates(told)["shifted"]}
    figures = []
    for name, (hits, total) in counts.items():
        share, bar = 100 * hits / total, ALARMS if name == "false alarm" else BARS.get(name)
        met = None if bar is None else share <= bar if name == "false alarm" else share >= bar
        figures.append(_figure(f"{name} ({hits} of {total})", share, "%", bar, met))
    return figures


def cost(repeats: int = 15) -> list[dict[str, Any]]:
    """Milliseconds of processor time that a pair of 2 MP takes beyond ingest's decode, luma and hashes."""
    photograph = installed()["skimage/coffee"]
    rows, columns = (size - side for size, side in zip(COST, photograph.shape, strict=False))
    around = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    gt = np.ascontiguousarray(np.pad(photograph, around, mode="reflect"))
    lq = degradations.degrade(gt, "dehaze", "uniform", 3)
    known = [(one, images.luma(one)) for one in (lq, gt)]
    hashes = [images.phash(one, luma) for one, luma in known]
    reduced = [images.reduced(luma) for _, luma in known]

    def views() -> list[pair_checks.View]:
        return [pair_checks.view(*one, small) for one, small in zip(known, reduced, strict=True)]

    files = [images.encode_jpeg(one, 95) for one in (lq, gt)]
    decode = _fastest(lambda: [images.decode(data) for data in files], 5)
    names = {"task": "dehaze", "lq_phash": hashes[0], "gt_phash": hashes[1]}
    whole = _fastest(lambda: pair_checks.measure(*views(), **names), repeats)
    search = _fastest(lambda: shift.search(*views(), 1), 5)
    return [
        _figure("a right pair of 2 MP, beyond ingest's decode", 1000 * whole, "ms", MILLISECONDS),
        _figure("the thorough look at a doubtful one", 1000 * search, "ms", None),
        _figure("decoding both as JPEG", 1000 * decode, "ms", None),
    ]


def _fastest(function: Callable[[], Any], repeats: int) -> float:
    """Seconds of this thread on the processor, the least of `repeats`."""

    def seconds() -> float:
        start = time.thread_time()
        function()
        return time.thread_time() - start

    return min(seconds() for _ in range(repeats))


if __name__ == "__main__":
    main()
