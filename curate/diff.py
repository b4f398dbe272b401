"""What changed between two manifests: rows, verdicts by reason, columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests.table import Manifest, read

EXAMPLES = 5
_DERIVED = ("pair_id", "status", "decisions")


@dataclass(frozen=True)
class Change:
    """Rows of both manifests whose verdicts changed alike.

    reasons: `+ drop by filter/min:musiq` for a verdict that came, `- ...` for one that went.
    """

    before: str  # status
    after: str
    reasons: tuple[str, ...]
    rows: int
    examples: tuple[str, ...]  # pair_ids


@dataclass(frozen=True)
class Difference:
    """What `b` has that `a` had not, and the reverse.

    rows: how many stand in both, were added, were removed. added, removed: task -> rows.
    changes: most rows first. columns_added, columns_removed: names. columns_changed: name -> rows of both with another
        value (a null is a value of its own); `status` and `decisions` are in `changes` instead.
    stages_a, stages_b: names of the stages after the lineage that the two share, oldest first.
    """

    rows: dict[str, int]
    added: dict[str, int]
    removed: dict[str, int]
    examples_added: tuple[str, ...]
    examples_removed: tuple[str, ...]
    changes: tuple[Change, ...]
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    columns_changed: dict[str, int]
    stages_a: tuple[str, ...]
    stages_b: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the two hold the same."""
        return not (
            self.added or self.removed or self.changes
            or self.columns_added or self.columns_removed or self.columns_changed
        )  # fmt: skip


def diff(a: str, b: str) -> Difference:
    """What changed from manifest `a` to manifest `b`. Rows are matched by pair_id; their order does not matter."""
    first, second = read(a), read(b)
    old, new = first.table(), second.table()
    at = _places(old, new)
    lacking = np.flatnonzero(at < 0)
    gone = np.setdiff1d(np.arange(old.num_rows), at)
    added, removed = new.take(pa.array(lacking)), old.take(pa.array(gone))
    before, after = old.take(pa.array(at[at >= 0])), new.take(pa.array(np.flatnonzero(at >= 0)))
    both = [name for name in after.column_names if name in before.column_names and name not in _DERIVED]
    changed = {name: _unequal(before.column(name), after.column(name)) for name in both}
    stages_a, stages_b = _own_stages(first, second)
    return Difference(
        rows={"both": before.num_rows, "added": len(lacking), "removed": len(gone)},
        added=_per_task(added),
        removed=_per_task(removed),
        examples_added=_examples(added),
        examples_removed=_examples(removed),
        changes=_changes(before, after),
        columns_added=tuple(name for name in new.column_names if name not in old.column_names),
        columns_removed=tuple(name for name in old.column_names if name not in new.column_names),
        columns_changed={name: count for name, count in changed.items() if count},
        stages_a=stages_a,
        stages_b=stages_b,
    )


def text(one: Difference) -> str:
    """The difference as lines for a person."""
    lines = [f"{one.rows['both']} rows in both, {one.rows['added']} added, {one.rows['removed']} removed"]
    for sign, tally, ids in (("+", one.added, one.examples_added), ("-", one.removed, one.examples_removed)):
        lines += [f"  {sign} {count} {task}" for task, count in tally.items()]
        lines += [f"    for example {ids[0]}"] if ids else []
    for change in one.changes:
        lines.append(f"{change.rows} {change.before} -> {change.after}: {', '.join(change.reasons)}")
        lines.append(f"    for example {change.examples[0]}")
    for sign, names in (("+", one.columns_added), ("-", one.columns_removed)):
        lines += [f"column {sign} {name}" for name in names]
    lines += [f"column {name}: {count} values changed" for name, count in one.columns_changed.items()]
    for sign, stages in (("+", one.stages_b), ("-", one.stages_a)):
        lines += [f"stages {sign} {', '.join(stages)}"] if stages else []
    return "\n".join(lines if not one.is_empty else [*lines, "the two hold the same"])


def _places(old: pa.Table, new: pa.Table) -> npt.NDArray[np.int64]:
    """(N,) the row of `old` that each row of `new` is, -1 for none."""
    at = pc.index_in(new.column("pair_id"), value_set=old.column("pair_id").combine_chunks())
    places: npt.NDArray[np.int64] = pc.fill_null(at, -1).to_numpy().astype(np.int64)
    return places


def _per_task(table: pa.Table) -> dict[str, int]:
    return dict(sorted(Counter(task or "-" for task in table.column("task").to_pylist()).items()))


def _examples(table: pa.Table) -> tuple[str, ...]:
    return tuple(sorted(table.column("pair_id").to_pylist())[:EXAMPLES])


def _unequal(a: pa.ChunkedArray, b: pa.ChunkedArray) -> int:
    """In how many rows the two differ."""
    if a.type != b.type or pa.types.is_nested(a.type):
        return sum(x != y for x, y in zip(a.to_pylist(), b.to_pylist(), strict=True))
    differs = pc.fill_null(pc.not_equal(a, b), pc.xor(a.is_null(), b.is_null()))
    return int(pc.sum(differs).as_py() or 0)


def _changes(before: pa.Table, after: pa.Table) -> tuple[Change, ...]:
    columns = [t.column(name).to_pylist() for name in ("status", "decisions") for t in (before, after)]
    found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for one, *statuses, old, new in zip(after.column("pair_id").to_pylist(), *columns, strict=True):
        if old == new:
            continue
        was, now = _reasons(old), _reasons(new)
        reasons = [f"+ {name}" for name in now if name not in was] + [f"- {name}" for name in was if name not in now]
        if reasons:
            found.setdefault((statuses[0], statuses[1], tuple(reasons)), []).append(one)
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(Change(*key, len(ids), tuple(sorted(ids)[:EXAMPLES])) for key, ids in ranked)


def _reasons(decisions: Sequence[Mapping[str, Any]] | None) -> list[str]:
    return sorted({f"{d['verdict']} by {d['stage']}/{d['rule']}" for d in decisions or ()})


def _own_stages(a: Manifest, b: Manifest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    ours, theirs = a.stages, b.stages
    shared = 0
    while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
        shared += 1
    return tuple(s["stage"] for s in ours[shared:]), tuple(s["stage"] for s in theirs[shared:])
