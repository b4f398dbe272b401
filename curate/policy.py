"""What a filter's policy says of every row: thresholds and shares over columns, a part of a manifest at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate import scorers
from manifests import schema

STAGE = "filter"
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]
New = dict[int, list[dict[str, Any]]]  # row -> decisions about it


@dataclass(frozen=True)
class Policy:
    """Thresholds by metric or column name: a GT below a minimum, above a maximum, or among the worst is dropped.

    worst: per cent of the distinct GTs of each task, by the metric's own direction.
    """

    minimum: Mapping[str, float]
    maximum: Mapping[str, float]
    worst: Mapping[str, float]

    @property
    def names(self) -> list[str]:
        """All metrics and columns that the policy reads."""
        return list(dict.fromkeys([*self.minimum, *self.maximum, *self.worst]))

    @property
    def columns(self) -> list[str]:
        """The manifest columns that it reads to judge a row."""
        scores = [scorers.column_of(name) for name in self.names]
        return list(dict.fromkeys(["task", "gt_sha256", "status", "decisions", *scores]))

    @property
    def rules(self) -> list[str]:
        """The names under which its verdicts stand in `decisions`."""
        named = (("min", self.minimum), ("max", self.maximum), ("worst", self.worst))
        return [f"{kind}:{name}" for kind, of in named for name in of]


@dataclass(frozen=True)
class Worst:
    """The GTs of one task that a share drops: their keys, sorted, and the score of the first that stays."""

    keys: Keys
    limit: float


@dataclass
class Ranking:
    """The first pass over a manifest, for shares: ranks the distinct GTs of each task by each metric."""

    policy: Policy
    all_rows: bool = False
    _seen: dict[tuple[str, str], list[tuple[Keys, Floats]]] = field(default_factory=dict)

    def add(self, part: pa.Table) -> None:
        """Take note of the judged rows of `part`."""
        judged = _judged(part, self.policy, self.all_rows) & is_valid(part, "gt_sha256")
        if not self.policy.worst or not judged.any():
            return
        keys = gt_keys(part.column("gt_sha256"))
        for name in self.policy.worst:
            values, valid = _values(part, name)
            for task, of_task in _tasks(part):
                use = judged & valid & of_task
                self._seen.setdefault((name, task), []).append((keys[use], values[use]))

    def worst(self) -> dict[tuple[str, str], Worst]:
        """(metric, task) -> the worst of its GTs. Equal scores are told apart by content hash: order never matters."""
        out = {}
        for (name, task), seen in self._seen.items():
            sign = 1.0 if scorers.direction_of(name) else -1.0
            keys, first = np.unique(np.concatenate([k for k, _ in seen]), return_index=True)
            if not len(keys):  # no GT of the task has a score
                continue
            values = np.concatenate([v for _, v in seen])[first]
            order = np.lexsort((keys, sign * values))
            count = math.floor(len(keys) * self.policy.worst[name] / 100 + 1e-9)
            limit = values[order[min(count, len(keys) - 1)]]
            out[name, task] = Worst(np.sort(keys[order[:count]]), float(limit))
        return out


def decide(
    part: pa.Table, policy: Policy, worst: Mapping[tuple[str, str], Worst], *, all_rows: bool = False
) -> pa.ListArray:
    """The `decisions` of the rows of `part` under the policy.

    Judged are kept rows and those that only an earlier filter dropped (`all_rows`: every row); a row without the value
    that a rule needs is an error of that rule.
    """
    judged = _judged(part, policy, all_rows)
    if not judged.any():  # no row with a GT, for example: then the columns of the scores may be missing too
        return part.column("decisions").combine_chunks()
    new: New = {}
    for name, threshold in policy.minimum.items():
        _threshold(new, part, judged, name, threshold, is_minimum=True)
    for name, threshold in policy.maximum.items():
        _threshold(new, part, judged, name, threshold, is_minimum=False)
    for name, share in policy.worst.items():
        _share(new, part, judged, name, share, worst)
    old = part.column("decisions").combine_chunks()
    rows = sorted({*np.flatnonzero(pc.list_value_length(old).to_numpy(zero_copy_only=False)).tolist(), *new})
    before = old.take(pa.array(rows, pa.int64())).to_pylist()
    after = {
        row: schema.decide(decisions, STAGE, policy.rules, new.get(row, ())) if judged[row] else decisions
        for row, decisions in zip(rows, before, strict=True)
    }
    return as_lists(part.num_rows, after)


def as_lists(count: int, decisions: Mapping[int, Sequence[Mapping[str, Any]]]) -> pa.ListArray:
    """`count` lists of decisions, empty where nothing is given."""
    lengths = np.zeros(count + 1, np.int32)
    for row, some in decisions.items():
        lengths[row + 1] = len(some)
    flat = [one for row in sorted(decisions) for one in decisions[row]]
    values = pa.array(flat, schema.DECISION)
    lists = pa.ListArray.from_arrays(pa.array(np.cumsum(lengths, dtype=np.int32)), values)
    return lists.cast(schema.CORE["decisions"])


def _judged(part: pa.Table, policy: Policy, all_rows: bool) -> Bools:
    kept = pc.equal(part.column("status"), "kept").to_numpy().astype(bool)
    decisions = part.column("decisions").combine_chunks()
    judged = np.ones(part.num_rows, bool)
    if not all_rows:
        others = pc.not_equal(pc.struct_field(pc.list_flatten(decisions), "stage"), STAGE)
        judged[pc.list_parent_indices(decisions).filter(others).to_numpy(zero_copy_only=False)] = False
    # a row dropped before it was ever scored stays dropped: only a kept one must have the value
    complete = np.ones(part.num_rows, bool)
    for name in policy.names:
        complete &= is_valid(part, scorers.column_of(name))
    judged &= kept | complete
    return judged & is_valid(part, "gt_sha256")  # an LQ without a GT has nothing to be judged by


def _threshold(new: New, part: pa.Table, judged: Bools, name: str, threshold: float, *, is_minimum: bool) -> None:
    rule = f"{'min' if is_minimum else 'max'}:{name}"
    values, valid = _values(part, name)
    for row in np.flatnonzero(judged & ~valid).tolist():
        text = f"has no {name} to be judged by"
        new.setdefault(row, []).append(schema.decision(STAGE, rule, "error", text))
    beyond = values < threshold if is_minimum else values > threshold
    word = "below" if is_minimum else "above"
    for row in np.flatnonzero(judged & valid & beyond).tolist():
        value = float(values[row])
        text = f"{name} {value:.4g} is {word} {threshold:g}"
        one = schema.decision(STAGE, rule, "drop", text, value=value, threshold=threshold)
        new.setdefault(row, []).append(one)


def _share(
    new: New, part: pa.Table, judged: Bools, name: str, share: float, worst: Mapping[tuple[str, str], Worst]
) -> None:
    values, valid = _values(part, name)
    sign = 1.0 if scorers.direction_of(name) else -1.0
    use = judged & valid & is_valid(part, "gt_sha256")
    for task, of_task in _tasks(part):
        found = worst.get((name, task))
        if found is None:
            continue
        rows = np.flatnonzero(use & of_task & (sign * values <= sign * found.limit))  # few: the hashes decide on ties
        keys = gt_keys(part.column("gt_sha256").take(pa.array(rows)))
        place = np.searchsorted(found.keys, keys)
        among = place < len(found.keys)
        among[among] = found.keys[place[among]] == keys[among]
        for row in rows[among].tolist():
            value = float(values[row])
            text = f"{name} {value:.4g} is among the worst {share:g} % of {task}"
            one = schema.decision(STAGE, f"worst:{name}", "drop", text, value=value, threshold=found.limit)
            new.setdefault(row, []).append(one)


def _values(part: pa.Table, name: str) -> tuple[Floats, Bools]:
    """A metric's column as numbers, and where it has one (NaN counts as none)."""
    column = part.column(scorers.column_of(name)).cast(pa.float64())
    values = column.to_numpy().astype(np.float64)
    return values, ~np.isnan(values)


def _tasks(part: pa.Table) -> Iterator[tuple[str, Bools]]:
    """Each task of the part, and which rows are of it."""
    encoded = part.column("task").combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    for code, task in enumerate(encoded.dictionary.to_pylist()):
        yield task, codes == code


def is_valid(part: pa.Table, column: str) -> Bools:
    """Which rows have a value; none where the column is missing, as when no row has a GT to be measured."""
    if column not in part.column_names:
        return np.zeros(part.num_rows, bool)
    found: Bools = pc.is_valid(part.column(column)).to_numpy().astype(bool)
    return found


def gt_keys(hashes: pa.ChunkedArray) -> Keys:
    """The first 64 bits of SHA-256 hex digests; 0 where there is none."""
    return schema.hex_digits(pc.fill_null(hashes, "0" * 64).combine_chunks(), 64, used=16)[:, 0]
