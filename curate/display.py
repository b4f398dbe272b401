"""What the `curate` command prints when a stage is done. Rich is imported when there is something to print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from manifests.console import out, printable

if TYPE_CHECKING:
    from curate.doctor import Finding
    from curate.proposals import Proposals
    from curate.survey import Survey
    from manifests.table import Manifest

SHOWN = 8  # reasons
NAMED = 3  # files a reason


def summary(manifest: Manifest) -> list[dict[str, Any]]:
    """Rows per task: total, kept, dropped, error; for printing."""
    tally: dict[str, dict[str, int]] = {}
    for part in manifest.parts(["task", "status"]):
        for one in part.group_by(["task", "status"]).aggregate([([], "count_all")]).to_pylist():
            row = tally.setdefault(one["task"] or "-", {"rows": 0, "kept": 0, "dropped": 0, "error": 0})
            row["rows"] += one["count_all"]
            row[one["status"]] += one["count_all"]
    return [{"task": task, **tally[task]} for task in sorted(tally)]


@dataclass
class Reason:
    """Why rows were dropped or failed: verdict, stage and rule; how many rows, and the first of their files."""

    text: str
    count: int = 0
    names: list[str] = field(default_factory=list)

    def line(self) -> str:
        """`3 error by ingest/pair: a.png, b.png, c.png, …`."""
        more = ", …" if self.count > len(self.names) else ""
        return f"{self.count} {self.text}" + (f": {', '.join(map(printable, self.names))}{more}" if self.names else "")


def reasons(manifest: Manifest) -> list[Reason]:
    """How many rows each (verdict, stage, rule) is about and up to three of their files, most rows first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tally: dict[str, Reason] = {}
    for part in manifest.parts(["decisions", "lq_path", "gt_path"]):
        lists = part.column("decisions").combine_chunks()
        rows, flat = pc.list_parent_indices(lists), pa.Table.from_struct_array(pc.list_flatten(lists))
        names = pc.coalesce(part.column("lq_path"), part.column("gt_path")).take(rows)
        for verdict, stage, rule, name in zip(
            *(flat.column(one).to_pylist() for one in ("verdict", "stage", "rule")), names.to_pylist(), strict=True
        ):
            text = f"{verdict} by {stage}/{rule}"
            reason = tally.setdefault(text, Reason(text))
            reason.count += 1
            if len(reason.names) < NAMED and name is not None and name not in reason.names:
                reason.names.append(name)
    return sorted(tally.values(), key=lambda one: (-one.count, one.text))


def surveyed(found: Survey) -> None:
    """What an ingest would find, and about how long it would take."""
    from rich.table import Table

    from curate.survey import as_rows

    table = Table(box=None, pad_edge=False)
    for name in ("task", "subtask", "split", "pairs", "expected"):
        table.add_column(name, justify="right" if name in ("pairs", "expected") else "left")
    for row in as_rows(found):
        table.add_row(*("" if value is None else printable(str(value)) for value in row.values()))
    shown = out()
    shown.print(table)
    for lq, gt in found.examples:
        shown.print(printable(f"  {lq} + {gt}" if lq else f"  {gt}"), soft_wrap=True)
    for reason, count in found.problems.most_common():
        shown.print(printable(f"{count} would be errors: {reason}"), soft_wrap=True)
    if found.unmatched:
        shown.print(
            f"{len(found.unmatched)} images are left out: {', '.join(map(printable, found.unmatched[:5]))}",
            soft_wrap=True,
        )
    size = "" if found.bytes is None else f"{found.bytes / 1e6:,.1f} MB, "
    shown.print(f"{size}about {max(1, round(found.seconds)):,} s of reading and decoding in one process")


def proposed(found: Proposals, output: str | None) -> None:
    """What a folder may be ingested as, numbered, each with examples and the command that runs it."""
    shown = out()
    shown.print(printable(f"{found.folder}: {found.images:,} images"), soft_wrap=True)
    for number, one in enumerate(found.proposals, 1):
        shown.print(printable(f"{number}. {one.title()}"), soft_wrap=True)
        for lq, gt in one.examples:
            shown.print(printable(f"     {lq} + {gt}" if lq and gt else f"     {lq or gt}"), soft_wrap=True)
        if one.note:
            shown.print(printable(f"     note: {one.note}"), soft_wrap=True)
        if one.lacks_task:
            shown.print("     no name tells the task: put it in the place of NAME", soft_wrap=True)
        shown.print(printable(f"   {one.command(found.folder, output)}"), soft_wrap=True)
    if found.rest:
        names = ", ".join(map(printable, found.rest[:NAMED])) + (", …" if len(found.rest) > NAMED else "")
        shown.print(
            f"in no proposal: {len(found.rest):,} image{'' if len(found.rest) == 1 else 's'}: {names}", soft_wrap=True
        )


