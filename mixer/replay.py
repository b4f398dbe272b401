"""Rules for people with a trainer of their own: a table of scores replayed, or one update at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from mixer import files, mixture, observations, rules
from mixer.errors import MixerError


def replay(
    scores: str | Sequence[Mapping[str, Any]],
    rule: str = "equilibrium",
    *,
    params: Mapping[str, Any] | None = None,
    initial: Mapping[str, float] | None = None,
    lower_is_better: Collection[str] | bool | None = None,
    output: str | None = None,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """The schedule that `rule` makes of recorded scores: rows of interval, task, score, weight.

    scores: a CSV, Parquet or JSON file with the columns interval, task, score (and the other fields of an observation
    where the rule needs them), or its rows (higher is better already). lower_is_better: see `observations.read`; None:
    as the column `metric` tells, where the table has one. Intervals are 0, 1, 2, ..., interval 0 being the
    scores before training. The `score` column of the schedule is higher-is-better, as the rule saw it.
    output: where to write the schedule. Raises MixerError for bad scores and for an output that exists.
    """
    if output is not None:
        files.refuse_existing(output, overwrite=overwrite, inputs=[scores] if isinstance(scores, str) else [])
    where = f"{scores}: " if isinstance(scores, str) else ""
    rows = observations.read(scores, lower_is_better=lower_is_better) if isinstance(scores, str) else list(scores)
    intervals = _by_interval(rows, where)
    tasks = list(dict.fromkeys(row.get("task", "") for row in intervals[0]))
    state = rules.start(rule, tasks, params, initial)
    out = []
    for interval, seen in enumerate(intervals):
        try:
            state, weights = rules.update(state, seen)
        except MixerError as error:
            raise MixerError(f"{where}interval {interval}: {error}") from None
        score = {one.task: one.score for one in observations.parse(seen)}
        out += [{"interval": interval, "task": t, "score": score.get(t), "weight": weights[t]} for t in tasks]
    if output is not None:
        from mixer import schedule

        schedule.write(output, out)
    return out


def step(
    state: str,
    scores: str,
    rule: str | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    initial: Mapping[str, float] | None = None,
    lower_is_better: Collection[str] | bool | None = None,
) -> dict[str, Any]:
    """One update: read the state file, show it the scores, write it back; returns {"interval", "weights"}, and
    "missing", the tasks without a score, where there are any.

    A state file that is not there is begun with `rule` (equilibrium when nobody says) and the tasks of the scores;
    where it is, rule, params and initial may be given again, but not otherwise. Scores that name their interval must be
    of the one that the state awaits, so that nothing is counted twice. The file is replaced atomically: a killed step
    has happened or has not.
    """
    rows = observations.read(scores, lower_is_better=lower_is_better)
    seen = [_without_interval(row) for row in rows]
    if os.path.exists(state):
        before = _load(state)
        _check_same(state, before, rule, params or {}, initial)
    else:
        before = rules.start(rule or "equilibrium", list(dict.fromkeys(row["task"] for row in seen)), params, initial)
    if strangers := {row["interval"] for row in rows if "interval" in row} - {before["interval"]}:
        raise MixerError(f"{scores}: is of interval {min(strangers)}, but {state} awaits interval {before['interval']}")
    try:
        after, weights = rules.update(before, seen)
    except MixerError as error:
        raise MixerError(f"{scores}: {error}") from None
    files.write(state, (json.dumps(after, indent=2) + "\n").encode())
    lacking = [task for task, count in after["missing"].items() if count > before["missing"].get(task, 0)]
    return {"interval": before["interval"], "weights": weights} | ({"missing": lacking} if lacking else {})


def _by_interval(rows: Iterable[Mapping[str, Any]], where: str) -> list[list[dict[str, Any]]]:
    """Observations of interval 0, 1, 2, ...; `where` begins an error."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("interval") is None:
            raise MixerError(f"{where}needs the columns interval, task, score; a row has no interval")
        found.setdefault(row["interval"], []).append(_without_interval(row))
    if not found or sorted(found) != list(range(len(found))):
        raise MixerError(f"{where}intervals must be 0, 1, 2, ... without a gap; found {sorted(found)[:8]}")
    return [found[interval] for interval in range(len(found))]


def _without_interval(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "interval"}


def _load(path: str) -> rules.State:
    try:
        with open(path, encoding="utf-8") as file:
            state = json.load(file)
    except ValueError as error:
        reason = " ".join(str(error).split())[:120]
        raise MixerError(f"{path}: is no JSON ({reason}); name another state, or delete it to begin anew") from None
    try:
        return rules.checked(state)
    except MixerError as error:
        raise MixerError(f"{path}: {error}; name another state, or delete it to begin anew") from None


def _check_same(
    path: str,
    state: rules.State,
    rule: str | None,
    params: Mapping[str, Any],
    initial: Mapping[str, float] | None,
) -> None:
    """Raises MixerError unless what the caller says again is what the state began with."""
    if rule and rule != state["rule"]:
        raise MixerError(f"{path}: goes on with rule {state['rule']!r}, not {rule!r}; name another state")
    for name, value in params.items():
        if name not in state["params"] or state["params"][name] != value:
            raise MixerError(f"{path}: goes on with {state['params']}, not {name}={value}; name another state")
    if initial is not None and mixture.named(initial, state["tasks"]) != state["initial"]:
        raise MixerError(f"{path}: began with other weights; leave --initial out, or name another state")
