"""Play rules against synthetic worlds, hundreds of seeds at once: what each would have done with the same tasks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixer import files, oracles, schedule, worlds
from mixer import rules as rules_
from mixer.errors import MixerError
from mixer.observations import Seen
from mixer.tables import Array

STARVED = 0.1  # of a uniform share
LOSS_NOISE = 0.01  # relative standard error of a training loss, a mean over thousands of samples
ORACLES = ("static oracle", "dynamic oracle")


@dataclass(frozen=True)
class Outcome:
    """What one rule did in I intervals of a world with K tasks, for S seeds.

    scores: (I, S, K), observed before each interval, in the metric's units. weights: (I, S, K), sums 1 over K.
    final: (S, K) true scores after the last interval. Per seed, (S,), in dB: mean, of the final scores; worst, minus
    the distance from its attainable score of the task that ends farthest from it; area, the mean score averaged over
    the run; entropy of the weights (1: uniform), starved (tasks that end below a tenth of a uniform share) and churn
    (largest change of a weight, averaged over the intervals) have no unit.
    """

    world: str
    rule: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: Array
    weights: Array
    final: Array
    mean: Array
    worst: Array
    area: Array
    worst_task: tuple[str, ...] = field(default=())

    @property
    def entropy(self) -> Array:
        """(S,) mean entropy of the weights, as a share of that of uniform ones."""
        if len(self.tasks) == 1:
            return np.ones(len(self.seeds))
        parts = self.weights * np.log(np.maximum(self.weights, 1e-300))
        return np.asarray(-parts.sum(axis=2).mean(axis=0) / np.log(len(self.tasks)))

    @property
    def starved(self) -> Array:
        """(S,) tasks below a tenth of a uniform share in the last interval."""
        return np.asarray((self.weights[-1] < STARVED / len(self.tasks)).sum(axis=1, dtype=float))

    @property
    def churn(self) -> Array:
        """(S,) mean over intervals and tasks of the change of a weight."""
        if len(self.weights) < 2:
            return np.zeros(len(self.seeds))
        return np.asarray(np.abs(np.diff(self.weights, axis=0)).mean(axis=(0, 2)))

    def rows(self, seed: int = 0) -> list[dict[str, Any]]:
        """The rows of `schedule.parquet` of the seed at this place."""
        return schedule.Schedule("task", self.tasks, self.weights[:, seed], self.scores[:, seed]).rows()


@dataclass(frozen=True)
class Simulation:
    """One world: what every rule did; what the oracles reached, (S,) final means in dB; mean and worst of uniform."""

    world: worlds.Drawn
    outcomes: list[Outcome]
    oracle: dict[str, Array]
    uniform: dict[str, Array]

    @property
    def distance(self) -> float:
        """From the initial to the attainable score, dB, mean over tasks and seeds."""
        return float(((self.world.attainable - self.world.start) / self.world.unit).mean())


def simulate(
    world: worlds.World | str = "mild",
    rules: Sequence[str] = (),
    intervals: int = 100,
    seeds: int | Sequence[int] = 1,
    *,
    tasks: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    initial: Mapping[str, float] | None = None,
    output: str | None = None,
    with_oracles: bool = False,
) -> Simulation:
    """Play each rule (all when none is named) for `intervals` intervals; a pure function of its arguments.

    world: a world, its YAML file, or its name in the zoo. seeds: which, or how many from 0: each draws the world's
    ranges and the noise. params: of the rules; each takes those that it has. initial: weights of interval 0, for the
    rules that take them. Every rule sees the same evaluation noise, and as training loss 10^(-score in dB / 20).
    output: a folder for `<rule>/schedule.parquet` (first seed), `results.parquet`, `simulation.png` and
    `simulation.html`.
    Raises MixerError for what does not exist, and for an output that does.
    """
    if output is not None:
        files.refuse_existing(output)
    if intervals < 1:
        raise MixerError(f"{intervals} intervals: 1 or more are needed", exit_code=2)
    named = worlds.load(world, tasks) if isinstance(world, str) else world
    drawn = worlds.draw(named, range(seeds) if isinstance(seeds, int) else list(seeds))
    known = [name for name in rules_.names() if name != "schedule"]  # it needs a file
    chosen = list(dict.fromkeys(rules or known))
    for name in chosen:  # all that can be wrong is said before anything is played
        rules_.start(name, drawn.tasks, _own(name, params), initial if rules_.takes_initial(name) else None)
    _refuse_unused(chosen, params or {}, initial)
    noise = _noise(drawn, intervals)
    reference = _play(drawn, "uniform", {}, None, noise, np.zeros_like(drawn.start))
    loss = _loss(drawn, reference.final)
    outcomes = [_play(drawn, name, _own(name, params), initial, noise, loss) for name in chosen]
    found: dict[str, Array] = {}
    if with_oracles:
        found = {name: oracles.best(drawn, intervals, moving="dynamic" in name)[1] for name in ORACLES}
    done = Simulation(drawn, outcomes, found, {"mean": reference.mean, "worst": reference.worst})
    if output is not None:
        save([done], output)
    return done


def _own(name: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (params or {}).items() if key in rules_.parameters(name)}


def _refuse_unused(chosen: Sequence[str], params: Mapping[str, Any], initial: Mapping[str, float] | None) -> None:
    for key in params:
        if not any(key in rules_.parameters(name) for name in chosen):
            raise MixerError(f"none of the rules {', '.join(chosen)} has a parameter {key!r}", exit_code=2)
    if initial is not None and not any(rules_.takes_initial(name) for name in chosen):
        raise MixerError(f"none of the rules {', '.join(chosen)} takes initial weights", exit_code=2)


def _noise(world: worlds.Drawn, intervals: int) -> Array:
    """(2, I, S, K) standard normal: of the scores, of the losses; a seed's do not depend on the other seeds."""
    size = (2, intervals, len(world.tasks))
    return np.stack([np.random.default_rng([seed, 1]).normal(size=size) for seed in world.seeds], axis=2)


