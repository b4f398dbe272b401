"""What one row of a manifest is: the columns that every manifest has, and the rules that a row obeys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import UserError
from manifests.files import digest

VERSION = 1

DECISION = pa.struct(
    [
        ("stage", pa.string()),
        ("rule", pa.string()),
        ("verdict", pa.string()),  # "drop" or "error"
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("text", pa.string()),
    ]
)

CORE: dict[str, pa.DataType] = {
    "pair_id": pa.string(),  # 32 hex digits of sha256(dataset, task, subtask, lq_path, gt_path)
    "group": pa.string(),  # source photograph, clip or scene; splits move whole groups
    "dataset": pa.string(),
    "task": pa.string(),
    "subtask": pa.string(),
    "split": pa.string(),  # train, ref, test
    "lq_path": pa.string(),  # relative to the dataset's root; null for GT-only rows
    "gt_path": pa.string(),
    "gt_sha256": pa.string(),
    "lq.sha256": pa.string(),
    "width": pa.int32(),  # of the upright GT, pixels
    "height": pa.int32(),
    "mode": pa.string(),  # pixel mode of the GT file as stored: RGB, L, RGBA, I;16, RGB;16, CMYK, P
    "lq.width": pa.int32(),
    "lq.height": pa.int32(),
    "lq.mode": pa.string(),
    "scale": pa.int32(),  # GT size / LQ size
    "phash": pa.string(),  # 64-bit perceptual hash as 16 hex digits (a nullable integer would become float in pandas)
    "lq.phash": pa.string(),
    "license": pa.string(),
    "status": pa.string(),  # kept, dropped, error; derived from decisions
    "decisions": pa.list_(DECISION),
}

_NAME = re.compile(r"[a-z0-9_.]+")


def pair_id(dataset: str, task: str, subtask: str, lq_path: str, gt_path: str) -> str:
    """The identity of a pair: 32 hex digits of sha256 over its five names as a JSON list. Never its content."""
    return digest([dataset, task, subtask, lq_path, gt_path])


def decision(
    stage: str,
    rule: str,
    verdict: str,
    text: str,
    *,
    value: float | None = None,
    threshold: float | None = None,
) -> dict[str, Any]:
    """One entry of a row's `decisions`. `verdict` is "drop" or "error"; `text` says why, for a person."""
    if verdict not in ("drop", "error"):
        raise ValueError(f"a decision's verdict is 'drop' or 'error', not {verdict!r}")
    return {
        "stage": stage,
        "rule": rule,
        "verdict": verdict,
        "value": value,
        "threshold": threshold,
        "text": text,
    }


