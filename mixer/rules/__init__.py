"""Rules: how scores become weights. One module a rule, found by looking into this folder; its file's name is its name.

A module offers

- ``NEEDS``: the observation fields that it reads beside task and score;
- ``PARAMETERS``: name -> default;
- ``TAKES_INITIAL``: whether a person may give the weights of interval 0;
- ``init(tasks, params) -> memory``: checks the parameters; the keys that the rule adds to the state (JSON);
- ``update(state, observations) -> (state, weights_K)``: a pure function; observations are in the order of the state's
  tasks. ``start`` and ``update`` below do the rest: validation, the interval, the weights by task.

The first update of a run is interval 0: its scores are measured before training.
"""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol, cast

from mixer import mixture
from mixer.errors import MixerError
from mixer.observations import Observation, aligned

State = dict[str, Any]
Weights = dict[str, float]
FRAME = {"rule": str, "params": dict, "tasks": list, "initial": list, "weights": list, "interval": int}


class RuleModule(Protocol):
    """What a module in this folder offers."""

    NEEDS: tuple[str, ...]
    PARAMETERS: Mapping[str, Any]
    TAKES_INITIAL: bool

    def init(self, tasks: Sequence[str], params: Mapping[str, Any]) -> State: ...

    def update(self, state: Mapping[str, Any], observations: Sequence[Observation]) -> tuple[State, list[float]]: ...


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
    given = {**module.PARAMETERS, **(params or {})}
    if unknown := set(given) - set(module.PARAMETERS):
        known = ", ".join(module.PARAMETERS) or "none"
        raise MixerError(f"rule {name!r} has no parameter {min(unknown)!r}; it has {known}", exit_code=2)
    if initial is not None and not module.TAKES_INITIAL:
        takers = ", ".join(one for one in names() if takes_initial(one))
        raise MixerError(f"rule {name!r} sets its own weights; initial ones are for {takers}", exit_code=2)
    weights_K = [1.0 / len(tasks)] * len(tasks) if initial is None else mixture.named(initial, tasks)
    frame = {"rule": name, "params": given, "tasks": list(tasks), "initial": weights_K, "weights": weights_K}
    return _json({**frame, "interval": 0, **module.init(tasks, given)})


def update(state: Mapping[str, Any], observations: Iterable[Observation | Mapping[str, Any]]) -> tuple[State, Weights]:
    """The state and weights after one evaluation; pure, the arguments stay as they are.

    observations: one of every task, scores higher-is-better and finite. Returns the new state (JSON) and the weights
    of the interval that begins now: task -> share, in the order of the state's tasks, sum 1 within 1e-12.
    """
    before = checked(state)
    module, tasks = _module(before["rule"]), before["tasks"]
    rows = aligned(observations, tasks)
    for field in module.NEEDS:
        if lacking := [row.task for row in rows if getattr(row, field) is None]:
            raise MixerError(f"rule {before['rule']!r} needs {field} of every task; {lacking[0]!r} has none")
    after, weights_K = module.update(before, rows)
    after = _json({**after, "weights": weights_K, "interval": before["interval"] + 1})
    return after, dict(zip(tasks, weights_K, strict=True))


def checked(state: Mapping[str, Any]) -> State:
    """A copy of the state. Raises MixerError unless it is one that `start` or `update` returned."""
    if not isinstance(state, Mapping) or not all(isinstance(state.get(name), kind) for name, kind in FRAME.items()):
        raise MixerError(f"not the state of a rule: it needs {', '.join(FRAME)}")
    module, tasks = _module(state["rule"]), state["tasks"]
    if lost := [key for key in module.init(tasks, state["params"]) if key not in state]:
        raise MixerError(f"not the state of rule {state['rule']!r}: it has no {lost[0]}")
    for weights_K in (state["initial"], state["weights"]):
        numbers = len(weights_K) == len(tasks) and all(isinstance(weight, int | float) for weight in weights_K)
        if not numbers or min(weights_K) < 0 or abs(math.fsum(weights_K) - 1.0) > mixture.TOLERANCE:
            raise MixerError("not the state of a rule: its weights are no mixture of its tasks")
    return _json(state)


def _json(state: Mapping[str, Any]) -> State:
    copy: State = json.loads(json.dumps(state, allow_nan=False))
    return copy


@cache
def _modules() -> dict[str, RuleModule]:
    found = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return {name: cast(RuleModule, importlib.import_module(f"{__name__}.{name}")) for name in found}


def _module(name: str) -> RuleModule:
    if name not in _modules():
        raise MixerError(f"unknown rule {name!r}; known: {', '.join(names())}", exit_code=2)
    return _modules()[name]
