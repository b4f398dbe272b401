"""Scorers: pixels of one GT in, named numbers out. The built-in signals, and every no-reference metric of pyiqa."""

from __future__ import annotations

import importlib.metadata
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from curate import checkpoints, daclip
from manifests import files, images, metrics
from manifests.errors import UserError

SIGNALS_VERSION = 3
BATCHED = ("musiq", "musiq-ava", "musiq-paq2piq", "musiq-spaq")  # each image's score is its own, seen in their code
PATCH, ATTENTION = 32, 70_000_000  # MUSIQ's patches, pixels; squares of their numbers in a batch (4K alone: 70 M)
DACLIP = "daclip"  # among a request's names: the classifier, whose weights are a file
_PREFIXES = ("iqa.", "degradation.", "daclip.", "judge.")


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
    if name.startswith(_PREFIXES):
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

    def __hash__(self) -> int:
        return hash((self.names, tuple(sorted(self.weights.items())), self.device))

    @property
    def columns(self) -> list[str]:
        """The manifest columns that the scores go to."""
        return [column for name in self.names for column in self._columns(name)]

    def _columns(self, name: str) -> list[str]:
        if name != DACLIP:
            return [metrics.column(name)]
        fitted = os.path.exists(daclip.clean_path(self.weights[name]))
        return daclip.COLUMNS if fitted else daclip.TYPES

    def fingerprints(self) -> dict[str, str]:
        """What made each score: package version, and the hash of a checkpoint given as a file."""
        signals = signal_metrics()
        return {name: self._fingerprint(name, name in signals) for name in self.names}

    def _fingerprint(self, name: str, built_in: bool) -> str:
        if built_in:
            return f"signals-{SIGNALS_VERSION}"
        if name == DACLIP:
            clean = daclip.clean_path(self.weights[name])
            fitted = f":clean-{checkpoints.fingerprint(clean)}" if os.path.exists(clean) else ""
            return f"daclip:{checkpoints.fingerprint(self.weights[name])}{fitted}"
        base = f"pyiqa-{importlib.metadata.version('pyiqa')}"
        return f"{base}:{_weights_hash(self.weights[name])}" if name in self.weights else base


@lru_cache
def _weights_hash(path: str) -> str:
    try:
        return images.sha256(files.read(path))[:16]
    except OSError as error:
        raise UserError(f"{path}: weights cannot be read ({error.strerror})") from None


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
        value: float | None
        if name == DACLIP:
            model = _daclip(request)
            values |= _known(model.scores([model.prepare(pixels)])[0], request)
            continue
        try:
            value = measured[name] if name in signals else _pyiqa(name, request)([pixels])[0]
        except UserError:
            raise
        except (RuntimeError, ValueError, AssertionError) as error:
            value, reason = None, " ".join(str(error).split())[:200]
        else:
            reason = f"is {value}"
        if value is None or not math.isfinite(value):
            problems.append(f"{name} {reason}")
            value = None
        values[metrics.column(name)] = value
    return values, problems


def measure_all(
    loaded: Iterable[images.Pixels | str], request: Request
) -> list[tuple[dict[str, float | None], list[str]] | str]:
    """`measure` of many GTs, those models that take batches on all of them at once. A text stands for itself.

    On a GPU the metrics of `BATCHED` take images of exactly the same size together, no more than their attention has
    room for; when memory is short the batch is halved.
    """
    out: list[tuple[dict[str, float | None], list[str]] | str] = []
    together = [name for name in request.names if name in BATCHED and takes_batches(request.device)]
    single = replace(request, names=tuple(name for name in request.names if name not in (DACLIP, *together)))
    prepared, places = [], []
    whole: dict[int, images.Pixels] = {}
    for one in loaded:
        if not isinstance(one, str) and DACLIP in request.names:
            prepared.append(_daclip(request).prepare(one))
            places.append(len(out))
        if not isinstance(one, str) and together:
            whole[len(out)] = one
        out.append(one if isinstance(one, str) else measure(one, single))
    for place, found in zip(places, _daclip(request).scores(prepared) if prepared else (), strict=True):
        out[place][0].update(_known(found, request))  # type: ignore[union-attr]
    for name in together:
        for place, value in _in_batches(name, request, whole).items():
            measured = out[place]
            assert not isinstance(measured, str)  # it was scored, so it is an image
            good = value if isinstance(value, float) and math.isfinite(value) else None
            measured[0][metrics.column(name)] = good
            if good is None:
                measured[1].append(f"{name} {value if isinstance(value, str) else f'is {value}'}")
    return out


