"""Sample grids: one row a task, LQ | output | GT side by side, all cells of one size so that a row can be cut out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainer.evaluate import centre

Image = npt.NDArray[np.uint8]

CELL, GAP = 256, 6  # pixels
COLUMNS = 3


def compose(rows: Sequence[Sequence[Image]]) -> Image:
    """Rows of (H, W, 3) images as one picture: centre crops of at most `CELL` pixels on white, `GAP` apart."""
    height, width = len(rows) * (CELL + GAP) + GAP, max(map(len, rows)) * (CELL + GAP) + GAP
    sheet = np.full((height, width, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            part = centre(image, CELL)
            top = GAP + i * (CELL + GAP) + (CELL - part.shape[0]) // 2
            left = GAP + j * (CELL + GAP) + (CELL - part.shape[1]) // 2
            sheet[top : top + part.shape[0], left : left + part.shape[1]] = part
    return sheet


def cut(sheet: Image, columns: int = COLUMNS) -> list[list[Image]]:
    """The cells of a composed picture, row by row; cells of any size, as older runs have."""
    cell = (sheet.shape[1] - GAP) // columns - GAP
    step = cell + GAP
    rows = (sheet.shape[0] - GAP) // step
    return [
        [sheet[GAP + i * step : (i + 1) * step, GAP + j * step : (j + 1) * step] for j in range(columns)]
        for i in range(rows)
    ]
