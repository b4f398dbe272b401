"""What is wrong with the data of a manifest: findings, the worst first, each with the command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests.table import Manifest, read

SEVERITIES = ("error", "warning", "note")
MIN_PAIRS = 100
NAMED = 3
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    severity: error (training on this is wrong), warning (likely to hurt), note (good to know). kind: a short name that
    does not change. count: of the rows, scenes or tasks that the text is about. names: the first three of them.
    command: what mends it, as a line for a shell; NAMES in capitals are to be filled in.
    """

    severity: str
    kind: str
    text: str
    count: int
    names: tuple[str, ...]
    command: str

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return {
            "severity": self.severity, "kind": self.kind, "text": self.text, "count": self.count,
            "names": list(self.names), "command": self.command,
        }  # fmt: skip


class Rows:
    """The columns of a manifest that are looked at, so that a million rows fit."""

    PLAIN = (
        "pair_id", "group", "dataset", "task", "split", "lq_path", "gt_path", "gt_sha256", "lq.sha256", "width",
        "height", "lq.width", "lq.height", "phash", "license", "status", "decisions",
    )  # fmt: skip
    PREFIXES = ("iqa.", "degradation.")
    OTHERS = ("pair.state", "shard")

    def __init__(self, source: Manifest) -> None:
        names = source.column_names
        self.scores = [name for name in names if name.startswith(self.PREFIXES)]
        wanted = [*self.PLAIN, *self.scores, *(name for name in self.OTHERS if name in names)]
        self.source = source
        self.table = source.table(wanted)
        self.kept: Mask = self.where("status", "kept")
        self.paired: Mask = self.has("lq_path") & self.has("gt_path")

    def has(self, column: str) -> Mask:
        """Where a column has a value; nowhere when the manifest lacks it."""
        if column not in self.table.column_names:
            return np.zeros(self.table.num_rows, bool)
        return np.asarray(pc.is_valid(self.table.column(column)).to_numpy(), bool)

    def where(self, column: str, value: Any) -> Mask:
        """Where a column has this value."""
        if column not in self.table.column_names:
            return np.zeros(self.table.num_rows, bool)
        return np.asarray(pc.fill_null(pc.equal(self.table.column(column), value), False).to_numpy(), bool)

    def tasks(self, rows: Mask) -> Iterator[tuple[str, Mask]]:
        """Each task among `rows`, and which of them are of it."""
        names = pc.unique(self.table.column("task").filter(pa.array(rows))).to_pylist()
        for name in sorted(filter(None, names)):
            yield name, rows & self.where("task", name)

    def codes(self, column: str, rows: Mask) -> npt.NDArray[np.int64]:
        """A column of `rows` as numbers: equal values have equal numbers, null is -1."""
        chosen = self.table.column(column).filter(pa.array(rows)).combine_chunks().dictionary_encode()
        found: npt.NDArray[np.int64] = pc.fill_null(chosen.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        return found

    def names(self, rows: Mask) -> tuple[str, ...]:
        """The files of the first few of `rows`."""
        some = self.table.select(["lq_path", "gt_path"]).take(pa.array(np.flatnonzero(rows)[:NAMED]))
        return tuple(str(row["lq_path"] or row["gt_path"] or "-") for row in some.to_pylist())


Check = Callable[[Rows, int], Iterator[Finding]]


def diagnose(manifest: str = "manifest", *, min_pairs: int = MIN_PAIRS) -> list[Finding]:
    """The findings about a manifest: errors first, then warnings, then notes, of each the most frequent first.

    min_pairs: a task with fewer kept pairs is a finding. Reads columns only, never an image. Raises UserError when
    there is no manifest.
    """
    from curate.doctor_checks import CHECKS

    rows = Rows(read(manifest))
    found = [finding for check in CHECKS for finding in check(rows, min_pairs)]
    order = {name: rank for rank, name in enumerate(SEVERITIES)}
    return sorted(found, key=lambda one: (order[one.severity], -one.count, one.kind, one.text))


def has_errors(findings: Sequence[Finding]) -> bool:
    """Whether there is one that makes training wrong."""
    return any(finding.severity == "error" for finding in findings)
