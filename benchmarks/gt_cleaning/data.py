"""Crops of photographs as ground truth, a share of them spoilt on purpose; three training sets of it, one test set."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manifests import files, images, schema, table

Image = npt.NDArray[np.uint8]
KINDS = ("noise", "blur", "jpeg")
VARIANTS = ("all", "filtered", "random")


@dataclass(frozen=True)
class Settings:
    """All that the numbers depend on, seeds aside."""

    photos: str | None = None  # folder SCENE/FILE of clean photographs; None: those of scikit-image and scikit-learn
    side: int = 192  # of a GT, pixels
    crops: int = 10  # GTs of a photograph
    spoilt: float = 0.4  # share of the training GTs
    tasks: tuple[str, ...] = ("denoise:gaussian", "deblur:defocus", "jpeg:single")
    held: float = 0.3  # share of the scenes for D_ref and test, which stay clean
    steps: int = 900
    batch: int = 8
    crop: int = 64
    lr: float = 2e-3


def build(out: str, settings: Settings) -> tuple[dict[str, str], dict[str, Any]]:
    """Variant -> manifest below `out`/data, and what the filter found: made where it is not there yet."""
    from curate.degrade import degrade
    from curate.filter import filter as keep_clean
    from curate.ingest import ingest

    place = os.path.join(out, "data")
    if not os.path.exists(os.path.join(place, "spoilt.json")):
        _cut(place, settings)
    facts: dict[str, Any] = {"score": ["signals"], "identify": True}
    for part in ("train", "held"):
        if not os.path.exists(os.path.join(place, part, "manifest.json")):
            ingest(f"{place}/{part}-gt", f"{place}/{part}", gt="{scene}/{id}.png", group="{scene}", task="clean",
                   dataset=part, **facts)  # fmt: skip
        if not os.path.exists(os.path.join(place, f"{part}-pairs", "manifest.json")):
            degrade(f"{place}/{part}", f"{place}/{part}-pairs", tasks=list(settings.tasks), dataset=f"{part}-made")
    if not os.path.exists(os.path.join(place, "judged", "manifest.json")):
        keep_clean(f"{place}/train", f"{place}/judged", max_degradation=0.5)
    judged = table.read(f"{place}/judged").table(["gt_path", "gt_sha256", "status"]).to_pylist()
    spoilt = json.loads(files.read(os.path.join(place, "spoilt.json")))
    kept = {row["gt_sha256"] for row in judged if row["status"] == "kept"}
    every = sorted(row["gt_sha256"] for row in judged)
    drawn = np.random.default_rng(1).permutation(len(every))[: len(kept)]
    chosen = {"all": set(every), "filtered": kept, "random": {every[k] for k in drawn.tolist()}}
    manifests = {name: _variant(place, name, shas) for name, shas in chosen.items()}
    return manifests, _found(judged, spoilt)


def _found(judged: list[dict[str, Any]], spoilt: dict[str, str]) -> dict[str, Any]:
    """How many GTs of each kind there are, and how many of them the filter dropped."""
    out: dict[str, Any] = {"GTs": len(judged), "kept": sum(row["status"] == "kept" for row in judged)}
    for kind in (*KINDS, "clean"):
        mine = [row for row in judged if spoilt.get(row["gt_path"], "clean") == kind]
        out[kind] = {"GTs": len(mine), "dropped": sum(row["status"] != "kept" for row in mine)}
    return out


def _variant(place: str, name: str, shas: set[str]) -> str:
    """The manifest in which only pairs of these GTs are for training. D_ref and test are those of the held scenes."""
    path = os.path.join(place, f"variant-{name}")
    if os.path.exists(os.path.join(path, "manifest.json")):
        return path
    sources = [table.read(os.path.join(place, f"{part}-pairs")) for part in ("train", "held")]
    whole = pa.concat_tables([one.table() for one in sources], promote_options="permissive")
    rows = whole.select(["group", "dataset"]).to_pylist()
    scenes = sorted({row["group"] for row in rows if row["dataset"].startswith("held")})
    split = []
    for row in whole.select(["dataset", "group", "gt_sha256", "lq_path"]).to_pylist():
        if row["lq_path"] is None:
            split.append(None)
        elif row["dataset"].startswith("train"):
            split.append("train" if row["gt_sha256"] in shas else None)
        else:
            split.append(("ref", "test")[scenes.index(row["group"]) % 2])
    roots = {dataset: root for one in sources for dataset, root in one.roots.items()}
    stage = table.stage_entry("variant", 1, {"name": name, "gts": len(shas)}, sources)
    table.write(path, schema.set_column(whole, "split", split, pa.string()), roots=roots,
                stages=[*sources[0].stages, stage])  # fmt: skip
    return path


def _cut(place: str, settings: Settings) -> None:
    """Write the GTs of training and held scenes, and which of them were spoilt how."""
    photos = settings.photos or _photographs(os.path.join(place, "photos"))
    scenes = sorted(name for name in os.listdir(photos) if os.path.isdir(os.path.join(photos, name)))
    held = set(np.random.default_rng(0).permutation(scenes)[: max(2, round(settings.held * len(scenes)))].tolist())
    rng, spoilt = np.random.default_rng(2), dict[str, str]()
    for scene in scenes:
        part = "held" if scene in held else "train"
        for name in sorted(os.listdir(os.path.join(photos, scene))):
            pixels = images.to_8_bit(images.decode(files.read(os.path.join(photos, scene, name))).pixels)
            for number, gt in enumerate(_crops(pixels, settings, rng)):
                path = f"{scene}/{os.path.splitext(name)[0]}-{number}.png"
                if part == "train" and rng.random() < settings.spoilt:
                    spoilt[path] = KINDS[rng.integers(len(KINDS))]
                    gt = _spoil(gt, spoilt[path], rng)
                files.write(os.path.join(place, f"{part}-gt", path), images.encode_png(gt))
    files.write(os.path.join(place, "spoilt.json"), json.dumps(spoilt).encode())


def _crops(pixels: Image, settings: Settings, rng: np.random.Generator) -> list[Image]:
    """Squares of a photograph that have something in them, at random places."""
    out: list[Image] = []
    side = settings.side
    for _ in range(6 * settings.crops):
        if min(pixels.shape[:2]) < side or len(out) == settings.crops:
            break
        top, left = (int(rng.integers(0, size - side + 1)) for size in pixels.shape[:2])
        part = pixels[top : top + side, left : left + side]
        if part.std() > 20:
            out.append(np.ascontiguousarray(part))
    return out


def _spoil(gt: Image, kind: str, rng: np.random.Generator) -> Image:
    """A GT as it should not be: noisy, out of focus, or compressed too much."""
    if kind == "noise":
        return np.clip(gt + rng.normal(0, rng.uniform(10, 25), gt.shape), 0, 255).round().astype(np.uint8)
    if kind == "blur":
        return np.asarray(cv2.GaussianBlur(gt, (0, 0), rng.uniform(1.5, 3.0)), np.uint8)
    data = images.encode_jpeg(gt, int(rng.integers(10, 30)))
    return np.asarray(images.decode(data).pixels, np.uint8)


def _photographs(folder: str) -> str:
    from pipelines.photos import photos

    photos(folder)
    return folder
