"""Which known degradation a task's name means, since that decides which side of a pair must be the degraded one."""

from __future__ import annotations

import re
from functools import cache

WORDS = {
    "denoise": ("denois", "noise", "noisy"),
    "deblur": ("deblur", "blur", "defocus", "motion"),
    "dehaze": ("dehaz", "haze", "hazy", "fog", "smog"),
    "derain": ("derain", "rain"),
    "desnow": ("desnow", "snow"),
    "low_light": ("low_light", "lowlight", "lol", "dark", "night", "llie", "dim"),
    "jpeg": ("jpeg", "jpg", "compress", "artifact", "artefact"),
    "sr": ("sr", "sisr", "super_res", "superres", "upscal", "low_res", "lowres", "x2", "x3", "x4", "x8"),
}
WHOLE = {"sr", "sisr", "lol", "dim", "x2", "x3", "x4", "x8"}  # count as a whole word only
OTHER = ("raindrop", "rain_drop")  # lie on the lens: no streaks
GENERIC = "generic"
NOUNS = {  # of the side that is degraded
    "denoise": "noisier",
    "deblur": "blurrier",
    "dehaze": "hazier",
    "derain": "rainier",
    "desnow": "snowier",
    "low_light": "darker",
    "jpeg": "more compressed",
    "sr": "coarser",
    GENERIC: "more degraded",
}


@cache
def known(task: str, subtask: str = "") -> str:
    """The degradation that `task` names, else the one that `subtask` does: a key of NOUNS; `generic` for neither.

    A name that means several of them means none.

    >>> known("Image_Dehazing"), known("lowlight"), known("noise-and-blur"), known("restore", "rain")
    ('dehaze', 'low_light', 'generic', 'derain')
    """
    named = [_named(text) for text in (task, subtask)]
    return next((found.pop() for found in named if len(found) == 1), GENERIC) if len(named[0]) < 2 else GENERIC


def _named(text: str) -> set[str]:
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower())
    if any(word in plain for word in OTHER):
        return set()
    words = plain.split("_")
    return {name for name, marks in WORDS.items() if any(mark in (words if mark in WHOLE else plain) for mark in marks)}
