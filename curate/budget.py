"""How many rows a stage may turn into errors before it refuses to finish: `--max-errors`, 50 % where nobody says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests import schema
from manifests.errors import UserError
from manifests.table import Manifest

DEFAULT = "50%"


def allowed(max_errors: str | None, rows: int) -> float:
    """The number of failed rows, of `rows`, that is accepted. Raises UserError unless it is a number or a share."""
    text = DEFAULT if max_errors is None else max_errors.strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UserError(f"--max-errors {max_errors}: give a number of rows, or a share such as 1%", exit_code=2)
    return value / 100 * rows if text.endswith("%") else value


def named(max_errors: str | None) -> str:
    """The limit as a message names it."""
    return f"{DEFAULT} (the default)" if max_errors is None else max_errors


def within(
    tables: Iterable[pa.Table], source: Manifest, stage: str, max_errors: str | None = None
) -> Iterator[pa.Table]:
    """`tables`, the rows of `source` in its order after `stage`; the last step raises when too many became errors.

    Counted are rows that were no error before; the limit is a share of the rows that were kept before. Raises
    UserError with exit code 3, so that the manifest is not written.
    """
    allowed(max_errors, 0)  # nonsense is refused before any work
    before = _states(source)
    offset = failed = 0
    reasons: Counter[str] = Counter()
    for table in tables:
        states = schema.status(table.column("decisions").combine_chunks())
        errors = pc.equal(states, "error").to_numpy(zero_copy_only=False).astype(bool)
        new = errors & (before[offset : offset + table.num_rows] != "error")
        offset += table.num_rows
        failed += int(new.sum())
        if new.any():
            reasons.update(_texts(table, new))
        yield table
    worked = max(int((before == "kept").sum()), failed)
    if failed > allowed(max_errors, worked):
        common = reasons.most_common(1)
        raise UserError(
            f"{stage}: {failed} of {worked} rows would become errors, more than --max-errors {named(max_errors)} "
            f"allows; the most frequent reason: {common[0][0] if common else 'unknown'}. No manifest is written: mend "
            "the cause, or allow more, for example --max-errors 100%",
            exit_code=3,
        )


def _states(source: Manifest) -> npt.NDArray[np.object_]:
    parts = [pc.fill_null(part.column("status"), "kept").to_numpy() for part in source.parts(["status"])]
    return np.concatenate(parts) if parts else np.zeros(0, object)


def _texts(table: pa.Table, rows: npt.NDArray[np.bool_]) -> Iterator[str]:
    for decisions in table.column("decisions").filter(pa.array(rows)).to_pylist():
        found = [one["text"] for one in decisions or () if one["verdict"] == "error"]
        yield found[-1] if found else "unknown"
