"""A person's verdicts: a local page to look at pairs and say keep, drop or skip, and a stage that applies them.

Verdicts are lines of a file, appended and synced one by one: a kill loses none, and several people may work at once.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curate import engine
from manifests import files, schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
KEEP, DROP, SKIP, UNDO = "keep", "drop", "skip", "undo"
VERDICTS = (KEEP, DROP, SKIP, UNDO)


@dataclass
class Verdicts:
    """What people have said, and the file that it is written to. latest: pair_id → reviewer → verdict."""

    path: str
    latest: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._read = self._lines = 0
        self.refresh()

    def refresh(self) -> None:
        """Take in what others have appended. Raises UserError for a line that is no verdict."""
        with self._lock:
            self._refresh()

    def add(self, pair_id: str, verdict: str, reviewer: str) -> None:
        """Append a verdict; it is on the disk when this returns."""
        if verdict not in VERDICTS or not reviewer.strip():
            raise UserError(
                f"verdict {verdict!r} of {reviewer!r}: say {', '.join(VERDICTS)}, and who says so", exit_code=2
            )
        said = {"pair_id": pair_id, "verdict": verdict, "reviewer": reviewer.strip(), "time": round(time.time(), 3)}
        line = (json.dumps(said, ensure_ascii=False) + "\n").encode()
        with self._lock:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                end = os.fstat(descriptor).st_size
                if end and os.pread(descriptor, 1, end - 1) != b"\n":  # a line that was torn, or written by hand
                    line = b"\n" + line
                os.write(descriptor, line)  # one write of one line: others' lines stay whole
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._refresh()

    def torn(self) -> bool:
        """Whether the file ends within a line, which is then no verdict."""
        return os.path.exists(self.path) and os.path.getsize(self.path) > self._read

    def of(self, pair_id: str) -> dict[str, str]:
        """Reviewer → verdict about a pair; undone ones are gone."""
        return dict(self.latest.get(pair_id, {}))

    def agreed(self, pair_id: str) -> str | None:
        """What all who said keep or drop agree on; None where nobody did, or they disagree."""
        said = {one for one in self.latest.get(pair_id, {}).values() if one in (KEEP, DROP)}
        return said.pop() if len(said) == 1 else None

    def disputed(self) -> list[str]:
        """Pairs that one person keeps and another drops."""
        return [pair for pair, said in self.latest.items() if {KEEP, DROP} <= set(said.values())]

    def counts(self) -> dict[str, int]:
        """Pairs kept, dropped, skipped and disputed."""
        out = dict.fromkeys((KEEP, DROP, SKIP, "disputed"), 0)
        for pair, said in self.latest.items():
            agreed = self.agreed(pair)
            name = agreed or ("disputed" if {KEEP, DROP} <= set(said.values()) else SKIP if said else "")
            if name:
                out[name] += 1
        return out

    def _refresh(self) -> None:
        if not os.path.exists(self.path):
            return
        with open(self.path, "rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # a line that is being written is read the next time
        for number, line in enumerate(whole.splitlines()):
            try:
                said = json.loads(line)
                pair, reviewer, verdict = (str(said[name]) for name in ("pair_id", "reviewer", "verdict"))
                if verdict not in VERDICTS:
                    raise ValueError(f"{verdict!r} is none of {', '.join(VERDICTS)}")
            except (ValueError, KeyError, TypeError) as error:
                where = f"line {self._lines + number + 1}"
                raise UserError(f"{self.path}: {where} is no verdict ({error}); mend or delete it") from None
            mine = self.latest.setdefault(pair, {})
            if verdict == UNDO:
                mine.pop(reviewer, None)
            else:
                mine[reviewer] = verdict
        self._read += len(whole)
        self._lines += len(whole.splitlines())


def default_file(manifest: str) -> str:
    """Where verdicts on a manifest go: `<manifest>-review.jsonl` beside it."""
    return f"{engine.default_output(manifest, 'review')}.jsonl"


def apply(manifest: str, verdicts: Sequence[str], output: str | None = None) -> tuple[Manifest, int]:
    """The manifest with people's verdicts; returns it and how many pairs are disputed.

    verdicts: files of them. A pair that is dropped gets a decision of the stage `review`; one that is kept loses what a
    filter said against it (a filter run again may say it again). Disputed pairs stay as they are. Raises UserError.
    """
    output = output or engine.default_output(manifest, "review")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    said: dict[str, dict[str, str]] = {}
    for path in verdicts:
        if not os.path.exists(path):
            raise UserError(f"{path}: no such file of verdicts; 'curate review {manifest}' writes one")
        one = Verdicts(path)
        if one.torn():
            raise UserError(f"{path}: its last line has no end; end it with a line break if it is whole, or delete it")
        for pair, mine in one.latest.items():
            for reviewer, verdict in mine.items():
                same = said.get(pair, {}).get(reviewer, verdict) == verdict  # one name in two files may be two people
                said.setdefault(pair, {})[reviewer if same else f"{reviewer} ({os.path.basename(path)})"] = verdict
    known = {pair for part in source.parts(["pair_id"]) for pair in part.column("pair_id").to_pylist()}
    if foreign := set(said) - known:
        print(f"{len(foreign)} pairs with a verdict are not in {manifest}: left out", file=sys.stderr)
    merged = Verdicts(os.devnull, said)
    tables = (_decided(part, merged) for part in source.parts())
    params = {"verdicts": files.digest(sorted((pair, sorted(mine.items())) for pair, mine in said.items() if mine))}
    stage = stage_entry("review", VERSION, params, [source])
    done = write(output, tables, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    return done, len(merged.disputed())


def _decided(part: pa.Table, verdicts: Verdicts) -> pa.Table:
    rows = zip(part.column("pair_id").to_pylist(), part.column("decisions").to_pylist(), strict=True)
    decisions = [_decide(old, verdicts.agreed(pair), verdicts.of(pair)) for pair, old in rows]
    return schema.set_column(part, "decisions", decisions, schema.CORE["decisions"])


def _decide(old: Iterable[Mapping[str, Any]], verdict: str | None, said: Mapping[str, str]) -> list[dict[str, Any]]:
    if verdict is None:
        return [dict(one) for one in old]
    who = ", ".join(sorted(name for name, one in said.items() if one == verdict))
    if verdict == KEEP:
        before = [one for one in old if one["verdict"] == "error" or one["stage"] not in ("filter", "review")]
        return schema.decide(before, "review", ["person"], ())
    new = [schema.decision("review", "person", "drop", f"dropped by {who}")]
    return schema.decide(list(old), "review", ["person"], new)
