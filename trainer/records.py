"""The run folder: what a run writes beside its checkpoints, and how two runs are compared.

config.json          resolved config, versions, fingerprints of data and schedule, conventions
schedule.parquet     interval, task, score, weight (with a shard schedule: interval, shard, task, weight)
metrics.parquet      step, task, metric, value, se, n, lq, groups, gain, gain_se, train_loss, weight, share,
                     samples_seen, epochs
run.jsonl            what happened when, and how fast: the only place with times
samples/, tensorboard/, checkpoints/
"""

from __future__ import annotations

import copy
import importlib.metadata
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import files, images, outputs
from manifests.errors import UserError
from trainer import config as config_

STEPS = "optimiser.steps: "  # a difference that a resume may have

METRICS = pa.schema(
    [
        ("step", pa.int64()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),  # mean over the task's images of D_ref, in the metric's own direction
        ("se", pa.float64()),  # null for a single group
        ("n", pa.int64()),
        ("lq", pa.float64()),  # the same of the unrestored input
        ("groups", pa.int64()),  # scenes of D_ref that the n images come from; null where unknown
        ("gain", pa.float64()),  # mean of value - lq over images, in the metric's own direction
        ("gain_se", pa.float64()),  # its standard error; se and gain_se are over groups
        ("train_loss", pa.float64()),  # mean since the last evaluation; null at step 0
        ("weight", pa.float64()),  # requested since the last evaluation; null at step 0
        ("share", pa.float64()),  # realised since the last evaluation; null at step 0
        ("samples_seen", pa.int64()),
        ("epochs", pa.float64()),  # how often each of the task's pairs has been seen
    ]
)


class Records:
    """Writer of one run folder. Tables are rewritten whole and atomically; `run.jsonl` is appended to.

    writes: False for the processes of a team that leave it to the first. trackers: names that accelerate knows.
    """

    def __init__(
        self,
        folder: str,
        step: int,
        *,
        writes: bool = True,
        trackers: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self._writes = writes
        self._board: Any = None
        self._step = step
        self._trackers = [_tracker(name, folder, config or {}) for name in trackers] if writes else []

    def path(self, *names: str) -> str:
        """A path inside the run folder."""
        return os.path.join(self.folder, *names)

    def event(self, name: str, /, **facts: Any) -> None:
        """Append to run.jsonl: what happened, when (Unix seconds), and facts."""
        if not self._writes:
            return
        line = json.dumps({"time": round(time.time(), 3), "event": name, **facts})
        with open(self.path("run.jsonl"), "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def tables(self, schedule: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]]) -> None:
        """Write schedule.parquet and metrics.parquet."""
        if not self._writes:
            return
        from mixer import schedule as schedule_

        if schedule:
            schedule_.write(self.path("schedule.parquet"), schedule)
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(metrics), METRICS), buffer, compression="zstd")
        files.write(self.path("metrics.parquet"), buffer.getvalue())

    def samples(self, step: int, triples: Mapping[str, Any]) -> None:
        """Write samples/step-XXXXXXXX.png: a row per task in order, LQ | output | GT."""
        if not self._writes:
            return
        from trainer import grid

        sheet = grid.compose([triples[task] for task in sorted(triples)])
        files.write(self.path("samples", f"step-{step:08d}.png"), images.encode_png(sheet))

    def gallery(self, data: bytes) -> None:
        """Write samples/gallery.png: the best, the median and the worst image of every task."""
        if self._writes:
            files.write(self.path("samples", "gallery.png"), data)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write numbers to TensorBoard and the trackers."""
        if not self._writes:
            return
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(self.path("tensorboard"), purge_step=self._step or None)  # type: ignore[no-untyped-call]
        for name, value in values.items():
            if value is not None:
                self._board.add_scalar(name, value, step)
        self._board.flush()
        for tracker in self._trackers:
            tracker.log({name: value for name, value in values.items() if value is not None}, step=step)

    def close(self) -> None:
        """Close TensorBoard's file, and finish the trackers."""
        if self._board is not None:
            self._board.close()
        for tracker in self._trackers:
            tracker.finish()


def scalars(rows: Sequence[Mapping[str, Any]], weights: Mapping[str, float]) -> dict[str, float | None]:
    """An evaluation, as rows of metrics.parquet, and the tasks' weights as numbers for TensorBoard."""
    out: dict[str, float | None] = {f"weight/{task}": weight for task, weight in weights.items()}
    for row in rows:
        out[f"{row['metric']}/{row['task']}"] = row["value"]
        out[f"train_loss/{row['task']}"] = row["train_loss"]
    return out


