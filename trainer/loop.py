"""The closed loop: train for T steps, score every task on D_ref, let the rule set the next weights, and again.

    >>> from trainer import config, loop
    >>> loop.run(config.build({"data": {"manifest": "shards"}, "optimiser": {"steps": 1200}}), "run")  # doctest: +SKIP

Interval i covers steps [iT, (i+1)T): its score is measured at step iT, before its first step, and its weight is held
during it. The scores after the last step are recorded in metrics.parquet; no weight follows from them.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from manifests.errors import UserError
from trainer import checkpoint, devices, evaluate, losses, metrics, models, records, signals
from trainer import mixture as mixture_
from trainer.config import Config
from trainer.ema import EMA
from trainer.progress import Steps
from trainer.state import State, count, metric_rows, observation
from trainer.stream.index import Index, open_index
from trainer.stream.loader import Stream
from trainer.stream.plan import advance

if TYPE_CHECKING:
    from trainer.stream.loader import Batch

LOG_STEPS = 20  # between points of the loss curve in TensorBoard


@dataclass(frozen=True)
class RunResult:
    """What a run ended with. scores, weights: per task, the last ones; `scores` in the metric's own direction.

    skipped: steps whose gradient was not finite. replaced: pairs that could not be read → how often.
    """

    folder: str
    steps: int
    skipped: int
    replaced: dict[str, int]
    scores: dict[str, float]
    weights: dict[str, float]


def run(config: Config, out: str = "run", *, resume: bool = False) -> RunResult:
    """Train as `config` says, into the run folder `out`.

    SIGTERM makes it write a checkpoint and return early (`steps` below those wanted).
    resume: go on from the newest whole checkpoint of `out`, or start when there is none. On the CPU the weights and
    the parameters are then bitwise those of a run that was never stopped. Raises UserError and MixerError.
    """
    settings, device = config.optimiser, devices.resolve(config.run.device)
    stored = records.prepare(out, resume=resume)
    schedule = mixture_.read_schedule(config.mixture)
    index = open_index(config.data.manifest, "train", strata=schedule.strata_column if schedule else "task")
    reference = open_index(config.data.manifest, "ref")
    scorers = _scorers(config, index, reference, device)
    mixture = mixture_.Mixture(config.mixture, index, schedule)
    bf16 = devices.uses_bf16(settings.precision, device)
    state = State(rule=mixture.start())
    threads = config.run.threads or (stored["resolved"]["threads"] if stored else None)

    with signals.asked_to_stop() as stop_asked, devices.computing(device, threads) as threads:
        torch.manual_seed(config.run.seed)
        model = models.build(config.model.name, config.model.preset, **config.model.options).to(device)
        ema = EMA(model, settings.ema)
        optimizer = torch.optim.AdamW(
            model.parameters(), settings.lr, settings.betas, weight_decay=settings.weight_decay, fused=True
        )
        loss = losses.get(settings.loss)

        resolved = {"device": device, "threads": threads, "bf16": bf16}
        identity = _identity(config, index, reference, mixture, scorers, resolved)
        if stored is None:
            records.write_identity(out, identity)
        else:
            records.check_same(out, stored, identity)
            state = _resume(out, state, model=model, ema=ema, optimizer=optimizer)
        book = records.Records(out, state.step)
        book.event("resume" if state.step else "start", step=state.step, device=device, threads=threads)
        if state.metrics:
            book.tables(state.schedule, state.metrics)  # a killed run may have written rows that come again
        save = _saver(config, out, model, ema, optimizer)

        stream = Stream(
            index, batch=config.data.batch, crop=config.data.crop, seed=config.run.seed, workers=config.data.workers
        )
        with stream, Steps(settings.steps, state.step) as show:
            while True:
                if state.evaluated != state.step and _is_boundary(config, state.step):
                    try:
                        _evaluate(
                            config, state, ema.average, mixture, reference, scorers, book, show, stop_asked, bf16=bf16
                        )
                    except signals.StopAsked:  # the state is that of before; a resume evaluates again
                        save(state)
                        return _left(book, out, state, mixture)
                    if state.step == settings.steps or _is_due(config, state.step) or stop_asked():
                        save(state)
                if state.step == settings.steps:
                    break
                if stop_asked():
                    return _left(book, out, state, mixture)
                begin = state.evaluated
                stop = min(begin + config.evaluation.interval, settings.steps)
                batches = stream.batches(state.weights, state.cursors, state.step, stop, interval_start=begin)
                for batch in batches:
                    rate = _learning_rate(config, state.step)
                    values = _step(model, loss, optimizer, batch.to(device), rate, settings.clip, bf16=bf16)
                    ema.update(model, state.step)
                    mean = count(state, batch.task, values)
                    _note_replaced(state, batch, book, show)
                    show.step(mean)
                    if state.step % LOG_STEPS == 0:
                        book.scalars(state.step, {"train/loss": mean, "train/lr": rate})
                    if state.step < stop and (_is_due(config, state.step) or stop_asked()):
                        save(state)
                        if stop_asked():
                            return _left(book, out, state, mixture)
                state.cursors = advance(
                    index, state.weights, state.cursors, begin, stop,
                    interval_start=begin, batch=config.data.batch, seed=config.run.seed,
                )  # fmt: skip
        book.event("done", step=state.step, skipped=state.skipped)
        book.close()
    return _result(out, state, mixture)


def _note_replaced(state: State, batch: Batch, book: records.Records, show: Steps) -> None:
    """Count and list the pairs that could not be read; each is said once."""
    for pair_id, reason in batch.replaced:
        if pair_id not in state.replaced:
            show.say(f"{reason}; another pair of its task takes its place")
        state.replaced[pair_id] = state.replaced.get(pair_id, 0) + 1
        book.event("replaced", step=state.step, pair_id=pair_id, reason=reason)


def _left(book: records.Records, out: str, state: State, mixture: mixture_.Mixture) -> RunResult:
    """What a run that SIGTERM has stopped ends with; its last checkpoint is of this very step."""
    book.event("stopped", step=state.step)
    book.close()
    return _result(out, state, mixture)


def _step(
    model: nn.Module,
    loss: losses.Loss,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    rate: float,
    clip: float,
    *,
    bf16: bool,
) -> list[float] | None:
    """One optimizer step; the loss of every sample, or None when a NaN or an infinity made it void."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    with torch.autocast(batch.lq.device.type, torch.bfloat16, enabled=bf16):
        prediction: Tensor = model(batch.lq)
    values = loss(prediction.float(), batch.gt)
    values.mean().backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    if not math.isfinite(float(norm)):
        return None
    optimizer.step()
    kept: list[float] = values.detach().tolist()
    return kept


