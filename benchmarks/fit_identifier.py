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
from sklearn.model_selection import GroupKFold, cross_val_predict

from curate import identifier
from curate.signals import measure
from curate.signals.table import SIGNALS
from manifests import images

Pixels = npt.NDArray[np.uint8]
VERSIONS = 80


def main() -> None:
    """Fit, print the figures, write the coefficients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", help="folders of clean photographs")
    parser.add_argument("-o", "--output", default="curate/identifier.json")
    options = parser.parse_args()
    photos = [*_installed(), *(p for folder in options.folders for p in _folder(folder))]
    x, y, groups = _samples(photos)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    scaled = np.clip((x - mean) / scale, -4, 4)
    count = x.shape[1]
    terms = np.hstack([scaled, *(scaled[:, i : i + 1] * scaled[:, i:] for i in range(count))])
    model: dict[str, Any] = {"signals": list(SIGNALS), "mean": mean.tolist(), "scale": scale.tolist(), "types": {}}
    print(f"{len(photos)} photographs, {len(x)} versions")
    clean = ~y.any(axis=1)
    for index, name in enumerate(identifier.TYPES):
        logistic = LogisticRegression(C=0.3, max_iter=3000)
        folds = GroupKFold(5)
        p = cross_val_predict(logistic, terms, y[:, index], groups=groups, cv=folds, method="predict_proba")[:, 1]
        hit, truth = p > 0.5, y[:, index]
        print(
            f"{name:15} AUC {roc_auc_score(truth, p):.3f}  precision {truth[hit].mean():.3f}"
            f"  recall {hit[truth].mean():.3f}  clean flagged {hit[clean].mean():.3f}"
        )
        logistic.fit(terms, truth)
        model["types"][name] = {
            "intercept": round(float(logistic.intercept_[0]), 6),
            "weights": [round(float(w), 6) for w in logistic.coef_[0]],
        }
    with open(options.output, "w", encoding="utf-8") as file:
        json.dump(model, file)
        file.write("\n")


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
            factor = min(1.0, 2000 / max(pixels.shape))
            size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
            out.append(np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8))
    return out


def _samples(photos: list[Pixels]) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    x, y, groups = [], [], []
    for group, photo in enumerate(photos):
        for _ in range(VERSIONS):
            count = rng.choice([0, 1, 2], p=[0.4, 0.45, 0.15])
            chosen = [identifier.TYPES[i] for i in sorted(rng.choice(6, count, replace=False))]
            if "blur" in chosen and "low_resolution" in chosen:
                chosen.remove("blur")  # the one hides the other
            pixels = _version(photo, rng)
            for name in ("blur", "low_resolution", "haze", "low_light", "noise", "jpeg"):  # the order of a camera
                if name in chosen:
                    pixels = _degrade(pixels, name, rng)
            signals = measure(pixels)
            x.append(identifier.features(signals, list(SIGNALS)))
            y.append([name in chosen for name in identifier.TYPES])
            groups.append(group)
    return np.array(x), np.array(y), np.array(groups)


def _version(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """A crop of the photograph, often shrunk (which keeps it clean), sometimes brightened or darkened a little."""
    side = min(photo.shape[:2])
    factor = float(rng.uniform(min(1.0, 160 / side), 1.0)) if rng.random() < 0.6 else 1.0
    size = (max(32, round(photo.shape[1] * factor)), max(32, round(photo.shape[0] * factor)))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA) if factor < 1 else photo
    h, w = (int(rng.integers(min(128, n), n + 1)) for n in small.shape[:2])
    top, left = int(rng.integers(0, small.shape[0] - h + 1)), int(rng.integers(0, small.shape[1] - w + 1))
    gain = rng.uniform(0.75, 1.15)
    return np.clip(small[top : top + h, left : left + w] * gain, 0, 255).astype(np.uint8)


def _degrade(pixels: Pixels, name: str, rng: np.random.Generator) -> Pixels:
    """One degradation at a strength from just visible to strong."""
    floats = pixels.astype(np.float32)
    if name == "blur":
        sigma = float(np.exp(rng.uniform(np.log(1.2), np.log(5))))
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)
    if name == "low_resolution":
        s = rng.uniform(1.8, 4.5)
        small = cv2.resize(pixels, None, fx=1 / s, fy=1 / s, interpolation=cv2.INTER_AREA)
        how = [cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4][int(rng.integers(3))]
        return np.asarray(cv2.resize(small, pixels.shape[1::-1], interpolation=how), np.uint8)
    if name == "haze":
        t, light = rng.uniform(0.25, 0.7), rng.uniform(190, 250)
        floats = floats * t + light * (1 - t)
    elif name == "low_light":
        floats = 255 * (floats / 255 * rng.uniform(0.08, 0.35)) ** rng.uniform(1.0, 1.3)
    elif name == "noise":
        sigma = float(np.exp(rng.uniform(np.log(5), np.log(45))))
        noise = rng.normal(0, sigma, floats.shape)
        if rng.random() < 0.4:  # a camera's pipeline smooths noise
            noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 0.9)) * 1.6
        floats = floats + noise
    else:
        return images.decode(images.encode_jpeg(pixels, int(rng.integers(8, 55)))).pixels
    return np.clip(floats, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
