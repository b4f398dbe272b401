"""Does PIQE score here as its authors' code does? For whoever has pyiqa's five calibration images."""

from __future__ import annotations

import os
from dataclasses import dataclass

from curate import scorers
from manifests import files, images
from manifests.errors import UserError

PUBLISHED = {"I03": 100.0, "I04": 21.6242, "I06": 35.8646, "I08": 41.1471, "I19": 76.9485}  # pyiqa's table for PIQE
TOLERANCE = 0.01


@dataclass(frozen=True)
class Checked:
    """One calibration image."""

    name: str
    value: float | None
    published: float

    @property
    def agrees(self) -> bool:
        """Whether the score is the published one, to a hundredth."""
        return self.value is not None and abs(self.value - self.published) <= TOLERANCE


def calibrate(folder: str) -> list[Checked]:
    """Score the images I03, I04, I06, I08 and I19 that lie in `folder`. Raises UserError when there is none."""
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder")
    request, out = scorers.Request(("piqe",)), []
    for name in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(name)
        if stem in PUBLISHED and suffix.lower() in images.SUFFIXES:
            try:
                pixels = images.decode(files.read(os.path.join(folder, name))).pixels
            except images.ImageError as error:
                raise UserError(f"{os.path.join(folder, name)}: {error}") from None
            out.append(Checked(stem, scorers.measure(pixels, request)[0]["iqa.piqe"], PUBLISHED[stem]))
    if not out:
        known = ", ".join(PUBLISHED)
        raise UserError(f"{folder}: has none of {known}; they are in pyiqa's repository, under ResultsCalibra/dist_dir")
    return out