def decide(
    old: Sequence[Mapping[str, Any]] | None,
    stage: str,
    rules: Iterable[str],
    new: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The row's decisions after `stage` judged it by `rules`: its newest verdicts replace its older ones.

    A rule that now lets the row pass leaves no entry, so a looser filter revives what a stricter one dropped.
    """
    judged = set(rules)
    kept = [dict(d) for d in old or () if not (d["stage"] == stage and d["rule"] in judged)]
    return kept + [dict(d) for d in new]


def status_of(decisions: Sequence[Mapping[str, Any]] | None) -> str:
    """`error` if any decision is an error, else `dropped` if any is a drop, else `kept`."""
    verdicts = {d["verdict"] for d in decisions or ()}
    return "error" if "error" in verdicts else "dropped" if verdicts else "kept"


def conform(table: pa.Table) -> pa.Table:
    """The table in canonical form: every core column (nulls where absent), then the others by name, exact types.

    `status` is derived anew from `decisions`. Raises UserError for a bad column name or a repeated `pair_id`.
    """
    for name in table.column_names:
        if not _NAME.fullmatch(name):
            raise UserError(f"column {name!r}: names of columns match [a-z0-9_.]+")
    rows = table.num_rows
    columns: dict[str, Any] = {}
    for name, kind in CORE.items():
        if name == "status":
            columns[name] = None
        elif name in table.column_names:
            column = table.column(name).combine_chunks()
            same = column.type == kind and not pa.types.is_list(kind)  # equal lists may differ in their field's name
            columns[name] = column if same else column.cast(kind)
        else:
            columns[name] = pa.nulls(rows, kind)
    if columns["decisions"].null_count:
        columns["decisions"] = pa.array([d or [] for d in columns["decisions"].to_pylist()], CORE["decisions"])
    columns["status"] = status(columns["decisions"])
    for name in sorted(set(table.column_names) - set(CORE)):
        columns[name] = table.column(name).combine_chunks()
    ids = Ids()
    ids.add(columns["pair_id"])
    ids.check()
    return pa.table(columns)


def status(decisions: pa.ListArray) -> pa.Array:
    """`status_of` every row at once."""
    states = np.where(pc.list_value_length(decisions).to_numpy(zero_copy_only=False) > 0, "dropped", "kept")
    errors = pc.equal(pc.struct_field(pc.list_flatten(decisions), "verdict"), "error")
    states = states.astype(object)
    states[pc.list_parent_indices(decisions).filter(errors).to_numpy(zero_copy_only=False)] = "error"
    return pa.array(states, pa.string())


class Ids:
    """Checks that `pair_id` is unique over any number of parts, in 16 bytes a row."""

    def __init__(self) -> None:
        self._parts: list[npt.NDArray[np.uint64]] = []

    def add(self, ids: pa.Array | pa.ChunkedArray) -> None:
        """Remember a part's ids. Raises UserError for one that is not 32 hex digits."""
        if isinstance(ids, pa.ChunkedArray):
            ids = ids.combine_chunks()
        lengths = pc.fill_null(pc.binary_length(ids), 0).to_numpy(zero_copy_only=False)
        if wrong := np.flatnonzero(lengths != 32).tolist():
            value = ids[wrong[0]].as_py()
            reason = f"pair_id {value!r} is not 32 hex digits" if value else "has no pair_id"
            raise UserError(f"row {sum(len(part) for part in self._parts) + wrong[0]}: {reason}")
        self._parts.append(hex_digits(ids, 32))

    def check(self) -> None:
        """Raises UserError unless every id that was added is the only one of its value."""
        if not self._parts:
            return
        halves = np.concatenate(self._parts)
        mixed = halves[:, 0] ^ (halves[:, 1] * np.uint64(0x9E3779B97F4A7C15))
        ordered = np.sort(mixed)
        for value in ordered[1:][ordered[1:] == ordered[:-1]]:  # hardly ever by chance
            ids, counts = np.unique(halves[mixed == value], axis=0, return_counts=True)
            if counts.max() > 1:
                one = ids[counts.argmax()]
                raise UserError(
                    f"pair_id {one[0]:016x}{one[1]:016x} stands in two rows: every pair must be listed once"
                )


def hex_digits(texts: pa.Array, digits: int, used: int | None = None) -> npt.NDArray[np.uint64]:
    """(N, used / 16) numbers of 64 bits: the first `used` (all) of the `digits` hex digits of N strings, none null."""
    used = used or digits
    if not len(texts):
        return np.zeros((0, used // 16), np.uint64)
    start = int(np.frombuffer(texts.buffers()[1], np.int32)[texts.offset])
    text = np.frombuffer(texts.buffers()[2], np.uint8, digits * len(texts), start).reshape(-1, digits)[:, :used]
    nibbles = np.where(text >= ord("a"), text - (ord("a") - 10), text - ord("0")).astype(np.uint8)
    packed = (nibbles[:, ::2] << 4) | nibbles[:, 1::2]
    return np.ascontiguousarray(packed).view(">u8").astype(np.uint64)


def with_columns(table: pa.Table, kinds: Mapping[str, pa.DataType]) -> pa.Table:
    """The table with a column of nulls for every name in `kinds` that it lacks."""
    for name, kind in kinds.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
    return table


def set_column(table: pa.Table, name: str, values: Any, kind: pa.DataType | None = None) -> pa.Table:
    """The table with column `name` set to `values` (replaced where it stands, else appended)."""
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, kind or CORE.get(name))
    index = table.schema.get_field_index(name)
    return table.append_column(name, column) if index < 0 else table.set_column(index, name, column)


def counts(table: pa.Table) -> dict[str, int]:
    """Rows, and how many of them are kept, dropped and error."""
    found = {one["values"]: one["counts"] for one in pc.value_counts(table.column("status")).to_pylist()}
    return {"rows": table.num_rows, **{name: found.get(name, 0) for name in ("kept", "dropped", "error")}}
