"""What is wrong when a run does not learn: found at every evaluation, with what to change.

    >>> from trainer import diagnosis
    >>> for one in diagnosis.read("run"):  # doctest: +SKIP
    ...     print(one.step, one.task, one.kind, one.text, one.advice)

Everything is judged from what the run records anyway, and from the size of every sample's loss gradient, so that
training itself is the same with and without it.

kind       | meaning
identity   | the model returns its input
few_pairs  | a few pairs have most of the loss's gradient
exploding  | the loss or a score falls far behind, or gradients are not finite
worse      | a task scores below its input
flat       | a task does not gain over its input, after enough steps
early      | tasks have not gained yet, and the run ends before they could
dead       | a task is not trained: no samples, a weight at its floor, or no gradient
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from trainer.config import Config
    from trainer.state import State

ENOUGH = 500  # optimizer steps before a task without a gain counts as flat
EVALUATIONS = 2  # in a row without a gain that make it flat
UNCHANGED = 2e-4  # mean |output - input| in [0, 1], a twentieth of an 8-bit code: below, the output is the input
TINY = {"psnr": 0.02}  # gains that count as none, whatever their standard error; other metrics: of the input's score
TINY_SHARE = 1e-3
EQUAL = {"psnr": 50.0}  # scores of inputs that equal their GTs, as of pairs that ingest calls identical
FALL = {"psnr": 3.0}  # below the input, and of the loss in dB: exploding; other metrics and losses: of their value
FALL_SHARE = 0.5
MEASURED = 100  # samples of a task that make its mean loss one to judge by
RULED = 0.25  # share of the gradient on few pairs that is said
EXCESS = 4.0  # times its share of the samples that each of them has
LEAST_PAIRS = 10  # below, a few pairs are a part of the data that is no surprise
STARVED = 0.1  # of the uniform share
PLANNED = ("sequential", "incremental", "static", "schedule")  # rules that mean it when they leave a task out
TALLIED = 2048  # pairs whose gradients are kept apart; the smaller half is then summed up


@dataclass(frozen=True)
class Diagnosis:
    """A fault seen at evaluation `step`. task: None for one of the whole run. kind: see the module."""

    step: int
    task: str | None
    kind: str
    text: str
    advice: str

    def line(self) -> str:
        """For the terminal."""
        about = "" if self.task is None else f"{self.task}: "
        return f"diagnosis: {about}{self.text}; {self.advice}"


def tally(counts: dict[str, Any], tasks: Sequence[str], pairs: Sequence[str], norms: Sequence[float]) -> None:
    """Add a step's samples to `counts`, which is empty at first: the L2 norms of d loss / d output.

    counts: "pairs" and "tasks" → [sum, samples]; "total" of both, with the pairs that are no longer kept apart.
    """
    if not all(map(math.isfinite, norms)):
        return
    by_pair, by_task = counts.setdefault("pairs", {}), counts.setdefault("tasks", {})
    total = counts.setdefault("total", [0.0, 0])
    for task, pair, norm in zip(tasks, pairs, norms, strict=True):
        for entry in (by_pair.setdefault(pair, [0.0, 0]), by_task.setdefault(task, [0.0, 0]), total):
            entry[0] += norm
            entry[1] += 1
    if len(by_pair) > TALLIED:
        largest = sorted(by_pair, key=lambda pair: (-by_pair[pair][0], pair))[: TALLIED // 2]
        counts["pairs"] = {pair: by_pair[pair] for pair in largest}
        counts["apart"] = max(counts.get("apart", 0), len(by_pair))


class Change:
    """Mean absolute difference of a model's output and input, over all pixels that went through it."""

    def __init__(self) -> None:
        self.total, self.pixels = 0.0, 0

    def note(self, _model: Any, inputs: Any, output: Any) -> None:
        """A forward hook."""
        difference = (output.float() - inputs[0].float()).abs()
        self.total += float(difference.sum())
        self.pixels += difference.numel()


@contextlib.contextmanager
def watched(model: nn.Module) -> Iterator[Change]:
    """Measure how much `model` changes its inputs until the end of the context."""
    change = Change()
    hook = model.register_forward_hook(change.note)
    try:
        yield change
    finally:
        hook.remove()


