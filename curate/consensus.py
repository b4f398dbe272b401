"""A consensus policy in a file: what several judges must say of a GT for it to be kept, and how many are wanted.

    keep: iqa.musiq >= 45 and max(degradation.*) < 0.5 and judge.quality in [good, excellent]

or with names, thresholds from the data, and a budget:

    keep:
      sharp: iqa.musiq >= quantile(5%)
      clean: max(degradation.*) < 0.5
    budget: {pairs: 500000, by: iqa.musiq}    # of each task, the best ones; -NAME: the lowest are best

`curate.expressions` has the language. Names are the rules' names: a policy run again replaces what an earlier one said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from curate import expressions, scorers
from curate.expressions import Comparison, Expression, Quantile, Table, Truth
from curate.identify import COLUMNS
from curate.policy import STAGE, Bools, Keys, as_lists, gt_keys, is_valid
from manifests import files, schema
from manifests.errors import UserError

ALWAYS = ("task", "gt_sha256", "status", "decisions")
PREFIX, BUDGET = "policy:", "budget"
_WORD = re.compile(r"[a-z][a-z0-9_.]*")


@dataclass(frozen=True)
class Budget:
    """pairs: how many of each task. by: the column that they are ranked by. sign: 1 where high is good, else -1."""

    pairs: int
    by: str
    sign: int


@dataclass(frozen=True)
class Consensus:
    """clauses: name → what must hold. Every GT is judged once: its pairs stay or go together."""

    clauses: Mapping[str, Expression]
    budget: Budget | None = None

    @property
    def columns(self) -> list[str]:
        """The manifest columns that are read."""
        named = [name for clause in self.clauses.values() for name in clause.names()]
        return list(dict.fromkeys([*ALWAYS, *named, *([self.budget.by] if self.budget else [])]))

    @property
    def scores(self) -> list[str]:
        """The columns that a row must have to be judged."""
        return [name for name in self.columns if name not in ALWAYS]

    @property
    def needed(self) -> list[str]:
        """The columns without which a row cannot be judged: those that no clause asks about with `is missing`."""
        asked = {name for clause in self.clauses.values() for name in expressions.asked(clause)}
        return [name for name in self.scores if name not in asked or (self.budget and name == self.budget.by)]


class _Once(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [name for number, name in enumerate(names) if name in names[:number]]:
            raise yaml.YAMLError(f"{twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


def read(path: str, columns: Sequence[str], measurable: Callable[[str], bool] = lambda name: False) -> Consensus:
    """The policy in a YAML file, over a manifest with these columns. Raises UserError naming what is wrong.

    measurable: whether a column that is not there can be measured before the policy is applied.
    """
    try:
        content = yaml.load(files.read(path), _Once)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())[:160]})", exit_code=2) from None
    if isinstance(content, str):
        content = {"keep": content.strip().removeprefix("keep when")}
    if not isinstance(content, dict) or not content.get("keep", content.get("keep when")):
        raise UserError(f"{path}: has no 'keep'; write keep: iqa.musiq >= 45 and ...", exit_code=2)
    if unknown := set(content) - {"keep", "keep when", "budget"}:
        raise UserError(f"{path}: unknown {min(unknown)!r}; a policy has keep and budget", exit_code=2)
    keep = content.get("keep", content.get("keep when"))
    more = _measured_columns(keep, content.get("budget"), columns, measurable)
    try:
        policy = Consensus(_clauses(keep, [*columns, *more]), _budget(content.get("budget"), [*columns, *more]))
    except UserError as error:
        raise UserError(f"{path}: {error}", exit_code=2) from None
    if absent := {*policy.scores} - {*columns, *policy.needed}:
        raise UserError(f"{path}: there is no column {min(absent)}", exit_code=2)
    return policy


def _measured_columns(keep: Any, limit: Any, columns: Sequence[str], measurable: Callable[[str], bool]) -> list[str]:
    """Columns that the policy's text names, that the manifest lacks, and that can be measured."""
    texts = keep.values() if isinstance(keep, Mapping) else keep if isinstance(keep, list) else [keep]
    words = _WORD.findall(" ".join(map(str, [*texts, limit.get("by", "") if isinstance(limit, Mapping) else ""])))
    names = [name for word in words for name in (COLUMNS if word.startswith("degradation.") else (word, f"iqa.{word}"))]
    return [name for name in dict.fromkeys(names) if name not in columns and measurable(name)]


