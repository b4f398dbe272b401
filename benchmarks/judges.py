"""What judges that need no download make of real photographs: `python -m benchmarks.judges [FOLDER ...] --real DIR`.

AUROC of degraded against clean pictures, per judge and type, with 95 % intervals from a bootstrap over scenes. Judges:
every built-in signal, PIQE and entropy. Types: real camera noise (the noisy shots of DIR against the means of many),
and noise, blur, haze, JPEG, rain, low light and low resolution planted on photographs that scikit-image and
scikit-learn install, and on those of the folders. Not a single judge has been fitted on them.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks import identifier_samples, identifier_versions
from curate import identifier, scorers

METRICS = ("piqe", "entropy")
SIDE = 512  # pixels of a picture, at most
VERSIONS = 4  # of every photograph and type
REAL = "noise (real)"
Figures = list[dict[str, Any]]
Rows = list[tuple[str, str, bool, dict[str, float]]]  # type, scene, degraded, judge -> value


def main() -> None:
    """Measure, print the table, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", help="folders of clean photographs")
    parser.add_argument("--real", help="folder with pairs *_real.* and *_mean.*")
    parser.add_argument("--quick", action="store_true", help="four photographs and pairs, two versions of each")
    parser.add_argument("--versions", type=int, default=VERSIONS, help="of every photograph and type")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    versions = 2 if options.quick else options.versions
    rows = measured(options.folders, options.real, versions, options.quick, options.workers)
    figures = table(rows, 50 if options.quick else options.resamples)
    show(figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def measured(folders: list[str], real: str | None, versions: int, quick: bool, workers: int) -> Rows:
    """All judges' values of all pictures."""
    photos = identifier_samples.photographs(folders, real)
    shots = [photo for photo in photos if photo.source.startswith("polyu")]
    clean = [photo for photo in photos if photo.real is None]
    if quick:
        clean, scenes = clean[:4], sorted({shot.scene for shot in shots})[:4]
        shots = [shot for shot in shots if shot.scene in scenes]
    rows: Rows = []
    with ProcessPoolExecutor(workers) as pool:
        planted = pool.map(partial(_planted, versions=versions), range(len(clean)), clean)
        for found in (*planted, *pool.map(_shot, shots)):
            rows += found
    return rows


def _shot(photo: identifier_samples.Photograph) -> Rows:
    return [(REAL, photo.scene, bool(photo.real), judged(photo.load()))]


def _planted(number: int, photo: identifier_samples.Photograph, versions: int) -> Rows:
    rng, whole = np.random.default_rng(number), photo.load()
    whole = identifier_versions.resized(whole, min(1.0, 2 * SIDE / max(whole.shape)))
    rows = []
    for _ in range(versions):
        top, left = (int(rng.integers(0, max(1, n - SIDE + 1))) for n in whole.shape[:2])
        pixels = np.ascontiguousarray(whole[top : top + SIDE, left : left + SIDE])
        plain = judged(pixels)
        for name in identifier.TYPES:
            rows.append((name, photo.scene, False, plain))
            rows.append((name, photo.scene, True, judged(identifier_versions.degrade(pixels, name, rng))))
    return rows


def judged(pixels: identifier_versions.Pixels) -> dict[str, float]:
    """Judge -> value, of those that could judge the picture."""
    cv2.setNumThreads(1)
    request = scorers.Request((*scorers.signal_metrics(), *METRICS))
    values, _ = scorers.measure(pixels, request)
    return {column.removeprefix("iqa."): value for column, value in values.items() if value is not None}


def table(rows: Rows, resamples: int) -> Figures:
    """A row for each judge and type: AUROC as badness by its own direction, and the interval."""
    figures: Figures = []
    types = [name for name in (REAL, *identifier.TYPES) if any(row[0] == name for row in rows)]
    for judge in (*METRICS, *scorers.signal_metrics()):
        better = scorers.direction_of(judge)
        for kind in types:
            used = [row for row in rows if row[0] == kind and judge in row[3]]
            values = np.array([row[3][judge] for row in used]) * (-1 if better else 1)
            worse, scenes = np.array([row[2] for row in used]), np.array([row[1] for row in used])
            low, high = _interval(values, worse, scenes, resamples)
            figures.append({
                "judge": judge, "type": kind, "direction": {True: "higher", False: "lower", None: "none"}[better],
                "auroc": auroc(values, worse), "low": low, "high": high, "pictures": len(used),
                "scenes": len(set(scenes.tolist())),
            })  # fmt: skip
    return figures


def auroc(values: npt.NDArray[Any], worse: npt.NDArray[Any]) -> float:
    """Share of pairs of a degraded and a clean picture in which the degraded one has the larger value; ties half."""
    order = np.sort(values[~worse])
    below, upto = np.searchsorted(order, values[worse], "left"), np.searchsorted(order, values[worse], "right")
    return float((below + upto).mean() / 2 / max(1, order.size))


def _interval(
    values: npt.NDArray[Any], worse: npt.NDArray[Any], scenes: npt.NDArray[Any], resamples: int
) -> tuple[float, float]:
    rng, names = np.random.default_rng(0), np.unique(scenes)
    members = [np.flatnonzero(scenes == name) for name in names]
    found = []
    for _ in range(resamples):
        drawn = np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))])
        if worse[drawn].any() and not worse[drawn].all():
            found.append(auroc(values[drawn], worse[drawn]))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def show(figures: Figures) -> None:
    """The table of docs/judges.md."""
    types = list(dict.fromkeys(one["type"] for one in figures))
    print("| judge | better | " + " | ".join(types) + " |")
    print("|---|---|" + "---|" * len(types))
    for judge in dict.fromkeys(one["judge"] for one in figures):
        mine = [one for one in figures if one["judge"] == judge]
        cells = [f"{one['auroc']:.2f} ({one['low']:.2f}-{one['high']:.2f})" for one in mine]
        print(f"| {judge} | {mine[0]['direction']} | " + " | ".join(cells) + " |")
    counts = {one["type"]: f"{one['pictures']} pictures of {one['scenes']} scenes" for one in figures}
    print("\n" + "; ".join(f"{kind}: {count}" for kind, count in counts.items()))


if __name__ == "__main__":
    main()
