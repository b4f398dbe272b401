"""Rules: how scores become weights. One module a rule, found by looking into this folder; its file's name is its name.

A module offers

- ``NEEDS``: the observation fields that it reads beside task and score;
- ``PARAMETERS``: name -> default;
- ``TAKES_INITIAL``: whether a person may give the weights of interval 0;
- ``init(tasks, params) -> memory``: checks the parameters; arrays with a leading axis of 1 that the rule remembers;
- ``update(seen, memory, params) -> (memory, weights_SxK)``: a pure function on arrays, for S independent runs at once
  (a simulation plays hundreds; a training run is S = 1). Tasks come sorted by name.

``start`` and ``update`` below do the rest: validation, JSON, the interval, the weights by task, scores that are missing
(every weight stays as it was; a module that says ``SEES_MISSING = True`` gets them as NaN instead). A module may offer
``evaluations(tasks, params) -> int``, how many it needs in a run. The first update of
a run is interval 0: its scores are measured before training.
"""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from mixer import mixture
from mixer.errors import MixerError
from mixer.observations import Observation, Seen, aligned
from mixer.tables import Array

State = dict[str, Any]
Weights = dict[str, float]
Memory = dict[str, Array]
ALIASES = {"mixing": "proportional"}  # what FoundIR-v2's table 2 calls it
FRAME = {"rule": str, "params": dict, "tasks": list, "initial": list, "weights": list, "interval": int, "memory": dict}


class RuleModule(Protocol):
    """What a module in this folder offers."""

    NEEDS: tuple[str, ...]
    PARAMETERS: Mapping[str, Any]
    TAKES_INITIAL: bool

    def init(self, tasks: Sequence[str], params: Mapping[str, Any]) -> Memory: ...

    def update(self, seen: Seen, memory: Memory, params: Mapping[str, Any]) -> tuple[Memory, Array]: ...


def names() -> list[str]:
    """Names of the rules."""
    return list(_modules())


def needs(name: str) -> tuple[str, ...]:
    """Observation fields that the rule reads beside task and score."""
    return _module(name).NEEDS


def parameters(name: str) -> dict[str, Any]:
    """Parameters of the rule with their defaults."""
    return dict(_module(name).PARAMETERS)


def takes_initial(name: str) -> bool:
    """Whether the rule begins with weights that a person gives."""
    return _module(name).TAKES_INITIAL


def evaluations(name: str, tasks: int, params: Mapping[str, Any] | None = None) -> int:
    """How many evaluations a run should have for the rule to learn and then use what it learnt; 1 where any do."""
    module = _module(name)
    counted = getattr(module, "evaluations", None)
    return 1 if counted is None else int(counted(tasks, _params(name, params or {})))


def about(name: str) -> str:
    """The rule in a line."""
    return (_module(name).__doc__ or "").split("\n")[0]


def start(
    name: str,
    tasks: Sequence[str],
    params: Mapping[str, Any] | None = None,
    initial: Mapping[str, float] | None = None,
) -> State:
    """The JSON state of rule `name` before its first observation.

    params: the rule's parameters (its defaults otherwise). initial: weights of interval 0, normalised to sum 1;
    uniform where nothing is said. Raises MixerError for an unknown rule or parameter, and for weights that are no
    mixture of the tasks or that the rule would not heed.
    """
    module = _module(name)
    if not tasks or len(set(tasks)) != len(tasks) or not all(isinstance(task, str) and task for task in tasks):
        raise MixerError("a mixture needs one task or more, each named once", exit_code=2)
    given = _params(name, params or {})
    if initial is not None and not module.TAKES_INITIAL:
        takers = ", ".join(one for one in names() if takes_initial(one))
        raise MixerError(f"rule {name!r} sets its own weights; initial ones are for {takers}", exit_code=2)
    weights_K = [1.0 / len(tasks)] * len(tasks) if initial is None else mixture.named(initial, tasks)
    memory = _kept(begin(name, tasks, given))
    frame = {
        "rule": ALIASES.get(name, name),
        "params": given,
        "tasks": list(tasks),
        "initial": weights_K,
        "weights": weights_K,
    }
    return _json({**frame, "interval": 0, "missing": {}, "memory": memory})


