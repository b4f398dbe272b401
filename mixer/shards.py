"""Task weights to shard weights, so that a schedule drives any loader that weighs shards."""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Mapping

import numpy as np

from mixer import files, schedule
from mixer.errors import MixerError
from mixer.schedule import Schedule

COLUMNS = ["task", "split", "status", "shard"]


def shards(schedule_path: str, folder: str, output: str | None = None, *, overwrite: bool = False) -> Schedule:
    """The schedule of tasks in `schedule_path` over the train shards of `folder`.

    output: a .parquet file to write; a .json file beside it says the same, as a {shard: weight} for every interval.
    Raises MixerError naming the file that does not fit, and for an output that exists.
    """
    if output is not None:
        beside = os.path.splitext(output)[0] + ".json"
        for path in (output, beside):
            files.refuse_existing(path, overwrite=overwrite, inputs=[schedule_path, folder])
    tasks, samples = schedule.read(schedule_path), read_shards(folder)
    try:
        made = shard_schedule(tasks, samples)
    except MixerError as error:
        raise MixerError(f"{schedule_path} does not fit {folder}: {error}") from None
    if output is not None:
        schedule.write(output, made.rows())
        listed = {"intervals": [made.weights(interval) for interval in range(made.intervals)]}
        files.write(beside, (json.dumps(listed, indent=1) + "\n").encode())
    return made


def shard_schedule(tasks: Schedule, samples: Mapping[str, Mapping[str, int]]) -> Schedule:
    """Per-interval weight of every shard: a task's weight over its shards by their number of samples.

    samples: task -> shard -> samples (above 0). The weights of a task's shards sum to the task's weight within 1e-12.
    Raises MixerError when a weighted task has no shards, or shards belong to a task that the schedule lacks.
    """
    if tasks.strata_column != "task":
        raise MixerError("the schedule is one of shards already, one of tasks is needed")
    if strangers := set(samples) - set(tasks.names):
        raise MixerError(f"shards of task {min(strangers)!r} have no weight: the schedule has {', '.join(tasks.names)}")
    for index, task in enumerate(tasks.names):
        if not samples.get(task) and tasks.weights_IxK[:, index].any():
            raise MixerError(f"task {task!r} has weight but no train shards")
    task_of = {shard: task for task in tasks.names for shard in sorted(samples.get(task, {}))}
    if len(task_of) < sum(map(len, samples.values())):
        raise MixerError("a shard holds more than one task; 'curate shard' makes one per task")
    weights_IxS = np.empty((tasks.intervals, len(task_of)))
    for column, (shard, task) in enumerate(task_of.items()):
        share = samples[task][shard] / sum(samples[task].values())
        weights_IxS[:, column] = tasks.weights_IxK[:, tasks.names.index(task)] * share
    return Schedule("shard", tuple(task_of), weights_IxS, task_of=task_of)


def read_shards(folder: str) -> dict[str, dict[str, int]]:
    """task -> shard -> kept train samples, from the index of a shard folder (what `curate shard` writes).

    Raises MixerError when there is no index, or none of a shard folder, or no train shard in it.
    """
    import pyarrow.parquet as pq

    tally: Counter[tuple[str, str]] = Counter()
    try:
        for path in _parts(folder):
            with open(path, "rb") as file:
                table = pq.ParquetFile(file).read(columns=COLUMNS)
            if lost := [name for name in COLUMNS if name not in table.column_names]:
                raise MixerError(
                    f"{folder}: is no shard folder, it has no column {lost[0]!r}; 'curate shard' makes one"
                )
            for task, split, status, shard in zip(*(table[name].to_pylist() for name in COLUMNS), strict=True):
                if shard and split == "train" and status == "kept":
                    tally[task, shard] += 1
    except FileNotFoundError as error:
        raise MixerError(f"{error.filename or folder}: no such file; 'curate shard' makes a shard folder") from None
    except (ValueError, OSError) as error:
        if isinstance(error, MixerError):
            raise
        reason = " ".join(str(error).split())[:120]
        raise MixerError(f"{folder}: its index cannot be read ({reason}); 'curate shard' makes one") from None
    if not tally:
        raise MixerError(f"{folder}: has no train shards; 'curate split' and 'curate shard' make them")
    out: dict[str, dict[str, int]] = {}
    for (task, shard), number in sorted(tally.items()):
        out.setdefault(task, {})[shard] = number
    return out


def _parts(folder: str) -> list[str]:
    """The Parquet parts that manifest.json lists (all that lie there when it lists none)."""
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
        listed = json.load(file).get("parts")
    if listed is None:
        return sorted(glob.glob(os.path.join(glob.escape(folder), "part-*.parquet")))
    return [os.path.join(folder, part["file"]) for part in listed]
