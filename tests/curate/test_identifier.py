"""The identifier finds camera-like noise and rain, and leaves clean photographs and shallow depth of field alone."""

import io
import json
from importlib import resources

import cv2
import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image

from curate import degradations, identifier
from curate.signals.measure import measure
from curate.signals.table import SIGNALS


@pytest.fixture(scope="module")
def whole():
    """Name -> whole photographs that scikit-image and scikit-learn install."""
    found = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    return found | {name: sklearn.datasets.load_sample_image(f"{name}.jpg") for name in ("china", "flower")}


def likely(pixels):
    """The types whose probability is above 0.5."""
    return {name for name, p in identifier.identify(measure(pixels)).items() if p > 0.5}


def jpeg(pixels, quality=80):
    """The pixels of a JPEG file: the last step of a camera's pipeline."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(io.BytesIO(buffer.getvalue())))


def field(shape, sigma, rng):
    """(H, W) noise of standard deviation 1 that is correlated over about `sigma` pixels."""
    smooth = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigma)
    return smooth / smooth.std()


def correlated(pixels, rng):
    """Noise that demosaicing smoothed: 12 levels, and JPEG."""
    return jpeg(np.clip(pixels + 12 * field(pixels.shape[:2], 0.7, rng)[..., None], 0, 255).astype(np.uint8))


def blotches(pixels, rng):
    """Color noise of low frequency: 12 levels in red and in blue, 3 of fine noise, and JPEG."""
    noise = np.stack(
        [12 * field(pixels.shape[:2], 2, rng), np.zeros(pixels.shape[:2]), 12 * field(pixels.shape[:2], 2, rng)], 2
    )
    return jpeg(np.clip(pixels + noise + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8))


def photons(pixels, rng):
    """Few photons in linear light, and the curve of a camera."""
    light = (pixels / 255.0) ** 2.2
    counts = rng.poisson(light * 80) + rng.normal(0, 2, light.shape)
    return jpeg((255 * np.clip(counts / 80, 0, 1) ** (1 / 2.2)).astype(np.uint8))


@pytest.mark.parametrize("plant", [correlated, blotches, photons])
def test_noise_like_a_camera_makes_is_found_at_the_threshold(whole, plant):
    rng = np.random.default_rng(0)
    assert sum("noise" in likely(plant(pixels, rng)) for pixels in whole.values()) >= 4


@pytest.mark.parametrize("subtask", degradations.subtasks("derain"))
def test_rain_is_found(whole, subtask):
    shown = [likely(degradations.degrade(p, "derain", subtask, seed, 0.6)) for seed, p in enumerate(whole.values())]
    assert sum("rain" in types for types in shown) >= 3  # two thirds of held-out ones are: docs/identifier.md


def test_clean_photographs_are_left_alone(whole):
    assert sum(bool(likely(pixels)) for pixels in whole.values()) <= 1
    assert sum(bool(likely(jpeg(pixels, 92))) for pixels in whole.values()) <= 1


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "flower"])
def test_shallow_depth_of_field_is_no_blur(whole, name):
    pixels = whole[name]
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(mask, (width // 2, height // 2), (width // 5, height // 5), 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 8)[..., None]
    blurred = cv2.GaussianBlur(pixels, (0, 0), 5)
    assert "blur" in likely(blurred)
    assert "blur" not in likely((pixels * mask + blurred * (1 - mask)).astype(np.uint8))


def test_the_model_is_small_and_reads_the_signals_that_are_measured():
    text = resources.files("curate").joinpath("identifier.json").read_text("utf-8")
    model = json.loads(text)
    assert len(text) < 300_000
    assert model["signals"] == list(SIGNALS)
    assert set(model["types"]) == set(identifier.TYPES)


def test_every_type_is_in_the_help_and_the_docs(command):
    code, out, _ = command("curate", "identify", "--help")
    docs = (resources.files("curate").joinpath("..", "docs", "identifier.md")).read_text("utf-8")
    for name in identifier.TYPES:
        assert code == 0 and name in out and name in docs
