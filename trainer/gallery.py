"""The best, the median and the worst image of every task after an evaluation, as one PNG that says what is in it.

A row an image: LQ | output | GT, crops at full resolution. What each row shows stands in the PNG's text chunk
"equimix" as JSON, so that picture and text never part.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from manifests import files
from trainer import evaluate

if TYPE_CHECKING:
    from torch import nn

    from trainer.stream.index import Index

Image = npt.NDArray[np.uint8]

SIDE = 320  # pixels of a crop, at most
STRIDE = 16  # pixels between the crops that are compared
KEY = "equimix"


@dataclass(frozen=True)
class Shown:
    """One row of a gallery. rank: "best", "median" or "worst" of the `n` images of its task by gain in `metric`.

    lq, value: the metric of the whole input and output; lq is None where it is unknown, and rank is then by value.
    height, width: of the crop, pixels.
    """

    task: str
    rank: str
    n: int
    pair_id: str
    metric: str
    lq: float | None
    value: float
    height: int
    width: int


def choose(scored: Sequence[evaluate.Scored], higher_is_better: dict[str, bool]) -> list[tuple[str, int, Any]]:
    """(rank, number of images, Scored) of up to three images per task, the worst first, by its first metric.

    higher_is_better: metric → direction. An image without a value is passed over.
    """
    chosen: list[tuple[str, int, Any]] = []
    for task in sorted({score.task for score in scored}):
        mine = [score for score in scored if score.task == task]
        mine = [score for score in mine if score.metric == mine[0].metric and score.value is not None]
        if not mine:
            continue
        sign = 1.0 if higher_is_better[mine[0].metric] else -1.0
        has_input = all(score.lq is not None for score in mine)
        gains = [sign * ((score.value or 0.0) - (score.lq or 0.0 if has_input else 0.0)) for score in mine]
        order = np.lexsort(([score.pair_id for score in mine], gains)).tolist()
        ranks = {"best": order[-1], "worst": order[0], "median": order[len(order) // 2]}
        names = ("worst", "median", "best") if len(mine) > 2 else ("worst", "best") if len(mine) == 2 else ("median",)
        chosen += [(rank, len(mine), mine[ranks[rank]]) for rank in names]
    return chosen


def make(
    model: nn.Module,
    index: Index,
    scored: Sequence[evaluate.Scored],
    higher_is_better: dict[str, bool],
    *,
    crop: int | None = None,
    tile: int = evaluate.TILE,
    bf16: bool = False,
) -> bytes:
    """A gallery of the images that `scored` ranks, restored once more; three images per task.

    model, index, crop, tile, bf16: as in the evaluation. higher_is_better: metric → direction. The same arguments give
    the same bytes.
    """
    numbers = {index.rows[number].pair_id: number for number in range(len(index.rows))}
    rows: list[tuple[Shown, evaluate.Triple]] = []
    for rank, n, score in choose(scored, higher_is_better):
        triples = evaluate.score(
            model, index, dict.fromkeys(index.tasks, ()), crop=crop, tile=tile, bf16=bf16, inputs=False,
            numbers=[numbers[score.pair_id]],
        )[1]  # fmt: skip
        triple = _detail(*triples[score.task])
        height, width = triple[0].shape[:2]
        shown = Shown(
            score.task, rank, n, score.pair_id, score.metric, score.lq, float(score.value), int(height), int(width)
        )
        rows.append((shown, triple))
    return encode(rows)


def _detail(lq: Image, output: Image, gt: Image) -> evaluate.Triple:
    """The crop of SIDE² pixels in which the GT has the most detail (mean absolute gradient), of all three."""
    height, width = gt.shape[:2]
    rows, columns = min(SIDE, height), min(SIDE, width)
    luma = cv2.cvtColor(gt, cv2.COLOR_RGB2GRAY).astype(np.float32)
    energy = np.abs(cv2.Sobel(luma, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(luma, cv2.CV_32F, 0, 1))
    sums = cv2.integral(energy)
    tops, lefts = np.arange(0, height - rows + 1, STRIDE), np.arange(0, width - columns + 1, STRIDE)
    corners = [sums[np.ix_(tops + down, lefts + right)] for down in (0, rows) for right in (0, columns)]
    top, left = np.unravel_index(np.argmax(corners[3] - corners[2] - corners[1] + corners[0]), (len(tops), len(lefts)))
    area = slice(tops[top], tops[top] + rows), slice(lefts[left], lefts[left] + columns)
    return lq[area], output[area], gt[area]


def encode(rows: Sequence[tuple[Shown, evaluate.Triple]]) -> bytes:
    """A PNG of rows of three crops each, and what they show in its text chunk."""
    from PIL import Image as PILImage
    from PIL.PngImagePlugin import PngInfo

    width = 3 * max((shown.width for shown, _ in rows), default=1)
    sheet = np.full((max(sum(shown.height for shown, _ in rows), 1), width, 3), 255, np.uint8)
    top = 0
    for shown, triple in rows:
        for column, pixels in enumerate(triple):
            left = column * shown.width
            sheet[top : top + shown.height, left : left + shown.width] = pixels
        top += shown.height
    text, buffer = PngInfo(), io.BytesIO()
    text.add_text(KEY, json.dumps([asdict(shown) for shown, _ in rows]))
    PILImage.fromarray(sheet).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def read(path: str) -> list[tuple[Shown, evaluate.Triple]]:
    """The rows of a gallery that `encode` wrote; none where there is no file, or it is no gallery."""
    from PIL import Image as PILImage

    try:
        with PILImage.open(io.BytesIO(files.read(path)), formats=["PNG"]) as image:
            rows = [Shown(**row) for row in json.loads(image.text[KEY])]  # type: ignore[attr-defined]
            sheet = np.asarray(image.convert("RGB"))
    except (OSError, KeyError, TypeError, ValueError):
        return []
    found: list[tuple[Shown, evaluate.Triple]] = []
    top = 0
    for shown in rows:
        part = sheet[top : top + shown.height]
        cells = [part[:, column * shown.width : (column + 1) * shown.width] for column in range(3)]
        found.append((shown, (cells[0], cells[1], cells[2])))
        top += shown.height
    return found
