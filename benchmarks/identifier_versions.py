"""Versions of photographs with known degradations, for `fit_identifier` and `judges`: planted at random, seeded."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from curate import degradations
from manifests import images

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
ORDER = ("haze", "rain", "low_light", "blur", "low_resolution", "noise", "jpeg")  # from the scene to the file
AREA = 1_200_000  # pixels of a version, at most


def clean(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """The photograph or a crop, often shrunk (which keeps it clean), at times brighter or darker."""
    side = min(photo.shape[:2])
    smallest = min(1.0, 224 / side)
    small = resized(photo, float(np.exp(rng.uniform(np.log(smallest), 0)))) if rng.random() < 0.7 else photo
    if rng.random() < 0.5 or small.shape[0] * small.shape[1] > AREA:
        high = [min(n, 1100) for n in small.shape[:2]]
        h, w = (int(rng.integers(min(192, n), n + 1)) for n in high)
        top, left = int(rng.integers(0, small.shape[0] - h + 1)), int(rng.integers(0, small.shape[1] - w + 1))
        small = small[top : top + h, left : left + w]
    out = np.clip(small * rng.uniform(0.8, 1.1), 0, 255).astype(np.uint8) if rng.random() < 0.3 else small
    return np.ascontiguousarray(out)


def crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A real shot as it is: whole, or a crop of it, at times stored as JPEG once more. Never shrunk."""
    if rng.random() < 0.8:
        h, w = (int(rng.integers(min(256, n), min(n, 1100) + 1)) for n in pixels.shape[:2])
        top, left = int(rng.integers(0, pixels.shape[0] - h + 1)), int(rng.integers(0, pixels.shape[1] - w + 1))
        pixels = pixels[top : top + h, left : left + w]
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return stored(np.ascontiguousarray(pixels), rng, 0.2, 85)


def stored(pixels: Pixels, rng: np.random.Generator, share: float = 0.4, lowest: int = 72) -> Pixels:
    """As a JPEG of good quality, in `share` of the cases."""
    if rng.random() >= share:
        return pixels
    return images.decode(images.encode_jpeg(np.ascontiguousarray(pixels), int(rng.integers(lowest, 98)))).pixels


def version(photo: Pixels, chosen: Sequence[str], rng: np.random.Generator) -> Pixels:
    """A version with the types `chosen`; with none of them at times one of shallow depth of field."""
    pixels = clean(photo, rng)
    if "blur" not in chosen and "low_resolution" not in chosen and rng.random() < 0.15:
        pixels = shallow(pixels, rng)
    for name in ORDER:
        if name in chosen:
            pixels = degrade(pixels, name, rng)
    return pixels if "jpeg" in chosen else stored(pixels, rng)


