"""Photographs to shards, with tasks of unequal size and held-out scenes for D_ref and for the report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from benchmarks.mixture.settings import Settings
from manifests import schema, table

# One scene of two views would be taken for D_ref first, and with its 2 x `crops` pairs be most of it.
LEFT_OUT = "motorcycle/right.png"


def build(out: str, settings: Settings) -> str:
    """The folder of shards below `out`/data, made stage by stage where it is not there yet."""
    from curate.degrade import degrade
    from curate.filter import filter as keep_clean
    from curate.ingest import ingest
    from curate.shard import shard
    from curate.split import split

    def place(name: str) -> str:
        return os.path.join(out, "data", name)

    def stage(name: str, make: Callable[[], Any]) -> None:
        if not os.path.exists(os.path.join(place(name), "manifest.json")):
            make()

    photos = settings.photos or _photographs(place("photos"))
    facts: dict[str, Any] = {"score": ["signals", "piqe"], "identify": True}
    stage("clean", lambda: ingest(photos, place("clean"), gt="{scene}/{id}.*", group="{scene}", task="clean",
                                  dataset="photos", **facts))  # fmt: skip
    stage("good", lambda: keep_clean(place("clean"), place("good"), maximum={"piqe": 80}, max_degradation=0.5))
    stage("pairs", lambda: degrade(place("good"), place("pairs"), tasks=list(settings.tasks), crop=settings.side,
                                   crops=settings.crops))  # fmt: skip
    stage("split", lambda: split(place("pairs"), place("split"), ref=settings.ref, test=settings.test,
                                 seed=settings.split))  # fmt: skip
    stage("thinned", lambda: thin(place("split"), place("thinned"), settings.tasks))
    stage("shards", lambda: shard(place("thinned"), place("shards")))
    return place("shards")


def thin(manifest: str, output: str, shares: dict[str, float]) -> None:
    """Take training pairs of every task out of the split until `shares` of them are left; D_ref and test stay.

    Which ones is a matter of the pairs' ids, which are hashes: pairs of all scenes, and other GTs for every task.
    """
    source = table.read(manifest)
    whole = source.table()
    rows = whole.select(["pair_id", "task", "split", "status", "lq_path"]).to_pylist()
    splits = whole.column("split").to_pylist()
    for name, share in shares.items():
        task = name.partition(":")[0]
        mine = [
            i
            for i, row in enumerate(rows)
            if (row["task"], row["split"], row["status"]) == (task, "train", "kept") and row["lq_path"]
        ]
        ranked = sorted(mine, key=lambda i: rows[i]["pair_id"])
        for i in ranked[max(1, round(share * len(mine))) :]:
            splits[i] = None
    stage = table.stage_entry("thin", 1, {"shares": shares}, [source])
    thinned = schema.set_column(whole, "split", splits, pa.string())
    table.write(output, thinned, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])


def describe(shards: str) -> dict[str, dict[str, Any]]:
    """split -> {"pairs": task -> number, "scenes": their names}."""
    rows = table.read(shards).table(["task", "split", "group", "status", "lq_path"]).to_pylist()
    used = [row for row in rows if row["status"] == "kept" and row["split"] and row["lq_path"]]
    return {
        split: {
            "pairs": dict(sorted(Counter(row["task"] for row in used if row["split"] == split).items())),
            "scenes": sorted({os.path.basename(row["group"]) for row in used if row["split"] == split}),
        }
        for split in ("train", "ref", "test")
    }


def _photographs(folder: str) -> str:
    from pipelines.photos import photos

    photos(folder)
    if os.path.exists(second := os.path.join(folder, LEFT_OUT)):
        os.unlink(second)
    return folder
