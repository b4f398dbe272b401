"""Drop training pairs that a test set holds too: the same files, or the same photographs resized or recompressed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate import engine, hamming
from curate.clusters import NEAR
from manifests import schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
RULES = ("exact", "perceptual")
_IMAGES = (("GT", "gt_sha256", "phash", "gt_path"), ("LQ", "lq.sha256", "lq.phash", "lq_path"))
_FACTS = ["pair_id", "dataset", "split", *(name for image in _IMAGES for name in image[1:])]


def decontaminate(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    against: str | Sequence[str],
    distance: int = NEAR,
    strict: bool = False,
) -> Manifest:
    """Drop every pair whose GT or LQ is an image, GT or LQ, of a test manifest.

    against: the test manifests. Of one that has rows of split `test`, these count; of another all, kept or not.
    exact: the same file, by SHA-256. perceptual: 64-bit perceptual hashes at most `distance` bits apart, which
        recompression and resizing without a crop stay within (0 to 2 bits on photographs; a crop does not). A flat
        image has no such hash, and is compared exactly.
    strict: raise UserError when anything matches, and write nothing.

    Rows of split `test` are no training pairs and stay as they are, so that a manifest can be given against itself.
    Judged are kept rows and those that only an earlier decontaminate dropped; a looser run revives them.
    Raises UserError for no test manifest, one without hashes, a distance outside 0-16.
    """
    paths = [against] if isinstance(against, str) else list(against)
    if not paths:
        raise UserError("say what must not be trained on: --against TEST_MANIFEST", exit_code=2)
    if not 0 <= distance <= hamming.MAX_DISTANCE:
        raise UserError(f"--distance {distance}: 0 to {hamming.MAX_DISTANCE} of 64 bits", exit_code=2)
    output = output or engine.default_output(manifest, "decontaminate")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    tests = [read(path) for path in paths]
    judged, drops = judge(source, _known(tests), distance)
    if strict and drops:
        row, drop = next(iter(drops.items()))
        example = f"pair {source.table(['pair_id']).column('pair_id')[row]}: {drop['text']}"
        raise UserError(
            f"{source.path}: {len(drops)} of {len(judged)} pairs match a test image, for example {example}; "
            "nothing was written, leave out --strict to drop them"
        )
    stages = [*source.stages, stage_entry("decontaminate", VERSION, {"distance": distance}, [source, *tests])]
    parts = _marked(source.parts(), judged, drops)
    return write(output, parts, roots=source.roots, stages=stages, expected_rows=source.rows["rows"])


@dataclass(frozen=True)
class Known:
    """The test images. Values are names for a person: `GT sots/clear/0001.png`."""

    contents: Mapping[str, str]  # SHA-256 -> name
    looks: Mapping[str, str]  # perceptual hash -> name


def _known(tests: Sequence[Manifest]) -> Known:
    contents: dict[str, str] = {}
    looks: dict[str, str] = {}
    for test in tests:
        rows = test.table(_FACTS).to_pylist()
        named = [row for row in rows if row["split"] == "test"]
        for row in named or rows:
            for kind, content, look, path in _IMAGES:
                name = f"{kind} {row['dataset']}/{row[path]}"
                if row[content]:
                    contents.setdefault(row[content], name)
                if row[look]:
                    looks.setdefault(row[look], name)
        if not any(row[image[1]] for row in rows for image in _IMAGES):
            raise UserError(f"{test.path}: none of its {len(rows)} rows has an image to compare with")
    return Known(contents, looks)


def judge(source: Manifest, known: Known, distance: int = NEAR) -> tuple[list[bool], dict[int, dict[str, Any]]]:
    """Which rows of `source` are judged, and the decision on every one, by its number, that is a test image."""
    rows, judged = list[dict[str, Any]](), list[bool]()
    for part in source.parts([*_FACTS, "decisions"]):
        rows += part.to_pylist()
    for row in rows:
        judged.append(row["split"] != "test" and all(d["stage"] == "decontaminate" for d in row["decisions"]))
    looks = sorted({row[image[2]] for row, use in zip(rows, judged, strict=True) if use for image in _IMAGES} - {None})
    near = _nearest(looks, known.looks, distance)
    found = {
        i: next(_matches(row, known, near, distance), None)
        for i, (row, use) in enumerate(zip(rows, judged, strict=True))
        if use
    }
    return judged, {i: drop for i, drop in found.items() if drop}


def _marked(parts: Iterable[pa.Table], judged: Sequence[bool], drops: Mapping[int, Any]) -> Iterator[pa.Table]:
    """The parts of the manifest that was judged, with `decisions` as `judge` says."""
    start = 0
    for part in parts:
        decisions = part.column("decisions").to_pylist()
        for k, use in enumerate(judged[start : start + part.num_rows]):
            if use:
                new = [drops[start + k]] if start + k in drops else []
                decisions[k] = schema.decide(decisions[k], "decontaminate", RULES, new)
        start += part.num_rows
        yield schema.set_column(part, "decisions", decisions, schema.CORE["decisions"])


def _matches(
    row: Mapping[str, Any], known: Known, near: Mapping[str, tuple[int, str]], distance: int
) -> Iterator[dict[str, Any]]:
    """Decisions on one row, the exact ones first."""
    for kind, content, _, _ in _IMAGES:
        if name := known.contents.get(row[content]):
            yield schema.decision("decontaminate", "exact", "drop", f"its {kind} is a test image: {name}")
    for kind, _, look, _ in _IMAGES:
        if row[look] in near:
            bits, name = near[row[look]]
            text = f"its {kind} looks like a test image, {bits} bits apart: {name}"
            yield schema.decision("decontaminate", "perceptual", "drop", text, value=bits, threshold=distance)


def _nearest(looks: Sequence[str], known: Mapping[str, str], distance: int) -> dict[str, tuple[int, str]]:
    """Hash → bits to the nearest test image, and its name, for the hashes that have one within `distance`."""
    names = list(known)
    nearest: dict[str, tuple[int, str]] = {}
    for left, right, apart in hamming.pairs_between(hamming.numbers(looks), hamming.numbers(names), distance):
        for a, b, bits in np.stack([left, right, apart.astype(np.int64)], axis=1).tolist():
            one = (bits, known[names[b]])
            nearest[looks[a]] = min(one, nearest.get(looks[a], one))
    return nearest
