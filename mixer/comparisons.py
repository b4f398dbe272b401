"""Our rule against every other of a simulation, seed by seed, with p values corrected for how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixer.statistics import Paired, corrected, paired

if TYPE_CHECKING:
    from mixer.simulate import Simulation

OURS = "equilibrium"
MEASURES = {"mean": "mean of the tasks", "worst": "worst task"}
Against = dict[str, dict[str, Paired]]


def against(simulation: Simulation) -> Against:
    """Other rule → measure → how much better ours is, in dB; empty for one seed, one rule, or without ours.

    p of all of them are corrected together (Holm).
    """
    ours = next((one for one in simulation.outcomes if one.rule == OURS), None)
    others = [one for one in simulation.outcomes if one.rule != OURS]
    if ours is None or not others or len(ours.seeds) < 2:
        return {}
    found = [
        paired(getattr(ours, measure), getattr(one, measure), simulation.distance)
        for one in others
        for measure in MEASURES
    ]
    rest = iter(corrected(found))
    return {one.rule: {measure: next(rest) for measure in MEASURES} for one in others}


def count(found: Against) -> int:
    """How many comparisons there are."""
    return sum(map(len, found.values()))
