"""Photographs that scikit-image and scikit-learn ship, as a small unsharded manifest of two tasks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

Image = npt.NDArray[np.uint8]


def _photographs() -> dict[str, Image]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    return {
        "astronaut": data.astronaut(), "chelsea": data.chelsea(), "coffee": data.coffee(), "rocket": data.rocket(),
        "china": china, "flower": flower,
    }  # fmt: skip


@pytest.fixture(scope="session")
def photographs() -> dict[str, Image]:
    """Name → (H, W, 3) uint8."""
    return _photographs()


def _degraded(gt: Image, task: str, rng: np.random.Generator) -> Image:
    if task == "denoise":
        return np.clip(gt + rng.normal(0, 25, gt.shape), 0, 255).astype(np.uint8)
    if task == "sr":
        return np.ascontiguousarray(gt[::2, ::2])
    return (gt * 0.4).astype(np.uint8)  # low_light


SPLITS = {"astronaut": "train", "chelsea": "train", "coffee": "ref", "rocket": "ref", "china": "test", "flower": "test"}


def build_manifest(folder: Path, photographs: dict[str, Image], *, tasks: tuple[str, ...], crop: int = 64) -> str:
    """Write PNGs and a manifest of them: four crops of every photograph for each task. Returns its path."""
    from manifests import images, schema, table

    rng = np.random.default_rng(7)
    rows: list[dict[str, Any]] = []
    (folder / "files").mkdir(parents=True)
    for name, photograph in photographs.items():
        for number in range(4):
            top, left = 40 + 60 * (number // 2), 60 + 80 * (number % 2)
            gt = photograph[top : top + crop, left : left + crop]
            gt_path = f"{name}-{number}.png"
            gt_bytes = images.encode_png(gt)
            (folder / "files" / gt_path).write_bytes(gt_bytes)
            for task in tasks:
                lq = _degraded(gt, task, rng)
                lq_path = f"{name}-{number}.{task}.png"
                lq_bytes = images.encode_png(lq)
                (folder / "files" / lq_path).write_bytes(lq_bytes)
                rows.append(
                    {
                        "pair_id": schema.pair_id("photos", task, "plain", lq_path, gt_path),
                        "group": name,
                        "dataset": "photos",
                        "task": task,
                        "subtask": "plain",
                        "split": SPLITS[name],
                        "lq_path": lq_path,
                        "gt_path": gt_path,
                        "gt_sha256": images.sha256(gt_bytes),
                        "lq.sha256": images.sha256(lq_bytes),
                        "width": gt.shape[1],
                        "height": gt.shape[0],
                        "mode": "RGB",
                        "lq.width": lq.shape[1],
                        "lq.height": lq.shape[0],
                        "lq.mode": "RGB",
                        "scale": gt.shape[0] // lq.shape[0],
                    }
                )
    path = str(folder / "manifest")
    stages = [{"stage": "test", "version": 1, "params": {}, "inputs": []}]
    table.write(path, pa.Table.from_pylist(rows), roots={"photos": str(folder / "files")}, stages=stages)
    return path


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, Image]) -> str:
    """Denoise, low_light and sr (x2); 8 training, 8 reference and 8 test pairs of each, 64 x 64 pixels."""
    return build_manifest(tmp_path_factory.mktemp("data"), photographs, tasks=("denoise", "low_light", "sr"))
