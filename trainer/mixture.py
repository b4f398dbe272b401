"""Where an interval's weights come from: a rule of the mixer that sees the scores, or a schedule that is replayed."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from manifests import files
from manifests.errors import UserError
from mixer import rules
from mixer import schedule as schedule_
from trainer import config as config_

if TYPE_CHECKING:
    from trainer.stream.index import Index

Weights = dict[str, float]

log = logging.getLogger("trainer.mixture")


def read_schedule(config: config_.Mixture) -> schedule_.Schedule | None:
    """The schedule that the config names, or None when a rule closes the loop."""
    return None if config.schedule is None else schedule_.read(config.schedule)


class Mixture:
    """Weights per stratum of `index` (tasks, or shards under a schedule of shards), interval by interval."""

    def __init__(self, config: config_.Mixture, index: Index, schedule: schedule_.Schedule | None) -> None:
        self.config, self.index, self.schedule = config, index, schedule
        self.task_of = index.task_of
        self.task_size = dict.fromkeys(index.tasks, 0)
        for stratum, size in index.sizes.items():
            self.task_size[self.task_of[stratum]] += size
        if schedule is not None:
            _check_names(schedule, index, config.schedule or "")

    @property
    def fingerprint(self) -> str | None:
        """Names the content of the schedule; None under a rule."""
        return None if self.schedule is None else files.digest(self.schedule.rows())

    def start(self) -> dict[str, Any] | None:
        """The rule's state before the first evaluation; None under a schedule. Raises MixerError."""
        if self.schedule is not None:
            return None
        return rules.start(self.config.rule, self.index.tasks, self.config.params, initial=self.config.initial)

    def warn_of_few(self, steps: int, interval: int) -> None:
        """Log what to change where the run has fewer evaluations than its rule needs."""
        if self.schedule is not None:
            return
        tasks = len(self.index.tasks)
        needed, planned = rules.evaluations(self.config.rule, tasks, self.config.params), -(-steps // interval)
        if planned < needed:
            log.warning(
                "%s needs about %d evaluations for %d tasks, this run has %d: evaluate more often (--interval %d)%s",
                self.config.rule,
                needed,
                tasks,
                planned,
                max(1, steps // needed),
                ", or probe less (--set start=2 --set turn=1)" if self.config.rule == "equilibrium" else "",
            )

    def weights(
        self, state: dict[str, Any] | None, interval: int, observations: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[str, Any] | None, Weights]:
        """The rule's next state and the weights of `interval`, from the scores at its first step."""
        if self.schedule is None:
            assert state is not None
            return rules.update(state, observations)
        return None, {**dict.fromkeys(self.index.strata, 0.0), **self.schedule.weights(interval)}

    def within_epochs(self, weights: Weights, cursors: Mapping[str, int], samples: int) -> Weights:
        """The weights nearest to these under which no task is seen more often than `max_epochs` allows.

        cursors: samples that each stratum has given so far. samples: that the interval draws. What one stratum may not
        give, the others give in proportion to their weights. Raises UserError when they cannot either.
        """
        if not self.config.max_epochs:
            return weights
        most = dict.fromkeys(weights, math.inf)
        for name, size in self.index.sizes.items():
            if (epochs := self.config.max_epochs.get(self.task_of[name])) is not None:
                left = math.floor(epochs * size + 1e-9) - cursors.get(name, 0)
                most[name] = max(left - 1e-3, 0.0) / samples  # shares are exact, so that this is never one more
        return _under(weights, most)

    def check_epochs(self, samples: int) -> None:
        """Raises UserError when `max_epochs` names no task, or leaves too few samples for the whole run."""
        known = ", ".join(self.index.tasks)
        for task in self.config.max_epochs:
            if task not in self.task_size:
                raise UserError(
                    f"--max-epochs names task {task!r}, which has no pairs here; there are {known}", exit_code=2
                )
        if set(self.config.max_epochs) == set(self.task_size):
            left = sum(math.floor(epochs * self.task_size[task]) for task, epochs in self.config.max_epochs.items())
            if left < samples:
                raise UserError(
                    f"--max-epochs allows {left} samples in all, steps times batch are {samples}: allow more epochs, "
                    "or train fewer steps",
                    exit_code=2,
                )

    def by_task(self, weights: Mapping[str, float]) -> Weights:
        """Weights per stratum summed to weights per task."""
        out = dict.fromkeys(self.index.tasks, 0.0)
        for stratum, weight in weights.items():
            out[self.task_of[stratum]] += weight
        return out

    def rows(self, interval: int, weights: Mapping[str, float], scores: Mapping[str, float]) -> list[dict[str, Any]]:
        """An interval as rows of schedule.parquet."""
        if self.schedule is not None and self.schedule.strata_column == "shard":
            return [
                {"interval": interval, "shard": stratum, "task": self.task_of[stratum], "weight": weights[stratum]}
                for stratum in self.index.strata
            ]
        return [
            {"interval": interval, "task": task, "score": scores.get(task), "weight": weights[task]}
            for task in self.index.tasks
        ]


def _under(weights: Weights, most: Mapping[str, float]) -> Weights:
    """The weights, none above its `most`; what is cut off goes to the others in proportion to what they have."""
    out, free = dict(weights), set(weights)
    while over := {name for name in free if out[name] > most[name]}:
        for name in over:
            out[name] = most[name]
        free -= over
        rest = 1.0 - math.fsum(out[name] for name in out if name not in free)
        base = {name: weights[name] for name in free}
        if not math.fsum(base.values()) > 0:  # the rule wants none of these: then by what they may still give
            base = {name: min(most[name], 1.0) for name in free}
        total = math.fsum(base.values())
        if not total > 0:
            if rest > 1e-3:  # less is what rounding leaves where the very last samples are drawn
                raise UserError("every task has been seen as often as --max-epochs allows; allow more epochs")
            break
        out.update({name: rest * value / total for name, value in base.items()})
    return out


def _check_names(schedule: schedule_.Schedule, index: Index, path: str) -> None:
    strangers = [name for name in schedule.names if name not in index.sizes]
    if strangers:
        kind = schedule.strata_column
        known = ", ".join(list(index.strata)[:8])
        raise UserError(f"{path}: its {kind} {strangers[0]!r} is not in the training split, which has {known}")