def _loss(world: worlds.Drawn, score: Array) -> Array:
    return np.asarray(10.0 ** (-score / world.unit / 20))


def _play(
    world: worlds.Drawn,
    rule: str,
    params: Mapping[str, Any],
    initial: Mapping[str, float] | None,
    noise: Array,
    reference_loss: Array,
) -> Outcome:
    order = np.argsort(np.array(world.tasks))  # rules see the tasks by name
    back = np.argsort(order)
    state = rules_.start(rule, world.tasks, params, initial if rules_.takes_initial(rule) else None)
    shape = world.start.shape
    first = weight = np.broadcast_to(np.array(state["initial"]), shape)
    memory = rules_.begin(rule, world.tasks, params, shape[0])
    practice, drawn = np.zeros(shape), np.zeros(shape)
    scores, weights, means = [], [], []
    unknown = np.full(shape, np.nan)
    for t in range(noise.shape[1]):
        practice = practice * world.survives(t)
        true = world.score(practice)
        score = true + noise[0, t] * world.noise
        loss = _loss(world, true) * np.exp(LOSS_NOISE * noise[1, t])
        fields = {"score": score, "score_se": world.noise, "n": unknown, "train_loss": loss}
        fields |= {"reference_loss": reference_loss, "samples_seen": drawn, "task_size": np.floor(world.size)}
        seen = Seen(t, weight[:, order], first[:, order], **{name: value[:, order] for name, value in fields.items()})
        memory, sorted_weight = rules_.advance(rule, seen, memory, state["params"])
        weight = sorted_weight[:, back]
        practice, drawn = world.practise(practice, drawn, weight, t)
        scores.append(score)
        weights.append(weight)
        means.append((true / world.unit).mean(axis=1))
    final = world.score(practice)
    gap = (world.attainable - final) / world.unit
    mean = (final / world.unit).mean(axis=1)
    return Outcome(
        world=world.name,
        rule=rule,
        tasks=world.tasks,
        seeds=world.seeds,
        scores=np.array(scores),
        weights=np.array(weights),
        final=final,
        mean=mean,
        worst=-gap.max(axis=1),
        area=np.mean([*means[1:], mean], axis=0),
        worst_task=tuple(world.tasks[place] for place in gap.argmax(axis=1)),
    )


def save(simulations: Sequence[Simulation], output: str) -> None:
    """Write the folder under a temporary name and rename it: it is whole, or it is not there."""
    from mixer import page, plots

    parent, name = os.path.split(os.path.abspath(output))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=parent) as temporary:
        made = os.path.join(temporary, name)
        for one in simulations:
            folder = made if len(simulations) == 1 else os.path.join(made, one.world.name)
            for outcome in one.outcomes:
                schedule.write(os.path.join(folder, outcome.rule, "schedule.parquet"), outcome.rows())
            files.write(os.path.join(folder, "simulation.html"), page.simulation(one).encode())
            files.write(os.path.join(folder, "simulation.png"), plots.picture(one))
        files.write_parquet(os.path.join(made, "results.parquet"), [row for one in simulations for row in results(one)])
        shutil.move(made, output)


def results(simulation: Simulation) -> list[dict[str, Any]]:
    """A row per rule and seed: world, rule, seed, worst task, the numbers of `Outcome`, and what oracles reached."""
    out = []
    for one in simulation.outcomes:
        for place, seed in enumerate(one.seeds):
            row: dict[str, Any] = {
                "world": one.world,
                "rule": one.rule,
                "seed": seed,
                "worst_task": one.worst_task[place],
            }
            for name in ("mean", "worst", "area", "entropy", "starved", "churn"):
                row[name] = float(getattr(one, name)[place])
            row |= {name.replace(" ", "_"): float(value[place]) for name, value in simulation.oracle.items()}
            out.append(row)
    return out
