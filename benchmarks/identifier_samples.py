"""The photographs that the identifier is fitted on, and the signals of their versions.

Photographs that scikit-image and scikit-learn install, those of folders, and real pairs of a folder DIR:
`*_real.*` beside `*_mean.*` (the PolyU set: one noisy shot, the mean of many), and `foundir/` with its list of types.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import skimage.data
import sklearn.datasets

from benchmarks import identifier_versions as versions
from curate import identifier
from curate.signals.measure import measure
from curate.signals.table import SIGNALS
from manifests import images

LARGEST = 2048  # pixels of the longer side: what a camera oversampled is no fine detail
CLEAN_SHARE = 0.3
PER_PHOTOGRAPH, PER_MEAN, PER_SHOT = 56, 16, 6  # versions: of a photograph, of a mean of many, of a real shot as it is
SHOT = re.compile(r"(?P<scene>.+?)_+\d+_(?P<kind>real|mean)\.\w+$", re.IGNORECASE)
SPEED = re.compile(r"_(\d{3,5})_[a-z]+$", re.IGNORECASE)  # ISO, in the names of PolyU's scenes
FOUNDIR = {"Blur": "blur", "Lowlight": "low_light", "Noise": "noise", "Haze": "haze", "Rain": "rain"}


@dataclass(frozen=True)
class Photograph:
    """load: its (H, W, 3) uint8 pixels. scene: never in two folds. real: the types that it was shot with."""

    load: Callable[[], versions.Pixels]
    scene: str
    source: str
    real: tuple[str, ...] | None = None
    planted: int = PER_PHOTOGRAPH  # versions with planted degradations
    iso: int = 0


@dataclass(frozen=True)
class Samples:
    """Signals (N, S), types (N, T), and of each version its scene, source, ISO, and whether it is real and whole."""

    x: Any
    y: Any
    scenes: Any
    sources: Any
    iso: Any
    real: Any
    whole: Any

    def save(self, path: str) -> None:
        """Write all arrays, and the names of signals and types."""
        np.savez_compressed(path, **vars(self), signals=list(SIGNALS), types=list(identifier.TYPES))

    @staticmethod
    def load(path: str) -> Samples:
        """Read them. Raises ValueError for a file of other signals or types."""
        with np.load(path) as found:
            if list(found["signals"]) != list(SIGNALS) or list(found["types"]) != list(identifier.TYPES):
                raise ValueError(f"{path}: holds other signals or types; remove it, it is measured anew")
            return Samples(*(found[name] for name in Samples.__dataclass_fields__))


def photographs(folders: Sequence[str], real: str | None) -> list[Photograph]:
    """All of them, the installed ones first."""
    out = [Photograph(partial(_installed, name), name, "installed") for name in INSTALLED]
    for folder in folders:
        source = os.path.basename(os.path.normpath(folder))
        out += [Photograph(partial(_file, path), path, source) for path in _images(folder)]
    return out + (_real(real) if real else [])


INSTALLED = (
    *("astronaut", "chelsea", "coffee", "rocket", "camera", "brick", "grass", "gravel", "coins", "stereo_motorcycle"),
    *("china.jpg", "flower.jpg"),
)


def _installed(name: str) -> versions.Pixels:
    if name.endswith(".jpg"):
        return np.asarray(sklearn.datasets.load_sample_image(name))
    found = getattr(skimage.data, name)()
    pixels = found[0] if isinstance(found, tuple) else found
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def _file(path: str) -> versions.Pixels:
    with open(path, "rb") as file:
        pixels = images.to_8_bit(images.decode(file.read()).pixels)
    return versions.resized(pixels, min(1.0, LARGEST / max(pixels.shape)))


def _images(folder: str) -> list[str]:
    paths = sorted(os.path.join(b, n) for b, _, names in os.walk(folder) for n in names)
    return [path for path in paths if path.lower().endswith(images.SUFFIXES)]


def _real(folder: str) -> list[Photograph]:
    out = []
    for path in _images(folder):
        if shot := SHOT.fullmatch(os.path.basename(path)):
            speed = SPEED.search(shot["scene"])
            noisy = shot["kind"].lower() == "real"
            camera = "polyu-" + re.split(r"[_\d]", shot["scene"], maxsplit=1)[0].lower()
            out.append(Photograph(partial(_file, path), shot["scene"], camera, ("noise",) if noisy else (),
                                  0 if noisy else PER_MEAN, int(speed[1]) if speed else 0))  # fmt: skip
    kinds = _foundir_kinds(os.path.join(folder, "foundir", "Testset_meta_info.txt"))
    for path in _images(os.path.join(folder, "foundir")):
        number, side = os.path.splitext(os.path.basename(path))[0], os.path.basename(os.path.dirname(path))
        if side == "GT":
            out.append(Photograph(partial(_file, path), f"foundir-{number}", "foundir"))
        elif number in kinds:
            out.append(Photograph(partial(_file, path), f"foundir-{number}", "foundir", (kinds[number],), 0))
    return out


def _foundir_kinds(path: str) -> dict[str, str]:
    """Number of an image -> its type, for those with a single one that the identifier knows."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        found = re.findall(r"^\d\d([A-Za-z+_]+)/GT/(\w+)\.", file.read(), re.MULTILINE)
    return {number: FOUNDIR[kind] for kind, number in found if kind in FOUNDIR}


def samples(photos: Sequence[Photograph], workers: int) -> Samples:
    """Versions of all photographs, measured. Seeded by the photograph's place in the list."""
    rows: list[tuple[Any, ...]] = []
    with ProcessPoolExecutor(workers) as pool:
        for number, found in enumerate(pool.map(_of, range(len(photos)), photos), 1):
            rows += found
            print(f"\r{number}/{len(photos)} photographs measured", end="", flush=True)
    print()
    return Samples(*(np.array(column) for column in zip(*rows, strict=True)))


def _of(number: int, photo: Photograph) -> list[tuple[Any, ...]]:
    cv2.setNumThreads(1)
    rng, pixels = np.random.default_rng(number), photo.load()
    rows = []

    def add(shown: versions.Pixels, chosen: Sequence[str], real: bool, whole: bool = False) -> None:
        found = measure(shown)
        types = [name in chosen for name in identifier.TYPES]
        rows.append(([found[n] for n in SIGNALS], types, photo.scene, photo.source, photo.iso, real, whole))

    if photo.real is None:
        add(pixels, (), False, True)
    else:
        add(pixels, photo.real, True, True)
        for _ in range(PER_SHOT if photo.source.startswith("polyu") else 4 * PER_SHOT):
            add(versions.crop(pixels, rng), photo.real, True)
    for _ in range(photo.planted):
        count = rng.choice([0, 1, 2], p=[CLEAN_SHARE, 0.9 - CLEAN_SHARE, 0.1])
        chosen = [identifier.TYPES[i] for i in sorted(rng.choice(len(identifier.TYPES), count, replace=False))]
        if "blur" in chosen and "low_resolution" in chosen:
            chosen.remove("blur")  # the one hides the other
        add(versions.version(pixels, chosen, rng), chosen, False)
    return rows