def _evaluate(
    config: Config,
    state: State,
    model: nn.Module,
    mixture: mixture_.Mixture,
    reference: Index,
    scorers: dict[str, metrics.Metric],
    book: records.Records,
    show: Steps,
    stop_asked: Callable[[], bool],
    *,
    bf16: bool,
) -> None:
    """Score D_ref at this step, let the mixture answer, and enter both into the state and the run folder.

    Raises StopAsked, having changed nothing, when SIGTERM comes between two images.
    """

    def seen() -> None:
        if stop_asked():
            raise signals.StopAsked

    speed, began = show.speed, time.monotonic()
    lists = {task: [metric] for task, metric in scorers.items()}
    first = not state.metrics
    try:
        scored, samples = evaluate.score(
            model, reference, lists,
            crop=config.evaluation.crop, tile=config.evaluation.tile, bf16=bf16, inputs=first, seen=seen,
        )  # fmt: skip
    except UserError as error:
        raise UserError(f"step {state.step}: {error}") from None
    rows = metric_rows(state, mixture, evaluate.summarise(scored))
    oriented = {row["task"]: row["value"] * (1 if scorers[row["task"]].higher_is_better else -1) for row in rows}
    if state.step == 0:
        _check_finite(state.step, mixture, oriented)
    for task in mixture.task_size:
        if not math.isfinite(oriented.get(task, math.nan)):
            show.say(f"step {state.step}: task {task} has no score on D_ref; it keeps its weight")
            book.event("no score", step=state.step, task=task)
    state.metrics += rows
    if state.step < config.optimiser.steps:
        interval = state.step // config.evaluation.interval
        observations = [observation(row, mixture, oriented) for row in rows if row["task"] in mixture.task_size]
        state.rule, state.weights = mixture.weights(state.rule, interval, observations)
        state.schedule += mixture.rows(interval, state.weights, oriented)
    state.evaluated, state.loss, state.drawn = state.step, {}, {}
    book.tables(state.schedule, state.metrics)
    book.samples(state.step, samples)
    book.scalars(state.step, _scalars(rows, mixture.by_task(state.weights)))
    book.event(
        "evaluate", step=state.step, seconds=round(time.monotonic() - began, 3), steps_per_second=round(speed, 3),
        skipped=state.skipped,
    )  # fmt: skip
    show.say(_line(state, rows, mixture.by_task(state.weights)))
    show.restart()


def _check_finite(step: int, mixture: mixture_.Mixture, scores: dict[str, float]) -> None:
    for task in mixture.task_size:
        if not math.isfinite(scores.get(task, math.nan)):
            raise UserError(
                f"step {step}: the score of task {task!r} on D_ref is {scores.get(task)}: its metric is defined for "
                "none of its reference images; choose another with --metric"
            )


def _learning_rate(config: Config, step: int) -> float:
    """Linear warm-up, then a cosine from lr to final·lr at the last step."""
    settings = config.optimiser
    warmup = min(1.0, (step + 1) / (settings.warmup + 1))
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
    return settings.lr * warmup * (settings.final + (1.0 - settings.final) * cosine)


