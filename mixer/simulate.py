"""Play rules against a synthetic world: what each would have done with the same tasks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixer import files, schedule, worlds
from mixer import rules as rules_
from mixer.errors import MixerError

Array = npt.NDArray[np.float64]
STARVED = 0.1  # of a uniform share


@dataclass(frozen=True)
class Outcome:
    """What one rule did in I intervals of a world with K tasks.

    scores_IxK: observed, in the metric's units, each before its interval. weights_IxK: rows sum to 1. final_K: true
    scores after the last interval. mean, versus_uniform: of the final scores, dB (5 units of MUSIQ to the dB).
    worst_task, worst_gap: the task that ends farthest from what it could attain, and how far, dB.
    starved: tasks that end below a tenth of a uniform share.
    """

    rule: str
    tasks: tuple[str, ...]
    scores_IxK: Array
    weights_IxK: Array
    final_K: Array
    mean: float
    versus_uniform: float
    worst_task: str
    worst_gap: float
    starved: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `schedule.parquet`."""
        return schedule.Schedule("task", self.tasks, self.weights_IxK, self.scores_IxK).rows()


def simulate(
    world: worlds.World | str = "mild",
    rules: Sequence[str] = (),
    intervals: int = 60,
    seed: int = 0,
    *,
    tasks: Sequence[str] = worlds.TASKS,
    params: Mapping[str, Any] | None = None,
    initial: Mapping[str, float] | None = None,
    output: str | None = None,
) -> list[Outcome]:
    """Play each rule (all when none is named) for `intervals` intervals; a pure function of its arguments.

    world: a world, or the name of a preset, which is then made with `tasks` and `seed`. params: of the rules; each
    takes those that it has. initial: weights of interval 0, for the rules that take them. Every rule sees the same
    evaluation noise; tasks have sizes between 1 000 and 100 000 pairs, log-uniform. output: a folder for
    `<rule>/schedule.parquet` and `simulation.html`. Raises MixerError for what does not exist, and for an output that
    does.
    """
    if output is not None:
        files.refuse_existing(output)
    if intervals < 1:
        raise MixerError(f"{intervals} intervals: 1 or more are needed", exit_code=2)
    world = worlds.make(world, tasks, seed) if isinstance(world, str) else world
    chosen = list(dict.fromkeys(rules or rules_.names()))
    states = {name: _start(name, world.tasks, params or {}, initial) for name in chosen}
    _refuse_unused(chosen, params or {}, initial)
    rng = np.random.default_rng([seed, 1])
    count = len(world.tasks)
    noise_IxK = rng.normal(size=(intervals, count)) * world.noise_K
    size_K = [int(size) for size in 10 ** rng.uniform(3, 5, count)]
    reference = _mean(world, _play(world, rules_.start("uniform", world.tasks), noise_IxK, size_K)[2])
    outcomes = [_outcome(world, name, reference, *_play(world, states[name], noise_IxK, size_K)) for name in chosen]
    if output is not None:
        _save(outcomes, output)
    return outcomes


def _start(
    name: str, tasks: Sequence[str], params: Mapping[str, Any], initial: Mapping[str, float] | None
) -> rules_.State:
    own = {key: value for key, value in params.items() if key in rules_.parameters(name)}
    return rules_.start(name, tasks, own, initial if rules_.takes_initial(name) else None)


def _refuse_unused(chosen: Sequence[str], params: Mapping[str, Any], initial: Mapping[str, float] | None) -> None:
    for key in params:
        if not any(key in rules_.parameters(name) for name in chosen):
            raise MixerError(f"none of the rules {', '.join(chosen)} has a parameter {key!r}", exit_code=2)
    if initial is not None and not any(rules_.takes_initial(name) for name in chosen):
        raise MixerError(f"none of the rules {', '.join(chosen)} takes initial weights", exit_code=2)


def _play(
    world: worlds.World, state: rules_.State, noise_IxK: Array, size_K: Sequence[int]
) -> tuple[Array, Array, Array]:
    """scores_IxK as observed, weights_IxK, and the final practice_K."""
    practice_K = np.zeros(len(world.tasks))
    scores, weights = [], []
    for noise_K in noise_IxK:
        score_K = world.score(practice_K) + noise_K
        rows = [
            {"task": task, "score": float(score), "task_size": size, "score_se": float(se)}
            for task, score, size, se in zip(world.tasks, score_K, size_K, world.noise_K, strict=True)
        ]
        state, _ = rules_.update(state, rows)
        weight_K = np.array(state["weights"])
        practice_K = world.practise(practice_K, weight_K)
        scores.append(score_K)
        weights.append(weight_K)
    return np.array(scores), np.array(weights), practice_K


def _mean(world: worlds.World, practice_K: Array) -> float:
    return float((world.score(practice_K) / world.unit_K).mean())


def _outcome(
    world: worlds.World, rule: str, reference: float, scores_IxK: Array, weights_IxK: Array, practice_K: Array
) -> Outcome:
    final_K, mean = world.score(practice_K), _mean(world, practice_K)
    gap_K = (world.attainable_K - final_K) / world.unit_K
    worst = int(gap_K.argmax())
    low = STARVED / len(world.tasks)
    starved = tuple(task for task, weight in zip(world.tasks, weights_IxK[-1], strict=True) if weight < low)
    return Outcome(
        rule=rule,
        tasks=world.tasks,
        scores_IxK=scores_IxK,
        weights_IxK=weights_IxK,
        final_K=final_K,
        mean=mean,
        versus_uniform=mean - reference,
        worst_task=world.tasks[worst],
        worst_gap=float(gap_K[worst]),
        starved=starved,
    )


def _save(outcomes: Sequence[Outcome], output: str) -> None:
    """Write the folder under a temporary name and rename it: it is whole, or it is not there."""
    from mixer.show import page

    parent, name = os.path.split(os.path.abspath(output))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=parent) as temporary:
        made = os.path.join(temporary, name)
        for one in outcomes:
            schedule.write(os.path.join(made, one.rule, "schedule.parquet"), one.rows())
        files.write(os.path.join(made, "simulation.html"), page(outcomes).encode())
        shutil.move(made, output)
