"""Rules against each other in all worlds of the zoo: `python -m benchmarks.mixer`.

`equilibrium` was tuned on the even seeds; what is reported here is from the odd ones. Printed are: for every world the
gain over uniform, the share of the best static mixture's gain, and how many seeds lose more than 0.01 dB; over the zoo
every rule against `equilibrium` by paired tests over worlds and seeds; and the time of 200 seeds x 100 intervals x 12
rules. `--params '{"caution": 2}'` tries other parameters.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import numpy as np

from mixer import rules, worlds
from mixer.simulate import Simulation, simulate
from mixer.statistics import interval, paired

OURS = "equilibrium"
CONFLICTING = ("conflict", "one_conflicting", "starving")  # negative transfer, forgetting
LOST = 0.01  # dB
TIMED = ("ado", "des", "doremi", "dwa", "equilibrium", "grape", "incremental", "odm", "proportional", "sequential",
         "skillit", "uniform")  # fmt: skip


def main() -> None:
    """Measure, print tables, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few seeds, under a minute")
    parser.add_argument("--even", action="store_true", help="the seeds that the rule was tuned on")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--world", action="append", help="only these worlds; files as well")
    parser.add_argument("--params", type=json.loads, default={}, help="of the rules, as JSON")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    count = 10 if options.quick else options.seeds
    seeds = list(range(0 if options.even else 1, 2 * count, 2))
    names = [name for name in rules.names() if name != "schedule"]
    played = []
    for world in options.world or worlds.zoo():
        if options.quick and world == "many":
            continue
        played.append(simulate(world, names, seeds=seeds, params=options.params, with_oracles=not options.quick))
        _print_world(played[-1], OURS)
    figures = [*_bars(played, options.quick), *_rivals(played), _timed(20 if options.quick else 200)]
    _print(figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def _of(played: Simulation, rule: str, what: str) -> np.ndarray:
    values: np.ndarray = getattr(next(one for one in played.outcomes if one.rule == rule), what)
    return values


def _print_world(played: Simulation, rule: str) -> None:
    gain = _of(played, rule, "mean") - played.uniform["mean"]
    worst = _of(played, rule, "worst") - played.uniform["worst"]
    mean, half = interval(gain)
    best = played.oracle.get("static oracle")
    share = f"{gain.mean() / max((best - played.uniform['mean']).mean(), 1e-9):6.0%}" if best is not None else ""
    print(
        f"{played.world.name:16} gain {mean:+.3f} ±{half:.3f} dB {share} of the static oracle's; worst task "
        f"{worst.mean():+.3f} dB; {np.mean(gain < -LOST):.0%} of seeds lose more than {LOST} dB",
        flush=True,
    )


def _bars(played: Sequence[Simulation], quick: bool) -> list[dict[str, object]]:
    gains = {one.world.name: _of(one, OURS, "mean") - one.uniform["mean"] for one in played}
    least = min(gains, key=lambda name: float(gains[name].mean()))
    lost = {name: float(np.mean(gain < -LOST)) for name, gain in gains.items()}
    most, over_all = (
        max(lost, key=lambda name: lost[name]),
        float(np.mean(np.concatenate(list(gains.values())) < -LOST)),
    )
    out = [
        _figure(f"least mean gain over uniform in a world ({least})", gains[least].mean(), "dB", -LOST, above=True),
        _figure("seeds that lose more than 0.01 dB, all worlds", 100 * over_all, "%", 5.0),
        _figure(f"the same in the worst world ({most})", 100 * lost[most], "%", 5.0),
    ]
    hard = [one for one in played if one.world.name in CONFLICTING]
    if not quick and hard:
        shares = []
        for one in hard:
            possible = float((one.oracle["static oracle"] - one.uniform["mean"]).mean())
            shares.append(float(gains[one.world.name].mean()) / possible)
            out.append(
                _figure(f"share of the static oracle's gain, {one.world.name}", 100 * shares[-1], "%", 40, above=True)
            )
    return out


def _rivals(played: Sequence[Simulation]) -> list[dict[str, object]]:
    """Every other rule: equilibrium less it, over all worlds and seeds, and the worlds where it is better."""
    out: list[dict[str, object]] = []
    distance = float(np.mean([one.distance for one in played]))
    for rule in (one.rule for one in played[0].outcomes if one.rule != OURS):
        for what in ("mean", "worst"):
            ours, theirs = (np.concatenate([_of(one, name, what) for one in played]) for name in (OURS, rule))
            found = paired(ours, theirs, distance)
            wins = [
                one.world.name
                for one in played
                if paired(_of(one, OURS, what), _of(one, rule, what), one.distance).verdict == "worse"
            ]
            said = f"equilibrium less {rule}, {what}: {found.verdict}"
            figure = _figure(said + (f"; {rule} wins in {', '.join(wins)}" if wins else ""), found.mean, "dB")
            out.append({**figure, "met": found.verdict in ("better", "tied")})
    return out


def _timed(seeds: int) -> dict[str, object]:
    start = time.perf_counter()
    simulate("mild", TIMED, seeds=seeds)
    return _figure(f"{seeds} seeds x 100 intervals x {len(TIMED)} rules", time.perf_counter() - start, "s", 30.0)


def _figure(
    what: str, value: float, unit: str, target: float | None = None, *, above: bool = False
) -> dict[str, object]:
    met = None if target is None else bool(value >= target if above else value <= target)
    return {"what": what, "value": round(float(value), 4), "unit": unit, "target": target, "met": met}


def _print(figures: Sequence[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "value", "unit", "target", "met")
    for one in figures:
        table.add_row(
            *("" if one[name] is None else str(one[name]) for name in ("what", "value", "unit", "target", "met"))
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