@dataclass(frozen=True)
class _Case:
    """What is judged. history: task → its rows of metrics.parquet, each with its `gain`, higher is better."""

    state: State
    config: Config
    history: dict[str, list[dict[str, Any]]]

    @property
    def step(self) -> int:
        return self.state.step

    @property
    def is_last(self) -> bool:
        return self.step == self.config.optimiser.steps

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Of this evaluation."""
        return [mine[-1] for mine in self.history.values() if mine[-1]["step"] == self.step]


def judge(state: State, config: Config, signs: Mapping[str, float], change: float | None) -> list[Diagnosis]:
    """What is wrong at this evaluation, the worst first.

    state: before its counts of the interval are cleared; its metrics end with this evaluation. signs: task → 1 where a
    higher score is better, -1 where a lower one is. change: mean |output - input| over D_ref.
    """
    if state.step == 0:
        return []
    history: dict[str, list[dict[str, Any]]] = {}
    for row in state.metrics:
        history.setdefault(row["task"], []).append({**row, "gain": _gain(row, signs[row["task"]])})
    case = _Case(state, config, history)
    found = [*_exploding(case), *_ruled(case)]
    dead = _dead(case)
    if change is not None and change < UNCHANGED:
        return [_identity(case, change), *found, *dead]
    return [*found, *_behind(case, {one.task for one in found + dead}), *dead]


def standing(found: Sequence[Diagnosis], before: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The diagnoses that hold now, as the state keeps them: with the step at which each was seen first."""
    first = {(one["task"], one["kind"]): one["step"] for one in before}
    return [{**asdict(one), "step": first.get((one.task, one.kind), one.step)} for one in found]


def read(run: str) -> list[Diagnosis]:
    """The diagnoses that stood when the run folder was written last, the worst first; none for a sound run.

    What was seen after the checkpoint that a resume or a rollback went back to counts only if it came again.
    """
    events = []
    with contextlib.suppress(FileNotFoundError), open(os.path.join(run, "run.jsonl"), encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):  # the last line of a killed run
                events.append(json.loads(line))
    held: dict[tuple[str | None, str], Diagnosis] = {}
    for event in events:
        kind = event.get("event")
        if kind == "diagnosis":
            one = Diagnosis(*(event[name] for name in ("step", "task", "kind", "text", "advice")))
            held[one.task, one.kind] = one
        elif kind == "diagnosis over":
            held.pop((event["task"], event["kind"]), None)
        elif kind in ("resume", "rollback"):
            back = event["to"] if kind == "rollback" else event["step"]
            held = {key: one for key, one in held.items() if one.step <= back}
    order = ("identity", "exploding", "few_pairs", "worse", "flat", "dead", "early")
    return sorted(held.values(), key=lambda one: (order.index(one.kind) if one.kind in order else 99, one.task or ""))


def _identity(case: _Case, change: float) -> Diagnosis:
    text = f"the model returns its input (mean |output - input| on D_ref {change:.1e} of 1)"
    step, settings = case.step, case.config.optimiser
    if step <= settings.warmup:
        return Diagnosis(step, None, "identity", text, "the learning rate still warms up; train longer")
    unbounded = settings.loss == "psnr"
    advice = "use the default --loss, which no single pair can rule" if unbounded else "raise --lr, or train longer"
    return Diagnosis(step, None, "identity", text, advice)


def _ruled(case: _Case) -> list[Diagnosis]:
    """A few pairs, each with far more of the gradient than of the samples, that have much of it together."""
    counts, config = case.state.gradient, case.config
    by_pair, (total, samples) = counts.get("pairs", {}), counts.get("total", [0.0, 0])
    size = max(len(by_pair), counts.get("apart", 0))
    if size < LEAST_PAIRS or not total > 0:
        return []
    largest = sorted(by_pair, key=lambda pair: (-by_pair[pair][0], pair))[: max(3, math.ceil(size / 100))]
    few = [pair for pair in largest if by_pair[pair][0] / total > EXCESS * by_pair[pair][1] / samples]
    mine, drawn = (math.fsum(by_pair[pair][k] for pair in few) for k in (0, 1))
    if mine < RULED * total:
        return []
    names = [pair[:12] for pair in few]  # `curate explain` takes the beginning of an id
    text = (
        f"{len(few)} of {size} pairs have {mine / total:.0%} of the loss's gradient in {drawn / samples:.1%} of the "
        f"samples: {', '.join(names[:3])}{', …' if len(few) > 3 else ''}"
    )
    look = f"look at them ('curate explain {names[0]} {config.data.manifest}'): an LQ that is its own GT?"
    advice = f"{look} Or use the default --loss" if config.optimiser.loss == "psnr" else look
    return [Diagnosis(case.step, None, "few_pairs", text, advice)]


def _exploding(case: _Case) -> list[Diagnosis]:
    step, config, found = case.step, case.config, list[Diagnosis]()
    lower = f"lower --lr (now {config.optimiser.lr:g})"
    before = max((row["step"] for row in case.state.metrics if row["step"] < step), default=0)
    skipped = case.state.skipped - case.state.skipped_before
    if skipped > max(2, 0.01 * (step - before)):
        text = f"{skipped} of the last {step - before} steps had a gradient that is not finite and were skipped"
        found.append(Diagnosis(step, None, "exploding", text, lower))
    for row in case.rows:
        *losses, now = _losses(case.history[row["task"]])
        best = min((loss for loss in losses if loss is not None), default=None)
        behind = row["gain"] is not None and row["gain"] < -_fall(row)
        if behind and (row["lq"] or 0.0) >= EQUAL.get(row["metric"], math.inf):
            text = f"its inputs equal their GTs ({row['metric']} {row['lq']:.2f}): there is nothing to learn"
            check = f"check its pairs ('curate pairs {config.data.manifest}' drops identical ones)"
            found.append(Diagnosis(step, row["task"], "dead", text, check))
            continue
        if behind:
            text = f"{row['metric']} is {-row['gain']:.2f} behind its input's"
        elif best is not None and now is not None and now > best + _rise(config.optimiser.loss, best):
            text = f"the training loss has risen from {best:.4g} to {now:.4g}"
        else:
            continue
        found.append(Diagnosis(step, row["task"], "exploding", text, lower))
    return found


