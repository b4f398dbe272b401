"""Fill in what rows lack: a stage that reads scores has those measured first that are missing, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import engine, scorers
from curate.identify import COLUMNS, add_probabilities, makers, outdated, recorded
from curate.score import Scores, execution_for, measure, request_for
from manifests import metrics
from manifests.table import Manifest

SCORES, DEGRADATIONS = "iqa.", "degradation."


@dataclass(frozen=True)
class Completed:
    """A manifest with the scores that a stage reads: those that were there, and those that were measured for it.

    scores: what was measured; None where nothing was asked for. identifies: `degradation.<type>` is set as well.
    """

    source: Manifest
    scores: Scores | None
    identifies: bool
    all_rows: bool

    @property
    def params(self) -> dict[str, Any]:
        """What the lineage keeps of what was measured."""
        found = dict(self.scores.params) if self.scores else {"metrics": {}}
        return found | (recorded(self.source) if self.identifies else {})

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The parts of the manifest, completed. columns: of these only, where nothing had to be measured."""
        if self.scores is None or not (self.scores.measured or self.identifies):
            missing = [name for name in columns or () if name not in self.source.column_names]
            wanted = None if columns is None else [name for name in columns if name not in missing]
            for part in self.source.parts(wanted):
                yield _with_nulls(part, missing or (self.scores.request.columns if self.scores else ()))
            return
        kept = not outdated(self.source)
        for part in self.source.parts():
            joined = self.scores.join(part)
            use = engine.chosen(joined, self.all_rows)
            yield add_probabilities(joined, use, keep=kept) if self.identifies else joined


def complete(
    source: Manifest,
    columns: Sequence[str],
    output: str,
    *,
    weights: Mapping[str, str] | None = None,
    device: str = "cpu",
    workers: int = 0,
    dask_address: str | None = None,
    max_errors: str | None = None,
    all_rows: bool = False,
    bf16: bool = False,
) -> Completed:
    """Measure those of `columns` that can be measured, for the rows that lack them; each distinct GT once.

    Measured are `iqa.<metric>` of the metrics that are known, and `degradation.<type>`, from the built-in signals; what
    another version of the signals or another fit of the identifier made is measured anew.
    Other columns are left as they are. Only kept rows are measured (all with `all_rows`); a row without a GT has
    nothing to measure. Finished units are kept in `output`/.work until the caller removes them.
    """
    names = [name for name in map(metric_of, columns) if name]
    wanted = [name for name in columns if name in COLUMNS]
    old = bool(wanted and makers(source)) and outdated(source)
    identifies = old or (bool(wanted) and _lack(source, wanted, all_rows))
    request = request_for([*names, *(["signals"] if identifies else [])], weights, device, workers)
    if not request.names:
        return Completed(source, None, False, all_rows)
    execution = execution_for(request, workers, dask_address, max_errors)
    scores = measure(source, request, output, all_rows=all_rows, execution=execution, bf16=bf16)
    return Completed(source, scores, identifies, all_rows)


def metric_of(column: str) -> str | None:
    """The metric that is measured into a column; None for a column that no metric of ours fills."""
    if not column.startswith(SCORES):
        return None
    known = {metrics.column(name): name for name in {**metrics.NO_REFERENCE, **scorers.signal_metrics()}}
    return known.get(column)


def measurable(column: str) -> bool:
    """Whether `complete` can fill the column."""
    return column in COLUMNS or metric_of(column) is not None


def _lack(source: Manifest, columns: Sequence[str], all_rows: bool) -> bool:
    """Whether a row that would be measured has no value in one of the columns."""
    there = [name for name in columns if name in source.column_names]
    for part in source.parts(["gt_sha256", "status", *there]):
        use = pc.is_valid(part.column("gt_sha256"))
        if not all_rows:
            use = pc.and_(use, pc.equal(part.column("status"), "kept"))
        rows = part.filter(use)
        if rows.num_rows and (len(there) < len(columns) or any(rows.column(name).null_count for name in there)):
            return True
    return False


def _with_nulls(part: pa.Table, names: Sequence[str]) -> pa.Table:
    for name in names:
        if name not in part.column_names:
            part = part.append_column(name, pa.nulls(part.num_rows, pa.float64()))
    return part
