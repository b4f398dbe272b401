"""Scorers: pixels of one GT in, named numbers out. The built-in signals, and every no-reference metric of pyiqa."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from curate import daclip, devices, iqa
from manifests import checkpoints, images, metrics
from manifests.errors import UserError

SIGNALS_VERSION = 4
BF16 = ":bf16"  # ends the fingerprint of what was measured so
DACLIP = "daclip"  # among a request's names: the classifier, whose weights are a file
PREFIXES = ("iqa.", "degradation.", "daclip.", "judge.", "user.", "pair.")  # of columns that rules can name


def signal_metrics() -> dict[str, metrics.Metric]:
    """The built-in signals as metrics: direction and range, nothing computed."""
    from curate.signals.table import SIGNALS

    return {n: metrics.Metric(n, s.higher_is_better, s.low, s.high, offline=True) for n, s in SIGNALS.items()}


def expand(names: Sequence[str]) -> list[str]:
    """The metrics that `names` mean: `signals` stands for all built-in ones, commas separate. Unknown: UserError."""
    flat = [one.strip() for name in names for one in name.split(",") if one.strip()]
    if not flat:
        return []
    signals = signal_metrics()
    wanted = [metric for name in flat for metric in (signals if name == "signals" else [name])]
    return [metrics.known(name, signals).name for name in dict.fromkeys(wanted)]


def column_of(name: str) -> str:
    """The column that a metric's name, or a column's own name such as `degradation.noise`, stands for."""
    if name.startswith(PREFIXES):
        return name
    return metrics.column(metrics.known(name, signal_metrics()).name)


def direction_of(name: str) -> bool | None:
    """True when higher is better, False when lower is, None when neither end is good (or nobody says)."""
    if name.startswith(("degradation.", "daclip.")):
        return name == "daclip.clean"
    plain = {metrics.column(n): m for n, m in {**metrics.NO_REFERENCE, **signal_metrics()}.items()}
    found = plain.get(column_of(name))
    return None if found is None else found.higher_is_better


@dataclass(frozen=True)
class Request:
    """Which metrics to measure, and how. Picklable, so that every worker loads its own models."""

    names: tuple[str, ...]
    weights: Mapping[str, str] = field(default_factory=dict)  # metric -> checkpoint file
    device: str = "cpu"
    threads: int = 1  # that decode ahead of the models
    bf16: tuple[str, ...] = ()  # metrics of pyiqa that are measured in bf16

    def __hash__(self) -> int:
        return hash((self.names, tuple(sorted(self.weights.items())), self.device, self.bf16))

    @property
    def pyiqa(self) -> list[str]:
        """Those of the names that are metrics of pyiqa."""
        signals = signal_metrics()
        return [name for name in self.names if name != DACLIP and name not in signals]

    def metric(self, name: str) -> iqa.Metric:
        """The metric of pyiqa, loaded once a process. Raises UserError when its weights cannot be had."""
        return iqa.load(name, self.weights.get(name), devices.mine(self.device))

    @property
    def columns(self) -> list[str]:
        """The manifest columns that the scores go to."""
        return [column for name in self.names for column in self.columns_of(name)]

    def columns_of(self, name: str) -> list[str]:
        """The columns that one of the names gives."""
        if name != DACLIP:
            return [metrics.column(name)]
        fitted = os.path.exists(daclip.clean_path(self.weights[name]))
        return daclip.COLUMNS if fitted else daclip.TYPES

    def fingerprints(self) -> dict[str, str]:
        """What made each score: package version, and the hash of the weights. Loads the metrics of pyiqa."""
        signals = signal_metrics()
        return {name: self._fingerprint(name, name in signals) for name in self.names}

    def _fingerprint(self, name: str, built_in: bool) -> str:
        if built_in:
            return f"signals-{SIGNALS_VERSION}"
        if name == DACLIP:
            clean = daclip.clean_path(self.weights[name])
            fitted = f":clean-{checkpoints.fingerprint(clean)}" if os.path.exists(clean) else ""
            return f"daclip:{checkpoints.fingerprint(self.weights[name])}{fitted}"
        return self.metric(name).fingerprint + (BF16 if name in self.bf16 else "")


def measure(
    pixels: images.Pixels, request: Request, luma: images.Pixels | None = None
) -> tuple[dict[str, float | None], list[str]]:
    """Scores of one GT, (H, W, 3) uint8 or uint16 RGB: column -> value, and what went wrong, one text a metric.

    `luma` is that of the pixels, where the caller has it. A score that cannot be had (NaN, or the metric refuses the
    image) is None and has its text.
    """
    values: dict[str, float | None] = {}
    problems: list[str] = []
    signals = signal_metrics()
    measured: dict[str, float] = {}
    if any(name in signals for name in request.names):
        from curate.signals.measure import measure as measure_signals

        measured = measure_signals(pixels, luma)
    for name in request.names:
        if name == DACLIP:
            model = _daclip(request)
            values |= _known(model.scores([model.prepare(pixels)])[0], request)
            continue
        if name in signals:
            _enter(name, measured[name], values, problems)
        else:
            _enter(name, iqa.one(request.metric(name), pixels, bf16=name in request.bf16), values, problems)
    return values, problems


def _enter(name: str, found: float | str | None, values: dict[str, float | None], problems: list[str]) -> None:
    """Put a score, or why there is none, where it belongs."""
    good = found if not isinstance(found, str) and found is not None and math.isfinite(found) else None
    values[metrics.column(name)] = good
    if good is None:
        problems.append(f"{name} {found if isinstance(found, str) else f'is {found}'}")


@dataclass(frozen=True)
class Ready:
    """A decoded GT, and what DA-CLIP looks at of it where that is asked for."""

    pixels: images.Pixels
    square: Any = None


def ready(pixels: images.Pixels | str, request: Request) -> Ready | str:
    """What can be done to a GT beside others, in the thread that decoded it. A text stands for itself."""
    if isinstance(pixels, str):
        return pixels
    return Ready(pixels, _daclip(request).prepare(pixels) if DACLIP in request.names else None)


def measure_all(
    loaded: Iterable[Ready | str], request: Request
) -> list[tuple[dict[str, float | None], list[str]] | str]:
    """`measure` of many GTs, those models that take batches on all of them at once. A text stands for itself.

    On a GPU the metrics of `iqa.BATCHED` take images of exactly the same size together.
    """
    out: list[tuple[dict[str, float | None], list[str]] | str] = []
    together = [name for name in request.names if name in iqa.BATCHED and takes_batches(request.device)]
    single = replace(request, names=tuple(name for name in request.names if name not in (DACLIP, *together)))
    prepared, places = [], []
    whole: dict[int, images.Pixels] = {}
    for one in loaded:
        if isinstance(one, str):
            out.append(one)
            continue
        if one.square is not None:
            prepared.append(one.square)
            places.append(len(out))
        if together:
            whole[len(out)] = one.pixels
        out.append(measure(one.pixels, single))
    for place, found in zip(places, _daclip(request).scores(prepared) if prepared else (), strict=True):
        out[place][0].update(_known(found, request))  # type: ignore[union-attr]
    for name in together:
        for place, value in iqa.many(request.metric(name), whole, bf16=name in request.bf16).items():
            measured = out[place]
            assert not isinstance(measured, str)  # it was scored, so it is an image
            _enter(name, value, *measured)
    return out


def takes_batches(device: str) -> bool:
    """Whether images go through a metric together: on a GPU; on the CPU it brings nothing."""
    return device.startswith("cuda")


def _known(found: Mapping[str, float | None], request: Request) -> dict[str, float | None]:
    return {name: value for name, value in found.items() if name in request.columns}


def _daclip(request: Request) -> daclip.Model:
    return daclip.load(request.weights[DACLIP], devices.mine(request.device))


def check_weights(request: Request) -> None:
    """Raises UserError unless every checkpoint given is a file and for a metric of the request."""
    for path in request.weights.values():
        checkpoints.fingerprint(path)
    if unknown := set(request.weights) - set(request.names):
        raise UserError(f"--weights names {min(unknown)!r}, which is not among the metrics of this run", exit_code=2)


def load(request: Request) -> None:
    """Load every model of the request now, so that a missing one is said before any work. Raises UserError."""
    check_weights(request)
    if DACLIP in request.names:
        _daclip(request)
    for name in request.pyiqa:
        request.metric(name)
