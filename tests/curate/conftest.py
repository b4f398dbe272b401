"""Real photographs in small folders, and the command line as a function."""

import io
import os
import sys

import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image


@pytest.fixture(scope="session")
def photographs():
    """Name -> (H, W, 3) uint8: photographs that scikit-image and scikit-learn install."""
    found = {
        "astronaut": skimage.data.astronaut(),
        "chelsea": skimage.data.chelsea(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
    }
    for name in ("china", "flower"):
        found[name] = sklearn.datasets.load_sample_image(f"{name}.jpg")
    return {name: np.ascontiguousarray(pixels[:288, :384]) for name, pixels in found.items()}


@pytest.fixture
def save(tmp_path):
    """save(path relative to tmp_path, pixels, **Pillow options): write an image, making folders."""

    def write(path, pixels, **options):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target, **options)
        return target

    return write


@pytest.fixture
def hazy(photographs, save, tmp_path):
    """A dataset like SOTS: every photograph as GT, two hazy versions each. Its folder."""
    for index, pixels in enumerate(photographs.values()):
        save(f"data/clear/{index}.png", pixels)
        for level in (1, 2):
            veil = (pixels.astype(np.float32) * (1 - 0.2 * level) + 0.2 * level * 230).astype(np.uint8)
            save(f"data/hazy/{index}_{level}.jpg", veil, quality=92)
    return tmp_path / "data"


@pytest.fixture
def command(monkeypatch, capfd):
    """command(app, *arguments) -> (exit code, stdout, stderr) of a console script, in this process."""

    def run(name, *arguments):
        module = __import__(f"{name}.cli", fromlist=["main"])
        monkeypatch.setattr(sys, "argv", [name, *map(os.fspath, map(str, arguments))])
        capfd.readouterr()
        try:
            module.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def as_bytes():
    """as_bytes(pixels, format, **options): an image file in memory."""

    def encode(pixels, form, **options):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, form, **options)
        return buffer.getvalue()

    return encode
