"""Fit the built-in identifier: `python -m benchmarks.fit_identifier [FOLDER ...] --real DIR` writes its trees.

Versions of clean photographs and of real shots (see `identifier_samples`), none, one or two degradations at a time; a
gradient-boosted model per type learns from the signals, never falling where a signal of its type gets worse. Figures
come from folds that keep all versions and shots of a scene together, and from leaving whole sources out. The tables
are those of docs/identifier.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from benchmarks import identifier_samples
from benchmarks.identifier_samples import Samples
from curate import identifier
from curate.signals.table import SIGNALS

Array = npt.NDArray[Any]
# Share of the clean held-out versions whose probability may be above 0.5: it sets where 0.5 lies.
FALSE_ALARMS = {
    "noise": 0.009, "blur": 0.006, "jpeg": 0.004, "haze": 0.007, "low_light": 0.006, "low_resolution": 0.004,
    "rain": 0.009,
}  # fmt: skip
ALIKE = {"blur": "low_resolution", "low_resolution": "blur"}  # neither teaches against the other
NOISE = (
    "noise_sigma", "noise_coarse", "noise_quarter", "noise_dark", "noise_bright", "noise_color", "noise_color_coarse",
)  # fmt: skip
# Signals along which a probability never falls (1) or never rises (-1).
MONOTONE: dict[str, dict[str, int]] = {
    "noise": dict.fromkeys(NOISE, 1),
    "blur": dict.fromkeys(("sharpness", "sharpness_peak", "sharpness_half"), -1),
    "jpeg": {"blockiness": 1},
    "haze": {"haze": 1, "haze_floor": 1, "saturation": -1},
    "low_light": {"exposure": -1, "highlight": -1},
    "low_resolution": {"effective_resolution": -1, "periodicity": 1},
    "rain": {"streaks": 1, "streak_direction": 1},
}
FOLDS = 3
SHOT_WEIGHT = 3.0  # of a real shot: there are fewer of them than of planted versions
SETTINGS = {
    "max_depth": 4,
    "max_leaf_nodes": 12,
    "max_iter": 70,
    "learning_rate": 0.13,
    "min_samples_leaf": 25,
    "max_bins": 80,
}


def main() -> None:
    """Fit, print the figures, write the trees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", help="folders of clean photographs, each a source of its own")
    parser.add_argument("--real", help="folder with pairs *_real.* and *_mean.*, and foundir/")
    parser.add_argument("--samples", help="keep the measured signals in this .npz, or take them from it")
    parser.add_argument("--no-sources", action="store_true", help="leave out the figures of left-out sources")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--output", default="curate/identifier.json")
    options = parser.parse_args()
    if options.samples and os.path.exists(options.samples):
        samples = Samples.load(options.samples)
    else:
        photos = identifier_samples.photographs(options.folders, options.real)
        samples = identifier_samples.samples(photos, options.workers)
        if options.samples:
            samples.save(options.samples)
    by_scene = held_out(samples, list(GroupKFold(FOLDS).split(samples.x, groups=samples.scenes)))
    thresholds = limits(samples, by_scene)
    show(f"scenes left out, in {FOLDS} folds", samples, by_scene, thresholds)
    if not options.no_sources:
        names = np.unique(samples.sources)
        folds = [(np.flatnonzero(samples.sources != n), np.flatnonzero(samples.sources == n)) for n in names]
        show("sources left out", samples, held_out(samples, folds), thresholds)
    everything = np.arange(len(samples.x))
    model = {
        "signals": list(SIGNALS),
        "types": {
            name: written(fitted(samples, place, everything), thresholds[place])
            for place, name in enumerate(identifier.TYPES)
        },
    }
    with open(options.output, "w", encoding="utf-8") as file:
        json.dump(model, file, separators=(",", ":"))
        file.write("\n")


def fitted(samples: Samples, place: int, rows: Array) -> HistGradientBoostingClassifier:
    """The model of one type, from the versions `rows`."""
    name = identifier.TYPES[place]
    truth = samples.y[:, place]
    alike = samples.y[:, identifier.TYPES.index(ALIKE[name])] if name in ALIKE else np.zeros(len(truth), bool)
    used = rows[(truth | ~alike)[rows]]
    rising = [MONOTONE[name].get(signal, 0) for signal in SIGNALS]
    model = HistGradientBoostingClassifier(l2_regularization=5.0, monotonic_cst=rising, random_state=0, **SETTINGS)
    weights = np.where(samples.real & samples.y.any(axis=1), SHOT_WEIGHT, 1.0)
    return model.fit(samples.x[used], truth[used], sample_weight=weights[used])