def _behind(case: _Case, known: Collection[str | None]) -> list[Diagnosis]:
    """Tasks without a gain: flat or worse after enough steps, early where the run ends before.

    known: tasks whose fault is known.
    """
    step, found, early = case.step, list[Diagnosis](), list[str]()
    for row in (row for row in case.rows if row["task"] not in known):
        recent = [one for one in case.history[row["task"]] if one["step"] > 0][-EVALUATIONS:]
        enough = case.is_last or len(recent) == EVALUATIONS
        if not enough or not all(map(_has_no_gain, recent)):
            continue
        if step < ENOUGH:
            early.append(f"{row['task']} {row['gain']:+.3f}")
            continue
        se = row.get("gain_se")
        noise = "" if se is None else f" ± {se:.3f}"
        kind = "worse" if row["gain"] < -max(_tiny(row), 2.0 * (se or 0.0)) else "flat"
        text = f"{row['metric']} {row['gain']:+.3f}{noise} over its input, {row['samples_seen']} samples seen"
        found.append(Diagnosis(step, row["task"], kind, text, _remedy(row, case)))
    if early and case.is_last:
        text = f"no gain over the input yet after {step} steps: {', '.join(early)}"
        advice = f"too early to judge; go on with --resume --steps {max(2 * ENOUGH, 4 * step)}"
        found.append(Diagnosis(step, None, "early", text, advice))
    return found


def _remedy(row: Mapping[str, Any], case: _Case) -> str:
    """What most likely helps a task without a gain."""
    check = f"check its pairs ('curate doctor {case.config.data.manifest}')"
    if row["epochs"] > 100:
        return f"its pairs were seen {row['epochs']:.0f} times each: add pairs, then {check}"
    if row["share"] is not None and row["share"] * len(case.rows) < 0.5:
        return f"it had {row['share']:.1%} of the samples: raise its weight ('--rule uniform'), then {check}"
    return f"{check}, then train longer or with a larger --preset"


def _dead(case: _Case) -> list[Diagnosis]:
    step, config, found = case.step, case.config, list[Diagnosis]()
    mixture, gradients = config.mixture, case.state.gradient.get("tasks", {})
    planned = mixture.schedule is not None or mixture.rule in PLANNED
    for row in case.rows:
        shares = [one["share"] for one in case.history[row["task"]] if one["share"] is not None][-2:]
        total, samples = gradients.get(row["task"], (0.0, 0))
        if not shares or math.isclose(shares[-1], 0.0):
            if planned and not (case.is_last and row["samples_seen"] == 0):
                continue
            text, advice = "has had no samples", "give it weight (--initial, --rule or the schedule)"
        elif not planned and len(shares) == 2 and max(shares) * len(case.rows) < STARVED:
            text = f"its weight is at its floor ({shares[-1]:.2%} of the samples)"
            advice = "lower --eta, or use a rule with a floor ('--rule equilibrium')"
        elif samples and math.isclose(total, 0.0):
            text = "its loss has no gradient: every LQ equals its GT"
            advice = f"check its pairs ('curate doctor {config.data.manifest}')"
        else:
            continue
        found.append(Diagnosis(step, row["task"], "dead", text, advice))
    return found


def _losses(history: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """The mean training loss of every interval; None where too few samples were drawn for one."""
    seen = [row["samples_seen"] for row in history]
    drawn = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    return [row["train_loss"] if count >= MEASURED else None for row, count in zip(history, drawn, strict=True)]


def _gain(row: Mapping[str, Any], sign: float) -> float | None:
    """Over the input , higher is better; None without a score."""
    gain = row.get("gain")
    if gain is None:
        gain = None if row["lq"] is None else row["value"] - row["lq"]
    return sign * float(gain) if gain is not None and math.isfinite(gain) else None


def _has_no_gain(row: Mapping[str, Any]) -> bool:
    return row["gain"] is not None and row["gain"] <= max(_tiny(row), row.get("gain_se") or 0.0)


def _tiny(row: Mapping[str, Any]) -> float:
    return float(TINY.get(row["metric"], TINY_SHARE * abs(row["lq"] or 0.0)))


def _fall(row: Mapping[str, Any]) -> float:
    return float(FALL.get(row["metric"], FALL_SHARE * abs(row["lq"] or 1.0)))


def _rise(loss: str, best: float) -> float:
    return FALL["psnr"] if loss.startswith("psnr") else FALL_SHARE * abs(best)
