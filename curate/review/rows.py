"""A manifest as the review page sees it: which rows there are, by task, reason and score, and their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.thumbnails import jpeg
from manifests import crops, files, images
from manifests.errors import UserError
from manifests.table import Manifest, read

SCORES = ("iqa.", "degradation.", "daclip.", "pair.")
STATE = "pair.state"
THUMBNAIL = 156  # pixels of the longer side
SHOWN = ("caption", "judge.distortion", "judge.quality", "instruction")
PLAIN = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}  # what a browser shows as it is

SIZES = ("width", "height", "lq.width", "lq.height")

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Query:
    """Which rows, in which order: by `column`, those nearest to `near` first where that is given."""

    task: str = ""
    reason: str = ""
    status: str = ""
    column: str = ""
    low: float | None = None
    high: float | None = None
    near: float | None = None
    descending: bool = False
    pair: str = ""  # a pair.state


class Rows:
    """The rows with a GT, as columns."""

    def __init__(self, manifest: str) -> None:
        self.manifest: Manifest = read(manifest)
        names = self.manifest.column_names
        self.judged = [name for name in names if name.startswith(SCORES)]
        self.texts = [name for name in SHOWN if name in names]
        columns = [
            "pair_id",
            "task",
            "dataset",
            "status",
            "decisions",
            "lq_path",
            "gt_path",
            "width",
            "height",
            "scale",
        ]
        self._places = self.manifest.place_columns("lq", "gt")
        cropped = [name for name in crops.COLUMNS if name in names]
        self._sizes = [*SIZES, *cropped, *({"shard"} & set(names))] if cropped else []
        table = self.manifest.table(
            [*dict.fromkeys([*columns, *self.judged, *self.texts, *self._places, *self._sizes])]
        )
        self.table = table.filter(pc.is_valid(table.column("gt_path"))).combine_chunks()
        if not len(self.table):
            raise UserError(f"{manifest}: has no row with a GT to look at")
        kinds = {name: self.table.column(name).type for name in self.judged}
        self.scores = [name for name, kind in kinds.items() if pa.types.is_floating(kind) or pa.types.is_integer(kind)]
        self.values = {name: self.table.column(name).to_numpy().astype(np.float64) for name in self.scores}
        self._codes = {
            name: _codes(self.table.column(name))
            for name in ("task", "status", STATE)
            if name in self.table.column_names
        }
        self.reasons = self._reasons()

    def __len__(self) -> int:
        return len(self.table)

    def facts(self) -> dict[str, Any]:
        """What the page's filters offer."""
        ranges = {
            name: [float(np.nanmin(some)), float(np.nanmax(some))]
            for name, some in self.values.items()
            if not np.isnan(some).all()
        }
        states = self._codes[STATE][0] if STATE in self._codes else []
        return {
            "rows": len(self), "pairs": sorted(filter(None, states)),
            "tasks": sorted(filter(None, self._codes["task"][0])),
            "status": sorted(self._codes["status"][0]), "reasons": sorted(self.reasons), "scores": ranges,
        }  # fmt: skip

    def find(self, query: Query) -> Ints:
        """The rows that a query means, in its order."""
        use = np.ones(len(self), bool)
        for name, wanted in (("task", query.task), ("status", query.status), (STATE, query.pair)):
            if wanted:
                known, codes = self._codes.get(name, ([], np.full(len(self), -2, np.int32)))
                use &= codes == (known.index(wanted) if wanted in known else -1)
        if query.reason:
            use &= self.reasons.get(query.reason, np.zeros(len(self), bool))
        values = self.values.get(query.column)
        if values is None:
            return np.flatnonzero(use).astype(np.int32)
        for bound, inside in ((query.low, np.greater_equal), (query.high, np.less_equal)):
            if bound is not None:
                use &= inside(values, bound)
        found = np.flatnonzero(use)
        keys = values[found] if query.near is None else np.abs(values[found] - query.near)
        order = np.argsort(-keys if query.descending else keys, kind="stable")
        return found[order].astype(np.int32)

    def pair_id(self, row: int) -> str:
        """The id of a row."""
        return str(self.table.column("pair_id")[row].as_py())

    def label(self, row: int, column: str) -> dict[str, Any]:
        """What the list shows of a row."""
        value = self.values[column][row] if column in self.values else float("nan")
        one = {name: self.table.column(name)[row].as_py() for name in ("pair_id", "task", "status", "gt_path")}
        one["lq"] = self.table.column("lq_path")[row].is_valid
        return {"row": row, **one, "value": None if np.isnan(value) else float(value)}

    def detail(self, row: int) -> dict[str, Any]:
        """Everything that the page shows of a row beside its images."""
        one = self.table.slice(row, 1).to_pylist()[0]
        return {
            **{name: one[name] for name in ("pair_id", "task", "dataset", "status", "gt_path", "lq_path")},
            **{name: one[name] for name in ("width", "height")},
            "scale": one["scale"] or 1,
            "scores": {n: one[n] for n in self.scores if one[n] is not None and not n.startswith("pair.")},
            "pair": {n: _plain(one[n]) for n in self.judged if one[n] is not None and n.startswith("pair.")},
            "texts": {name: one[name] for name in self.texts if one[name]},
            "reasons": [f"{said['stage']}: {said['text']}" for said in one["decisions"]],
        }

    def image(self, row: int, side: str) -> tuple[bytes, str] | None:
        """Bytes and type of a row's "gt" or "lq", as a browser shows it right; None where there is none.

        Raises OSError and ImageError.
        """
        data = self._bytes(row, side)
        if data is None:
            return None
        decoded = images.decode(data)
        one = {name: self.table.column(name)[row].as_py() for name in self._sizes}
        if crops.is_cropped(one):
            cropped = crops.apply(decoded.pixels, one, side)
            return images.encode_png(images.to_8_bit(cropped)), "image/png"
        if decoded.converted or decoded.format not in PLAIN or decoded.pixels.dtype != np.uint8:
            return images.encode_png(images.to_8_bit(decoded.pixels)), "image/png"
        return data, PLAIN[decoded.format]

    def thumbnail(self, row: int) -> bytes | None:
        """A small JPEG file of a row's GT; None where there is none. Raises OSError and ImageError."""
        data = self._bytes(row, "gt")
        return None if data is None else jpeg(images.decode(data).pixels, THUMBNAIL)

    def _bytes(self, row: int, side: str) -> bytes | None:
        one = {name: self.table.column(name)[row].as_py() for name in self._places}
        return files.read(*self.manifest.place(one, side)) if one[f"{side}_path"] else None

    def _reasons(self) -> dict[str, npt.NDArray[np.bool_]]:
        """stage/rule → which rows it dropped or failed."""
        decisions = self.table.column("decisions").combine_chunks()
        parents = pc.list_parent_indices(decisions).to_numpy()
        flat = pc.list_flatten(decisions)
        stages, rules = (pc.struct_field(flat, name).to_pylist() for name in ("stage", "rule"))
        out: dict[str, npt.NDArray[np.bool_]] = {}
        for parent, stage, rule in zip(parents.tolist(), stages, rules, strict=True):
            out.setdefault(f"{stage}/{rule}", np.zeros(len(self), bool))[parent] = True
        return out


def _plain(value: Any) -> Any:
    """A measurement of a pair as the page shows it: a number, or text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value).lower()


def _codes(column: pa.ChunkedArray) -> tuple[list[Any], Ints]:
    encoded = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