def _clauses(keep: Any, columns: Sequence[str]) -> dict[str, Expression]:
    usable = [name for name in columns if name not in ("decisions", "status")]
    if isinstance(keep, Mapping):
        if wrong := {BUDGET, "", "None"} & {str(name) for name in keep}:
            raise UserError(f"a clause cannot be called {min(wrong)!r}")
        return {str(name): expressions.parse(str(text), usable) for name, text in keep.items()}
    texts = [str(one) for one in keep] if isinstance(keep, list) else [str(keep)]
    parsed = [clause for text in texts for clause in expressions.clauses(expressions.parse(text, usable))]
    return {str(clause): clause for clause in parsed}


def _budget(said: Any, columns: Sequence[str]) -> Budget | None:
    if said is None:
        return None
    pairs = _pairs(said["pairs"]) if isinstance(said, Mapping) and set(said) == {"pairs", "by"} else None
    if pairs is None:
        raise UserError("budget: write {pairs: 500000, by: iqa.musiq} (or 500k, 2M)")
    lowest, by = str(said["by"]).startswith("-"), str(said["by"]).removeprefix("-")
    name = next((one for one in (by, f"iqa.{by}") if one in columns), None)
    if name is None:
        raise UserError(f"budget: there is no column {by}")
    known = scorers.direction_of(name) if name.startswith(("iqa.", "degradation.", "daclip.")) and not lowest else None
    if known is None and not lowest:
        raise UserError(f"budget: nobody says which end of {name} is better; write by: -{name} for the lowest")
    if pairs < 0:
        raise UserError(f"budget: pairs {pairs} must be 0 or more")
    return Budget(pairs, name, -1 if lowest or not known else 1)


def _pairs(said: Any) -> int | None:
    """A number of pairs, as 500000 or 500k; None for anything else."""
    if isinstance(said, int) and not isinstance(said, bool):
        return said
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmM])", str(said).strip())
    return round(float(found[1]) * {"k": 1000, "m": 1_000_000}[found[2].lower()]) if found else None


Parts = Callable[[], Iterable[pa.Table]]


