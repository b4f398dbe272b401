"""The fitted part of pair checks: logistic models over measurements. `benchmarks/pairs.py --fit` writes model.json."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from curate.pair_checks.direction import Features
from curate.pair_checks.shift import Shift
from curate.pair_checks.tasks import GENERIC, NOUNS

VERSION = 1
FILE = Path(__file__).parent / "model.json"
SURE = 0.99  # probability of one scene above which a quick look is enough
STILL = 0.35  # LQ pixels: a quick look that finds less
CLEAR = 0.8  # with no other peak higher than this share of the highest is enough
AGREED, AGREED_UNKNOWN = 0.5, 0.8  # probability from which a shift counts; where the task may be a blur
BLURRED = "deblur"  # the path of a camera in motion looks like a shift: none is told
LIMIT = 4.0  # deviations at which a feature is cut

Fitted = Mapping[str, Any]  # model.json


@cache
def load() -> Fitted:
    """The content of model.json."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


@cache
def digest() -> str:
    """Eight hex digits of model.json."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()[:8]


def scene_features(ncc: float, distance: int | None, found: Shift) -> list[float]:
    """What tells one scene from two: correlation, hashes, and the best match of the tiles."""
    near = max(abs(found.y), abs(found.x)) < 1
    bits = 0.5 if distance is None else distance / 64
    correlation, mass = math.atanh(max(-0.9, min(0.9, ncc))), math.log(found.mass + 1e-3)
    return [correlation, bits, found.peak, mass, found.second, float(near)]


def shift_features(found: Shift) -> list[float]:
    """What tells a shift from a degradation that only looks like one (motion blur, blocks, little structure)."""
    mass = math.log(found.mass + 1e-3)
    size = math.log(1 + math.hypot(found.y, found.x))
    return [found.peak, found.gain, found.second, mass, found.peak * mass, found.peak * found.second, size]


def same_scene(fitted: Fitted, ncc: float, distance: int | None, found: Shift, thorough: bool) -> float:
    """Probability that both images show one scene."""
    name = "scene_thorough" if thorough else "scene_quick"
    return _probability(fitted[name], scene_features(ncc, distance, found))


def shifted(fitted: Fitted, found: Shift) -> float:
    """Probability that the shift that a thorough look found is one."""
    return _probability(fitted["shift"], shift_features(found))


def agreed(known: str) -> float:
    """The probability from which a shift counts, for a known task; above 1 where none does."""
    return 2.0 if known == BLURRED else AGREED if known in NOUNS and known != GENERIC else AGREED_UNKNOWN


def is_doubtful(same: float, found: Shift) -> bool:
    """Whether a quick look leaves a doubt about scene or shift."""
    return same < SURE or max(abs(found.y), abs(found.x)) >= STILL or found.second > CLEAR


def swapped(fitted: Fitted, features: Features, known: str) -> float | None:
    """Probability that the GT is the degraded side of a pair whose task is `known`; None for a task that is not."""
    used = fitted["direction"]["tasks"].get(known)
    if used is None:
        return None
    scaled = np.clip(features / np.array(used["scale"]), -LIMIT, LIMIT)
    return 1 / (1 + math.exp(max(-50.0, min(50.0, float(scaled @ np.array(used["weights"]))))))


def _probability(used: Mapping[str, Any], features: Sequence[float]) -> float:
    scaled = (np.array(features) - used["mean"]) / used["scale"]
    score = float(np.clip(scaled, -LIMIT, LIMIT) @ np.array(used["weights"])) + float(used["bias"])
    return 1 / (1 + math.exp(max(-50.0, min(50.0, -score))))
