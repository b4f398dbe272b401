"""What names of folders and files tell: which side of a pair an image is, for which task, in which split."""

from __future__ import annotations

import re
from typing import NamedTuple

from curate.layouts import SPLITS


def _weighted(*lists: tuple[int, str]) -> dict[str, int]:
    return {word: weight for weight, words in lists for word in words.split()}


# Words of the LQ side and of the GT side -> how much they count beside others in the same path.
LQ = _weighted(
    (3, "lq lr input inputs inp degraded lowquality lowres lowresolution"),
    (2, "hazy foggy noisy blurry blurred rainy snowy lowlight underexposed distorted compressed cloudy"),
    (1, "haze fog cloud noise noised blur rain raindrop snow low dark real raw in source src short jpeg shadow"),
    (1, "synthetic corrupted"),
    (0, "data"),
)
GT = _weighted(
    (3, "gt hr hq target targets tar reference groundtruth highquality highres highresolution"),
    (2, "clean clear sharp mean norain nosnow nohaze rainfree snowfree hazefree"),
    (1, "high normal long ref original orig label labels free truth"),
)
# Words of what methods give back: neither side of a pair.
OUTPUTS = frozenset(
    _weighted(
        (1, "denoised dehazed derained deblurred desnowed restored enhanced output outputs result results pred preds"),
        (1, "prediction predictions"),
    )
)
TASKS = {
    "dehaze": "haze hazy fog foggy dehaze hazefree clear cloud cloudy",
    "low_light": "lowlight dark underexposed high normal lol",
    "deblur": "blur blurry blurred sharp deblur gopro",
    "denoise": "noise noisy noised denoise mean",
    "derain": "rain rainy raindrop norain rainfree derain",
    "desnow": "snow snowy nosnow snowfree desnow",
    "jpeg": "jpeg",
    "underwater": "underwater uieb",
    "sr": "lr hr lowres highres lowresolution highresolution sr superres superresolution",
}
TASK_OF = {word: task for task, words in TASKS.items() for word in words.split()}
PARTS = (*SPLITS, "val", "valid", "validation", "training", "testing", "dev", "eval", "trainset", "testset")

_SIDE = r"(?<![A-Za-z])(?:LR|HR|LQ|HQ|GT|lr|hr|lq|hq|gt)(?=[xX][0-9]|bic)"
_WORD = re.compile(rf"{_SIDE}|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LETTER = re.compile(r"(?:(train|test|val|valid)[_-]?)?([AB])")


class Role(NamedTuple):
    """What a name says. side: "lq" or "gt". start, end: where its word stands. sure: by a word, not by a letter."""

    side: str
    weight: int
    start: int
    end: int
    sure: bool = True


def words(name: str) -> list[tuple[str, int, int]]:
    """The words of a name in small letters, with their places; two words that are known as one count as one.

    >>> [word for word, _, _ in words("low_light-GTImages2")]
    ['lowlight', 'gt', 'images']
    """
    single = [(found.group().lower(), found.start(), found.end()) for found in _WORD.finditer(name)]
    out: list[tuple[str, int, int]] = []
    for word, start, end in single:
        joined = out and out[-1][0] + word
        if joined and joined in {**LQ, **GT} and start - out[-1][2] <= 1:
            out[-1] = (joined, out[-1][1], end)
        else:
            out.append((word, start, end))
    return out


def role(name: str) -> Role | None:
    """The side that a folder's name, or a file's without suffix, tells; None where it tells none, or both alike."""
    if letter := _LETTER.fullmatch(name):
        return Role("lq" if letter.group(2) == "A" else "gt", 1, letter.start(2), letter.end(2), sure=False)
    found = [
        Role(side, known[word], start, end)
        for word, start, end in words(name)
        for side, known in (("lq", LQ), ("gt", GT))
        if word in known
    ]
    if not found:
        return None
    best = max(one.weight for one in found)
    heavy = [one for one in found if one.weight == best]
    return heavy[-1] if len({one.side for one in heavy}) == 1 else None


def tasks(*names: str) -> set[str]:
    """The tasks that words of these names stand for."""
    found = {TASK_OF[word] for name in names for word, _, _ in words(name) if word in TASK_OF}
    scaled = any(re.search(r"(?:^|[^a-zA-Z])[xX][2-9](?![0-9])", name) for name in names)
    return found | ({"sr"} if scaled else set())


def parts(name: str) -> set[str]:
    """The words of a name that stand for a split, known or not."""
    return {word for word, _, _ in words(name) if word in PARTS}


def scale(*names: str) -> str:
    """The subtask of super-resolution that the names tell: `x4`, or nothing."""
    found = {match.lower() for name in names for match in re.findall(r"(?<![a-zA-Z])[xX][2-9](?![0-9])", name)}
    found |= {match.lower() for name in names for match in re.findall(r"(?<=[LH]R)[xX][2-9](?![0-9])", name)}
    return found.pop() if len(found) == 1 else ""
