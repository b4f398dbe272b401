"""Scenes that file names tell of: frames of a clip in a folder of its own, shots and crops numbered within one name.

Names are believed where they cannot well mean anything else. A folder is a scene where it is called so (`clip_07`), or
where the looks of neighboring files agree. A name without its last number is a scene where other files share it, few
enough of the folder do, and it has a word of its own (`chair_14`, `chair_5`), a word that numbers parts (`0001_crop3`),
or numbers that begin anew in every scene (`0001_1`, `0001_2`, `0002_1`). Flat series (`0001.png` to `0900.png`,
`IMG_0001.jpg`) are none.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

PARTS = r"crop|frame|shot|patch|tile|part|view|burst|exposure|exp|take|sub|[a-z]"
TAIL = re.compile(rf"[ _.\-]*(?:(?<![a-z])({PARTS})[ _.\-]?)?(\d+)$", re.IGNORECASE)
SCENE_FOLDER = re.compile(r"^(scene|clip|seq|sequence|video|vid|burst|shot|take)[ _.\-]?\d+", re.IGNORECASE)
_NO_SCENES = (  # words that cameras, sides and kinds of file are called by
    "img image dsc dscn dscf dscc pict pic photo picture foto gopr gp mvi pxl pano screenshot scan file frame raw jpeg "
    "jpg png gt hq lq clean clear sharp noisy noise blur blurry hazy haze rain rainy snow low high input target ground "
    "truth mean real train test val valid validation canon nikon sony fuji fujifilm olympus panasonic leica iphone "
    "samsung huawei pixel galaxy iso wallpaper untitled copy"
)
GENERIC = frozenset(_NO_SCENES.split())
PLAIN_MOST = 20  # files of one name that only its last number tells apart
LONGEST_NUMBER = 4  # digits of that number; longer ones are dates and ids
RESTART = 0.8  # of the scenes that must begin at the same number
NEARER = 4.0  # bits by which neighbors within a folder must be nearer than images of two folders


@dataclass
class Scenes:
    """key: path -> what its scene is called, for those that have one. patterns: how many files each form explains."""

    key: dict[str, str] = field(default_factory=dict)
    patterns: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Name:
    """A file name without its last number. part: a word such as `crop` stands before the number."""

    path: str
    prefix: str
    number: int
    part: bool
    short: bool
    form: str


def find(phash: Mapping[str, str | None]) -> Scenes:
    """The scenes among the files of one dataset: path -> perceptual hash (16 hex digits), None where unknown."""
    folders: dict[str, list[str]] = {}
    for path in sorted(phash):
        folders.setdefault(os.path.dirname(path), []).append(path)
    scenes = Scenes()
    clips = _clips(folders, phash)
    for folder, paths in folders.items():
        if folder in clips:
            scenes.key.update(dict.fromkeys(paths, f"{folder}/"))
            scenes.patterns["{scene}/{n}"] += len(paths)
        else:
            _by_names(folder, paths, scenes)
    return scenes


def _clips(folders: Mapping[str, list[str]], phash: Mapping[str, str | None]) -> set[str]:
    """Folders that hold one scene each."""
    several = {folder: paths for folder, paths in folders.items() if len(paths) > 1}
    total = sum(map(len, folders.values()))
    if len(folders) < 3 or 2 * len(several) < len(folders) or 2 * max(map(len, folders.values())) > total:
        return set()
    numbered = sum(bool(TAIL.search(_stem(path))) for paths in several.values() for path in paths)
    if numbered < 0.8 * sum(map(len, several.values())):
        return set()
    named = {f for f in several if any(SCENE_FOLDER.match(part) for part in f.split("/"))}
    if len(named) >= 0.8 * len(several):
        return named
    inner = {folder: _neighbors(paths, phash) for folder, paths in several.items()}
    bits = np.concatenate([np.array(values, float) for values in inner.values()])
    apart = _apart(folders, phash)
    if len(bits) < 8 or not len(apart) or bits.mean() > apart.mean() - NEARER:
        return set()
    return {f for f, values in inner.items() if len(values) < 5 or np.mean(values) <= apart.mean() - NEARER / 2}


def _neighbors(paths: Sequence[str], phash: Mapping[str, str | None]) -> list[int]:
    """Bits between the hashes of files that follow each other."""
    pairs = ((phash[a], phash[b]) for a, b in itertools.pairwise(paths))
    return [(int(a, 16) ^ int(b, 16)).bit_count() for a, b in pairs if a and b]


def _apart(folders: Mapping[str, list[str]], phash: Mapping[str, str | None], most: int = 2000) -> np.ndarray:
    """Bits between the hashes of files of different folders, for a sample of them."""
    known = [(k, int(value, 16)) for k, paths in enumerate(folders.values()) for p in paths if (value := phash[p])]
    if len(known) < 2:
        return np.empty(0)
    drawn = np.random.default_rng(0).integers(0, len(known), (most, 2)).tolist()
    pairs = ((known[a], known[b]) for a, b in drawn)
    return np.array([(x ^ y).bit_count() for (k, x), (m, y) in pairs if k != m], float)


def _by_names(folder: str, paths: Sequence[str], scenes: Scenes) -> None:
    """Scenes of one folder whose files are numbered within a name."""
    stems = [_stem(path) for path in paths]
    suffix = _common_suffix(stems)
    names = [_name(path, stem.removesuffix(suffix), suffix) for path, stem in zip(paths, stems, strict=True)]
    by_prefix: dict[str, list[_Name]] = {}
    for name in names:
        if name is not None:
            by_prefix.setdefault(name.prefix, []).append(name)
    several = {prefix: members for prefix, members in by_prefix.items() if len(members) > 1}
    alone = len(paths) - sum(map(len, by_prefix.values())) + len(by_prefix)
    restarts = _restart(several, len(paths))
    for prefix, members in several.items():
        few = len(members) <= len(paths) / 3 and alone >= 3
        part = all(name.part for name in members) and 2 * len(members) <= len(paths)
        word = all(name.short for name in members) and _has_word(prefix) and few and len(members) <= PLAIN_MOST
        if part or word or (few and restarts and any(sign.isdigit() for sign in prefix)):
            for name in members:
                scenes.key[name.path] = f"{folder}/{prefix}"
                scenes.patterns[name.form] += 1


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _common_suffix(stems: Sequence[str]) -> str:
    """What all stems end with, from its first sign that is no digit on."""
    if len(stems) < 2:
        return ""
    first, last = min(turned := [stem[::-1] for stem in stems]), max(turned)
    same = itertools.takewhile(lambda signs: signs[0] == signs[1], zip(first, last, strict=False))
    return "".join(sign for sign, _ in same)[::-1].lstrip("0123456789")


def _name(path: str, stem: str, suffix: str) -> _Name | None:
    """The name without its last number, and without the parts before it; None where nothing would be left."""
    found = TAIL.search(stem)
    if found is None:
        return None
    number, part, rest = found[2], found[1] is not None, stem[: found.start()]
    while part and (further := TAIL.search(rest)) is not None and further[1] is not None:
        rest = rest[: further.start()]
    form = "{scene}" + stem[len(rest) :].replace(number, "{n}", 1) if not part else "{scene}_" + found[1] + "{n}"
    prefix = rest.rstrip(" _.-")
    return _Name(path, prefix, int(number), part, len(number) <= LONGEST_NUMBER, form + suffix) if prefix else None


def _has_word(prefix: str) -> bool:
    """Whether a name has three letters in a row that mean more than a camera, a side or a kind of file."""
    return any(word.lower() not in GENERIC for word in re.findall(r"[^\W\d_]{3,}", prefix))


def _restart(several: Mapping[str, list[_Name]], files: int) -> bool:
    """Whether the numbers begin at the same 0 or 1 in nearly all of three or more scenes."""
    firsts = Counter(min(name.number for name in members) for members in several.values())
    if len(several) < 3 or sum(map(len, several.values())) < RESTART * files:
        return False
    first, count = firsts.most_common(1)[0]
    return first <= 1 and count >= RESTART * len(several)
