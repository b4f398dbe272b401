"""Where an interval's weights come from: a rule of the mixer that sees the scores, or a schedule that is replayed."""

from __future__ import annotations

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

    def weights(
        self, state: dict[str, Any] | None, interval: int, observations: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[str, Any] | None, Weights]:
        """The rule's next state and the weights of `interval`, from the scores at its first step."""
        if self.schedule is None:
            assert state is not None
            return rules.update(state, observations)
        return None, {**dict.fromkeys(self.index.strata, 0.0), **self.schedule.weights(interval)}

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


def _check_names(schedule: schedule_.Schedule, index: Index, path: str) -> None:
    strangers = [name for name in schedule.names if name not in index.sizes]
    if strangers:
        kind = schedule.strata_column
        known = ", ".join(list(index.strata)[:8])
        raise UserError(f"{path}: its {kind} {strangers[0]!r} is not in the training split, which has {known}")
