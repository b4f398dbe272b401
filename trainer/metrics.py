"""How good a restored image is: PSNR and SSIM of our own, anything else from pyiqa by its name.

All take what a person would see: 8-bit RGB pixels, so the numbers equal those of the saved files.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manifests import images, metrics
from manifests.errors import UserError, brief

Image = npt.NDArray[Any]
Measure = Callable[[Image, Image], float | None]

CAP = 100.0  # dB: what PSNR says of identical images, so that a mean over images stays finite

CHANNELS = ("rgb", "y")
LUMA = "Y alone (luma of BT.601, 16 to 235, not rounded)"
CONVENTIONS = {
    "psnr": "{channel}, {area}, at most " + f"{CAP:g} dB",
    "ssim": "{channel}, {area}, Gaussian 11x11 sigma 1.5, K = (0.01, 0.03), population covariance, windows inside the "
    "image only (Wang et al. 2004; scikit-image gaussian_weights=True, use_sample_covariance=False)",
}


@dataclass(frozen=True)
class Metric:
    """One score. `measure(restored, gt)`: two (H, W, 3) uint8 → a number, or None where it is not defined."""

    name: str
    higher_is_better: bool
    measure: Measure
    convention: str


class MissingMetricError(UserError):
    """A metric whose weights or package cannot be had here."""


def psnr(restored: Image, gt: Image) -> float:
    """Peak signal-to-noise ratio in dB of two (H, W, 3) uint8 images, 10·log10(255² / MSE), at most 100."""
    error = float(np.mean(np.square(restored.astype(np.float64) - gt.astype(np.float64))))
    return CAP if error == 0 else min(CAP, 10.0 * math.log10(255.0**2 / error))


def ssim(restored: Image, gt: Image) -> float | None:
    """Structural similarity (Wang et al., IEEE TIP 2004) of two (H, W, 3) uint8 images; None below 11 pixels."""
    if min(gt.shape[:2]) < 11:
        return None
    x, y = restored.astype(np.float64), gt.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((numerator / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def load(name: str, device: str = "cpu", *, channel: str = "rgb", border: int = 0) -> Metric:
    """The metric called `name`. Raises UserError for an unknown one, MissingMetricError when its weights are absent.

    channel: "rgb", or "y" for PSNR and SSIM on luma alone (BT.601, 16 to 235, not rounded), as super-resolution
    papers do. border: pixels cut off at every side before anything is measured.
    """
    if channel not in CHANNELS:
        raise UserError(f"channel {channel!r}: choose {' or '.join(CHANNELS)}", exit_code=2)
    if border < 0:
        raise UserError(f"border {border}: 0 or more pixels are needed", exit_code=2)
    area = f"{border} pixels cut off at every side" if border else "whole image, no border cropped"
    own = {"psnr": psnr, "ssim": ssim}.get(name)
    if own is None:
        plain = _pyiqa(name, device)
        said = f"{plain.convention}; {area}" if border else plain.convention
    else:
        said = CONVENTIONS[name].format(channel=LUMA if channel == "y" else "RGB, 8 bit", area=area)
        plain = Metric(name, True, own, said)

    def measure(restored: Image, gt: Image) -> float | None:
        if min(gt.shape[:2]) <= 2 * border:
            return None
        inner = slice(border, -border or None)
        pair = [one[inner, inner] for one in (restored, gt)]
        return plain.measure(*(luma(one) for one in pair)) if own and channel == "y" else plain.measure(*pair)

    return Metric(name, plain.higher_is_better, measure, said)


def luma(image: Image) -> npt.NDArray[np.float64]:
    """(H, W, 3) uint8 RGB → (H, W, 1) luma of BT.601 in [16, 235], not rounded (MATLAB's rgb2ycbcr)."""
    weights = np.array([65.481, 128.553, 24.966]) / 255.0
    return (16.0 + image.astype(np.float64) @ weights)[..., None]


def check_name(name: str) -> None:
    """Raises UserError, with near names, unless `name` is a metric of ours or of pyiqa."""
    if name in metrics.FULL_REFERENCE or name in metrics.NO_REFERENCE:
        return
    with _quiet():
        import pyiqa

        known = pyiqa.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, [*metrics.FULL_REFERENCE, *known], n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "psnr and ssim are built in, pyiqa's names work too"
        raise UserError(f"unknown metric {name!r}; {hint}", exit_code=2)


@lru_cache(maxsize=16)
def _pyiqa(name: str, device: str) -> Metric:
    check_name(name)
    try:
        model, made = metrics.create(name, device)
    except UserError:
        raise
    except Exception as error:  # pyiqa fails in many ways when weights are absent
        reason = brief(error, 100)
        raise MissingMetricError(
            f"metric {name!r} is not available here ({reason}); its weights go to {_weights_folder()}, where pyiqa "
            "puts them when it has a network; psnr, ssim and piqe need none"
        ) from error
    full_reference = model.metric_mode == "FR"

    def measure(restored: Image, gt: Image) -> float | None:
        pair = [_tensor(restored, device), _tensor(gt, device)]
        try:
            with torch.inference_mode():
                value = float(model(*pair[: 2 if full_reference else 1]).item())
        except (RuntimeError, ValueError, AssertionError):
            return None  # too small for this metric, or degenerate
        return value if math.isfinite(value) else None

    convention = f"{made}, RGB, 8 bit, whole image, {'with' if full_reference else 'without'} GT"
    return Metric(name, not model.lower_better, measure, convention)


def _weights_folder() -> str:
    return os.path.join(torch.hub.get_dir(), "pyiqa")


def _tensor(image: Image, device: str) -> Tensor:
    return torch.from_numpy(images.to_float(image)).permute(2, 0, 1).unsqueeze(0).to(device)


def _blur(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(H, W, C) smoothed by the 11x11 Gaussian of sigma 1.5, (H - 10, W - 10, C): where the window fits."""
    kernel = np.exp(-(np.arange(-5.0, 6.0) ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    blurred = cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel)[5:-5, 5:-5]
    return cast(npt.NDArray[np.float64], blurred if plane.ndim == blurred.ndim else blurred[..., None])


@contextlib.contextmanager
def _quiet() -> Any:
    """Hold back what pyiqa and its hubs print and log while a model loads."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
