"""The distinct images of a manifest: what a stage that asks a model of every image goes through."""

from __future__ import annotations

from collections.abc import Sequence

from curate import engine
from curate.score import Target
from manifests.table import Manifest

SIDES = {"gt": ("gt",), "lq": ("lq",), "both": ("gt", "lq")}


def named(side: str) -> tuple[str, str]:
    """The columns with the content hash and the path of a pair's "gt" or "lq"."""
    return ("gt_sha256", "gt_path") if side == "gt" else ("lq.sha256", "lq_path")


def targets(source: Manifest, sides: Sequence[str] = ("gt",), *, all_rows: bool = False) -> list[Target]:
    """The distinct images of the kept rows (of all with `all_rows`), in manifest order."""
    out: dict[str, Target] = {}
    columns = ["dataset", "status", *(name for side in sides for name in named(side))]
    for part in source.parts(columns):
        for use, row in zip(engine.chosen(part, all_rows), part.to_pylist(), strict=True):
            for side in sides if use else ():
                sha, path = (row[name] for name in named(side))
                if sha and path:
                    out.setdefault(sha, Target(sha, source.locate(row["dataset"], path)))
    return list(out.values())