@dataclass
class Judge:
    """A policy with what it needs to know of the whole manifest: quantiles and budgets of each task."""

    policy: Consensus
    all_rows: bool = False
    tasks: dict[str, int] = field(default_factory=dict)
    quantiles: dict[tuple[str, float], npt.NDArray[np.float64]] = field(default_factory=dict)
    chosen: dict[int, Keys] = field(default_factory=dict)  # task's number → the GTs within the budget, sorted

    def check(self, columns: pa.Schema) -> Judge:
        """Raises UserError where a clause compares what cannot be compared, before any row is read."""
        empty = columns.empty_table().select(self.policy.columns)
        for name in self._wanted():
            self.quantiles[name] = np.empty(0)
        for one in self._wanted().values():
            if one.left.values(self._table(empty)).dtype == object:
                raise UserError(f"{one.left} is text: it has no quantiles", exit_code=2)
        self.truths(empty)
        if self.policy.budget is not None:
            _ranks(empty, self.policy.budget)
        return self

    def look(self, parts: Parts) -> Judge:
        """Read the manifest as often as the policy needs it: once for quantiles, once for the budget."""
        if wanted := self._wanted():
            self._measure(parts, wanted)
        if self.policy.budget is not None:
            self._choose(parts, self.policy.budget)
        return self

    def truths(self, part: pa.Table) -> tuple[Bools, dict[str, Truth]]:
        """Which rows are judged, and what each clause says of every row; the budget is one as well."""
        judged, table = self._judged(part), self._table(part)
        found = {name: clause.truth(table) for name, clause in self.policy.clauses.items()}
        if self.policy.budget is not None and self.chosen:
            passes = np.all([one == 1 for one in found.values()], axis=0) & self._free(part)
            found[BUDGET] = self._within(part, table, passes)
        return judged, found

    def decide(self, part: pa.Table) -> pa.ListArray:
        """The `decisions` of the rows of a part."""
        judged, truths = self.truths(part)
        table, new = self._table(part), dict[int, list[dict[str, Any]]]()
        for name, truth in truths.items():
            for row in np.flatnonzero(judged & (truth < 1)).tolist():
                new.setdefault(row, []).append(self._verdict(name, table, row, unknown=truth[row] < 0))
        old = part.column("decisions").combine_chunks()
        rows = sorted({*np.flatnonzero(pc.list_value_length(old).to_numpy(zero_copy_only=False)).tolist(), *new})
        after: dict[int, Sequence[Mapping[str, Any]]] = {}
        for row, before in zip(rows, old.take(pa.array(rows, pa.int64())).to_pylist(), strict=True):
            rules = {one["rule"] for one in before if one["rule"].startswith(PREFIX)}
            after[row] = schema.decide(before, STAGE, rules, new.get(row, ())) if judged[row] else before
        return as_lists(part.num_rows, after)

    def tally(self, parts: Parts) -> list[dict[str, Any]]:
        """Per task and clause: rows that it refuses, that only it refuses, that it cannot judge; and what is kept."""
        counts: dict[tuple[str, str], dict[str, int]] = {}
        for part in parts():
            (judged, truths), free = self.truths(part), self._free(part)
            refused = {name: judged & free & (truth == 0) for name, truth in truths.items()}
            unknown = {name: judged & free & (truth < 0) for name, truth in truths.items()}
            fails = np.sum([refused[name] | unknown[name] for name in truths], axis=0)
            kept = judged & free & (fails == 0)
            groups = self._groups(part)
            for task, number in self.tasks.items():
                mine = groups == number
                for name in truths:
                    row = counts.setdefault((task, name), {"removes": 0, "only it": 0, "unknown": 0})
                    row["removes"] += int((refused[name] & mine).sum())
                    row["only it"] += int((refused[name] & mine & (fails == 1)).sum())
                    row["unknown"] += int((unknown[name] & mine).sum())
                row = counts.setdefault((task, ""), {"judged": 0, "kept": 0})
                row["judged"] += int((judged & free & mine).sum())
                row["kept"] += int((kept & mine).sum())
        return [{"task": task, "clause": clause, **row} for (task, clause), row in sorted(counts.items())]

    def _wanted(self) -> dict[tuple[str, float], Comparison]:
        """The comparisons with a quantile, by what it is of."""
        found = [one for clause in self.policy.clauses.values() for one in expressions.comparisons(clause)]
        return {(str(one.left), one.right.percent): one for one in found if isinstance(one.right, Quantile)}

    def _measure(self, parts: Parts, wanted: Mapping[tuple[str, float], Comparison]) -> None:
        seen: dict[tuple[tuple[str, float], int], list[tuple[Keys, npt.NDArray[np.float64]]]] = {}
        for part in parts():
            judged, table = self._judged(part) & self._free(part), self._table(part)
            keys = gt_keys(part.column("gt_sha256"))
            for name, one in wanted.items():
                values = expressions.numbers(one.left.values(table), str(one.left))
                for number in self.tasks.values():
                    use = judged & (table.groups == number) & ~np.isnan(values)
                    seen.setdefault((name, number), []).append((keys[use], values[use]))
        for name in wanted:
            self.quantiles[name] = np.full(len(self.tasks), np.nan)
        for (name, number), found in seen.items():
            keys, first = np.unique(np.concatenate([one for one, _ in found]), return_index=True)
            if len(keys):
                values = np.concatenate([one for _, one in found])[first]
                self.quantiles[name][number] = np.quantile(values, name[1] / 100)

    def _choose(self, parts: Parts, budget: Budget) -> None:
        seen: dict[int, list[tuple[Keys, npt.NDArray[np.float64]]]] = {}
        for part in parts():
            judged, truths = self.truths(part)
            ranked, keys, groups = _ranks(part, budget), gt_keys(part.column("gt_sha256")), self._groups(part)
            passes = judged & self._free(part) & ~np.isnan(ranked)
            passes &= np.all([one == 1 for one in truths.values()], axis=0)
            for number in self.tasks.values():
                use = passes & (groups == number)
                seen.setdefault(number, []).append((keys[use], ranked[use]))
        for number, found in seen.items():
            keys, first, count = np.unique(
                np.concatenate([one for one, _ in found]), return_index=True, return_counts=True
            )
            values = np.concatenate([one for _, one in found])[first]
            order = np.lexsort((keys, -values))
            fits = np.cumsum(count[order]) <= budget.pairs
            self.chosen[number] = np.sort(keys[order[fits]])

    def _within(self, part: pa.Table, table: Table, passes: Bools) -> Truth:
        """Whether a row's GT is among the best; of rows that a clause refuses nothing is said (true)."""
        assert self.policy.budget is not None
        keys, out = gt_keys(part.column("gt_sha256")), np.ones(table.size, np.int8)
        for number, chosen in self.chosen.items():
            mine = passes & (table.groups == number)
            out[mine] = np.isin(keys[mine], chosen)
        out[passes & np.isnan(_ranks(part, self.policy.budget))] = -1
        return out

    def _judged(self, part: pa.Table) -> Bools:
        """Kept rows and those that only a filter dropped; a row dropped before it was ever scored stays dropped."""
        decisions = part.column("decisions").combine_chunks()
        judged: Bools = np.ones(part.num_rows, bool)
        if not self.all_rows:
            others = pc.not_equal(pc.struct_field(pc.list_flatten(decisions), "stage"), STAGE)
            judged[pc.list_parent_indices(decisions).filter(others).to_numpy(zero_copy_only=False)] = False
        complete = np.all([is_valid(part, name) for name in self.policy.scores] or [judged], axis=0)
        kept = pc.equal(part.column("status"), "kept").to_numpy().astype(bool)
        judged &= (kept | complete) & is_valid(part, "gt_sha256")
        return judged

    def _free(self, part: pa.Table) -> Bools:
        """Rows that nothing but a policy holds back: they count for quantiles and budgets, and may be kept."""
        decisions = part.column("decisions").combine_chunks()
        flat = pc.list_flatten(decisions)
        own = pc.and_(
            pc.equal(pc.struct_field(flat, "stage"), STAGE), pc.starts_with(pc.struct_field(flat, "rule"), PREFIX)
        )
        free: Bools = np.ones(part.num_rows, bool)
        free[pc.list_parent_indices(decisions).filter(pc.invert(own)).to_numpy(zero_copy_only=False)] = False
        return free

    def _table(self, part: pa.Table) -> Table:
        columns = {}
        for name in self.policy.columns:
            column = part.column(name) if name not in ("decisions", "status") else None
            if column is None:
                continue
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                columns[name] = column.cast(pa.float64()).to_numpy().astype(np.float64)
            else:  # booleans as the words that a rule compares them with
                text = column.cast(pa.string()) if pa.types.is_boolean(column.type) else column
                columns[name] = np.array(text.to_pylist(), object)
        return Table(columns, self._groups(part), self.quantiles)

    def _groups(self, part: pa.Table) -> npt.NDArray[np.int64]:
        encoded = pc.dictionary_encode(part.column("task").combine_chunks(), null_encoding="encode")
        local = [self.tasks.setdefault(task or "-", len(self.tasks)) for task in encoded.dictionary.to_pylist()]
        groups: npt.NDArray[np.int64] = np.array(local, np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
        return groups

    def _verdict(self, name: str, table: Table, row: int, *, unknown: bool) -> dict[str, Any]:
        rule = PREFIX + name
        if name == BUDGET:
            assert self.policy.budget is not None
            by = self.policy.budget.by
            if unknown:
                return schema.decision(STAGE, rule, "error", f"has no {by} to be ranked by")
            value = float(table.columns[by][row])
            text = f"{by} {value:.4g} is not among the best {self.policy.budget.pairs} pairs of its task"
            return schema.decision(STAGE, rule, "drop", text, value=value)
        clause = self.policy.clauses[name]
        if unknown:
            absent = [one for one in dict.fromkeys(clause.names()) if not _has(table.columns[one][row])]
            return schema.decision(STAGE, rule, "error", f"has no {', '.join(absent)} to be judged by")
        said = ", ".join(f"{one} {_shown(table.columns[one][row])}" for one in dict.fromkeys(clause.names()))
        if not isinstance(clause, Comparison):
            return schema.decision(STAGE, rule, "drop", f"{said}: not {clause}")
        found, threshold = _number(clause.left.values(table)[row]), _number(clause.threshold(table)[row])
        here = f" (in {table.columns['task'][row]}: {threshold:.4g})" if isinstance(clause.right, Quantile) else ""
        return schema.decision(STAGE, rule, "drop", f"{said}: not {clause}{here}", value=found, threshold=threshold)


def _ranks(part: pa.Table, budget: Budget) -> npt.NDArray[np.float64]:
    """What is high for the best GTs; NaN where it is not known."""
    column = part.column(budget.by)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise UserError(f"budget: {budget.by} is no number to rank by", exit_code=2)
    values: npt.NDArray[np.float64] = column.cast(pa.float64()).to_numpy().astype(np.float64)
    return values * budget.sign


def _has(value: Any) -> bool:
    return value is not None and value == value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, float | np.floating) and value == value else None


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
