"""Fit the built-in identifier: `python -m benchmarks.fit_identifier [FOLDER ...]` writes curate/identifier.json.

Clean photographs (those that scikit-image and scikit-learn install, and any in FOLDER) are resized, cropped and
degraded at random, none, one or two types at a time; a logistic model per type learns from the signals. Figures come
from folds that keep all versions of a photograph together.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
import sklearn.datasets
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from curate import degradations, identifier
from curate.signals.measure import measure
from curate.signals.table import SIGNALS
from manifests import images

Pixels = npt.NDArray[np.uint8]
VERSIONS = 64  # of every photograph
LARGEST = 2048  # pixels of the longer side: what a camera oversampled is no fine detail
CLEAN_SHARE = 0.3
PRIOR = 0.03  # share of ground truths that have a type, for which the probabilities are calibrated
ALIKE = {"blur": "low_resolution", "low_resolution": "blur"}  # neither teaches against the other


def main() -> None:
    """Fit, print the figures, write the coefficients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", help="folders of clean photographs")
    parser.add_argument("--samples", help="keep the measured signals in this .npz, or take them from it")
    parser.add_argument("-o", "--output", default="curate/identifier.json")
    options = parser.parse_args()
    if options.samples and os.path.exists(options.samples):
        kept = np.load(options.samples)
        x, y, groups = kept["x"], kept["y"], kept["groups"]
    else:
        photos = [*_installed(), *(p for folder in options.folders for p in _folder(folder))]
        x, y, groups = _samples(photos)
        if options.samples:
            np.savez(options.samples, x=x, y=y, groups=groups)
    model = _fit(x, y, groups)
    with open(options.output, "w", encoding="utf-8") as file:
        json.dump(model, file)
        file.write("\n")


def _fit(x: Any, y: Any, groups: Any) -> dict[str, Any]:
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    scaled = np.clip((x - mean) / scale, -4, 4)
    count = x.shape[1]
    terms = np.hstack([scaled, *(scaled[:, i : i + 1] * scaled[:, i:] for i in range(count))])
    model: dict[str, Any] = {
        "signals": list(SIGNALS),
        "mean": [round(float(v), 6) for v in mean],
        "scale": [round(float(v), 6) for v in scale],
        "types": {},
    }
    clean, alone = ~y.any(axis=1), y.sum(axis=1) == 1
    print(f"{len(set(groups))} photographs, {len(x)} versions, {clean.sum()} of them clean")
    areas, flagged = [], np.zeros(len(x), bool)
    for index, name in enumerate(identifier.TYPES):
        truth = y[:, index]
        alike = y[:, identifier.TYPES.index(ALIKE[name])] if name in ALIKE else np.zeros(len(x), bool)
        used = truth | ~alike
        logistic = LogisticRegression(C=0.1, max_iter=5000)
        p = np.zeros(len(x))
        for train, test in GroupKFold(5).split(terms, truth, groups):
            rows = train[used[train]]
            p[test] = logistic.fit(terms[rows], truth[rows]).predict_proba(terms[test])[:, 1]
        shift = np.log(PRIOR / (1 - PRIOR)) - np.log(truth[used].mean() / (1 - truth[used].mean()))
        p = 1 / (1 + (1 - p) / np.maximum(p, 1e-12) / np.exp(shift))
        hit, one = p > 0.5, truth & alone
        area = roc_auc_score(truth[one | clean], p[one | clean])
        areas.append(area)
        flagged |= hit
        print(
            f"{name:15} AUROC against clean {area:.3f}  precision {truth[hit & ~alike].mean():.3f}"
            f"  recall {hit[truth].mean():.3f}  clean flagged {hit[clean].mean():.3f}"
        )
        logistic.fit(terms[used], truth[used])
        model["types"][name] = {
            "intercept": round(float(logistic.intercept_[0] + shift), 6),
            "weights": [round(float(w), 6) for w in logistic.coef_[0]],
        }
    print(f"macro AUROC {np.mean(areas):.3f}; clean flagged by any type {flagged[clean].mean():.3f}")
    return model


