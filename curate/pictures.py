"""The distinct images of a manifest, and a question about each of them that a model answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from curate import devices, engine, vlm
from curate.score import Target, load_pixels
from manifests import files, images
from manifests.errors import UserError
from manifests.table import Manifest

UNIT, UNIT_FAST = 16, 64  # images that are asked about between two savings; at an endpoint, or on a GPU
Ask = Callable[[list[images.Pixels]], list[dict[str, Any]]]  # images -> a row each

SIDES = {"gt": ("gt",), "lq": ("lq",), "both": ("gt", "lq")}


def named(side: str) -> tuple[str, str]:
    """The columns with the content hash and the path of a pair's "gt" or "lq"."""
    return ("gt_sha256", "gt_path") if side == "gt" else ("lq.sha256", "lq_path")


def targets(
    source: Manifest,
    sides: Sequence[str] = ("gt",),
    *,
    all_rows: bool = False,
    has: Mapping[str, Mapping[str, Collection[Any]]] | None = None,
) -> list[Target]:
    """The distinct images of the kept rows (of all with `all_rows`), in manifest order.

    has: side -> column -> its values by which an image of that side is known to be done; it is left out. Raises
    UserError where there is no such image at all, done or not.
    """
    out: dict[str, Target] = {}
    any_done = False
    known = {side: facts for side, facts in (has or {}).items() if set(facts) <= set(source.column_names)}
    names = [*source.place_columns(*sides), *(name for side in sides for name in named(side))]
    columns = list(dict.fromkeys(["status", *names, *(name for facts in known.values() for name in facts)]))
    for part in source.parts(columns):
        for use, row in zip(engine.chosen(part, all_rows), part.to_pylist(), strict=True):
            for side in sides if use else ():
                sha, path = (row[name] for name in named(side))
                done = side in known and all(row[name] in values for name, values in known[side].items())
                any_done |= bool(sha and path and done)
                if sha and path and not done:
                    out.setdefault(sha, Target(sha, source.place(row, side)))
    if not out and not any_done:
        raise UserError(f"{source.path}: no kept row has an image of {' or '.join(sides)}; nothing to do")
    return list(out.values())


def ask_all(
    source: Manifest,
    output: str,
    targets: Sequence[Target],
    ask: Ask,
    settings: vlm.Settings,
    *,
    label: str,
    said: Mapping[str, Any],
    columns: Mapping[str, pa.DataType],
    max_errors: str | None,
) -> dict[str, dict[str, Any]]:
    """What `ask` answers about each image: sha256 -> its row of `columns`, with a `problem` where it cannot be read.

    ask: picklable. settings: of the model that it asks; on several CUDA devices there is a process for each. said: all
    that an answer depends on. A run that was stopped goes on behind its last finished unit.
    """
    processes = 0 if settings.endpoint else devices.count(settings.device)
    size = UNIT_FAST if settings.endpoint or processes else UNIT  # whatever may change between two tries leaves it
    units = [targets[i : i + size] for i in range(0, len(targets), size)]
    kinds = {"sha256": pa.string(), **columns, "problem": pa.string()}
    results = engine.run_units(
        engine.work_folder(output),
        units,
        partial(_asked, ask=ask, kinds=kinds),
        fingerprint=files.digest([label, source.fingerprint, dict(said), size, [one.sha256 for one in targets]]),
        label=label,
        execution=engine.Execution(processes if processes > 1 else 0, None, max_errors),
        broken=partial(_broken, kinds=kinds),
        sizes=[len(unit) for unit in units],
    )
    return {row["sha256"]: row for result in results for row in result.to_pylist()}


def _asked(unit: Sequence[Target], *, ask: Ask, kinds: Mapping[str, pa.DataType]) -> pa.Table:
    rows: list[dict[str, Any]] = [{"sha256": target.sha256} for target in unit]
    good: list[images.Pixels] = []
    places = []
    for place, loaded in enumerate(map(load_pixels, unit)):
        if isinstance(loaded, str):
            rows[place]["problem"] = loaded
        else:
            good.append(loaded)
            places.append(place)
    for place, row in zip(places, ask(good) if good else (), strict=True):
        rows[place] |= row
    return _table(rows, kinds)


def _broken(unit: Sequence[Target], reason: str, *, kinds: Mapping[str, pa.DataType]) -> pa.Table:
    return _table([{"sha256": target.sha256, "problem": reason} for target in unit], kinds)


def _table(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, pa.DataType]) -> pa.Table:
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})
