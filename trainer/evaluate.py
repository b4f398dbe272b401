"""Scores of a model on a split: per image, and per task with standard errors, under conventions that are printed."""

from __future__ import annotations

import io
import json
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from manifests import files, images
from manifests.errors import UserError
from manifests.outputs import refuse_existing
from trainer import metrics as metrics_
from trainer import tables, tiling
from trainer.clustered import mean_and_error

if TYPE_CHECKING:
    from torch import nn

    from trainer.stream.index import Index

Image = npt.NDArray[np.uint8]
Triple = tuple[Image, Image, Image]  # LQ, output, GT

TILE, OVERLAP = 1024, 64


@dataclass(frozen=True)
class Scored:
    """One metric of one image; `lq` is the score of the input, None where a metric is not defined.

    group: the scene, from the manifest; None where it has none.
    """

    pair_id: str
    dataset: str
    task: str
    subtask: str
    metric: str
    lq: float | None
    value: float | None
    group: str | None = None


@dataclass(frozen=True)
class Summary:
    """One metric of one task: mean over the `n` images that have it, its standard error, and the input's mean.

    groups: scenes of these images; None where unknown. gain: mean of value - lq over the images that have both.
    gain_se: its standard error. Both standard errors are over groups where these are known, else over images (see
    `clustered.mean_and_error`); None for a single group.
    """

    task: str
    metric: str
    value: float
    se: float | None
    n: int
    lq: float | None
    groups: int | None = None
    gain: float | None = None
    gain_se: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. `missing`: metric → why it is not available. `path`: JSON, with a Parquet beside it."""

    step: int
    split: str
    table: list[Summary]
    missing: dict[str, str]
    conventions: dict[str, str]
    path: str
    images: list[Scored] = field(repr=False)


def conventions(metrics: Iterable[metrics_.Metric], *, crop: int | None = None, tile: int = TILE) -> dict[str, str]:
    """Everything that a number depends on beside model and data, in words, and 12 hex digits that name it all."""
    said = {
        "input": "LQ, enlarged to the GT's size by OpenCV's bicubic where it is smaller",
        "area": "whole image" if crop is None else f"centre {crop}x{crop} pixels of larger images",
        "output": "moving-average weights, clamped to [0, 1], rounded to 8 bit",
        "tiles": f"none up to {tile}x{tile} pixels, above that {tile} pixels with an overlap of {OVERLAP}",
        "mean": "over images; standard error over groups (scenes); gain is restored - input of each image",
        **{metric.name: metric.convention for metric in metrics},
    }
    return {**said, "fingerprint": files.digest(said)[:12]}


def score(
    model: nn.Module,
    index: Index,
    metrics: Mapping[str, Sequence[metrics_.Metric]],
    *,
    crop: int | None = None,
    tile: int = TILE,
    bf16: bool = False,
    inputs: bool = True,
    numbers: Sequence[int] | None = None,
    seen: Callable[[], object] = lambda: None,
) -> tuple[list[Scored], dict[str, Triple]]:
    """Restore and measure every pair of `index`.

    metrics: task → its metrics. crop: centre crop of larger images, pixels. inputs: measure the LQ as well.
    numbers: rows of the index, all by default. seen: called after each image. Returns the scores, in the order of the
    index, and per task the first LQ, output and GT. Raises UserError when the model's output is not finite.
    """
    training = model.training
    model.eval()
    scored: list[Scored] = []
    samples: dict[str, Triple] = {}
    for number in range(len(index.rows)) if numbers is None else numbers:
        row, pair = index.rows[number], index.load(number)
        lq, gt = enlarge(pair.lq, pair.gt), images.to_8_bit(pair.gt)
        if crop is not None:
            lq, gt = centre(lq, crop), centre(gt, crop)
        output = tiling.restore(model, images.to_float(lq), tile=tile, overlap=OVERLAP, bf16=bf16)
        if not np.isfinite(output).all():
            raise UserError(
                f"the model's output for pair {row.pair_id} ({row.task}) is not finite: training has diverged; "
                "start again with a lower --lr"
            )
        triple = images.to_8_bit(lq), quantise(output), gt
        samples.setdefault(row.task, triple)
        for metric in metrics[row.task]:
            before = metric.measure(triple[0], gt) if inputs else None
            after = metric.measure(triple[1], gt)
            scored.append(
                Scored(row.pair_id, row.dataset, row.task, row.subtask, metric.name, before, after, row.group)
            )
        seen()
    model.train(training)
    return scored, samples


def summarise(scored: Sequence[Scored]) -> list[Summary]:
    """Means, gains and standard errors, a row per task and metric, tasks in alphabetical order."""
    out = []
    for task, metric in sorted(dict.fromkeys((one.task, one.metric) for one in scored), key=lambda pair: pair[0]):
        mine = [one for one in scored if one.task == task and one.metric == metric]
        known = [(one.value, one.group) for one in mine if one.value is not None]
        if not known:
            continue
        value, se, groups = mean_and_error(*zip(*known, strict=True))
        inputs = [one.lq for one in mine if one.lq is not None]
        lq = statistics.fmean(inputs) if inputs else None
        pairs = [(one.value - one.lq, one.group) for one in mine if one.value is not None and one.lq is not None]
        gain, gain_se, _ = mean_and_error(*zip(*pairs, strict=True)) if pairs else (None, None, None)
        out.append(Summary(task, metric, value, se, len(known), lq, groups, gain, gain_se))
    return out


def evaluate(
    checkpoint: str,
    manifest: str = "./manifest",
    *,
    split: str = "test",
    metrics: Sequence[str] = ("psnr", "ssim"),
    tile: int = TILE,
    channel: str = "rgb",
    border: int = 0,
    device: str = "auto",
    output: str | None = None,
    table: str | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Score a checkpoint on a split of a manifest.

    checkpoint: a checkpoint folder, or a run folder (its newest). metrics: psnr, ssim, or pyiqa's names; those whose
    weights are not here are reported as missing. channel, border: see `metrics.load`. table: a .md, .tex or .csv file
    with a row per task and dataset. output: the JSON that is written, RUN/eval/SPLIT-STEP.json by
    default. Files of the same name hold the scores of every image (Parquet) and the best, median and worst image of
    every task (PNG). Raises UserError.
    """
    from manifests.progress import counted
    from trainer import checkpoint as checkpoint_
    from trainer import devices, gallery
    from trainer.stream.index import open_index

    where = devices.resolve(device)
    found, missing = _load_metrics(metrics, where, channel, border)
    opened = checkpoint_.find(checkpoint)
    path = output or default_path(opened.path, split, opened.step)
    refuse_existing(path, overwrite=overwrite)
    if table is not None:
        tables.check_path(table, overwrite=overwrite)
    index = open_index(manifest, split, groups=True)
    model = checkpoint_.load_model(opened, where)
    bf16 = devices.uses_bf16("auto", where)
    with counted(f"eval {split}", len(index.rows), "images") as seen:
        scored, _ = score(model, index, dict.fromkeys(index.tasks, found), tile=tile, bf16=bf16, seen=seen)
    result = Evaluation(
        opened.step, split, summarise(scored), missing, conventions(found, tile=tile), path, images=scored
    )
    directions = {metric.name: metric.higher_is_better for metric in found}
    pictures = gallery.make(model, index, scored, directions, tile=tile, bf16=bf16)
    files.write(os.path.splitext(path)[0] + ".png", pictures)
    _write(result, index.fingerprint)
    if table is not None:
        tables.write(result, table, overwrite=overwrite)
    return result


