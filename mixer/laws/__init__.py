"""Data-mixing laws: from the mixtures and scores of proxy runs to a prediction for any mixture, with intervals.

One module a form, found by looking into this folder. A module offers

- ``SOURCE``: where the form is published;
- ``fit(inputs_NxD, values_N, tasks) -> memory``: JSON and arrays; the first ``tasks`` inputs are weights, one more is
  log(steps);
- ``predict(memory, inputs_MxD) -> (mean_M, sd_M)``: sd of a new run's score, its noise included;
- ``mean(memory, inputs_MxD) -> mean_M``: optional, where that is quicker;
- ``held_out(memory, inputs_NxD, values_N, tasks, folds_N) -> (mean_N, sd_N)``: each run predicted without its fold.

Values come standardised (mean 0, standard deviation 1); ``fit`` below does that, target by target, and widens or
narrows the intervals until they hold for the runs that were held out (split-conformal calibration).
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from mixer import directions, files
from mixer.errors import MixerError
from mixer.tables import Array, Integers, Mixtures, Table

VERSION = 1
FOLDS = 10
FEWEST = 8  # runs
INTERVAL = 0.9
CHANCE = 2.0  # standard errors by which a law must beat the mean of the other runs
ODD = 8.0  # robust standard deviations: a run that is off by more on most scores went wrong as a whole


class Form(Protocol):
    """What a module in this folder offers."""

    SOURCE: str

    def fit(self, inputs_NxD: Array, values_N: Array, tasks: int) -> dict[str, Any]: ...

    def predict(self, memory: Mapping[str, Any], inputs_MxD: Array) -> tuple[Array, Array]: ...

    def held_out(
        self, memory: Mapping[str, Any], inputs_NxD: Array, values_N: Array, tasks: int, folds_N: Integers
    ) -> tuple[Array, Array]: ...


@dataclass(frozen=True)
class Target:
    """One score: how it was standardised, what the form remembers, and how it did on held-out runs.

    residuals: sorted |error| / sd of the runs that were held out. spearman, mae (in the score's units), r2: of the
    same. informative: whether it predicts held-out runs better than their mean does, by more than chance.
    """

    name: str
    mean: float
    sd: float
    memory: Mapping[str, Any]
    residuals: tuple[float, ...]
    spearman: float
    mae: float
    r2: float
    informative: bool


@dataclass(frozen=True)
class Law:
    """A fitted law: a form, the tasks whose weights it reads, a target for each score, and which way is better.

    prior: the mixture to fall back on. odd_runs: those that are unlike the others on most scores; the intervals are for
    runs that are not. scale_default: the largest number of steps or samples that was fitted.
    """

    form: str
    tasks: tuple[str, ...]
    targets: tuple[Target, ...]
    direction: str
    prior: tuple[float, ...]
    odd_runs: tuple[str, ...] = ()
    scale: str | None = None
    scale_default: float | None = None

    @property
    def informative(self) -> list[Target]:
        """The targets that are worth optimising for."""
        return [target for target in self.targets if target.informative]

    def inputs(self, weights_MxK: Array, scale: float | None = None) -> Array:
        """What the form reads, for mixtures at one scale (steps or samples; default: the largest that was fitted)."""
        if self.scale is None:
            return weights_MxK
        value = scale if scale is not None else self.scale_default
        assert value is not None
        return np.column_stack([weights_MxK, np.full(len(weights_MxK), np.log(value))])

    def predict(self, inputs_MxD: Array, level: float = INTERVAL) -> tuple[Array, Array]:
        """mean_MxT and half_MxT: a new run's score lies within mean ± half with probability `level`."""
        form = _form(self.form)
        means, halves = [], []
        for target in self.targets:
            mean, sd = form.predict(target.memory, inputs_MxD)
            means.append(target.mean + target.sd * mean)
            halves.append(target.sd * sd * _quantile(target.residuals, level))
        return np.stack(means, axis=1), np.stack(halves, axis=1)

    def means(self, inputs_MxD: Array, chosen: Iterable[int]) -> Array:
        """(M, len(chosen)) predicted scores of the targets of these numbers, without intervals."""
        form = _form(self.form)
        quick = getattr(form, "mean", lambda memory, inputs: form.predict(memory, inputs)[0])
        targets = [self.targets[i] for i in chosen]
        return np.stack([one.mean + one.sd * quick(one.memory, inputs_MxD) for one in targets], axis=1)

    def of(self, mixtures: Mixtures) -> Array:
        """The inputs for a table of mixtures. Raises MixerError when its tasks or its scale are not the law's."""
        if set(mixtures.tasks) != set(self.tasks):
            other = sorted(set(mixtures.tasks) ^ set(self.tasks))
            raise MixerError(f"the mixtures and the law differ in the tasks: {', '.join(other)}")
        order = [mixtures.tasks.index(task) for task in self.tasks]
        weights = mixtures.weights_NxK[:, order]
        if mixtures.scale_N is None:
            return self.inputs(weights)
        if mixtures.scale != self.scale:
            raise MixerError(f"the mixtures have a column {mixtures.scale!r}, which the law was not fitted with")
        return np.column_stack([weights, np.log(mixtures.scale_N)])


def names() -> list[str]:
    """Names of the forms."""
    return list(_modules())


def fit(mixtures: Mixtures, scores: Table, form: str = "gp", direction: str | None = None, threads: int = 2) -> Law:
    """Fit a law to runs; `scores` has the rows of `mixtures`, in their order.

    direction: "min" or "max", whichever is better; None: as the names of the scores tell. It is stored, and `optimize`
    obeys it. Raises MixerError for names that do not tell it, for an unknown form, and for fewer than 8 runs.
    """
    if direction not in ("min", "max", None):
        raise MixerError(f"--direction {direction}: min or max", exit_code=2)
    if len(mixtures.runs) < FEWEST:
        raise MixerError(f"{len(mixtures.runs)} runs: a law needs {FEWEST} or more, and about 3 for every task")
    if mixtures.runs != scores.runs:
        raise ValueError("scores must have the rows of the mixtures, in their order")
    module, inputs, tasks = _form(form), mixtures.inputs, len(mixtures.tasks)
    direction = directions.common(scores.names, direction, "the scores")
    folds = np.random.default_rng(0).permutation(len(inputs)) % min(FOLDS, len(inputs))

    def one(column: int) -> tuple[Target, Array]:
        return _target(module, scores.names[column], inputs, scores.values_NxM[:, column], tasks, folds)

    with ThreadPoolExecutor(threads) as pool:
        fitted = list(pool.map(one, range(len(scores.names))))
    odd = _odd(np.stack([errors for _, errors in fitted]))
    targets = tuple(replace(target, residuals=tuple(np.sort(errors[~odd]).tolist())) for target, errors in fitted)
    largest = None if mixtures.scale_N is None else float(mixtures.scale_N.max())
    uniform = tuple([1 / tasks] * tasks)
    runs = tuple(run for run, is_odd in zip(mixtures.runs, odd, strict=True) if is_odd)
    return Law(form, mixtures.tasks, targets, direction, uniform, runs, mixtures.scale, largest)


def _target(module: Form, name: str, inputs: Array, values: Array, tasks: int, folds: Integers) -> tuple[Target, Array]:
    """The target, and |error| / sd of every run when it was held out."""
    from scipy.stats import spearmanr

    mean, sd = float(values.mean()), float(values.std())
    if sd <= 1e-12 * max(1.0, abs(mean)):
        raise MixerError(f"score {name!r} is the same in every run: there is nothing to fit")
    standard = (values - mean) / sd
    memory = module.fit(inputs, standard, tasks)
    found, spread = module.held_out(memory, inputs, standard, tasks, folds)
    error, constant = standard - found, standard - _without_fold(standard, folds)
    gain = constant**2 - error**2
    chance = gain.std(ddof=1) / np.sqrt(len(gain))
    spearman = float(np.nan_to_num(spearmanr(found, standard).statistic))
    target = Target(
        name=name,
        mean=mean,
        sd=sd,
        memory=memory,
        residuals=(),
        spearman=spearman,
        mae=float(np.abs(error).mean() * sd),
        r2=float(1 - (error**2).sum() / (constant**2).sum()),
        informative=bool(gain.mean() > CHANCE * chance) and spearman > 0,
    )
    return target, np.abs(error) / spread


def _odd(errors_TxN: Array) -> npt.NDArray[np.bool_]:
    """Which runs are far off on most scores. Of one score or two nothing can be said."""
    if len(errors_TxN) < 3:
        return np.zeros(errors_TxN.shape[1], bool)
    usual = np.median(errors_TxN, axis=0)
    middle = np.median(usual)
    return np.asarray(usual > middle + ODD * 1.4826 * np.median(np.abs(usual - middle)))


def _without_fold(values: Array, folds: Integers) -> Array:
    """For every run the mean of those that are not of its fold."""
    return np.array([values[folds != fold].mean() for fold in folds])


def _quantile(residuals: Sequence[float], level: float) -> float:
    """The factor on sd within which a share `level` of the held-out runs lie."""
    place = min(len(residuals) - 1, int(np.ceil(level * (len(residuals) + 1))) - 1)
    return residuals[place]


def to_json(law: Law) -> bytes:
    """The law as a file: everything that predicting needs."""
    targets = [{**vars(target), "memory": dict(target.memory)} for target in law.targets]
    content = {"equimix_law": VERSION, **vars(law), "targets": targets}
    return (json.dumps(content, separators=(",", ":"), default=np.ndarray.tolist) + "\n").encode()


def save(path: str, law: Law) -> None:
    """Write a law atomically."""
    files.write(path, to_json(law))


def load(path: str) -> Law:
    """Read a law. Raises MixerError for a file that is none."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        version = content.pop("equimix_law")
        targets = tuple(
            Target(**{**one, "residuals": tuple(one["residuals"]), "memory": _arrays(one["memory"])})
            for one in content.pop("targets")
        )
        content |= {name: tuple(content[name]) for name in ("tasks", "prior", "odd_runs")}
        law = Law(**content, targets=targets)
    except FileNotFoundError:
        raise MixerError(f"{path}: no such file; make a law with 'mixer fit'") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise MixerError(f"{path}: not a law that 'mixer fit' wrote") from None
    if version != VERSION:
        raise MixerError(f"{path}: law of version {version}, this Equimix reads {VERSION}")
    _form(law.form)
    return law


def _arrays(memory: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.array(value) if isinstance(value, list) else value for name, value in memory.items()}


def _form(name: str) -> Form:
    if name not in _modules():
        raise MixerError(f"unknown law {name!r}; known: {', '.join(_modules())}", exit_code=2)
    return cast(Form, importlib.import_module(f"{__name__}.{name}"))


@cache
def _modules() -> tuple[str, ...]:
    return tuple(sorted(one.name for one in pkgutil.iter_modules(__path__) if not one.name.startswith("_")))
