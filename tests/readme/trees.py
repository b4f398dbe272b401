"""Small real folders as README and the examples of `--help` name them, cut out of photographs that come installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
SIDE = 128


def photographs() -> list[Pixels]:
    """About seventy different squares of six photographs, (SIDE, SIDE, 3) each."""
    import skimage.data
    import sklearn.datasets

    whole = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()]
    whole += [sklearn.datasets.load_sample_image(f"{name}.jpg") for name in ("china", "flower")]
    squares = [
        np.ascontiguousarray(one[top : top + SIDE, left : left + SIDE])
        for one in whole
        for top in range(0, one.shape[0] - SIDE + 1, SIDE)
        for left in range(0, one.shape[1] - SIDE + 1, SIDE)
    ]
    return [one for one in squares if one.std() > 20]


def save(path: Path, pixels: Pixels, **options: int) -> None:
    """Write an image, making folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def haze(pixels: Pixels, level: int) -> Pixels:
    """Under a veil; level 1 is thin."""
    share = 0.15 + 0.15 * level
    return (pixels * (1 - share) + 235 * share).astype(np.uint8)


def rain(pixels: Pixels, seed: int) -> Pixels:
    """With bright slanted streaks."""
    rng = np.random.default_rng(seed)
    layer = np.zeros(pixels.shape[:2], np.float32)
    for _ in range(90):
        top, left, length = rng.integers(0, SIDE - 20), rng.integers(4, SIDE), rng.integers(8, 20)
        steps = np.arange(length)
        layer[top + steps, left - steps // 4] = 110
    return np.clip(pixels + layer[..., None], 0, 255).astype(np.uint8)


def one_gt_many_lqs(folder: Path, squares: list[Pixels]) -> None:
    """hazy/<id>_<level>.jpg and clear/<id>.png."""
    for number, pixels in enumerate(squares):
        save(folder / f"clear/{number:04d}.png", pixels)
        for level in (1, 2):
            save(folder / f"hazy/{number:04d}_{level}.jpg", haze(pixels, level), quality=95)


def two_folders(folder: Path, squares: list[Pixels]) -> None:
    """input/<id>.png and target/<id>.png."""
    for number, pixels in enumerate(squares):
        save(folder / f"target/{number:03d}.png", pixels)
        save(folder / f"input/{number:03d}.png", rain(pixels, number))


def alone(folder: Path, squares: list[Pixels], suffix: str = "jpg") -> None:
    """<id>.jpg."""
    for number, pixels in enumerate(squares):
        save(folder / f"{number:03d}.{suffix}", pixels)
