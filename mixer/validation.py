"""A law held against runs that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixer.errors import MixerError
from mixer.laws import INTERVAL, Law
from mixer.tables import Mixtures, Table


@dataclass(frozen=True)
class Verdict:
    """One score: rank correlation, mean absolute error, R², and the share of the runs that the intervals hold."""

    name: str
    spearman: float
    mae: float
    r2: float
    covered: float


def validate(law: Law, mixtures: Mixtures, scores: Table, level: float = INTERVAL) -> list[Verdict]:
    """A verdict for every score of the law. Raises MixerError when `scores` lacks one, and for fewer than 3 runs."""
    from scipy.stats import spearmanr

    if len(mixtures.runs) < 3:
        raise MixerError(f"{len(mixtures.runs)} runs: 3 or more are needed to tell ranks")
    if missing := [target.name for target in law.targets if target.name not in scores.names]:
        raise MixerError(f"the scores have no column {missing[0]!r}, which the law predicts")
    mean, half = law.predict(law.of(mixtures), level)
    verdicts = []
    for i, target in enumerate(law.targets):
        true = scores.values_NxM[:, scores.names.index(target.name)]
        error = true - mean[:, i]
        spread = float(((true - true.mean()) ** 2).sum())
        verdicts.append(
            Verdict(
                name=target.name,
                spearman=float(np.nan_to_num(spearmanr(mean[:, i], true).statistic)),
                mae=float(np.abs(error).mean()),
                r2=float(1 - (error**2).sum() / spread) if spread > 0 else 0.0,
                covered=float((np.abs(error) <= half[:, i]).mean()),
            )
        )
    return verdicts


def mean(verdicts: Sequence[Verdict]) -> Verdict:
    """The mean over the scores."""
    numbers = {
        name: float(np.mean([getattr(one, name) for one in verdicts])) for name in ("spearman", "mae", "r2", "covered")
    }
    return Verdict(name="mean", **numbers)
