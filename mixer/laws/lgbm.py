"""Boosted trees by LightGBM, as RegMix regresses scores on mixtures (Liu et al. 2024, arXiv 2407.01492)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixer.errors import MixerError
from mixer.tables import Array, Integers

SOURCE = "RegMix, Liu et al. 2024, arXiv 2407.01492"
ROUNDS = 1000
SETTINGS = {
    "objective": "regression", "learning_rate": 0.02, "num_leaves": 8, "min_data_in_leaf": 5, "seed": 42,
    "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbose": -1,
}  # fmt: skip


def fit(inputs_NxD: Array, values_N: Array, tasks: int) -> dict[str, Any]:
    """The trees as text, as LightGBM writes them."""
    return {"model": _trained(inputs_NxD, values_N).model_to_string(), "noise": 1.0}


def predict(memory: Mapping[str, Any], inputs_MxD: Array) -> tuple[Array, Array]:
    """The trees' answer. Its spread is the same everywhere: trees know no better."""
    mean = np.asarray(_lightgbm().Booster(model_str=memory["model"]).predict(inputs_MxD, num_threads=1), float)
    return mean, np.full(len(inputs_MxD), memory["noise"])


def held_out(
    memory: Mapping[str, Any], inputs_NxD: Array, values_N: Array, tasks: int, folds_N: Integers
) -> tuple[Array, Array]:
    """Every run predicted by trees that were grown on the other folds."""
    mean = np.empty(len(values_N))
    for fold in np.unique(folds_N):
        out = folds_N == fold
        mean[out] = _trained(inputs_NxD[~out], values_N[~out]).predict(inputs_NxD[out], num_threads=1)
    return mean, np.full(len(values_N), memory["noise"])


def _trained(inputs: Array, values: Array) -> Any:
    lightgbm = _lightgbm()
    return lightgbm.train(SETTINGS, lightgbm.Dataset(inputs, values, params={"verbose": -1}), ROUNDS)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise MixerError("--law lgbm needs LightGBM: pip install lightgbm; --law gp needs nothing more") from None
    return lightgbm