def default_path(checkpoint: str, split: str, step: int) -> str:
    """Where the results of a checkpoint go: RUN/eval/SPLIT-step-XXXXXXXX.json; eval/ beside one that was moved."""
    folder = os.path.dirname(os.path.abspath(checkpoint))
    run = os.path.dirname(folder) if os.path.basename(folder) == "checkpoints" else folder
    return os.path.join(run, "eval", f"{split}-step-{step:08d}.json")


def enlarge(lq: npt.NDArray[Any], gt: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An LQ that is smaller than its GT, as in super-resolution, at the GT's size (bicubic); others unchanged."""
    if lq.shape == gt.shape:
        return lq
    size = gt.shape[1], gt.shape[0]
    enlarged: npt.NDArray[Any] = cv2.resize(lq, size, interpolation=cv2.INTER_CUBIC)
    return enlarged


def quantise(output: npt.NDArray[np.float32], maximum: int = 255) -> npt.NDArray[Any]:
    """(H, W, 3) float → clamped to [0, 1] and rounded to uint8, or to uint16 for a `maximum` of 65535."""
    scaled = np.rint(np.clip(output, 0.0, 1.0) * np.float32(maximum))
    pixels: npt.NDArray[Any] = scaled.astype(np.uint8 if maximum == 255 else np.uint16)
    return pixels


def centre(image: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """The middle `size` x `size` pixels of (H, W, 3), or all of a side that is shorter."""
    top, left = max(image.shape[0] - size, 0) // 2, max(image.shape[1] - size, 0) // 2
    return image[top : top + size, left : left + size]


def _load_metrics(
    names: Sequence[str], device: str, channel: str, border: int
) -> tuple[list[metrics_.Metric], dict[str, str]]:
    found, missing = [], {}
    for name in dict.fromkeys(part.strip() for one in names for part in one.split(",") if part.strip()):
        try:
            found.append(metrics_.load(name, device, channel=channel, border=border))
        except metrics_.MissingMetricError as error:
            missing[name] = str(error)
    if not found:
        raise UserError(next(iter(missing.values()), "name at least one metric"), exit_code=1 if missing else 2)
    return found, missing


def _write(result: Evaluation, fingerprint: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(one) for one in result.images]), buffer, compression="zstd")
    files.write(os.path.splitext(result.path)[0] + ".parquet", buffer.getvalue())
    content = {
        "step": result.step,
        "split": result.split,
        "index": fingerprint,
        "conventions": result.conventions,
        "missing": result.missing,
        "table": [asdict(row) for row in result.table],
    }
    files.write(result.path, (json.dumps(content, indent=2) + "\n").encode())
