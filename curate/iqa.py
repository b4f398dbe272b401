"""pyiqa's no-reference metrics: their weights read without running what is in them, images batched where that is safe.

pyiqa (Chen et al., https://github.com/chaofengc/IQA-PyTorch) is PolyForm-Noncommercial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from manifests import images, metrics
from manifests.errors import UserError, brief

# Each image's score is its own: seen in their code, and measured with random weights (tests/curate/test_iqa.py).
BATCHED = (
    "musiq", "musiq-ava", "musiq-paq2piq", "musiq-spaq", "topiq_nr", "topiq_nr-flive", "topiq_nr-spaq",
    "topiq_iaa_res50", "dbcnn", "cnniqa", "hyperiqa", "nima", "nima-koniq", "nima-spaq", "paq2piq", "unique", "uranker",
)  # fmt: skip
PATCH, ATTENTION = 32, 70_000_000  # MUSIQ's patches, pixels; squares of their numbers in a batch (4K alone: 70 M)
HEADS = 6  # of its attention, a float32 matrix and its softmax each
PIXELS = 16_000_000  # of a batch for the others
TOLERANCE = 0.001  # bf16 may change no score by more than this share of the metric's range
MARGIN = 0.5  # of that; the images that it is tried on are a sample
PROBES = 32  # images that bf16 is tried on
FEWEST = 8  # of them that must be readable


@dataclass(frozen=True)
class Metric:
    """A metric on one device. fingerprint: pyiqa's version, and the hash of the weights that were read, if any."""

    name: str
    fingerprint: str
    _net: Any
    _place: str

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a CUDA device."""
        return self._place.startswith("cuda")

    def score(self, pictures: Sequence[images.Pixels], *, bf16: bool = False) -> list[float]:
        """The scores of (H, W, 3) images that all have one size and depth. bf16: autocast, where scores allow it."""
        import torch

        whole = torch.from_numpy(np.stack(pictures)).to(self._place)  # as integers: a quarter of the bytes
        batch = whole.permute(0, 3, 1, 2).float() / float(np.iinfo(pictures[0].dtype).max)
        kind = torch.device(self._place).type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=bf16):
            values: list[float] = self._net(batch.contiguous()).double().flatten().tolist()
        return values


@lru_cache(maxsize=32)
def load(name: str, weights: str | None = None, place: str = "cpu") -> Metric:
    """The metric called `name`; weights: its checkpoint, otherwise pyiqa's cache ($TORCH_HOME), otherwise its hub.

    Raises UserError for weights that cannot be had, do not fit, or would run code.
    """
    try:
        net, fingerprint = metrics.create(name, place, weights)
    except UserError:
        raise
    except Exception as error:
        raise UserError(_absent(name, error, weights)) from error
    return Metric(name, fingerprint, net, place)


def _absent(name: str, error: BaseException, weights: str | None) -> str:
    reason = brief(error)
    if isinstance(error, ModuleNotFoundError):
        return f"{name}: pyiqa needs the package {error.name} for it: pip install {error.name}"
    if weights is not None and "pretrained_model_path" in reason:
        return f"{name}: pyiqa takes no file of weights for it; it looks into $TORCH_HOME/hub/pyiqa, and asks its hub"
    if weights is not None and isinstance(error, OSError):
        return (
            f"{name}: beside {weights} it needs a backbone that is not in the hub's cache ({reason}); score once where "
            "there is a network, and bring $HF_HOME and $TORCH_HOME"
        )
    return (
        f"{name}: its weights could not be loaded ({reason}); give a file with --weights {name}=FILE, or put pyiqa's "
        "checkpoint into $TORCH_HOME/hub/pyiqa, or use what needs no download: piqe, entropy, signals"
    )


def one(metric: Metric, pixels: images.Pixels, *, bf16: bool = False) -> float | str:
    """The score of one image, or why there is none."""
    if reason := _too_large(metric, *pixels.shape[:2]):
        return reason
    try:
        return metric.score([pixels], bf16=bf16)[0]
    except (RuntimeError, ValueError, AssertionError) as error:
        return brief(error, 200)


def many(metric: Metric, whole: Mapping[int, images.Pixels], *, bf16: bool = False) -> dict[int, float | str]:
    """The scores of images, or why there is none, by their places.

    Images of exactly the same size go together, no more than there is room for: when memory is short the batch is
    halved.
    """
    import torch

    alike: dict[tuple[int, int, Any], list[int]] = {}
    for place, pixels in whole.items():
        alike.setdefault((*pixels.shape[:2], pixels.dtype), []).append(place)
    out: dict[int, float | str] = {}
    for (height, width, _), places in alike.items():
        size = room(metric.name, height, width)
        while places:
            some = places[:size]
            try:
                out |= dict(zip(some, metric.score([whole[place] for place in some], bf16=bf16), strict=True))
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
                out[some[0]] = brief(error, 200)
            places = places[len(some) :]
    return out


def _too_large(metric: Metric, height: int, width: int) -> str | None:
    """Why an image would end this process rather than be scored: the CPU's memory is not the GPU's, which says so."""
    import psutil

    if not metric.name.startswith("musiq") or metric.on_gpu:
        return None
    needed, free = 2 * HEADS * 4 * _tokens(height, width) ** 2, psutil.virtual_memory().available
    if needed < free:
        return None
    return f"does not fit into memory at {width}x{height}: needs {needed / 1e9:.0f} GB, {free / 1e9:.0f} are free"


def _tokens(height: int, width: int) -> int:
    return math.ceil(height / PATCH) * math.ceil(width / PATCH)


def room(name: str, height: int, width: int) -> int:
    """How many images of a size go through a metric together."""
    if name not in BATCHED:
        return 1
    if name.startswith("musiq"):  # full attention over all patches
        return max(1, ATTENTION // _tokens(height, width) ** 2)
    return max(1, PIXELS // (height * width))


def largest_change(metric: Metric, probes: Sequence[images.Pixels]) -> float:
    """How far bf16 moves the score of an image at most, as a share of the metric's range; inf where that is unknown."""
    span = metrics.known(metric.name)
    found = [(one(metric, pixels), one(metric, pixels, bf16=True)) for pixels in probes]
    moved = [abs(a - b) for a, b in found if isinstance(a, float) and isinstance(b, float) and math.isfinite(a)]
    if len(moved) < FEWEST or any(math.isnan(value) for value in moved):
        return math.inf
    return max(moved) / (span.high - span.low)