def update(state: Mapping[str, Any], observations: Iterable[Observation | Mapping[str, Any]]) -> tuple[State, Weights]:
    """The state and weights after one evaluation; pure, the arguments stay as they are.

    observations: of every task, scores higher-is-better; a score that is missing (no row, None, NaN, infinite) is
    counted in the state's `missing`, and the task keeps its weight. Returns the new state (JSON) and the weights of the
    interval that begins now: task -> share, in the order of the state's tasks, sum 1 within 1e-12.
    """
    before = checked(state)
    name, tasks = before["rule"], before["tasks"]
    rows = aligned(observations, tasks)
    lacking = [row.task for row in rows if row.score is None]
    for field in _module(name).NEEDS if not lacking or _sees_missing(name) else ():
        without = [row.task for row in rows if getattr(row, field) is None]
        if field == "train_loss" and (not before["interval"] or len(without) < len(rows)):
            continue  # nothing has been trained yet, or nothing of that task
        if without:
            raise MixerError(f"rule {name!r} needs {field} of every task; {without[0]!r} has none")
    order = sorted(range(len(tasks)), key=tasks.__getitem__)
    weights_K, initial_K = ([before[key][place] for place in order] for key in ("weights", "initial"))
    seen = Seen.of([rows[place] for place in order], before["interval"], weights_K, initial_K)
    try:
        memory = {key: np.array(value, float)[None] for key, value in before["memory"].items()}
        memory, weights_SxK = advance(name, seen, memory, before["params"])
    except KeyError as error:
        raise MixerError(f"not the state of rule {name!r}: its memory has no {error}") from None
    weights = dict(zip((tasks[place] for place in order), weights_SxK[0].tolist(), strict=True))
    missing = {**before["missing"], **{task: before["missing"].get(task, 0) + 1 for task in lacking}}
    after = {**before, "weights": [weights[task] for task in tasks], "interval": before["interval"] + 1}
    return {**after, "missing": missing, "memory": _kept(memory)}, {task: weights[task] for task in tasks}


def begin(name: str, tasks: Sequence[str], params: Mapping[str, Any], runs: int = 1) -> Memory:
    """What rule `name` remembers before its first observation, of `runs` runs; `tasks` in any order."""
    memory = _module(name).init(sorted(tasks), _params(name, params))
    return {key: np.repeat(value, runs, axis=0) for key, value in memory.items()}


def advance(name: str, seen: Seen, memory: Memory, params: Mapping[str, Any]) -> tuple[Memory, Array]:
    """The memory and weights_SxK of S runs after one evaluation; tasks sorted by name. What `update` calls as well."""
    module = _module(name)
    if _sees_missing(name):
        memory, weights_SxK = module.update(seen, memory, params)
    else:
        whole_S = np.asarray(np.isfinite(seen.score).all(axis=1))
        if not whole_S.any():
            return memory, seen.weights
        after, weights_SxK = module.update(seen, memory, params)
        if not whole_S.all():
            memory = {key: _where(whole_S, value, memory[key]) for key, value in after.items()}
            weights_SxK = _where(whole_S, weights_SxK, seen.weights)
        else:
            memory = after
    return memory, mixture.normalise(weights_SxK)


def checked(state: Mapping[str, Any]) -> State:
    """A copy of the state. Raises MixerError unless it is one that `start` or `update` returned."""
    if not isinstance(state, Mapping) or not all(isinstance(state.get(name), kind) for name, kind in FRAME.items()):
        raise MixerError(f"not the state of a rule: it needs {', '.join(FRAME)}")
    tasks = state["tasks"]
    _module(state["rule"])
    for weights_K in (state["initial"], state["weights"]):
        numbers = len(weights_K) == len(tasks) and all(isinstance(weight, int | float) for weight in weights_K)
        if not numbers or min(weights_K) < 0 or abs(math.fsum(weights_K) - 1.0) > mixture.TOLERANCE:
            raise MixerError("not the state of a rule: its weights are no mixture of its tasks")
    return _json({"missing": {}, **state})


def _sees_missing(name: str) -> bool:
    return bool(getattr(_module(name), "SEES_MISSING", False))


def _params(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    known = _module(name).PARAMETERS
    if unknown := set(params) - set(known):
        raise MixerError(
            f"rule {name!r} has no parameter {min(unknown)!r}; it has {', '.join(known) or 'none'}", exit_code=2
        )
    return {**known, **params}


def _where(run_S: npt.NDArray[np.bool_], yes: Array, no: Array) -> Array:
    return np.where(run_S.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


def _kept(memory: Memory) -> dict[str, Any]:
    """Arrays of one run as JSON, NaN as null."""
    out: dict[str, Any] = {}
    for key, value in memory.items():
        plain = value[0].astype(object)
        plain[np.isnan(value[0])] = None
        out[key] = plain.tolist()
    return out


def _json(state: Mapping[str, Any]) -> State:
    copy: State = json.loads(json.dumps(state, allow_nan=False))
    return copy


@cache
def _modules() -> dict[str, RuleModule]:
    found = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return {name: cast(RuleModule, importlib.import_module(f"{__name__}.{name}")) for name in found}


def _module(name: str) -> RuleModule:
    name = ALIASES.get(name, name)
    if name not in _modules():
        raise MixerError(f"unknown rule {name!r}; known: {', '.join(names())}", exit_code=2)
    return _modules()[name]
