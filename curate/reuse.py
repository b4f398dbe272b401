"""What earlier manifests know already: facts and scores by content hash, taken over where the same scorer made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import pyarrow.compute as pc

from curate import scorers
from manifests import metrics
from manifests.table import Manifest, read

FACTS = ("width", "height", "mode", "phash")
BEYOND = {"crop_right": "width", "crop_bottom": "height"}


def recorded(source: Manifest) -> dict[str, str]:
    """Metric -> the fingerprint of the scorer that made every value of it, as far as the lineage says so."""
    return {name: min(some) for name, some in makers(source).items() if len(some) == 1}


def makers(source: Manifest) -> dict[str, set[str]]:
    """Metric -> the fingerprints of all scorers that made values of it, as far as the lineage says so."""
    found: dict[str, set[str]] = {}
    for stage in source.stages:
        made = stage["params"].get("metrics")
        for name in stage["params"].get("anew", ()):  # what made it before is gone
            found.pop(name, None)
        for name, fingerprint in made.items() if isinstance(made, Mapping) else ():
            found.setdefault(name, set()).add(fingerprint)
    return found


def scores(manifests: Sequence[str], request: scorers.Request) -> dict[str, dict[str, float]]:
    """GT content hash -> column -> value, for the request's metrics that the same scorer measured before."""
    wanted = request.fingerprints()
    found: dict[str, dict[str, float]] = {}
    for source in map(read, manifests):
        made = recorded(source)
        names = [metrics.column(name) for name, fingerprint in wanted.items() if made.get(name) == fingerprint]
        names = [name for name in names if name in source.column_names]
        for part in source.parts(["gt_sha256", *names]) if names else ():
            for row in part.filter(pc.is_valid(part.column("gt_sha256"))).to_pylist():
                values = {name: row[name] for name in names if row[name] is not None}
                if values:
                    found.setdefault(row["gt_sha256"], {}).update(values)
    return found


@lru_cache(maxsize=1)
def known(manifests: tuple[str, ...], request: scorers.Request) -> dict[str, dict[str, Any]]:
    """Content hash -> what one decode of it gave: size, mode, perceptual hash, and for GTs `scores`.

    Files that failed, or lack a score of the request, are not in it as GTs. Loaded once per process.
    """
    found: dict[str, dict[str, Any]] = {}
    for source in map(read, manifests):
        for prefix, sha in (("", "gt_sha256"), ("lq.", "lq.sha256")):
            names = [sha, *(prefix + name for name in FACTS)]
            more = [prefix + name for name in BEYOND if prefix + name in source.column_names]
            for part in source.parts([*names, *more]):
                for row in part.filter(pc.is_valid(part.column(names[1]))).to_pylist():
                    facts = {name: row[prefix + name] for name in FACTS}
                    for name in more:  # of the file, not of what is left of it
                        facts[BEYOND[name.removeprefix(prefix)]] += row[name] or 0
                    found.setdefault(row[sha], facts)
    for sha, values in scores(manifests, request).items():
        if sha in found and len(values) == len(request.columns):
            found[sha]["scores"] = values
    return found


@lru_cache(maxsize=1)
def pairs(manifests: tuple[str, ...]) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    """(LQ hash, GT hash, task, subtask) -> what the same code and model measured of a pair."""
    from curate import pair_checks

    made = pair_checks.fingerprint()
    found: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for source in map(read, manifests):
        makers = {stage["params"].get("pair_checks") for stage in source.stages} - {None}
        if makers != {made} or not set(pair_checks.KINDS) <= set(source.column_names):
            continue
        for part in source.parts(["lq.sha256", "gt_sha256", "task", "subtask", *pair_checks.KINDS]):
            for row in part.filter(pc.is_valid(part.column("pair.psnr"))).to_pylist():
                key = (row["lq.sha256"], row["gt_sha256"], row["task"], row["subtask"] or "")
                found[key] = {name: row[name] for name in pair_checks.KINDS}
    return found
