"""Pairs with planted faults, and what pair checks measure of them: the material of `benchmarks.pairs`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
import sklearn.datasets

from curate import degradations, pair_checks
from curate.pair_checks import compare, evidence, shift
from manifests import files, images
from manifests.table import Member, read

Pixels = npt.NDArray[np.uint8]
LARGEST = 2_000_000  # pixels of a photograph
SHIFTS = (1, 2, 4, 8, 12)  # GT pixels
SIDES = (256, 1080, 1400)  # smallest side of a crop, largest height, largest width
CLEAR = "right"
FAULTS = (CLEAR, "other scene", "neighboring crop", "shifted")


@dataclass(frozen=True)
class Pair:
    """One right pair: what it shows, what the LQ suffers from, and both images."""

    scene: str
    task: str
    subtask: str
    real: bool
    gt: Pixels
    lq: Pixels

    @property
    def scale(self) -> int:
        """GT size over LQ size."""
        return round(self.gt.shape[1] / self.lq.shape[1])


@dataclass(frozen=True)
class Seen:
    """A right or broken pair as pair checks see it; `moved`: the planted shift (y, x), GT pixels."""

    scene: str
    task: str
    real: bool
    fault: str
    moved: tuple[int, int]
    scale: int
    ncc: float
    distance: int | None
    flat: bool
    spectra: shift.Spectra
    quick: shift.Shift
    thorough: shift.Shift
    turned: Any


def installed() -> dict[str, Pixels]:
    """The photographs that scikit-image and scikit-learn install."""
    names = ("astronaut", "chelsea", "coffee", "rocket", "camera", "brick", "grass", "gravel", "coins")
    found = {f"skimage/{name}": getattr(skimage.data, name)() for name in names}
    found["skimage/motorcycle"] = skimage.data.stereo_motorcycle()[0]
    found |= {f"sklearn/{name}": sklearn.datasets.load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return {name: np.repeat(p[:, :, None], 3, axis=2) if p.ndim == 2 else p for name, p in found.items()}


def folder(path: str) -> dict[str, Pixels]:
    """All photographs below a folder, reduced to LARGEST pixels."""
    found = {}
    for base, _, names in sorted(os.walk(path)):
        for name in sorted(names):
            if name.lower().endswith(images.SUFFIXES):
                place = os.path.join(base, name)
                pixels = images.to_8_bit(images.decode(files.read(place)).pixels)
                factor = min(1.0, (LARGEST / (pixels.shape[0] * pixels.shape[1])) ** 0.5)
                if factor < 1:
                    size = (int(pixels.shape[1] * factor), int(pixels.shape[0] * factor))
                    pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
                found[os.path.relpath(place, path)] = pixels
    return found


def real(manifest: str) -> Iterator[Pair]:
    """The kept pairs of a manifest; its groups are the scenes."""
    source = read(manifest)
    for row in source.table().to_pylist():
        if row["status"] == "kept" and row["lq_path"] and row["gt_path"]:
            places: list[Member] = [source.place(row, side) for side in ("gt", "lq")]
            gt, lq = (images.to_8_bit(images.decode(files.read(*place)).pixels) for place in places)
            yield Pair(str(row["group"]), row["task"], row["subtask"] or "", True, gt, lq)


def synthetic(photographs: dict[str, Pixels], crops: int, seed: int = 1) -> Iterator[Pair]:
    """Every degradation of `crops` random crops of every photograph; subtasks take turns."""
    rng = np.random.default_rng(seed)
    for name, photograph in photographs.items():
        height, width = photograph.shape[:2]
        for number in range(crops):
            tall, wide = (
                int(rng.integers(min(n, SIDES[0]), min(n, most) + 1)) // 8 * 8
                for n, most in ((height, SIDES[1]), (width, SIDES[2]))
            )
            top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
            gt = np.ascontiguousarray(photograph[top : top + tall, left : left + wide])
            for task in degradations.names():
                choices = degradations.subtasks(task)
                subtask = choices[number % len(choices)]
                lq = degradations.degrade(gt, task, subtask, int(rng.integers(1 << 30)))
                yield Pair(name, task, subtask, False, gt, lq)
            yield Pair(name, "denoise", "camera", False, gt, camera_noise(gt, rng))
            yield Pair(name, "derain", "thin", False, gt, thin_rain(gt, rng))


def camera_noise(gt: Pixels, rng: np.random.Generator) -> Pixels:
    """Noise as a camera's JPEG has it: of photons and reading, in linear light, then smoothed and compressed.

    The smoothing is of the noise alone, or of the image too, as by a camera that removes noise.
    """
    light = (gt / 255.0) ** 2.2
    electrons = float(np.exp(rng.uniform(np.log(100), np.log(3000))))
    noisy = rng.poisson(light * electrons) / electrons + rng.normal(0, rng.uniform(0.001, 0.006), gt.shape)
    codes = (255 * np.clip(noisy, 0, 1) ** (1 / 2.2)).astype(np.float32)
    sigma = float(rng.uniform(0.3, 1.2))
    if rng.random() < 0.5:
        smooth = cv2.GaussianBlur(codes, (0, 0), sigma)
    else:
        smooth = gt + cv2.GaussianBlur(codes - gt, (0, 0), sigma)
    return images.decode(images.encode_jpeg(_codes(smooth), int(rng.integers(85, 98)))).pixels


def thin_rain(gt: Pixels, rng: np.random.Generator) -> Pixels:
    """Rain as the public sets add it: gray levels of blurred streaks on top, over an image that may be darkened."""
    length, angle = int(rng.integers(11, 61)), float(rng.uniform(-40, 40))
    drops = (rng.random(gt.shape[:2]) < np.exp(rng.uniform(np.log(0.003), np.log(0.03)))).astype(np.float32)
    kernel = np.zeros((length, length), np.float32)
    kernel[:, length // 2] = 1
    turned = cv2.warpAffine(kernel, cv2.getRotationMatrix2D((length // 2, length // 2), angle, 1), (length, length))
    streaks = np.clip(cv2.filter2D(drops, -1, turned / turned.sum() * rng.uniform(2, 4)), 0, 1)
    return _codes(gt * rng.uniform(0.75, 1) + streaks[..., None] * rng.uniform(60, 220))


def _codes(values: npt.NDArray[np.floating]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def shifted(pair: Pair, y: int, x: int) -> tuple[Pixels, Pixels]:
    """LQ and GT whose content is (y, x) GT pixels apart, the edges cropped; both are multiples of the scale."""
    scale, (height, width), (tall, wide) = pair.scale, pair.gt.shape[:2], pair.lq.shape[:2]
    gt = pair.gt[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)]
    down, right = y // scale, x // scale
    return pair.lq[max(0, -down) : tall - max(0, down), max(0, -right) : wide - max(0, right)], gt


def other_scene(pairs: Sequence[Pair], index: int, rng: np.random.Generator) -> Pixels:
    """Another scene's GT, cut or enlarged to the size of the pair's; of the same set where there is one."""
    pair = pairs[index]
    kin = [one for one in pairs if one.scene != pair.scene and (one.real, one.task) == (pair.real, pair.task)]
    kin = kin or [one for one in pairs if one.scene != pair.scene]
    gt = kin[int(rng.integers(len(kin)))].gt
    height, width = pair.gt.shape[:2]
    factor = max(height / gt.shape[0], width / gt.shape[1], 1.0)
    if factor > 1:
        size = (int(np.ceil(gt.shape[1] * factor)), int(np.ceil(gt.shape[0] * factor)))
        gt = np.asarray(cv2.resize(gt, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    return np.ascontiguousarray(gt[:height, :width])


def drawn_shift(scale: int, rng: np.random.Generator) -> tuple[int, int]:
    """1 to 12 pixels down, to the left, diagonally or askew; a multiple of the scale, so that it can be made."""
    size = max(int(rng.choice(SHIFTS)), scale) // scale * scale
    askew = max(scale, (size // 2 + 1) // scale * scale)
    return [(size, 0), (0, -size), (size, size), (-size, askew)][int(rng.integers(4))]


def seen(pairs: Sequence[Pair], index: int, rng: np.random.Generator) -> list[Seen]:
    """The pair as it is, with another scene's GT, with its own halves side by side, and with two shifts."""
    pair, half = pairs[index], pairs[index].lq.shape[1] // 2
    look = partial(_look, pair)
    out = [look(CLEAR, pair.lq, pair.gt), look("other scene", pair.lq, other_scene(pairs, index, rng))]
    out.append(look("neighboring crop", pair.lq[:, :half], pair.gt[:, pair.scale * half : 2 * pair.scale * half]))
    for _ in range(2):
        moved = drawn_shift(pair.scale, rng)
        out.append(look("shifted", *shifted(pair, *moved), moved))
    return out


def _look(pair: Pair, fault: str, lq: Pixels, gt: Pixels, moved: tuple[int, int] = (0, 0)) -> Seen:
    low, high = (pair_checks.view(np.ascontiguousarray(pixels)) for pixels in (lq, gt))
    hashes = [images.phash(one.pixels, one.reduced) for one in (low, high)]
    distance = images.hamming(hashes[0], hashes[1]) if hashes[0] and hashes[1] else None
    flat = min(float(one.bands[1].mean()) for one in (low, high)) < evidence.FLAT
    found = evidence.examine(low, high, pair.scale, compare.ncc(low, high), distance)
    return Seen(
        pair.scene, pair.task, pair.real, fault, moved, pair.scale, found.ncc, distance, flat,
        found.spectra, found.quick, found.thorough, found.turned,
    )  # fmt: skip
