"""Fits the models of pair checks to `pair_faults.Seen` records; splits these by scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from benchmarks.pair_faults import CLEAR, Seen
from curate.pair_checks import direction, judge, model, tasks

FOLDS = 5
REAL = 4.0  # weight of a real pair, of which there are few
NEAR = 1.0  # pixels that a shift may be off to count as found
BLURRED = "deblur"  # its shifts cannot be told from the blur: only taught as what is none

Array = npt.NDArray[np.float64]


def fit(records: Sequence[Seen]) -> dict[str, Any]:
    """All models, as model.json holds them."""
    used = [record for record in records if not record.flat]
    one = np.array([record.fault in (CLEAR, "shifted") for record in used])
    weight = np.array([REAL if record.real else 1.0 for record in used])
    quick = np.array([model.scene_features(r.ncc, r.distance, r.quick) for r in used])
    thorough = np.array([model.scene_features(r.ncc, r.distance, r.thorough) for r in used])
    return {
        "scene_quick": _logistic(quick, one, weight),
        "scene_thorough": _logistic(thorough, one, weight),
        "shift": _shift_model(used),
        "direction": _directions(used),
    }


def _logistic(x: Array, y: npt.NDArray[np.bool_], weight: Array) -> dict[str, Any]:
    """A logistic model in which both classes count equally in all."""
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    scaled = np.clip((x - mean) / scale, -model.LIMIT, model.LIMIT)
    fitted = LogisticRegression(C=10, max_iter=5000, class_weight="balanced").fit(scaled, y, sample_weight=weight)
    values = {"mean": mean, "scale": scale, "weights": fitted.coef_[0]}
    return {"bias": round(float(fitted.intercept_[0]), 5), **{name: _rounded(value) for name, value in values.items()}}


def _shift_model(used: Sequence[Seen]) -> dict[str, Any]:
    """Right or not, of thorough looks that find a shift: planted ones, against what degradations alone give."""
    moved = [r for r in used if r.fault in (CLEAR, "shifted") and _size(r) >= judge.SHIFTED]
    moved = [r for r in moved if r.fault == CLEAR or tasks.known(r.task) != BLURRED]
    x = np.array([model.shift_features(r.thorough) for r in moved])
    y = np.array([r.fault == "shifted" and _error(r) <= NEAR * r.scale for r in moved])
    return _logistic(x, y, np.ones(len(moved)))


def _size(record: Seen) -> float:
    found = record.thorough
    return max(abs(found.y), abs(found.x)) * record.scale


def _error(record: Seen) -> float:
    found = record.thorough
    return max(abs(found.y * record.scale - record.moved[0]), abs(found.x * record.scale - record.moved[1]))


def _directions(used: Sequence[Seen]) -> dict[str, Any]:
    """A model per known task: the features of a pair are on one side, those of its exchange on the other."""
    pairs = [r for r in used if r.fault in (CLEAR, "shifted") and r.turned is not None]
    features, names = np.array([r.turned for r in pairs]), np.array([tasks.known(r.task) for r in pairs])
    weight = np.array([REAL if r.real else 1.0 for r in pairs])
    out = {}
    for name in sorted(set(names) - {tasks.GENERIC}):
        x, w = features[names == name], weight[names == name]
        scale = x.std(axis=0) + 1e-6
        scaled = np.clip(x / scale, -model.LIMIT, model.LIMIT)
        both, truth = np.vstack([scaled, -scaled]), np.r_[np.ones(len(x)), np.zeros(len(x))]
        fitted = LogisticRegression(C=3, fit_intercept=False, max_iter=5000).fit(both, truth, np.r_[w, w])
        out[name] = {"scale": _rounded(scale), "weights": _rounded(fitted.coef_[0])}
    return {"features": list(direction.NAMES), "tasks": out}


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def folds(records: Sequence[Seen]) -> Iterator[tuple[list[Seen], list[Seen]]]:
    """(to fit, held out) by scenes."""
    scenes = [record.scene for record in records]
    for train, test in GroupKFold(min(FOLDS, len(set(scenes)))).split(scenes, groups=scenes):
        yield [records[i] for i in train], [records[i] for i in test]
