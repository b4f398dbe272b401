"""P(degradation | GT) from the built-in signals: boosted trees per type, fitted by benchmarks/fit_identifier.py."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from manifests.files import digest

TYPES = ("noise", "blur", "jpeg", "haze", "low_light", "low_resolution", "rain")
Tree = Any  # a leaf's number, or [place of the signal, threshold, tree for values up to it, tree for larger ones]


def identify(signals: Mapping[str, float]) -> dict[str, float]:
    """P(type | GT) in [0, 1] for every type, from all signals of one GT; 0.5 is the calibrated threshold."""
    model = _model()
    x = [signals[name] for name in model["signals"]]
    out = {}
    for name in TYPES:
        fitted = model["types"][name]
        z = math.fsum((fitted["start"], *(_leaf(tree, x) for tree in fitted["trees"])))
        out[name] = 1 / (1 + math.exp(-max(-60.0, min(60.0, z))))
    return out


def _leaf(tree: Tree, x: Sequence[float]) -> float:
    while isinstance(tree, list):
        tree = tree[2] if x[tree[0]] <= tree[1] else tree[3]
    return float(tree)


def fingerprint() -> str:
    """16 hex digits that name the fitted trees."""
    return digest(_model())[:16]


@cache
def _model() -> dict[str, Any]:
    text = resources.files("curate").joinpath("identifier.json").read_text("utf-8")
    model: dict[str, Any] = json.loads(text)
    return model