def resized(pixels: Pixels, factor: float) -> Pixels:
    """Shrunk by `factor`, 32 pixels a side at least; as it is for factors from 1 on."""
    if factor >= 1:
        return pixels
    size = (max(32, round(pixels.shape[1] * factor)), max(32, round(pixels.shape[0] * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def shallow(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A sharp subject before a blurred background: the photograph with all but an ellipse of it out of focus."""
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.float32)
    center = (int(rng.uniform(0.3, 0.7) * width), int(rng.uniform(0.3, 0.7) * height))
    axes = (int(rng.uniform(0.12, 0.3) * width), int(rng.uniform(0.12, 0.3) * height))
    cv2.ellipse(mask, center, axes, 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.02 * max(height, width))[..., None]
    blurred = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(2.5, 8))
    return np.rint(pixels * mask + blurred * (1 - mask)).astype(np.uint8)


def degrade(pixels: Pixels, name: str, rng: np.random.Generator) -> Pixels:
    """One degradation at a strength from just visible to strong."""
    made: Pixels = {
        "blur": blur, "low_resolution": low_resolution, "haze": haze, "low_light": low_light, "noise": noise,
        "rain": rain, "jpeg": jpeg,
    }[name](pixels, rng)  # fmt: skip
    return made


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 30))


def _coded(floats: npt.NDArray[np.floating]) -> Pixels:
    return np.rint(np.clip(floats, 0, 255)).astype(np.uint8)


def blur(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Gaussian, motion along a path or a line, or defocus."""
    kind = rng.choice(["gaussian", "motion", "defocus", "line"], p=[0.4, 0.25, 0.2, 0.15])
    if kind == "gaussian":
        return np.asarray(
            cv2.GaussianBlur(pixels, (0, 0), float(np.exp(rng.uniform(np.log(1.2), np.log(5))))), np.uint8
        )
    if kind == "line":
        return np.asarray(cv2.filter2D(pixels, -1, _line(rng.uniform(7, 25), rng.uniform(0, np.pi))), np.uint8)
    return degradations.degrade(pixels, "deblur", str(kind), _seed(rng))


def low_resolution(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Shrunk, and enlarged again."""
    s = float(rng.choice([2, 3, 4])) if rng.random() < 0.7 else rng.uniform(1.8, 4.2)
    size = tuple(max(1, round(n / s)) for n in pixels.shape[1::-1])
    small = cv2.resize(pixels, size, interpolation=(cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)])
    how = (cv2.INTER_CUBIC, cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4)[rng.integers(4)]
    return np.asarray(cv2.resize(small, pixels.shape[1::-1], interpolation=how), np.uint8)


def haze(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Haze with depth, in linear light, or an even veil."""
    if rng.random() < 0.6:
        kind = str(rng.choice(["uniform", "nonuniform"]))
        return degradations.degrade(pixels, "dehaze", kind, _seed(rng), rng.uniform(0.15, 1))
    t, light = rng.uniform(0.25, 0.75), rng.uniform(170, 250) + rng.uniform(-8, 8, 3)
    return _coded(pixels * t + light * (1 - t))


def low_light(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Fewer photons, or codes scaled down."""
    if rng.random() < 0.5:
        return degradations.degrade(pixels, "low_light", "dim", _seed(rng), rng.uniform(0.35, 1))
    return _coded(255 * (pixels / 255 * rng.uniform(0.08, 0.4)) ** rng.uniform(1.0, 1.3))


def jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Visible JPEG artifacts."""
    return images.decode(images.encode_jpeg(np.ascontiguousarray(pixels), int(rng.integers(8, 45)))).pixels


def noise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Noise of 3 to 40 levels: white, correlated with color blotches, or of a camera's whole pipeline."""
    kind = rng.choice(["white", "correlated", "camera"], p=[0.3, 0.3, 0.4])
    made = {"white": _white, "correlated": _correlated, "camera": _camera}[str(kind)](pixels, rng)
    size = float(np.sqrt(np.mean(made**2)))
    strongest = {"white": 40, "correlated": 25, "camera": 20}[str(kind)]
    target = float(np.exp(rng.uniform(np.log(3), np.log(strongest))))
    noisy = _coded(pixels + made * (target / max(size, 1e-3)))
    return stored(noisy, rng, 0.5)


def _white(pixels: Pixels, rng: np.random.Generator) -> Floats:
    shape = pixels.shape if rng.random() < 0.8 else (*pixels.shape[:2], 1)
    return rng.standard_normal(shape, np.float32) * np.ones(3, np.float32)


def _correlated(pixels: Pixels, rng: np.random.Generator) -> Floats:
    """Luma noise smoothed over half a pixel or more, and color noise of its own, larger scale and strength."""
    shape = pixels.shape[:2]
    luma = _grain(shape, rng.uniform(0.4, 1.2), rng)
    colors = np.stack([_grain(shape, rng.uniform(0.7, 4), rng) for _ in range(3)], axis=2)
    colors -= colors.mean(axis=2, keepdims=True)
    level = pixels.max(axis=2, keepdims=True) / 255
    strength = 1 + rng.uniform(-0.6, 0.6) * (2 * level - 1)  # more noise in the lights, or in the shadows
    return np.asarray((luma[..., None] + rng.uniform(0.3, 3) * colors) * strength, np.float32)


def _grain(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Floats:
    field = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), sigma)
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def _camera(pixels: Pixels, rng: np.random.Generator) -> Floats:
    """Noise from the sensor to the file: photons, mosaic, white balance, curve, denoising, sharpening.

    Both the noisy and the clean photograph go through the same steps; their difference is returned.
    """
    gains = np.array([rng.uniform(1.2, 2.4), 1.0, rng.uniform(1.2, 2.4)], np.float32)
    light = (pixels.astype(np.float32) / 255) ** 2.2 / gains
    electrons, read = float(np.exp(rng.uniform(np.log(60), np.log(1500)))), rng.uniform(1, 8)
    spread = np.sqrt(light / electrons + (read / electrons) ** 2)
    noisy = light + spread * rng.standard_normal(light.shape, np.float32)
    curve, denoise = rng.uniform(0.0, 0.5), str(rng.choice(["none", "gaussian", "median", "bilateral", "color"]))
    strength = rng.uniform(0.45, 0.9)
    sharpen = rng.uniform(0, 1) if rng.random() < 0.5 else 0.0

    def developed(linear: Floats) -> Floats:
        raw = np.clip(linear, 0, 1)
        mosaic = np.zeros(raw.shape[:2], np.float32)
        for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
            mosaic[row::2, column::2] = raw[row::2, column::2, channel]
        whole = cv2.demosaicing((mosaic * 65535).astype(np.uint16), cv2.COLOR_BayerRGGB2RGB_EA)
        coded = np.clip(whole.astype(np.float32) / 65535 * gains, 0, 1) ** (1 / 2.2)
        coded = coded + curve * coded * (1 - coded) * (2 * coded - 1)  # an S curve
        out = np.asarray(coded * 255, np.float32)
        if denoise == "gaussian":
            out = cv2.GaussianBlur(out, (0, 0), strength)
        elif denoise == "median":
            out = cv2.medianBlur(np.clip(out, 0, 255).astype(np.uint8), 3).astype(np.float32)
        elif denoise == "bilateral":
            out = cv2.bilateralFilter(out, 5, 40 * strength, 1.5)
        elif denoise == "color":
            lab = cv2.cvtColor(np.clip(out, 0, 255) / np.float32(255), cv2.COLOR_RGB2YCrCb)
            lab[..., 1:] = cv2.GaussianBlur(lab[..., 1:], (0, 0), 3 * strength)
            out = cv2.cvtColor(lab, cv2.COLOR_YCrCb2RGB) * 255
        if sharpen:
            out = out + sharpen * (out - cv2.GaussianBlur(out, (0, 0), 1.2))
        return np.asarray(out, np.float32)

    return developed(np.asarray(noisy, np.float32)) - developed(light)


def rain(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Streaks: those of `curate.degradations`, of other widths and lengths, or smeared noise; at times a veil."""
    draw = rng.random()
    if draw < 0.45:
        return degradations.degrade(pixels, "derain", str(rng.choice(["streaks", "veil"])), _seed(rng))
    shape = pixels.shape[:2]
    angle = np.pi / 2 + rng.uniform(-0.55, 0.55)
    cover = np.zeros(shape, np.float32)
    size = rng.uniform(0.7, 1.6) * max(1.0, min(shape) / 700)
    for share, scale in ((1.0, 0.6), (0.5, 1.0), (0.2, 1.6))[: int(rng.integers(1, 4))]:
        length = scale * size * rng.uniform(12, 40)
        if draw < 0.75:
            drops = (rng.random(shape) < share * rng.uniform(0.0008, 0.005) / size**2).astype(np.float32)
        else:  # thresholded noise, as in image editors
            drops = np.maximum(rng.standard_normal(shape, np.float32) - rng.uniform(2.0, 2.8), 0) * 2
        kernel = _line(length, angle + rng.normal(0, 0.03))
        layer = cv2.GaussianBlur(cv2.filter2D(drops, -1, kernel / kernel.max()), (0, 0), 0.6 * scale * size)
        cover = np.maximum(cover, layer)
    top = float(np.quantile(cover, 0.995))
    cover = np.clip(cover / max(top, 1e-3), 0, 1.3) * rng.uniform(0.2, 0.6)
    light = rng.uniform(190, 255)
    floats = pixels.astype(np.float32)
    if rng.random() < 0.4:
        veil = rng.uniform(0.05, 0.25)
        floats = floats * (1 - veil) + 190 * veil
    return _coded(floats + (light - floats).clip(0) * np.minimum(cover, 0.9)[..., None])


def _line(length: float, angle: float) -> Floats:
    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1,) * 2, np.float32)
    dx, dy = np.cos(angle) * length / 2, np.sin(angle) * length / 2
    ends = [(int((reach + s * dx) * 16), int((reach + s * dy) * 16)) for s in (-1, 1)]
    cv2.line(kernel, *ends, 1.0, 1, cv2.LINE_AA, 4)
    kernel = np.maximum(kernel, 0)
    return np.asarray(kernel / max(float(kernel.sum()), 1e-6), np.float32)