def takes_batches(device: str) -> bool:
    """Whether images go through a metric together: on a GPU; on the CPU it brings nothing."""
    return device.startswith("cuda")


def _in_batches(name: str, request: Request, whole: Mapping[int, images.Pixels]) -> dict[int, float | str]:
    """The scores of images, or why there is none, by their places."""
    import torch

    score = _pyiqa(name, request)
    of_size: dict[tuple[int, ...], list[int]] = {}
    for place, pixels in whole.items():
        of_size.setdefault(pixels.shape[:2], []).append(place)
    out: dict[int, float | str] = {}
    for (height, width), places in of_size.items():
        tokens = math.ceil(height / PATCH) * math.ceil(width / PATCH)
        size = max(1, ATTENTION // tokens**2)
        while places:
            some = places[:size]
            try:
                out |= dict(zip(some, score([whole[place] for place in some]), strict=True))
            except torch.cuda.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                if len(some) > 1:
                    size = len(some) // 2
                    continue
                out[some[0]] = f"does not fit into memory at {width}x{height} ({str(error).split('.')[0][:80]})"
            except (RuntimeError, ValueError, AssertionError) as error:
                if len(some) > 1:
                    size = 1
                    continue
                out[some[0]] = " ".join(str(error).split())[:200]
            places = places[len(some) :]
    return out


def _known(found: Mapping[str, float | None], request: Request) -> dict[str, float | None]:
    return {name: value for name, value in found.items() if name in request.columns}


def _daclip(request: Request) -> daclip.Model:
    return daclip.load(request.weights[DACLIP], _place(request.device))


def check_weights(request: Request) -> None:
    """Raises UserError unless every checkpoint given is a file and for a metric of the request."""
    for path in request.weights.values():
        _weights_hash(path)
    if unknown := set(request.weights) - set(request.names):
        raise UserError(f"--weights names {min(unknown)!r}, which is not among the metrics of this run", exit_code=2)


def load(request: Request) -> None:
    """Load every model of the request now, so that a missing one is said before any work. Raises UserError."""
    check_weights(request)
    for name in request.names:
        if name == DACLIP:
            _daclip(request)
        elif name not in signal_metrics():
            _pyiqa(name, request)


@lru_cache(maxsize=32)
def _pyiqa(name: str, request: Request) -> Callable[[Sequence[images.Pixels]], list[float]]:
    """A pyiqa metric as a function of images of one size.

    But for `BATCHED` it is given one at a time: in others a score may depend on what stands beside an image.
    """
    import torch

    place = _place(request.device)
    try:
        if name in request.weights:
            checkpoints.read(request.weights[name])  # pyiqa itself would run what a pickle asks for
        with _quiet():
            import pyiqa

            given = {"pretrained_model_path": request.weights[name]} if name in request.weights else {}
            metric = pyiqa.create_metric(name, device=torch.device(place), **given)
    except UserError:
        raise
    except Exception as error:  # pyiqa fails in many ways when a file is absent or foreign
        raise UserError(_absent(name, error)) from error

    def score(pictures: Sequence[images.Pixels]) -> list[float]:
        batch = torch.stack([torch.from_numpy(images.to_float(one)).permute(2, 0, 1) for one in pictures])
        with torch.inference_mode():
            values: list[float] = metric(batch.to(place)).double().flatten().tolist()
        return values

    return score


def _absent(name: str, error: BaseException) -> str:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return (
        f"{name}: its weights could not be loaded ({reason}); give a file with --weights {name}=FILE, or put pyiqa's "
        "checkpoint into $TORCH_HOME/hub/pyiqa, or use what needs no download: piqe, entropy, signals"
    )


def cuda_devices(device: str) -> int:
    """How many devices `device` means: all that there are for "cuda", one for "cuda:1", none for the CPU.

    Raises UserError where there is none.
    """
    if not device.startswith("cuda"):
        return 0
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"--device {device}: this machine has no CUDA device; leave it out to use the CPU")
    return torch.cuda.device_count() if device == "cuda" else 1


def _place(device: str) -> str:
    """The device that this process computes on: "cuda" is shared out among the worker processes by their number."""
    count = cuda_devices(device)
    if device != "cuda":
        return device
    from curate.engine import worker_number

    return f"cuda:{worker_number() % count}"


def _quiet() -> Any:
    """Silence what pyiqa prints while it loads; errors still come as exceptions."""
    import contextlib
    import io

    return contextlib.redirect_stdout(io.StringIO())
