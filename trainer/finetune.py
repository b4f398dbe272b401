"""A trained model on a new task, with as much of the old mixture as keeps it from forgetting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manifests.errors import UserError
from trainer import checkpoint as checkpoint_
from trainer import config as config_
from trainer import loop
from trainer.stream.index import open_index

LR = 2e-4  # peak learning rate, where nobody says another


def finetune(
    checkpoint: str,
    manifest: str,
    *,
    replay: str | None = None,
    replay_share: float = 0.25,
    output: str = "finetuned",
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> loop.RunResult:
    """Train on from the averaged weights of a checkpoint, run or exported folder: a run of its own, into `output`.

    manifest: of the new task or tasks. replay: the manifest that the model was trained on; its tasks then take part,
    in the loop and in its scores. They begin with `replay_share` of the weight, in the proportions that they ended
    with; then the rule decides over old and new alike (`static` leaves it so). settings: a layer of `trainer.config`.
    Raises UserError and MixerError.
    """
    found = checkpoint_.find(checkpoint)
    given: dict[str, Any] = {
        "data": {"manifest": manifest, "replay": replay},
        "model": {**found.state["model"], "init": checkpoint},
        "optimiser": {"lr": LR},
    }
    if replay is not None:
        given["mixture"] = {"initial": _initial(found, manifest, replay, replay_share)}
    return loop.run(config_.build(given, settings or {}), output, resume=resume, overwrite=overwrite)


def _initial(found: checkpoint_.Checkpoint, manifest: str, replay: str, share: float) -> dict[str, float]:
    """The first weights: `share` to the old tasks, as they were weighted last, and the rest to the new ones."""
    if not 0 < share < 1:
        raise UserError(f"--replay-share {share}: must lie between 0 and 1", exit_code=2)
    new, old = (open_index(path, "train").tasks for path in (manifest, replay))
    fresh = [task for task in new if task not in old]
    if not fresh:
        raise UserError(f"{manifest}: has no task that {replay} does not have; leave --replay out", exit_code=2)
    last: Mapping[str, float] = found.state.get("state", {}).get("weights", {})
    weight = {task: float(last.get(task, 0.0)) for task in old}
    if not sum(weight.values()) > 0:  # of shards, or unknown
        weight = dict.fromkeys(old, 1.0)
    total = sum(weight.values())
    return {
        **{task: (1.0 - share) / len(fresh) for task in fresh},
        **{task: share * one / total for task, one in weight.items()},
    }