def _tracker(name: str, folder: str, config: Mapping[str, Any]) -> Any:
    """One of accelerate's trackers, told the run's settings. Raises UserError when it is unknown or not installed."""
    from accelerate import PartialState, tracking
    from accelerate.utils import LoggerType

    PartialState()
    known = sorted(str(kind.value) for kind in LoggerType if kind.value != "all")
    if name not in known:
        raise UserError(f"run.trackers: unknown tracker {name!r}; accelerate has {', '.join(known)}", exit_code=2)
    if name not in {str(kind) for kind in tracking.get_available_trackers()}:
        raise UserError(f"run.trackers: {name} is not installed; pip install {name}", exit_code=2)
    kind: Any = tracking.LOGGER_TYPE_TO_CLASS[name]
    path = os.path.join(folder, "trackers")
    made = kind("equimix", logging_dir=path) if kind.requires_logging_directory else kind("equimix")
    if hasattr(made, "start"):
        made.start()
    plain = (bool, int, float, str)
    told = config_.flat(config).items()
    made.store_init_configuration({key: value if isinstance(value, plain) else str(value) for key, value in told})
    return made


def identity(config: config_.Config, fingerprints: Mapping[str, str], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Content of config.json. fingerprints: of the training and reference index and the schedule."""
    return {
        "config": config.model_dump(mode="json"),
        "resolved": dict(resolved),
        "fingerprints": dict(fingerprints),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("equimix", "torch", "numpy")},
        },
        "git": git_state(),
    }


def git_state() -> dict[str, Any] | None:
    """Commit of the working copy that this code runs from, and whether it has changes; None outside of one."""

    def git(*arguments: str) -> str:
        here = os.path.dirname(os.path.abspath(__file__))
        done = subprocess.run(["git", "-C", here, *arguments], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        if git("ls-files", "records.py") != "records.py":  # a repository around an installation says nothing of us
            return None
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def write_identity(folder: str, content: Mapping[str, Any]) -> None:
    """Write config.json."""
    files.write(os.path.join(folder, "config.json"), (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def read_identity(folder: str) -> dict[str, Any] | None:
    """Content of the folder's config.json, or None when there is none. Raises UserError when it is damaged."""
    path = os.path.join(folder, "config.json")
    try:
        content: dict[str, Any] = json.loads(files.read(path))
        return content
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None


def check_same(folder: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises UserError, naming the first difference, unless a run may go on under the `new` identity.

    More steps are no difference: `extend` writes them down.
    """
    before, now = (one["config"]["optimiser"]["steps"] for one in (old, new))
    if now < before:
        raise UserError(
            f"{folder}: cannot be resumed with fewer steps: it is a run of {before}, now {now} are asked for"
        )
    found = [one for one in config_.differences(old["config"], new["config"]) if not one.startswith(STEPS)]
    found += [
        f"the {name} has changed (fingerprint {old['fingerprints'].get(name)}, now {value})"
        for name, value in new["fingerprints"].items()
        if old["fingerprints"].get(name) != value
    ]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UserError(f"{folder}: cannot be resumed: {found[0]}{more}; give the same settings, or start another run")


def extend(folder: str, stored: Mapping[str, Any], step: int, steps: int) -> dict[str, Any]:
    """Write to config.json that the run goes on from `step` to `steps` in all; returns its new content.

    `extended` there lists, per such resume, the step it began at and the steps that the run was to have until then.
    """
    content: dict[str, Any] = copy.deepcopy(dict(stored))
    settings = content["config"]["optimiser"]
    content["extended"] = [*content.get("extended", []), {"step": step, "steps": settings["steps"]}]
    settings["steps"] = steps
    write_identity(folder, content)
    return content


def prepare(folder: str, *, resume: bool, overwrite: bool = False, inputs: Sequence[str] = ()) -> dict[str, Any] | None:
    """The config.json that stands in the run folder, or None for a run that starts there.

    Raises UserError for a folder in use unless `resume` or `overwrite`, and then for one that is no run of ours.
    `overwrite` only looks (`clear` removes the earlier run); the folder must not hold one of the `inputs`.
    """
    if resume and overwrite:
        raise UserError("--resume goes on with a run, --overwrite starts anew: give one of them", exit_code=2)
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(f"{folder}: is a file; name a folder for the run with -o")
    there = [name for name in os.listdir(folder) if not name.startswith(".")] if os.path.isdir(folder) else []
    if there and overwrite:
        outputs.check_folder(folder, outputs.RUN, inputs)
        return None
    if there and not resume:
        raise UserError(
            f"{folder}: exists already; go on with --resume, name another with -o, or replace it with --overwrite"
        )
    stored = read_identity(folder)
    if there and stored is None:
        raise UserError(f"{folder}: has files but no config.json, so it is no run that could be resumed")
    return stored


def clear(folder: str) -> None:
    """Delete the earlier run in the folder, which `prepare` has looked at, and say so."""
    if not os.path.isdir(folder) or not os.path.exists(os.path.join(folder, "config.json")):
        return
    print(f"{folder}: the earlier run is deleted", file=sys.stderr)
    for name in os.listdir(folder):
        inner = os.path.join(folder, name)
        if os.path.isdir(inner) and not os.path.islink(inner):
            shutil.rmtree(inner)
        else:
            os.unlink(inner)