def held_out(samples: Samples, folds: list[tuple[Array, Array]]) -> Array:
    """(N, T) log odds of every version, by models that did not see its fold."""
    odds = np.zeros(samples.y.shape)
    for train, test in folds:
        for place in range(len(identifier.TYPES)):
            odds[test, place] = fitted(samples, place, train).decision_function(samples.x[test])
    return odds


def limits(samples: Samples, odds: Array) -> Array:
    """(T,) log odds that stand for P = 0.5: FALSE_ALARMS of the clean versions lie above."""
    clean = odds[~samples.y.any(axis=1)]
    return np.array([np.quantile(clean[:, i], 1 - FALSE_ALARMS[n]) for i, n in enumerate(identifier.TYPES)])


def written(model: HistGradientBoostingClassifier, threshold: float) -> dict[str, Any]:
    """Start and trees as `curate.identifier` reads them, so that the log odds `threshold` become 0."""
    start = float(np.ravel(model._baseline_prediction)[0]) - threshold
    trees = [_tree(step[0].nodes, 0) for step in model._predictors]
    return {"start": round(start, 5), "trees": trees}


def _tree(nodes: Array, number: int) -> Any:
    node = nodes[number]
    if node["is_leaf"]:
        return round(float(node["value"]), 4)
    below, above = (_tree(nodes, int(node[side])) for side in ("left", "right"))
    return [int(node["feature_idx"]), float(f"{node['num_threshold']:.6g}"), below, above]


def show(title: str, samples: Samples, odds: Array, thresholds: Array) -> None:
    """The tables of docs/identifier.md, in Markdown."""
    y, clean, alone = samples.y, ~samples.y.any(axis=1), samples.y.sum(axis=1) == 1
    flags = odds > thresholds
    print(f"\n## {title}\n\n{len(set(samples.scenes))} scenes, {len(y)} versions, {clean.sum()} of them clean\n")
    print("| type | AUROC against clean | precision | recall | clean flagged |\n|---|---|---|---|---|")
    areas = []
    for i, name in enumerate(identifier.TYPES):
        alike = y[:, identifier.TYPES.index(ALIKE[name])] if name in ALIKE else np.zeros(len(y), bool)
        used = (y[:, i] & alone) | clean
        areas.append(roc_auc_score(y[used, i], odds[used, i]))
        precision = y[flags[:, i] & ~alike, i].mean()
        recall, wrong = flags[y[:, i], i].mean(), flags[clean, i].mean()
        print(f"| {name} | {areas[-1]:.3f} | {precision:.3f} | {recall:.3f} | {wrong:.3f} |")
    print(f"\nmacro AUROC {np.mean(areas):.3f}; clean flagged by any type {flags[clean].any(axis=1).mean():.3f}")
    for line in (*_by_source(samples, flags, clean), *_shots(samples, odds, flags)):
        print(line)


def _by_source(samples: Samples, flags: Array, clean: Array) -> Iterator[str]:
    for source in np.unique(samples.sources):
        rows = clean & (samples.sources == source)
        if rows.any():
            yield f"{source}: {rows.sum()} clean versions, flagged {flags[rows].any(axis=1).mean():.3f}"


def _shots(samples: Samples, odds: Array, flags: Array) -> Iterator[str]:
    """Real shots: the noisy ones against the means of many, and recall of the other types."""
    noise = identifier.TYPES.index("noise")
    cameras = samples.real & np.char.startswith(samples.sources.astype(str), "polyu")
    for name, rows in (("whole", cameras & samples.whole), ("crops", cameras & ~samples.whole)):
        shots, means = rows & samples.y[:, noise], rows & ~samples.y[:, noise]
        if shots.any() and means.any():
            fast = shots & (samples.iso >= 3200)
            area = roc_auc_score(samples.y[rows, noise], odds[rows, noise])
            per_type = ", ".join(f"{n} {flags[means, i].mean():.3f}" for i, n in enumerate(identifier.TYPES))
            yield (
                f"real noise, {name}: AUROC {area:.3f}; {shots.sum()} shots, found {flags[shots, noise].mean():.3f}, "
                f"of ISO 3200 and more {flags[fast, noise].mean():.3f}; {means.sum()} means flagged by any type "
                f"{flags[means].any(axis=1).mean():.3f} ({per_type})"
            )
    for i, name in enumerate(identifier.TYPES):
        rows = samples.real & ~cameras & samples.y[:, i]
        if rows.any():
            count = len(set(samples.scenes[rows]))
            yield f"real {name}: {flags[rows, i].mean():.3f} of {rows.sum()} crops of {count} shots found"


if __name__ == "__main__":
    main()
