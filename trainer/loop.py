"""The closed loop: train for T steps, score every task on D_ref, let the rule set the next weights, and again.

    >>> from trainer import config, loop
    >>> loop.run(config.build({"data": {"manifest": "shards"}, "optimiser": {"steps": 1200}}), "run")  # doctest: +SKIP

Interval i covers steps [iT, (i+1)T): its score is measured at step iT, before its first step, and its weight is held
during it. The scores after the last step are recorded in metrics.parquet; no weight follows from them.

Several processes (`torchrun`, `accelerate launch`) share every step. They hold the same state, and take weights, and
whatever else could differ between machines, from rank 0.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from manifests.errors import UserError
from trainer import checkpoint, devices, diagnosis, evaluate, gallery, records, signals, spikes
from trainer import inputs as inputs_
from trainer import team as team_
from trainer.config import Config
from trainer.learner import Learner
from trainer.progress import Steps
from trainer.state import State, count, metric_rows, note_best, observation, paired
from trainer.stream import plan
from trainer.stream.loader import Batch, Stream

LOG_STEPS = 20  # between points of the loss curve in TensorBoard


@dataclass(frozen=True)
class RunResult:
    """What a run ended with. scores, weights: per task, the last ones; `scores` in the metric's own direction.

    skipped: steps whose gradient was not finite. replaced: pairs that could not be read → how often. epochs: task →
    how often each of its pairs was seen. is_main: False in the processes that leave the talking to another.
    diagnoses: what keeps it from learning, as far as it is seen.
    """

    folder: str
    steps: int
    skipped: int
    replaced: dict[str, int]
    scores: dict[str, float]
    weights: dict[str, float]
    epochs: dict[str, float]
    is_main: bool = True
    diagnoses: tuple[diagnosis.Diagnosis, ...] = ()


def run(config: Config, out: str = "run", *, resume: bool = False, overwrite: bool = False) -> RunResult:
    """Train as `config` says, into the run folder `out`.

    SIGTERM makes it write a checkpoint and return early (`steps` below those wanted); so does Ctrl-C, which then
    raises UserError with exit code 130.
    resume: go on from the newest whole checkpoint of `out`, or start when there is none. On the CPU the weights and
    the parameters are then bitwise those of a run that was never stopped; another number of processes sees the same
    samples. With more `optimiser.steps` than before the run is made longer.
    overwrite: delete an earlier run in `out` once the data, metrics and schedule of the new one have been opened.
    Raises UserError and MixerError.
    """
    team = team_.join(devices.resolve(config.run.device))
    stored = team.lead(lambda: records.prepare(out, resume=resume, overwrite=overwrite, inputs=inputs_.paths(config)))
    threads = config.run.threads or (stored["resolved"]["threads"] if stored else None)
    with signals.asked_to_stop() as stop_asked, devices.computing(team.device, threads) as threads:
        inputs = team.after_lead(lambda: inputs_.open_inputs(config, team.device))
        loop = _Loop(config, out, team, inputs, stop_asked)
        bf16 = loop.learner.bf16
        said = team.lead(lambda: inputs_.identity(config, inputs, stored, threads=threads, bf16=bf16, team=team))
        if stored is None:
            if overwrite:
                team.lead(lambda: records.clear(out))
            team.lead(lambda: records.write_identity(out, said))
        else:
            team.lead(lambda: records.check_same(out, stored, said))
        loop.begin(stored)
        loop.train()
        if stop_asked.interrupted and loop.state.step < config.optimiser.steps:
            raise team.ending(loop.stopped())
    return loop.result()


class _Loop:
    """One process's part of a run."""

    def __init__(
        self, config: Config, out: str, team: team_.Team, inputs: inputs_.Inputs, stop_asked: signals.Asked
    ) -> None:
        self.config, self.out, self.team, self._stop_asked = config, out, team, stop_asked
        self.index, self.reference, self.mixture = inputs.index, inputs.reference, inputs.mixture
        self.scorers = inputs.scorers
        self.state = State(rule=self.mixture.start())
        self.learner = Learner(config, team)
        self._checkpoints = os.path.join(out, "checkpoints")
        batch = range(config.data.batch)
        self._shares = [len(plan.part(batch, rank, team.world)) for rank in range(team.world)]
        self._waited, self._fetched = 0.0, 0  # since the last evaluation: seconds for data, remote shards

    def begin(self, stored: Mapping[str, Any] | None = None) -> None:
        """Take over the newest whole checkpoint, or the weights that are begun from; open the tables.

        stored: content of config.json, for a run that is resumed.
        """
        if self.team.is_main:
            checkpoint.clean(self._checkpoints)
        found, problems = self.team.lead(lambda: checkpoint.newest(self._checkpoints))
        for problem in problems if self.team.is_main else ():
            print(f"trainer: {problem}; an earlier one is used", file=sys.stderr)
        if found is not None:
            self.learner.load(found)
            self.state = State(**found.state["state"])
        elif (init := self.config.model.init) is not None:
            self.learner.begin_from(self.team.lead(lambda: checkpoint.find(init)))
        state = self.state
        self.book = records.Records(
            self.out, state.step, writes=self.team.is_main, trackers=self.config.run.trackers,
            config=self.config.model_dump(mode="json"),
        )  # fmt: skip
        self.book.event(
            "resume" if state.step else "start", step=state.step, device=self.team.device, processes=self.team.world
        )
        if stored is not None:
            self._extend(stored)
        if state.metrics:
            self.book.tables(state.schedule, state.metrics)  # a killed run may have written rows that come again

    def _extend(self, stored: Mapping[str, Any]) -> None:
        """Make a run longer, where more steps are asked for than it was to have, now or in an earlier resume."""
        step, steps = self.state.step, self.config.optimiser.steps
        before = int(stored["config"]["optimiser"]["steps"])
        if steps > before:
            stored = self.team.lead(lambda: records.extend(self.out, stored, step, steps))
            self.book.event("extended", step=step, steps=steps, before=before)
        self.learner.extended = stored.get("extended", [])
        if steps > before and step and self.team.is_main:
            rate, warmup = self.learner.rate, self.config.optimiser.warmup
            print(
                f"trainer: {before} steps become {steps}; the learning rate goes from {rate(step):.2g} to "
                f"{rate(step + warmup):.2g} of the longer cosine within {warmup} steps",
                file=sys.stderr,
            )
        if step == self.state.evaluated and step > self.state.begun and not self._is_last():  # it was the last
            self.state = State(**self.team.lead(lambda: asdict(self._weighed())))

    def train(self) -> None:
        """Interval after interval until the last step, or until the run is asked to stop."""
        data, steps = self.config.data, self.config.optimiser.steps
        stream = Stream(
            self.index, batch=data.batch, crop=data.crop, seed=self.config.run.seed, workers=data.workers,
            rank=self.team.rank, world=self.team.world, upsampling=data.upsampling, cache=inputs_.cache_of(self.config),
            pin=self.team.device != "cpu",
        )  # fmt: skip
        with stream, Steps(steps, self.state.step, shown=self.team.is_main) as self.show:
            ended = False
            while not ended:
                ended = not (self._evaluate() and self._interval(stream))
            if self.state.step == steps:
                for one in self.state.diagnoses:
                    self.show.say(diagnosis.Diagnosis(**one).line())
        self.book.event("done" if self.state.step == steps else "stopped", step=self.state.step)
        self.book.close()

    def stopped(self) -> UserError:
        """What to do after Ctrl-C."""
        step, steps = self.state.step, self.config.optimiser.steps
        return UserError(f"stopped at step {step} of {steps}; go on with --resume (-o {self.out})", exit_code=130)

    def result(self) -> RunResult:
        """What it ended with."""
        state = self.state
        last = [row for row in state.metrics if row["step"] == state.step]
        epochs = {task: state.samples_seen.get(task, 0) / size for task, size in self.mixture.task_size.items()}
        return RunResult(
            self.out, state.step, state.skipped, dict(state.replaced), {row["task"]: row["value"] for row in last},
            self.mixture.by_task(state.weights), epochs, self.team.is_main,
            tuple(diagnosis.Diagnosis(**one) for one in state.diagnoses),
        )  # fmt: skip

    def _interval(self, stream: Stream) -> bool:
        """Train up to the next evaluation; False at the end, and when asked to stop: the state is then saved."""
        state, steps = self.state, self.config.optimiser.steps
        if state.step == steps:
            return False
        stop = self._next_evaluation()
        batches = stream.batches(state.weights, state.cursors, state.step, stop, interval_start=state.begun)
        while (batch := self._next(batches)) is not None:
            mean, told = self._step(batch)
            if self._has_left_the_road(mean):
                self._go_back()
                return True
            if state.step < stop and (told or self._is_due()):
                self._save()
                if told:
                    return False
        state.cursors = self._advanced(state, stop)
        return True

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        began = time.perf_counter()
        batch = next(batches, None)
        self._waited += time.perf_counter() - began
        self._fetched += 0 if batch is None else batch.fetched
        return batch

    def _step(self, batch: Batch) -> tuple[float, bool]:
        """One step of all processes; the mean loss (NaN for a void one), and whether any of them was asked to stop."""
        state = self.state
        values, counts = self.learner.step(batch, state.step)
        told = self._stop_asked()
        sizes = [2 * size + 2 for size in self._shares]
        everybody = self.team.exchange([*values, *self.learner.norms, len(batch.replaced), told], sizes)
        if any(one[-2] for one in everybody):
            self._note_replaced([pair for part in self.team.gather(batch.replaced) for pair in part])
        shared = list(zip(everybody, self._shares, strict=True))
        every_value = [value for one, size in shared for value in one[:size]]
        norms = [norm for one, size in shared for norm in one[size : 2 * size]]
        diagnosis.tally(state.gradient, batch.step_task, batch.step_pair, norms)
        rate = self.learner.rate(state.step)
        mean = count(state, batch.step_task, every_value if counts else None)
        self.show.step(mean)
        if state.step % LOG_STEPS == 0:
            self.book.scalars(state.step, {"train/loss": mean, "train/lr": rate})
        return mean, any(one[-1] for one in everybody)

    def _note_replaced(self, pairs: list[tuple[str, str]]) -> None:
        """Count and list the pairs that could not be read; each is said once."""
        replaced = self.state.replaced
        for pair_id, reason in pairs:
            if pair_id not in replaced:
                self.show.say(f"{reason}; another pair of its task takes its place")
            replaced[pair_id] = replaced.get(pair_id, 0) + 1
            self.book.event("replaced", step=self.state.step, pair_id=pair_id, reason=reason)

    def _evaluate(self) -> bool:
        """Where an interval begins: score D_ref, let the mixture answer, enter both into state and run folder.

        False when the run was asked to stop: nothing is then changed but for a checkpoint, and a resume scores again.
        """
        state, config = self.state, self.config.evaluation
        if state.evaluated == state.step or not self._is_evaluated(state.step):
            return True
        speed, began, error, told = self.show.speed, time.monotonic(), None, False
        scored: list[evaluate.Scored] = []
        samples: dict[str, evaluate.Triple] = {}
        try:
            with diagnosis.watched(self.learner.ema.average) as change:
                scored, samples = evaluate.score(
                    self.learner.ema.average, self.reference, {task: [one] for task, one in self.scorers.items()},
                    crop=config.crop, tile=config.tile, bf16=self.learner.bf16, inputs=not state.metrics,
                    numbers=range(self.team.rank, len(self.reference.rows), self.team.world), seen=self._leave_if_asked,
                )  # fmt: skip
        except signals.StopAsked:
            told = True
        except UserError as caught:
            error = UserError(f"step {state.step}: {caught}")
        self.team.agree(error)
        parts = self.team.gather((scored, samples, told))
        if any(told for _, _, told in parts):
            self._save()
            return False
        moved = self.team.exchange([change.total, change.pixels], [2] * self.team.world)
        changed = math.fsum(total for total, _ in moved) / max(math.fsum(pixels for _, pixels in moved), 1.0)
        both = [(one, two) for one, two, _ in parts]
        self.state = State(**self.team.lead(lambda: asdict(self._judged(both, changed))))
        state = self.state
        self.book.event(
            "evaluate", step=state.step, seconds=round(time.monotonic() - began, 3), steps_per_second=round(speed, 3),
            data_wait=round(self._waited * speed / max(self.show.since, 1), 4), shards_fetched=self._fetched,
            skipped=state.skipped,
        )  # fmt: skip
        self._waited, self._fetched = 0.0, 0
        self.show.restart()
        told = any(flag for (flag,) in self.team.exchange([self._stop_asked()], [1] * self.team.world))
        best = any(one["step"] == state.step for one in state.best.values())
        if best or told or self._is_last() or self._is_due():
            self._save()
        return not told or self._is_last()

    def _leave_if_asked(self) -> None:
        if self._stop_asked():
            raise signals.StopAsked

    def _judged(self, parts: list[tuple[list[evaluate.Scored], dict[str, evaluate.Triple]]], changed: float) -> State:
        """The state after the scores of all processes: rank 0 alone does this, and writes it down.

        changed: mean |output - input| over D_ref.
        """
        state, mixture = self.state, self.mixture
        scored: list[Any] = [None] * len(self.reference.rows)
        for rank, (mine, _) in enumerate(parts):
            scored[rank :: len(parts)] = mine
        scored = paired(state, scored)
        rows = metric_rows(state, mixture, evaluate.summarise(scored))
        signs = self._signs()
        self._note_missing({row["task"]: row["value"] * signs[row["task"]] for row in rows})
        state.metrics += rows
        note_best(state, rows, {task: sign > 0 for task, sign in signs.items()})
        found = diagnosis.judge(state, self.config, signs, changed)
        state.evaluated, state.loss, state.drawn = state.step, {}, {}
        state.gradient, state.skipped_before = {}, state.skipped
        if not self._is_last():
            self._weighed()
        first = {task: parts[int(members[0]) % len(parts)][1] for task, members in self.reference.members.items()}
        weights = mixture.by_task(state.weights)
        self.book.tables(state.schedule, state.metrics)
        self.book.samples(state.step, {task: samples[task] for task, samples in first.items()})
        if self._is_last():
            self.book.gallery(self._gallery(scored))
        self.book.scalars(state.step, records.scalars(rows, weights))
        line = ", ".join(f"{row['task']} {row['value']:.2f} (w {weights.get(row['task'], 0.0):.3f})" for row in rows)
        self.show.say(f"step {state.step}: {line}" + (f"; {state.skipped} steps skipped" if state.skipped else ""))
        self._tell(found)
        return state

    def _gallery(self, scored: list[evaluate.Scored]) -> bytes:
        """Best, median and worst reference image of every task, as a PNG."""
        config = self.config.evaluation
        directions = {metric.name: metric.higher_is_better for metric in self.scorers.values()}
        return gallery.make(
            self.learner.ema.average, self.reference, scored, directions, crop=config.crop, tile=config.tile,
            bf16=self.learner.bf16,
        )  # fmt: skip

    def _weighed(self) -> State:
        """The state with the weights that follow from the scores of this step, where an interval begins."""
        state, mixture, length = self.state, self.mixture, self.config.evaluation.interval
        if state.step % length:  # where a run ended that was made longer: the interval goes on
            self._hold()
            return state
        signs, rows = self._signs(), [row for row in state.metrics if row["step"] == state.step]
        oriented = {row["task"]: row["value"] * signs[row["task"]] for row in rows}
        observations = [observation(row, mixture, oriented) for row in rows if row["task"] in mixture.task_size]
        state.rule, state.requested = mixture.weights(state.rule, state.step // length, observations)
        self._hold()
        state.schedule += mixture.rows(state.step // length, state.weights, oriented)
        return state

    def _signs(self) -> dict[str, float]:
        return {task: 1.0 if metric.higher_is_better else -1.0 for task, metric in self.scorers.items()}

    def _tell(self, found: list[diagnosis.Diagnosis]) -> None:
        """Say and write down the diagnoses that are new, and which no longer hold. All are said at the run's end."""
        state = self.state
        before = {(one["task"], one["kind"]) for one in state.diagnoses}
        now = {(one.task, one.kind) for one in found}
        state.diagnoses = diagnosis.standing(found, state.diagnoses)
        for one in (one for one in found if (one.task, one.kind) not in before):
            self.book.event("diagnosis", **asdict(one))
            if not self._is_last():
                self.show.say(one.line())
        for task, kind in sorted(before - now, key=str):
            self.book.event("diagnosis over", step=state.step, task=task, kind=kind)

    def _note_missing(self, oriented: dict[str, float]) -> None:
        """Say which tasks have no score. Raises UserError for one that has none from the beginning."""
        step = self.state.step
        for task in self.mixture.task_size:
            if math.isfinite(oriented.get(task, math.nan)):
                continue
            if step == 0:
                raise UserError(
                    f"step 0: the score of task {task!r} on D_ref is {oriented.get(task)}: its metric is defined for "
                    "none of its reference images; choose another with --metric"
                )
            self.show.say(f"step {step}: task {task} has no score on D_ref; it keeps its weight")
            self.book.event("no score", step=step, task=task)

    def _hold(self) -> None:
        """A weight event: from this step on, the requested weights, within the epochs that are allowed."""
        state, config = self.state, self.config
        samples = (self._next_evaluation() - state.step) * config.data.batch
        state.weights = self.mixture.within_epochs(state.requested, state.cursors, samples)
        state.begun = state.step
        self.book.event("weights", step=state.step, weights=state.weights, cursors=state.cursors)

    def _advanced(self, state: State, stop: int) -> dict[str, int]:
        """The cursors at step `stop`, under the weights that `state` holds."""
        return plan.advance(
            self.index, state.weights, state.cursors, state.begun, stop,
            interval_start=state.begun, batch=self.config.data.batch, seed=self.config.run.seed,
        )  # fmt: skip

    def _has_left_the_road(self, mean: float) -> bool:
        state, factor = self.state, self.config.optimiser.rollback
        if factor is None:
            return False
        state.recent, state.off = spikes.note(state.recent, state.off, mean, factor)
        return state.off >= spikes.IN_A_ROW

    def _go_back(self) -> None:
        """To the newest checkpoint, and on from there with the samples that come after those of the spike."""
        left = self.state
        if left.rollbacks >= spikes.LIMIT:
            raise UserError(f"step {left.step}: the loss has left the road {left.rollbacks + 1} times; lower --lr")
        found, _ = self.team.lead(lambda: checkpoint.newest(self._checkpoints))
        if found is None:
            raise UserError(f"step {left.step}: the loss has left the road, and there is no checkpoint to go back to")
        self.learner.load(found)
        self.state = State(**found.state["state"])
        self.state.cursors, self.state.rollbacks = self._advanced(left, left.step), left.rollbacks + 1
        self.state.skipped, self.state.replaced = left.skipped, left.replaced
        self._hold()
        self.show.say(
            f"step {left.step}: the loss has left the road; back to step {self.state.step}, with other samples"
        )
        self.book.event("rollback", step=left.step, to=self.state.step)
        self.show.done = self.state.step
        self.show.restart()
        self._save()

    def _save(self) -> None:
        if self.team.is_main:
            self.learner.save(self._checkpoints, self.state)

    def _is_last(self) -> bool:
        return self.state.step == self.config.optimiser.steps

    def _is_evaluated(self, step: int) -> bool:
        """Whether D_ref is scored at this step: every interval, and where the run ends or once was to end."""
        ends = (self.config.optimiser.steps, *(one["steps"] for one in self.learner.extended))
        return step % self.config.evaluation.interval == 0 or step in ends

    def _next_evaluation(self) -> int:
        steps = range(self.state.step + 1, self.config.optimiser.steps + 1)
        return next(step for step in steps if self._is_evaluated(step))

    def _is_due(self) -> bool:
        """Whether a checkpoint is written at this step: every `run.checkpoint` steps, or every interval."""
        return self.state.step % (self.config.run.checkpoint or self.config.evaluation.interval) == 0
