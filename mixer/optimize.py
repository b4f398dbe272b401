"""The best mixture under a law: objectives, floors and ceilings, repetition caps, distance to a prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixer import mixture, simplex
from mixer.errors import MixerError
from mixer.laws import INTERVAL, Law
from mixer.tables import Array

OBJECTIVES = ("mean", "worst", "weighted", "pareto")
EPOCHS = 4.0  # times that data may be repeated: Muennighoff et al., NeurIPS 2023
NUDGE = 0.05  # of a weight, for the sensitivity
FRONT = 21  # trade-offs of a Pareto front


@dataclass(frozen=True)
class Optimum:
    """A proposed mixture.

    weights: task -> share. predicted: score -> mean, low, high (90 % for a new run). objective: its value there, in
    the scores' units. kl: to the prior, nats. sensitivity: task -> change of the objective when the task gets 0.05
    more, taken from (and less, given to) the others in proportion. reason: why scores were left out, or the prior
    is proposed; None otherwise.
    """

    weights: dict[str, float]
    predicted: dict[str, dict[str, float]]
    objective: float
    kl: float
    sensitivity: dict[str, dict[str, float]]
    reason: str | None = None


def optimize(
    law: Law,
    objective: str = "mean",
    *,
    importance: Mapping[str, float] | None = None,
    min_weight: Mapping[str, float] | float = 0.0,
    max_weight: Mapping[str, float] | float = 1.0,
    available: Mapping[str, float] | None = None,
    samples: float | None = None,
    max_epochs: float = EPOCHS,
    prior: Mapping[str, float] | None = None,
    kl: float = 0.0,
    scale: float | None = None,
    seed: int = 0,
    worst: bool = False,
) -> Optimum:
    """The mixture with the best predicted scores, in the law's direction; the one with the worst if `worst`.

    objective: the mean of the scores, the worst of them, or their mean weighted by `importance`. Scores that the law
    cannot predict are left out; when none is left, the prior is proposed. available: task -> samples there are; with
    `samples`, the length of the run, no task is repeated more than `max_epochs` times; it is also the natural prior.
    kl: the penalty on KL(w || prior), in the objective's units per nat. scale: steps or samples to predict for.
    Raises MixerError for bounds that no mixture fits, and for names that the law does not know.
    """
    if objective not in OBJECTIVES[:3]:
        raise MixerError(f"objective {objective!r}: one of {', '.join(OBJECTIVES[:3])} (or pareto)", exit_code=2)
    prior_K = _prior(law, prior, available)
    box = bounds(law, min_weight, max_weight, available, samples, max_epochs)
    prior_K = box.project(prior_K)[0]
    names = [target.name for target in law.targets]
    share = _importance(law, objective, importance)
    if not share.any():
        loss = _loss(law, objective, np.ones(len(names)), prior_K, 0.0, scale)
        return _optimum(
            law, prior_K, loss, prior_K, scale, "no score is predicted better than by a constant: the prior"
        )
    loss = _loss(law, objective, share, prior_K, kl, scale)
    starts = np.stack([prior_K, np.full(len(law.tasks), 1 / len(law.tasks))])
    best = simplex.minimise(
        _negated(_loss(law, objective, share, prior_K, 0.0, scale)) if worst else loss, box, starts, seed=seed
    )
    left = [name for name, of in zip(names, share, strict=True) if not of and objective != "weighted"]
    said = f"left out, since the law predicts them no better than a constant: {', '.join(left)}"
    return _optimum(law, best, loss, prior_K, scale, said if left else None)


def pareto(law: Law, *, count: int = FRONT, seed: int = 0, **constraints: Any) -> list[Optimum]:
    """Mixtures none of which beats another in every score: optima for `count` trade-offs between the scores."""
    names = [target.name for target in law.informative]
    if len(names) < 2:
        raise MixerError("a Pareto front needs two scores or more that the law can predict")
    points = simplex.spread(count, simplex.Box(np.zeros(len(names)), np.ones(len(names))), seed=seed)
    spreads = np.array([target.sd for target in law.informative])
    found = []
    for point in points:
        importance = dict(zip(names, (point / spreads).tolist(), strict=True))
        found.append(optimize(law, "weighted", importance=importance, seed=seed, **constraints))
    sign = 1.0 if law.direction == "min" else -1.0
    values = np.array([[sign * one.predicted[name]["mean"] for name in names] for one in found])

    def beaten(i: int) -> bool:
        no_worse, better = (values <= values[i] + 1e-12).all(axis=1), (values < values[i] - 1e-9).any(axis=1)
        return bool((no_worse & better).any())

    return [one for i, one in enumerate(found) if not beaten(i)]


def bounds(
    law: Law,
    min_weight: Mapping[str, float] | float,
    max_weight: Mapping[str, float] | float,
    available: Mapping[str, float] | None,
    samples: float | None,
    max_epochs: float,
) -> simplex.Box:
    """Floors and ceilings, the repetition caps among them."""
    low, high = _each(law, min_weight, 0.0, "--min-weight"), _each(law, max_weight, 1.0, "--max-weight")
    if available is not None and samples is not None:
        if not samples > 0 or not max_epochs > 0:
            raise MixerError(f"samples {samples:g}, epochs {max_epochs:g}: numbers above 0 are needed", exit_code=2)
        there = _each(law, available, None, "--available-data")
        high = np.asarray(np.minimum(high, max_epochs * there / samples))
        if high.sum() < 1 - simplex.ROUNDING:
            need = samples / max(there.sum(), 1e-300)
            raise MixerError(
                f"{there.sum():g} samples, {max_epochs:g} times each, do not make a run of {samples:g}: "
                f"allow {need:.3g} epochs or more, or a shorter run"
            )
    return simplex.Box(low, high)


def _each(law: Law, values: Mapping[str, float] | float, default: float | None, option: str) -> Array:
    if isinstance(values, int | float):
        return np.full(len(law.tasks), float(values))
    if unknown := set(values) - set(law.tasks):
        raise MixerError(f"{option}: unknown task {min(unknown)!r}; the law has {', '.join(law.tasks)}", exit_code=2)
    if default is None and (missing := set(law.tasks) - set(values)):
        raise MixerError(f"{option}: no number for task {min(missing)!r}", exit_code=2)
    out = np.array([float(values.get(task, default if default is not None else 0.0)) for task in law.tasks])
    if not np.isfinite(out).all() or (out < 0).any():
        raise MixerError(f"{option}: finite numbers, not below 0, are needed", exit_code=2)
    return out


def _prior(law: Law, prior: Mapping[str, float] | None, available: Mapping[str, float] | None) -> Array:
    given = prior if prior is not None else available
    return np.array(mixture.named(given, law.tasks) if given is not None else law.prior)


def _importance(law: Law, objective: str, importance: Mapping[str, float] | None) -> Array:
    """The weight of every score in the objective: 0 for those that the law cannot predict."""
    usable = np.array([target.informative for target in law.targets], float)
    if objective != "weighted":
        return usable
    names = [target.name for target in law.targets]
    if not importance:
        raise MixerError("objective weighted: say how much each score counts, --importance NAME=X", exit_code=2)
    if unknown := set(importance) - set(names):
        raise MixerError(f"--importance: unknown score {min(unknown)!r}; the law has {', '.join(names)}", exit_code=2)
    return np.asarray(usable * np.array([float(importance.get(name, 0.0)) for name in names]))


def _loss(law: Law, objective: str, share: Array, prior_K: Array, kl: float, scale: float | None) -> simplex.Objective:
    """What is minimised: scores to be maximised are negated."""
    sign = 1.0 if law.direction == "min" else -1.0
    used = np.flatnonzero(share)

    def loss(weights_MxK: Array) -> Array:
        scores = sign * law.means(law.inputs(weights_MxK, scale), used)
        value = scores.max(axis=1) if objective == "worst" else scores @ (share[used] / share[used].sum())
        return np.asarray(value + kl * _kl(weights_MxK, prior_K) if kl else value)

    return loss


def _negated(loss: simplex.Objective) -> simplex.Objective:
    return lambda weights_MxK: -loss(weights_MxK)


def _kl(weights_MxK: Array, prior_K: Array) -> Array:
    """KL(w || prior) in nats; a task that the prior lacks costs a lot, not infinitely much."""
    ratio = np.maximum(weights_MxK, 1e-300) / np.maximum(prior_K, 1e-12)
    return np.asarray((weights_MxK * np.log(ratio)).sum(axis=1))


def _optimum(
    law: Law,
    best: Array,
    loss: simplex.Objective,
    prior_K: Array,
    scale: float | None,
    reason: str | None,
) -> Optimum:
    sign = 1.0 if law.direction == "min" else -1.0
    mean, half = law.predict(law.inputs(best[None], scale), INTERVAL)
    predicted = {
        target.name: {"mean": float(m), "low": float(m - h), "high": float(m + h)}
        for target, m, h in zip(law.targets, mean[0], half[0], strict=True)
    }
    here = float(loss(best[None])[0])
    sensitivity = {}
    for k, task in enumerate(law.tasks):
        moved = {}
        for name, amount in (("more", NUDGE), ("less", -NUDGE)):
            to = float(np.clip(best[k] + amount, 0, 1))
            others = (
                best * (1 - to) / (1 - best[k]) if best[k] < 1 else np.full(len(best), (1 - to) / max(1, len(best) - 1))
            )
            others[k] = to
            moved[name] = sign * (float(loss(others[None])[0]) - here)
        sensitivity[task] = moved
    weights = dict(zip(law.tasks, best.tolist(), strict=True))
    return Optimum(weights, predicted, sign * here, float(_kl(best[None], prior_K)[0]), sensitivity, reason)


def weights(law: Law, optima: Sequence[Optimum]) -> Array:
    """(M, K) weights of the optima, in the law's order of tasks."""
    return np.array([[one.weights[task] for task in law.tasks] for one in optima])
