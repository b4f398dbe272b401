"""All measurements of a pair, as the columns `pair.*`: quick where it is in order, thorough where there is a doubt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from curate.pair_checks import compare, direction, judge, model, shift, tasks
from curate.pair_checks.views import View
from manifests import images

KINDS: dict[str, str] = {  # column: kind
    "pair.distance": "int32",  # differing bits of the two perceptual hashes, 0 to 64
    "pair.ncc": "double",  # compare.ncc; null where one image has no structure
    "pair.shift_y": "double",  # GT pixels that the LQ's content lies below the GT's; null where it cannot be told
    "pair.shift_x": "double",  # the same, to the right
    "pair.shift_confidence": "double",  # probability that the shift is right
    "pair.psnr": "double",  # dB, at the LQ's size
    "pair.identical": "bool",
    "pair.scale_found": "double",  # GT size over the size at which the LQ's detail would fit; null where not told
    "pair.same_scene": "double",  # probability
    "pair.swapped": "double",  # probability that the GT is the degraded side; null where it cannot be told
}
FLAT = 0.6  # gray levels: mean deviation of the band below which an image has no structure
SMALLEST = 16  # pixels a side of the LQ


def fingerprint() -> str:
    """What measured a pair: values of equal fingerprints agree."""
    return f"pairs-{model.VERSION}-{model.digest()}"


@dataclass(frozen=True)
class Evidence:
    """What is measured of a pair whose images have structure, before any fitted model looks at it."""

    lq: View
    gt: View
    scale: int
    ncc: float
    distance: int | None
    spectra: shift.Spectra
    quick: shift.Shift
    turned: direction.Features | None  # of pairs of one size

    @cached_property
    def thorough(self) -> shift.Shift:
        """The search that takes several times as long, and is made of doubtful pairs only."""
        return shift.search(self.lq, self.gt, self.scale)


def measure(
    lq: View,
    gt: View,
    *,
    task: str,
    subtask: str = "",
    scale: int = 1,
    same_file: bool = False,
    lq_phash: str | None = None,
    gt_phash: str | None = None,
) -> dict[str, Any]:
    """Column -> value for all of KINDS. The GT is `scale` times as large as the LQ in both directions.

    task, subtask: their names, by which the direction of the degradation is known. same_file: the two files are equal.
    lq_phash, gt_phash: perceptual hashes, None for images without structure.
    """
    psnr = compare.psnr(lq, gt, scale)
    values: dict[str, Any] = dict.fromkeys(KINDS)
    values["pair.psnr"] = psnr
    values["pair.identical"] = same_file or (scale == 1 and compare.identical(lq, gt, psnr))
    if lq_phash and gt_phash:
        values["pair.distance"] = images.hamming(lq_phash, gt_phash)
    if min(float(lq.bands[1].mean()), float(gt.bands[1].mean())) < FLAT:
        return values
    values["pair.ncc"] = compare.ncc(lq, gt)
    if min(lq.luma.shape) < SMALLEST or values["pair.identical"]:
        return values
    return values | conclude(examine(lq, gt, scale, values["pair.ncc"], values["pair.distance"]), task, subtask)


def examine(lq: View, gt: View, scale: int, ncc: float, distance: int | None) -> Evidence:
    """The quick look at the tiles with most structure."""
    cut = shift.tiles(lq, gt, scale)
    assert cut is not None  # without an offset some tile fits
    spectra = shift.spectra(*cut)
    turned = direction.features(lq, gt, *cut, spectra) if scale == 1 else None
    return Evidence(lq, gt, scale, ncc, distance, spectra, shift.locate(spectra), turned)


def conclude(seen: Evidence, task: str, subtask: str = "", fitted: model.Fitted | None = None) -> dict[str, Any]:
    """Scene, shift, direction and resolution by the fitted models (those of the package); thorough where in doubt."""
    fitted = fitted or model.load()
    found = seen.quick
    same, confidence = model.same_scene(fitted, seen.ncc, seen.distance, found, thorough=False), 1.0
    if model.is_doubtful(same, found):
        found = seen.thorough
        same = model.same_scene(fitted, seen.ncc, seen.distance, found, thorough=True)
        moved = max(abs(found.y), abs(found.x)) * seen.scale >= judge.SHIFTED
        confidence = model.shifted(fitted, found) if moved else found.peak
    out: dict[str, Any] = {"pair.same_scene": same, "pair.shift_confidence": confidence}
    known = tasks.known(task, subtask)
    if confidence >= model.agreed(known):
        out |= {"pair.shift_y": round(found.y * seen.scale, 3), "pair.shift_x": round(found.x * seen.scale, 3)}
    if seen.turned is not None:
        out["pair.swapped"] = model.swapped(fitted, seen.turned, known)
    if known != model.BLURRED:
        out["pair.scale_found"] = round(seen.scale * compare.enlargement(seen.spectra), 3)
    return out
