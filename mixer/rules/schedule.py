"""The weights of a schedule file, interval by interval; past its end the last ones hold (replay)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixer.errors import MixerError
from mixer.observations import Seen
from mixer.tables import Array

NEEDS: tuple[str, ...] = ()
PARAMETERS: Mapping[str, Any] = {"file": None}
TAKES_INITIAL = False
SEES_MISSING = True  # it does not look at scores


def init(tasks: Sequence[str], params: Mapping[str, Any]) -> dict[str, Array]:
    """Memory: the whole schedule, so that a resume does not ask for the file. Raises MixerError for a bad one."""
    from mixer import schedule

    if params["file"] is None:
        raise MixerError("schedule: say which, with --set file=SCHEDULE.parquet", exit_code=2)
    found = schedule.read(str(params["file"]))
    if found.strata_column != "task" or sorted(found.names) != list(tasks):
        raise MixerError(f"{params['file']}: is of {', '.join(found.names)}; the tasks are {', '.join(tasks)}")
    return {"weights_IxK": found.weights_IxK[None, :, [found.names.index(task) for task in tasks]]}


def update(seen: Seen, memory: dict[str, Array], params: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """The row of this interval."""
    rows = memory["weights_IxK"]
    return memory, rows[:, min(seen.interval, rows.shape[1] - 1)]
