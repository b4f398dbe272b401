"""What a score's name means: its column, direction and range. Knows pyiqa's names; imports it in `create` alone."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from manifests import checkpoints
from manifests.errors import UserError


@dataclass(frozen=True)
class Metric:
    """A score. `higher_is_better` is None where neither end is good (exposure); `low`, `high` bound usual values."""

    name: str
    higher_is_better: bool | None
    low: float
    high: float
    offline: bool = False


def _table(higher: bool | None, offline: bool, ranges: dict[str, tuple[float, float]]) -> dict[str, Metric]:
    return {name: Metric(name, higher, low, high, offline) for name, (low, high) in ranges.items()}


_UNIT_RANGE = [
    "clipiqa",
    "clipiqa+",
    "clipiqa+_rn50_512",
    "clipiqa+_vitL14_512",
    "maniqa",
    "maniqa-kadid",
    "maniqa-pipal",
    "dbcnn",
    "cnniqa",
    "hyperiqa",
    "metaiqa",
    "maclip",
    "fgresq",
    "nima-koniq",
    "nima-spaq",
    "topiq_nr",
    "topiq_nr-flive",
    "topiq_nr-spaq",
    "topiq_nr-face",
    "topiq_nr-face-v1",
    "topiq_nr_swin-face",
    "arniqa",
    "arniqa-clive",
    "arniqa-csiq",
    "arniqa-flive",
    "arniqa-kadid",
    "arniqa-live",
    "arniqa-spaq",
    "arniqa-tid",
    "qualiclip",
    "qualiclip+",
    "qualiclip+-clive",
    "qualiclip+-flive",
    "qualiclip+-spaq",
    "qrealign",
    "qrealign-lite",
    "qrealign-mini",
    "qrealign-pro",
]
_PERCENT_RANGE = ["musiq", "musiq-paq2piq", "musiq-spaq", "paq2piq", "tres", "tres-flive", "compare2score"]
_ONE_TO_FIVE = ["qalign", "qalign_4bit", "qalign_8bit", "liqe", "liqe_mix"]

# No-reference metrics of pyiqa 0.1.16 that judge one image alone (fid, clipscore need more).
NO_REFERENCE: dict[str, Metric] = {
    **_table(True, True, {"entropy": (0, 8)}),
    **_table(False, True, {"piqe": (0, 100)}),
    **_table(
        False,
        False,
        {
            "niqe": (0, 100), "niqe_matlab": (0, 100), "ilniqe": (0, 100), "brisque": (0, 150),
            "brisque_matlab": (0, 100), "pi": (0, 20), "afine_nr": (-2, 2),
        },
    ),
    **_table(True, False, dict.fromkeys(_UNIT_RANGE, (0, 1))),
    **_table(True, False, dict.fromkeys(_PERCENT_RANGE, (0, 100))),
    **_table(True, False, dict.fromkeys(_ONE_TO_FIVE, (1, 5))),
    **_table(
        True,
        False,
        {
            "musiq-ava": (1, 10), "nima": (0, 10), "nima-vgg16-ava": (0, 10), "topiq_iaa": (1, 10),
            "topiq_iaa_res50": (1, 10), "laion_aes": (1, 10), "nrqm": (0, 10), "unique": (-3, 3),
            "wadiqam_nr": (-1, 1), "uranker": (-1, 2),
        },
    ),
}  # fmt: skip

# Full-reference scores of the training loop and of `trainer eval`.
FULL_REFERENCE: dict[str, Metric] = {
    **_table(True, True, {"psnr": (0, 60), "psnry": (0, 60), "ssim": (0, 1)}),
    **_table(False, False, {"lpips": (0, 1), "dists": (0, 1)}),
}


def column(metric: str) -> str:
    """The manifest column of a metric: `iqa.` and the name, `+` as `_plus`, anything else foreign as `_`.

    >>> column("clipiqa+")
    'iqa.clipiqa_plus'
    """
    return "iqa." + re.sub(r"[^a-z0-9_.]", "_", metric.lower().replace("+", "_plus"))


def known(metric: str, signals: dict[str, Metric] | None = None) -> Metric:
    """The metric called `metric`, from the built-in `signals` or pyiqa's. Raises UserError with near names."""
    import difflib

    table = {**NO_REFERENCE, **(signals or {})}
    if metric in table:
        return table[metric]
    near = difflib.get_close_matches(metric, table, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(sorted(table))}"
    raise UserError(f"unknown metric {metric!r}; {hint}", exit_code=2)


FITS = 0.5  # of a file's tensors must be found in a metric: pyiqa itself would go on with random ones
PATCHES = "pyiqa.archs.q_align"  # importing it replaces parts of transformers' Llama, and LLaVA is one
PATCHING = ("qalign", "qalign_4bit", "qalign_8bit", "compare2score")  # metrics that need it


def create(name: str, device: str = "cpu", weights: str | None = None) -> tuple[Any, str]:
    """A metric of pyiqa, and what made it: pyiqa's version and the hash of the weights that were read, if any.

    weights: its checkpoint, otherwise pyiqa's cache ($TORCH_HOME), otherwise its hub. No pickle is run: UserError for
    one that asks for it. pyiqa fails in many other ways when weights are absent or do not fit: any Exception.
    """
    import torch

    given = {} if weights is None else {"pretrained_model_path": weights}
    torchs = weights is not None and not weights.endswith(".mat")  # NIQE and its kin have MATLAB's, which run nothing
    if weights is not None and torchs:
        checkpoints.read(weights)
    with _apart(name), checkpoints.guarded() as read, contextlib.redirect_stdout(io.StringIO()):
        import pyiqa

        try:
            with checkpoints.offline():  # what is in the hub's cache needs no network, and says so at once
                net = pyiqa.create_metric(name, device=torch.device(device), **given)
        except (OSError, ValueError):
            if checkpoints.unreachable():
                raise
            net = pyiqa.create_metric(name, device=torch.device(device), **given)
    if weights is not None and torchs and (share := checkpoints.share_of(weights, net)) < FITS:
        raise UserError(
            f"{weights}: these are not the weights of {name}: only {share:.0%} of its tensors are found in the model"
        )
    return net, ":".join([f"pyiqa-{importlib.metadata.version('pyiqa')}", *checkpoints.joint(read)])


@contextlib.contextmanager
def _apart(name: str) -> Iterator[None]:
    """Keep pyiqa from changing transformers for a metric that does not need it, and the hub from telling every try.

    pyiqa imports all its metrics to find one, and goes on where an import fails.
    """
    hub = logging.getLogger("huggingface_hub")
    level, blocked = hub.level, name not in PATCHING and PATCHES not in sys.modules
    hub.setLevel(logging.ERROR)
    if blocked:
        sys.modules[PATCHES] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        hub.setLevel(level)
        if blocked:
            del sys.modules[PATCHES]
