"""What a score's name means: its column, direction and range. Knows pyiqa's names without importing pyiqa."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


# No-reference metrics of pyiqa 0.1.16 (ranges as its documentation and papers give them).
NO_REFERENCE: dict[str, Metric] = {
    **_table(True, True, {"entropy": (0, 8)}),
    **_table(False, True, {"piqe": (0, 100)}),
    **_table(False, False, {"niqe": (0, 100), "ilniqe": (0, 100), "brisque": (0, 150), "pi": (0, 20)}),
    **_table(
        True,
        False,
        {
            "musiq": (0, 100), "musiq-ava": (1, 10), "musiq-paq2piq": (0, 100), "musiq-spaq": (0, 100),
            "paq2piq": (0, 100), "clipiqa": (0, 1), "clipiqa+": (0, 1), "clipiqa+_rn50_512": (0, 1),
            "clipiqa+_vitL14_512": (0, 1), "maniqa": (0, 1), "maniqa-kadid": (0, 1), "maniqa-pipal": (0, 1),
            "nima": (1, 10), "nima-vgg16-ava": (1, 10), "dbcnn": (0, 1), "cnniqa": (0, 1), "hyperiqa": (0, 1),
            "topiq_nr": (0, 1), "topiq_nr-flive": (0, 1), "topiq_nr-spaq": (0, 1), "topiq_iaa": (1, 10),
            "tres": (0, 100), "tres-flive": (0, 100), "arniqa": (0, 1), "qalign": (1, 5), "liqe": (1, 5),
            "liqe_mix": (1, 5), "qualiclip": (0, 1), "qualiclip+": (0, 1), "nrqm": (0, 10), "unique": (-3, 3),
            "wadiqam_nr": (-1, 1), "laion_aes": (1, 10), "deqa": (1, 5), "afine_nr": (0, 100),
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