def finished(done: Manifest, sources: Sequence[Manifest] = ()) -> None:
    """What the last stage did, rows per task, the reasons of what is not kept, and where the manifest is.

    sources: the manifests that were merged.
    """
    from curate import outcome

    shown = out()
    for line in outcome.lines(done, sources):
        shown.print(printable(line), soft_wrap=True)
    if done.stages[-1]["stage"] == "split":
        split(done)
    else:
        tabulate(summary(done))
    for reason in reasons(done)[:SHOWN]:
        shown.print(f"  {reason.line()}", soft_wrap=True)
    shown.print(done.path, soft_wrap=True)


def split(done: Manifest) -> None:
    """Pairs and groups of every task in D_ref, test and train, and the pairs that are in none."""
    from rich.table import Table

    names = ("ref", "test", "train", None)
    pairs: Counter[tuple[str, str | None]] = Counter()
    groups: dict[tuple[str, str | None], set[str | None]] = {}
    for part in done.parts(["task", "status", "split", "lq_path", "group"]):
        for row in part.to_pylist():
            if row["status"] == "kept" and row["lq_path"]:
                pairs[row["task"], row["split"]] += 1
                groups.setdefault((row["task"], row["split"]), set()).add(row["group"])
    table = Table("task", box=None, pad_edge=False, title="pairs (groups)", title_justify="left")
    for title in ("D_ref", "test", "train", "in no split"):
        table.add_column(title, justify="right")
    for task in sorted({task for task, _ in pairs}):
        cells = [f"{pairs[task, name]} ({len(groups.get((task, name), ()))})" for name in names]
        table.add_row(printable(task), *cells[:3], str(pairs[task, None]))
    out().print(table)


def pair_states(done: Manifest, short: bool = False) -> None:
    """How many pairs are in which state, and what to do about those that are not in order (`short`: without names)."""
    from rich.console import Console

    from curate.pair_summary import lines

    shown = Console()
    for line in lines(done, short):
        shown.print(line, highlight=False, markup=False, soft_wrap=True)


def clauses(rows: list[dict[str, Any]]) -> None:
    """What each clause of a policy removes, alone and together, per task; and what is kept."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("task", "clause", "removes", "only it", "unknown"):
        table.add_column(name, justify="left" if name in ("task", "clause") else "right")
    shown = out()
    totals = [row for row in rows if not row["clause"]]
    for row in rows:
        if row["clause"]:
            table.add_row(*(printable(str(row[name])) for name in ("task", "clause", "removes", "only it", "unknown")))
    shown.print(table)
    for row in totals:
        shown.print(f"{printable(row['task'])}: {row['kept']} of {row['judged']} judged rows are kept")
    kept, judged = (sum(row[name] for row in totals) for name in ("kept", "judged"))
    if len(totals) > 1:
        shown.print(f"all: {kept} of {judged}")


def tabulate(tasks: list[dict[str, Any]]) -> None:
    """A table of rows per task, with their sum below when there are several."""
    from rich.table import Table

    numbers = ("rows", "kept", "dropped", "error")
    table = Table(box=None, pad_edge=False)
    for name in ("task", *numbers):
        table.add_column(name, justify="left" if name == "task" else "right")
    total = {"task": "all", **{name: sum(row[name] for row in tasks) for name in numbers}}
    for row in [*tasks, total] if len(tasks) > 1 else tasks:
        table.add_row(*(printable(str(row[name])) for name in ("task", *numbers)))
    out().print(table)


def diagnosed(findings: Sequence[Finding], manifest: str, *, first: int | None = None) -> None:
    """What is wrong with a manifest: a line for each finding, its first names, and the command that mends it.

    first: print so many findings only, and how to see the others.
    """
    from rich.text import Text

    shown = out()
    styles = {"error": "bold red", "warning": "yellow", "note": "cyan"}
    for finding in findings[:first]:
        text = printable(f"{finding.count:,} {finding.text}")
        shown.print(Text.assemble((f"{finding.severity:<8}", styles[finding.severity]), text), soft_wrap=True)
        if finding.names:
            more = ", …" if finding.count > len(finding.names) else ""
            shown.print(f"        {printable(', '.join(finding.names))}{more}", soft_wrap=True)
        shown.print(f"        $ {printable(finding.command)}", soft_wrap=True)
    counts = Counter(finding.severity for finding in findings)
    total = ", ".join(f"{counts[name]} {name}{'s' * (counts[name] != 1)}" for name in styles if counts[name])
    hint = f"; all of them: curate doctor {manifest}" if first is not None and len(findings) > first else ""
    shown.print(f"{printable(manifest)}: {total or 'nothing found'}{printable(hint)}", soft_wrap=True)


def listed(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of `curate.show` as a table, as wide as it needs where nobody looks at a terminal."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        print("no such row")
        return
    shown = out()
    if not shown.is_terminal:
        shown.width = 100_000
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    shown.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return printable("; ".join(map(str, value)))
    return printable("" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value))
