"""Everything that a manifest knows of one pair: what it is, where it lies, what was measured, decided and done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import UserError
from manifests.table import Manifest, read

_SCORES = ("iqa.", "degradation.", "daclip.", "judge.")
_OWN = ("status", "decisions")
_SHOWN = 5  # ids that an error names


@dataclass(frozen=True)
class Explanation:
    """One pair.

    facts: column -> value, without scores, verdicts and nulls. scores: column -> value (null: not measured).
    files: "lq", "gt" -> where they lie. decisions: {stage, rule, verdict, value, threshold, text}, oldest first.
    cluster: the other pairs of its dedup cluster: pair_id -> status.
    stages: the lineage, oldest first: {stage, version, params, inputs, rows}.
    """

    pair_id: str
    status: str
    facts: dict[str, Any]
    files: dict[str, str]
    scores: dict[str, Any]
    decisions: list[dict[str, Any]]
    cluster: dict[str, str]
    stages: list[dict[str, Any]]


def explain(pair_id: str, manifest: str = "manifest") -> Explanation:
    """What is known of the pair whose id begins with `pair_id` (any unique prefix of its 32 hex digits).

    Raises UserError when no pair's id does, or several do.
    """
    source = read(manifest)
    row = _row(source, pair_id.strip().lower())
    scores = {name: value for name, value in row.items() if name.startswith(_SCORES)}
    facts = {n: v for n, v in row.items() if n not in scores and n not in _OWN and v is not None}
    files = {
        side: source.locate(row["dataset"], row[f"{side}_path"]) for side in ("lq", "gt") if row[f"{side}_path"]
    }  # fmt: skip
    status, decisions = row["status"], row["decisions"] or []
    return Explanation(row["pair_id"], status, facts, files, scores, decisions, _cluster(source, row), source.stages)


def text(one: Explanation) -> str:
    """The explanation as lines for a person."""
    lines = [f"pair {one.pair_id}: {one.status}"]
    lines += [f"  {d['verdict']} by {d['stage']}/{d['rule']}: {d['text']}" for d in one.decisions]
    if not one.decisions:
        lines.append("  no stage that ran decided anything against it")
    for title, values in (("files", one.files), ("columns", one.facts), ("scores", one.scores)):
        lines += [title, *(f"  {name:<24} {_value(value)}" for name, value in values.items())] if values else []
    if one.cluster:
        lines += ["other pairs of its cluster", *(f"  {other} {status}" for other, status in one.cluster.items())]
    lines.append("stages")
    for stage in one.stages:
        params = ", ".join(f"{name}={value}" for name, value in stage.get("params", {}).items() if value)
        lines.append(f"  {stage['stage']:<14} {stage['rows']['kept']} of {stage['rows']['rows']} rows kept; {params}")
    return "\n".join(lines)


def _value(value: Any) -> str:
    return "not measured" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _row(source: Manifest, prefix: str) -> dict[str, Any]:
    if not prefix:
        raise UserError("name a pair: its pair_id, or the beginning of it", exit_code=2)
    found: list[str] = []
    at = None
    for number, ids in enumerate(source.parts(["pair_id"])):
        column = ids.column("pair_id")
        hits = pc.indices_nonzero(pc.starts_with(column, prefix)).to_pylist()
        found += [column[hit].as_py() for hit in hits]
        at = (number, hits[0]) if hits and at is None else at
    if at is None:
        raise UserError(f"{source.path}: no pair_id begins with {prefix!r} (of {source.rows['rows']} rows)")
    if len(found) > 1:
        some = ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        raise UserError(f"{source.path}: {len(found)} pair_ids begin with {prefix!r}: {some}; give more digits")
    for number, part in enumerate(source.parts()):
        if number == at[0]:
            row: dict[str, Any] = part.slice(at[1], 1).to_pylist()[0]
            return row
    raise UserError(f"{source.path}: changed while it was read")


def _cluster(source: Manifest, row: dict[str, Any]) -> dict[str, str]:
    if not row.get("cluster"):
        return {}
    return {one: status for one, status in _members(source, row["cluster"]) if one != row["pair_id"]}


def _members(source: Manifest, cluster: str) -> Iterator[tuple[str, str]]:
    for part in source.parts(["pair_id", "status", "cluster"]):
        members: pa.Table = part.filter(pc.equal(part.column("cluster"), cluster))
        yield from zip(members.column("pair_id").to_pylist(), members.column("status").to_pylist(), strict=True)
