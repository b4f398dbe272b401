"""Signals: they measure what they are called after, on real photographs."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import degradations, identifier
from curate.signals.measure import measure
from curate.signals.table import SIGNALS
from manifests import images


@pytest.mark.parametrize("sigma", [5, 10, 20, 35])
def test_noise_is_within_a_third_of_what_was_added(photographs, sigma):
    rng = np.random.default_rng(0)
    for name in ("chelsea", "coffee", "flower"):
        pixels = np.clip(photographs[name] * 0.6 + 50, 0, 255)  # away from the ends, where clipping takes noise away
        noisy = np.clip(pixels + rng.normal(0, sigma, pixels.shape), 0, 255).astype(np.uint8)
        assert measure(noisy)["noise_sigma"] == pytest.approx(sigma, rel=0.34)


def test_enlarging_shows_in_the_effective_resolution(photographs):
    for pixels in photographs.values():
        sharp = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        large = cv2.resize(sharp, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        assert measure(large)["effective_resolution"] < 0.75 * measure(sharp)["effective_resolution"]


def test_blockiness_grows_as_jpeg_quality_falls_on_any_grid(photographs):
    for pixels in photographs.values():
        levels = [
            measure(np.ascontiguousarray(images.decode(images.encode_jpeg(pixels, q)).pixels[3:, 5:]))["blockiness"]
            for q in (10, 30, 90)
        ]
        assert levels[0] > levels[1] > levels[2]


def test_blur_haze_and_darkness_move_their_signals(photographs):
    for pixels in photographs.values():
        plain = measure(pixels)
        assert measure(cv2.GaussianBlur(pixels, (0, 0), 3))["sharpness"] < plain["sharpness"]
        assert measure((pixels * 0.5 + 110).astype(np.uint8))["haze"] > plain["haze"] + 0.2
        assert measure((pixels * 0.2).astype(np.uint8))["exposure"] == pytest.approx(plain["exposure"] * 0.2, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([0, 128, 255, "noise"]), st.booleans())
def test_finite_for_every_image(height, width, fill, deep):
    rng = np.random.default_rng(height * 61 + width)
    pixels = rng.integers(0, 256, (height, width, 3)) if fill == "noise" else np.full((height, width, 3), fill)
    values = measure(pixels.astype(np.uint16) * 257 if deep else pixels.astype(np.uint8))
    assert set(values) == set(SIGNALS)
    assert all(np.isfinite(value) for value in values.values())


@pytest.mark.parametrize("task", degradations.names())
def test_degradations_are_seeded_and_make_it_worse(task, photographs):
    gt = np.ascontiguousarray(photographs["coffee"][:128, :160])
    for subtask in degradations.subtasks(task):
        one = degradations.degrade(gt, task, subtask, 5)
        assert (one == degradations.degrade(gt, task, subtask, 5)).all()
        scale = degradations.scale(task, subtask)
        assert one.shape == (128 // scale, 160 // scale, 3)
        assert one.dtype == np.uint8
        shown = cv2.resize(one, (160, 128), interpolation=cv2.INTER_CUBIC)
        assert 4 < cv2.PSNR(shown, gt) < 38
        other = degradations.degrade(gt, task, subtask, 6)
        assert (one != other).any() or task == "sr"
        assert degradations.sample(task, subtask, 5) == degradations.sample(task, subtask, 5)


def test_degradations_refuse_nonsense(photographs):
    gt = photographs["coffee"]
    with pytest.raises(ValueError, match="unknown task"):
        degradations.degrade(gt, "melt", "x", 0)
    with pytest.raises(ValueError, match="no subtask"):
        degradations.degrade(gt, "sr", "x3", 0)
    with pytest.raises(ValueError, match="uint8"):
        degradations.degrade(gt.astype(np.float32), "sr", "x2", 0)
    with pytest.raises(ValueError, match="severity"):
        degradations.degrade(gt, "sr", "x2", 0, severity=2.0)


def _shares(photographs, change, kind):
    """How many of the photographs are flagged as `kind` after `change`, and how many were before."""
    before = [identifier.identify(measure(p))[kind] > 0.5 for p in photographs.values()]
    after = [identifier.identify(measure(change(p)))[kind] > 0.5 for p in photographs.values()]
    return sum(after) / len(after), sum(before) / len(before)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("noise", lambda p: np.clip(p + np.random.default_rng(0).normal(0, 25, p.shape), 0, 255).astype(np.uint8)),
        ("blur", lambda p: cv2.GaussianBlur(p, (0, 0), 2.5)),
        ("jpeg", lambda p: images.decode(images.encode_jpeg(p, 20)).pixels),
        ("haze", lambda p: (p * 0.35 + 0.65 * 225).astype(np.uint8)),
        ("low_light", lambda p: (255 * (p / 255 * 0.12) ** 1.1).astype(np.uint8)),
        ("low_resolution", lambda p: cv2.resize(p[::3, ::3], p.shape[1::-1], interpolation=cv2.INTER_CUBIC)),
    ],
)
def test_the_identifier_finds_what_was_done_and_leaves_clean_photographs_alone(photographs, kind, change):
    found, false = _shares(photographs, change, kind)
    assert found >= 0.75
    assert false == 0


def test_color_noise_grain_and_streaks_move_their_signals(photographs):
    rng = np.random.default_rng(0)
    for pixels in photographs.values():
        plain = measure(pixels)
        red = cv2.GaussianBlur(rng.standard_normal(pixels.shape[:2]).astype(np.float32), (0, 0), 2)
        blotched = pixels.astype(np.float32)
        blotched[..., 0] += 10 * red / red.std()
        blotched = np.clip(blotched, 0, 255).astype(np.uint8)
        assert measure(blotched)["noise_color_coarse"] > plain["noise_color_coarse"] + 0.4
        white = np.clip(pixels * 0.6 + 50 + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
        soft = np.clip(cv2.GaussianBlur(white, (0, 0), 0.8), 0, 255)
        assert measure(soft)["noise_grain"] < measure(white)["noise_grain"] - 0.2
        rainy = degradations.degrade(pixels, "derain", "streaks", 3, 0.8)
        assert measure(rainy)["streaks"] > plain["streaks"] + 0.1
