"""P(degradation | GT) from the built-in signals: a logistic model per type, fitted by benchmarks/fit_identifier.py."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from manifests.files import digest

TYPES = ("noise", "blur", "jpeg", "haze", "low_light", "low_resolution")
LOGARITHMIC = (
    "noise_sigma",
    "noise_coarse",
    "colorfulness",
    "blockiness",
    "exposure",
    "highlight",
    "haze",
    "contrast",
    "black_level",
)


def identify(signals: Mapping[str, float]) -> dict[str, float]:
    """P(type | GT) in [0, 1] for the six types, from all signals of one GT; 0.5 is the calibrated threshold."""
    model = _model()
    x = features(signals, model["signals"])
    scaled = [(v - m) / s for v, m, s in zip(x, model["mean"], model["scale"], strict=True)]
    scaled = [max(-4.0, min(4.0, v)) for v in scaled]
    terms = scaled + [a * b for i, a in enumerate(scaled) for b in scaled[i:]]
    out = {}
    for name in TYPES:
        one = model["types"][name]
        z = one["intercept"] + math.fsum(w * t for w, t in zip(one["weights"], terms, strict=True))
        out[name] = 1 / (1 + math.exp(-max(-60.0, min(60.0, z))))
    return out


def features(signals: Mapping[str, float], names: list[str]) -> list[float]:
    """The signals in the order of `names`, those with a long tail as logarithms."""
    return [math.log(max(signals[n], 0.0) + 0.02) if n in LOGARITHMIC else signals[n] for n in names]


def fingerprint() -> str:
    """16 hex digits that name the fitted coefficients."""
    return digest(_model())[:16]


@cache
def _model() -> dict[str, Any]:
    text = resources.files("curate").joinpath("identifier.json").read_text("utf-8")
    model: dict[str, Any] = json.loads(text)
    return model