def _scorers(config: Config, index: Index, reference: Index, device: str) -> dict[str, metrics.Metric]:
    """The metric of every task of D_ref. Raises UserError for a task without reference images."""
    if lacking := [task for task in index.tasks if task not in reference.tasks]:
        raise UserError(
            f"{config.data.manifest}: task {lacking[0]!r} has training pairs but none in the split 'ref'; "
            "run 'curate split' so that every task has reference pairs"
        )
    if strangers := sorted(set(config.evaluation.metrics) - set(reference.tasks)):
        known = ", ".join(reference.tasks)
        raise UserError(f"--metric names task {strangers[0]!r}, which is not in D_ref; it has {known}", exit_code=2)
    return {task: metrics.load(config.evaluation.metrics.get(task, "psnr"), device) for task in reference.tasks}


def _is_boundary(config: Config, step: int) -> bool:
    """Whether an interval begins at this step, or the run ends."""
    return step % config.evaluation.interval == 0 or step == config.optimiser.steps


def _is_due(config: Config, step: int) -> bool:
    """Whether a checkpoint is written at this step: every `run.checkpoint` steps, or every interval."""
    return step % (config.run.checkpoint or config.evaluation.interval) == 0


def _saver(
    config: Config, out: str, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer
) -> Callable[[State], None]:
    """What writes a checkpoint of this run."""

    def save(state: State) -> None:
        content = {
            "model": config.model.model_dump(mode="json"),
            "config": config.model_dump(mode="json"),
            "state": asdict(state),
            "rng": {"cpu": _hex(torch.get_rng_state()), "cuda": [_hex(one) for one in _cuda_states()]},
        }
        checkpoint.save(
            os.path.join(out, "checkpoints"), state.step,
            model=model, ema=ema.average, optimizer=optimizer, state=content, keep=config.run.keep,
        )  # fmt: skip

    return save


def _resume(out: str, fresh: State, *, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> State:
    """Load the newest whole checkpoint into the model and its kin; the state in it, or `fresh` when there is none."""
    folder = os.path.join(out, "checkpoints")
    checkpoint.clean(folder)
    found, problems = checkpoint.newest(folder)
    for problem in problems:
        print(f"trainer: {problem}; an earlier one is used", file=sys.stderr)
    if found is None:
        return fresh
    checkpoint.restore(found, model=model, ema=ema.average, optimizer=optimizer)
    rng = found.state["rng"]
    torch.set_rng_state(_tensor(rng["cpu"]))
    if torch.cuda.is_available() and len(rng["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([_tensor(one) for one in rng["cuda"]])
    return State(**found.state["state"])


def _identity(
    config: Config,
    index: Index,
    reference: Index,
    mixture: mixture_.Mixture,
    scorers: dict[str, metrics.Metric],
    resolved: dict[str, Any],
) -> dict[str, Any]:
    """What config.json says of this run."""
    fingerprints = {"training data": index.fingerprint, "reference data": reference.fingerprint}
    if mixture.fingerprint is not None:
        fingerprints["schedule"] = mixture.fingerprint
    parameters = models.count_parameters(config.model.name, config.model.preset, config.model.options)
    said = evaluate.conventions(scorers.values(), crop=config.evaluation.crop, tile=config.evaluation.tile)
    content = records.identity(config, fingerprints, {**resolved, "parameters": parameters})
    return {**content, "conventions": said, "data": {"strata": len(index.strata), "pairs": mixture.task_size}}


def _scalars(rows: list[dict[str, Any]], weights: dict[str, float]) -> dict[str, float | None]:
    """An evaluation as TensorBoard scalars."""
    out: dict[str, float | None] = {f"weight/{task}": weight for task, weight in weights.items()}
    for row in rows:
        out[f"{row['metric']}/{row['task']}"] = row["value"]
        out[f"train_loss/{row['task']}"] = row["train_loss"]
    return out


def _line(state: State, rows: list[dict[str, Any]], weights: dict[str, float]) -> str:
    """An evaluation in one line: score and weight of every task."""
    parts = [f"{row['task']} {row['value']:.2f} (w {weights.get(row['task'], 0.0):.3f})" for row in rows]
    return f"step {state.step}: " + ", ".join(parts) + (f"; {state.skipped} steps skipped" if state.skipped else "")


def _result(out: str, state: State, mixture: mixture_.Mixture) -> RunResult:
    last = [row for row in state.metrics if row["step"] == state.step]
    scores = {row["task"]: row["value"] for row in last}
    return RunResult(out, state.step, state.skipped, dict(state.replaced), scores, mixture.by_task(state.weights))


def _cuda_states() -> list[Tensor]:
    return list(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else []


def _hex(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