def _installed() -> list[Pixels]:
    names = ("astronaut", "chelsea", "coffee", "rocket", "camera", "brick", "grass", "gravel", "coins")
    found = [getattr(skimage.data, name)() for name in names] + [skimage.data.stereo_motorcycle()[0]]
    found += [sklearn.datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    return [np.repeat(p[:, :, None], 3, axis=2) if p.ndim == 2 else p for p in found]


def _folder(folder: str) -> list[Pixels]:
    paths = sorted(os.path.join(b, n) for b, _, names in os.walk(folder) for n in names)
    out = []
    for path in paths:
        if path.lower().endswith(images.SUFFIXES):
            with open(path, "rb") as file:
                pixels = images.to_8_bit(images.decode(file.read()).pixels)
            factor = min(1.0, LARGEST / max(pixels.shape))
            out.append(_resized(pixels, factor))
    return out


def _samples(photos: list[Pixels]) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    x, y, groups = [], [], []
    for group, photo in enumerate(photos):
        for _ in range(VERSIONS):
            count = rng.choice([0, 1, 2], p=[CLEAN_SHARE, 0.9 - CLEAN_SHARE, 0.1])
            chosen = [identifier.TYPES[i] for i in sorted(rng.choice(6, count, replace=False))]
            if "blur" in chosen and "low_resolution" in chosen:
                chosen.remove("blur")  # the one hides the other
            pixels = _version(photo, rng)
            for name in ("haze", "low_light", "blur", "low_resolution", "noise", "jpeg"):  # from scene to file
                if name in chosen:
                    pixels = _degrade(pixels, name, rng)
            x.append(identifier.features(measure(pixels), list(SIGNALS)))
            y.append([name in chosen for name in identifier.TYPES])
            groups.append(group)
        print(f"\r{group + 1}/{len(photos)} photographs measured", end="", flush=True)
    print()
    return np.array(x), np.array(y), np.array(groups)


def _resized(pixels: Pixels, factor: float) -> Pixels:
    if factor >= 1:
        return pixels
    size = (max(32, round(pixels.shape[1] * factor)), max(32, round(pixels.shape[0] * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _version(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """The photograph or a crop, often shrunk (which keeps it clean), at times a little brighter, darker, or as JPEG."""
    side = min(photo.shape[:2])
    smallest = min(1.0, 192 / side)
    small = _resized(photo, float(np.exp(rng.uniform(np.log(smallest), 0)))) if rng.random() < 0.7 else photo
    if rng.random() < 0.5:
        h, w = (int(rng.integers(min(160, n), n + 1)) for n in small.shape[:2])
        top, left = int(rng.integers(0, small.shape[0] - h + 1)), int(rng.integers(0, small.shape[1] - w + 1))
        small = small[top : top + h, left : left + w]
    out = np.clip(small * rng.uniform(0.8, 1.1), 0, 255).astype(np.uint8) if rng.random() < 0.3 else small
    if rng.random() < 0.3:
        out = images.decode(images.encode_jpeg(np.ascontiguousarray(out), int(rng.integers(85, 98)))).pixels
    return np.ascontiguousarray(out)


def _degrade(pixels: Pixels, name: str, rng: np.random.Generator) -> Pixels:
    """One degradation at a strength from just visible to strong."""
    floats = pixels.astype(np.float32)
    if name == "blur":
        kind = rng.choice(["gaussian", "motion", "defocus"])
        if kind == "gaussian":
            sigma = float(np.exp(rng.uniform(np.log(1.2), np.log(4))))
            return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)
        return degradations.degrade(pixels, "deblur", str(kind), int(rng.integers(1 << 30)))
    if name == "low_resolution":
        s = float(rng.choice([2, 3, 4])) if rng.random() < 0.7 else rng.uniform(1.8, 4.2)
        size = tuple(max(1, round(n / s)) for n in pixels.shape[1::-1])
        small = cv2.resize(pixels, size, interpolation=[cv2.INTER_AREA, cv2.INTER_LINEAR][int(rng.integers(2))])
        how = [cv2.INTER_CUBIC, cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4][int(rng.integers(4))]
        return np.asarray(cv2.resize(small, pixels.shape[1::-1], interpolation=how), np.uint8)
    if name == "haze":
        if rng.random() < 0.5:
            return degradations.degrade(pixels, "dehaze", "uniform", int(rng.integers(1 << 30)), rng.uniform(0.2, 1))
        t, light = rng.uniform(0.25, 0.7), rng.uniform(180, 250)
        floats = floats * t + light * (1 - t)
    elif name == "low_light":
        if rng.random() < 0.5:
            how = str(rng.choice(["dim", "noisy"]))
            return degradations.degrade(pixels, "low_light", how, int(rng.integers(1 << 30)), rng.uniform(0.35, 1))
        floats = 255 * (floats / 255 * rng.uniform(0.08, 0.4)) ** rng.uniform(1.0, 1.3)
    elif name == "noise":
        sigma = float(np.exp(rng.uniform(np.log(7), np.log(50))))
        noise = rng.normal(0, sigma, floats.shape)
        if rng.random() < 0.3:  # a camera's pipeline smooths noise
            noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 0.9)) * 1.6
        floats = floats + noise
    else:
        return images.decode(images.encode_jpeg(pixels, int(rng.integers(8, 45)))).pixels
    return np.clip(floats, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
