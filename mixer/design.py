"""Which proxy runs to make: mixtures that fill the simplex, or those from which a fitted law would learn most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixer import simplex
from mixer.errors import MixerError
from mixer.laws import Law, gp
from mixer.tables import Array, Table

CANDIDATES = 2000


def design(
    tasks: Sequence[str],
    runs: int,
    *,
    min_weight: float = 0.0,
    max_weight: float = 1.0,
    law: Law | None = None,
    seed: int = 0,
) -> Table:
    """`runs` mixtures of `tasks`, named 1, 2, …

    Without a law they are far from each other (maximin in Hellinger distance; the first is uniform). With a law of form
    gp, each is the candidate at which the law knows least, over all scores, given those chosen before it.
    Raises MixerError for repeated or too few tasks, and for another form of law.
    """
    if len(tasks) < 2 or len(set(tasks)) < len(tasks) or not all(tasks):
        raise MixerError(f"--tasks {','.join(tasks)}: two different names or more are needed", exit_code=2)
    if runs < 1:
        raise MixerError(f"-n {runs}: 1 or more", exit_code=2)
    box = simplex.Box(np.full(len(tasks), float(min_weight)), np.full(len(tasks), float(max_weight)))
    points = simplex.spread(runs, box, seed=seed) if law is None else _most_telling(law, tasks, runs, box, seed)
    return Table("index", tuple(str(i + 1) for i in range(runs)), tuple(tasks), points)


def _most_telling(law: Law, tasks: Sequence[str], runs: int, box: simplex.Box, seed: int) -> Array:
    if law.form != "gp":
        raise MixerError(f"a law of form {law.form} does not know where it knows little: fit one with --law gp")
    if tuple(tasks) != law.tasks:
        raise MixerError(f"--tasks must be those of the law: {','.join(law.tasks)}", exit_code=2)
    points = box.sample(CANDIDATES, np.random.default_rng(seed))
    inputs = law.inputs(points)
    unknown = [gp.uncertainty(target.memory, inputs) for target in law.targets]  # (M, M) covariance and noise, each
    chosen: list[int] = []
    for _ in range(runs):
        gain = sum(np.log1p(np.maximum(np.diag(covariance), 0) / noise) for covariance, noise in unknown)
        place = int(np.argmax(gain))
        chosen.append(place)
        for covariance, noise in unknown:  # the law after that run: its score is not needed for that
            column = covariance[:, place].copy()
            covariance -= np.outer(column, column) / (column[place] + noise)
    return points[chosen]
