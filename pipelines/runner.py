"""Runs a recipe: calls each stage in order, skips what is done, and lets an interrupted stage go on."""

from __future__ import annotations

import importlib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from manifests import files
from manifests.errors import UserError
from pipelines.recipe import Recipe, Step, is_reference

RECORDS = ".pipeline"


@dataclass(frozen=True)
class Kind:
    """A stage that recipes can name. `output` is the file or folder below the step's place that says it is finished."""

    function: str  # module:function
    finished: str  # relative to the output; "" for the output itself
    is_file: str = ""  # suffix of the output when it is a file


STAGES: dict[str, Kind] = {
    "pipelines.photos": Kind("pipelines.photos:photos", ""),
    **{
        f"curate.{name}": Kind(f"curate.{name}:{name}", "manifest.json")
        for name in (
            *("ingest", "merge", "join", "degrade", "score", "filter", "identify", "caption"),
            *("pairs", "dedup", "decontaminate", "split", "shard"),
        )
    },
    "curate.report": Kind("curate.report:report", "", ".html"),
    "trainer.run": Kind("pipelines.training:train", ""),
    "trainer.eval": Kind("pipelines.training:evaluate", "", ".json"),
    "trainer.report": Kind("pipelines.training:report", "", ".html"),
}


def run(recipe: Recipe, output: str, *, say: Callable[[str], None] = lambda text: None) -> dict[str, str]:
    """Run every step of `recipe` below the folder `output`; returns step name -> where its output is.

    A step is skipped when its fingerprint (stage, parameters, the steps and files it reads) is that of the run before
    and its output stands. A step whose fingerprint changed is made anew. A run that was killed goes on where it was.
    """
    os.makedirs(output, exist_ok=True)
    places: dict[str, str] = {}
    keys: dict[str, str] = {}
    for number, step in enumerate(recipe.steps, 1):
        kind = _kind(step)
        place = os.path.join(output, step.name + kind.is_file)
        params = step.resolved(places)
        _check(step, kind, params)
        keys[step.name] = key = _fingerprint(step, keys)
        title = f"[{number}/{len(recipe.steps)}] {step.name}: {step.run}"
        if _is_done(output, step, key, place, kind):
            say(f"{title} - unchanged, skipped")
        else:
            say(title)
            _begin(output, step, key, place)
            _function(kind)(**params, output=place)
            _record(output, step, key, "done")
        places[step.name] = place
    return places


def _kind(step: Step) -> Kind:
    if step.run not in STAGES:
        raise UserError(f"step {step.name!r}: unknown stage {step.run!r}; known: {', '.join(sorted(STAGES))}")
    return STAGES[step.run]


def _function(kind: Kind) -> Callable[..., Any]:
    module, _, name = kind.function.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _check(step: Step, kind: Kind, params: Mapping[str, Any]) -> None:
    signature = inspect.signature(_function(kind))
    try:
        signature.bind(**params, output="")
    except TypeError as error:
        known = ", ".join(name for name in signature.parameters if name != "output")
        raise UserError(f"step {step.name!r} ({step.run}): {error}; it takes {known}") from None


def _fingerprint(step: Step, keys: Mapping[str, str]) -> str:
    """What the step's output depends on: its stage and parameters, the steps it reads, and the folders it is given."""
    given = {name: step.params[name] for name in sorted(step.params)}
    outside = {
        name: [_listing(one) for one in (value if isinstance(value, list) else [value]) if _is_outside(one)]
        for name, value in step.params.items()
    }
    outside = {name: listings for name, listings in outside.items() if listings}
    return files.digest([step.run, given, [keys[name] for name in step.references()], outside])


def _is_outside(value: Any) -> bool:
    return isinstance(value, str) and not is_reference(value) and os.path.isdir(value)


def _listing(folder: str) -> list[list[Any]]:
    """Names, sizes and times of the files below a folder: what says whether it has changed."""
    found = []
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            status = os.stat(path)
            found.append([os.path.relpath(path, folder), status.st_size, status.st_mtime_ns])
    return sorted(found)


def _path(output: str, step: Step) -> str:
    return os.path.join(output, RECORDS, f"{step.name}.json")


def _state(output: str, step: Step) -> dict[str, str]:
    try:
        state: dict[str, str] = json.loads(files.read(_path(output, step)))
        return state
    except (FileNotFoundError, ValueError):
        return {}


def _record(output: str, step: Step, key: str, state: str) -> None:
    files.write(_path(output, step), json.dumps({"key": key, "state": state}).encode())


def _is_done(output: str, step: Step, key: str, place: str, kind: Kind) -> bool:
    state = _state(output, step)
    finished = os.path.join(place, kind.finished) if kind.finished else place
    if state.get("key") != key or not os.path.exists(finished):
        return False
    # a manifest is written last: one that stands is whole, even when the kill fell before the record
    return state.get("state") == "done" or kind.finished == "manifest.json"


def _begin(output: str, step: Step, key: str, place: str) -> None:
    """Say that the step runs; what an earlier run with other parameters left at its place is removed first."""
    if _state(output, step).get("key") != key:
        if os.path.lexists(place) and not _state(output, step):
            raise UserError(f"{place}: exists, but no run of this recipe made it; name another folder with -o")
        if os.path.isfile(place):
            os.unlink(place)
        files.remove_tree(place)
    _record(output, step, key, "started")
