"""The strategies as the trainer's `mixture` section; and the law's proxy runs, fit and optimum."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.mixture.settings import Settings
from manifests import files
from manifests.errors import UserError

Weights = dict[str, float]

# The first four are table 2 of FoundIR-v2 (arXiv 2512.09282).
NAMES = ("mixing", "sequential", "incremental", "des", "uniform", "equilibrium", "law")
RULES = {"mixing": "proportional", "law": "static"}  # the others are called as their rule
FLOOR = 0.02  # least weight of a task in proxy runs and in the law's optimum


def check(names: Sequence[str]) -> None:
    """Raises UserError for a strategy whose rule the mixer does not have."""
    from mixer import rules

    if lacking := [name for name in names if RULES.get(name, name) not in rules.names()]:
        raise UserError(
            f"strategy {lacking[0]!r}: the mixer has no rule {RULES.get(lacking[0], lacking[0])!r}; leave it out with "
            f"--strategies {','.join(name for name in names if name not in lacking)}",
            exit_code=2,
        )


def mixture(name: str, settings: Settings, weights: Weights | None) -> dict[str, Any]:
    """The `mixture` section of a run's config. weights: the law's optimum.

    sequential and incremental get as many intervals for every task as make up the run; other parameters are the rules'
    defaults unless `settings.params` says otherwise.
    """
    turns: dict[str, Any] = {"intervals": settings.intervals // len(settings.tasks)}
    params = turns if name in ("sequential", "incremental") else {}
    return {
        "rule": RULES.get(name, name),
        "params": {**params, **settings.params.get(name, {})},
        "initial": weights if name == "law" else None,
    }


def proxies(settings: Settings) -> list[Weights]:
    """Mixtures that fill the simplex of tasks; the first is uniform."""
    from mixer.design import design

    made = design(settings.names, settings.proxies, min_weight=FLOOR)
    return [dict(zip(made.names, row, strict=True)) for row in made.values_NxM.tolist()]


def fit(out: str, mixtures: Sequence[Weights], scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The mixture with the best predicted mean of the scores, kept in `out`/law.json.

    scores: task -> PSNR on D_ref (dB) of each proxy run. A kept law of the same proxy runs is read, not fitted anew.
    """
    from mixer import laws
    from mixer.optimize import optimize
    from mixer.tables import Mixtures, Table

    path = os.path.join(out, "law.json")
    if os.path.exists(path):
        kept: dict[str, Any] = json.loads(files.read(path))
        return kept
    start, tasks = time.monotonic(), tuple(sorted(mixtures[0]))
    runs = tuple(str(i + 1) for i in range(len(mixtures)))
    weights_NxK, scores_NxK = (np.array([[one[task] for task in tasks] for one in rows]) for rows in (mixtures, scores))
    law = laws.fit(Mixtures("index", runs, tasks, weights_NxK), Table("index", runs, tasks, scores_NxK), "gp", "max")
    best = optimize(law, "mean", min_weight=FLOOR)
    found = {
        "weights": best.weights,
        "reason": best.reason,
        "predicted": best.predicted,
        "held_out": {one.name: {"spearman": one.spearman, "r2": one.r2} for one in law.targets},
        "seconds": round(time.monotonic() - start, 2),
    }
    files.write(path, (json.dumps(found, indent=2) + "\n").encode())
    return found
