"""What a run is given, opened and checked before it begins, and what config.json says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manifests.errors import UserError
from trainer import checkpoint, evaluate, metrics, mixture, models, records
from trainer.config import Config
from trainer.stream.cache import Cache, default_folder
from trainer.stream.index import Index, open_index
from trainer.team import Team


@dataclass(frozen=True)
class Inputs:
    """index: the training pairs. reference: D_ref. scorers: task → the metric of its score."""

    index: Index
    reference: Index
    scorers: dict[str, metrics.Metric]
    mixture: mixture.Mixture


def open_inputs(config: Config, device: str) -> Inputs:
    """Open data, metrics and schedule of a run. Raises UserError and MixerError for what does not fit."""
    manifests = [config.data.manifest, *([config.data.replay] if config.data.replay else [])]
    schedule = mixture.read_schedule(config.mixture)
    index = open_index(manifests, "train", strata=schedule.strata_column if schedule else "task")
    reference = open_index(manifests, "ref", cache=cache_of(config), groups=True)
    scorers = _scorers(config, index, reference, device)
    mixed = mixture.Mixture(config.mixture, index, schedule)
    mixed.check_epochs(config.optimiser.steps * config.data.batch)
    return Inputs(index, reference, scorers, mixed)


def paths(config: Config) -> list[str]:
    """The files and folders that a run reads."""
    given = (config.data.manifest, config.data.replay, config.model.init, config.mixture.schedule)
    return [path for path in given if path]


def cache_of(config: Config) -> Cache | None:
    """Where remote shards are kept; None when the config wants them read where they are."""
    limit = int(config.data.cache_gb * (1 << 30))
    return Cache(config.data.cache or default_folder(), limit) if limit else None


def identity(
    config: Config, inputs: Inputs, stored: Mapping[str, Any] | None, *, threads: int, bf16: bool, team: Team
) -> dict[str, Any]:
    """What config.json says of this run. stored: what it says already, for one that is resumed."""
    fingerprints = {"training data": inputs.index.fingerprint, "reference data": inputs.reference.fingerprint}
    if inputs.mixture.fingerprint is not None:
        fingerprints["schedule"] = inputs.mixture.fingerprint
    if stored is not None and (begun := stored["fingerprints"].get("first weights")):
        fingerprints["first weights"] = begun  # they may be gone by now, and are no more needed
    elif config.model.init is not None:
        fingerprints["first weights"] = checkpoint.find(config.model.init).fingerprint
    parameters = models.count_parameters(config.model.name, config.model.preset, config.model.options)
    said = evaluate.conventions(inputs.scorers.values(), crop=config.evaluation.crop, tile=config.evaluation.tile)
    resolved = {
        "device": team.device, "processes": team.world, "threads": threads, "bf16": bf16, "parameters": parameters
    }  # fmt: skip
    if stored is None:
        inputs.mixture.warn_of_few(config.optimiser.steps, config.evaluation.interval)
    content = records.identity(config, fingerprints, resolved)
    data = {"strata": len(inputs.index.strata), "pairs": inputs.mixture.task_size}
    return {**content, "conventions": said, "data": data}


def _scorers(config: Config, index: Index, reference: Index, device: str) -> dict[str, metrics.Metric]:
    """The metric of every task of D_ref. Raises UserError for a task without reference images."""
    if lacking := [task for task in index.tasks if task not in reference.tasks]:
        raise UserError(
            f"{config.data.manifest}: task {lacking[0]!r} has training pairs but none in the split 'ref'; "
            "run 'curate split' so that every task has reference pairs"
        )
    if strangers := sorted(set(config.evaluation.metrics) - set(reference.tasks)):
        known = ", ".join(reference.tasks)
        raise UserError(f"--metric names task {strangers[0]!r}, which is not in D_ref; it has {known}", exit_code=2)
    return {task: metrics.load(config.evaluation.metrics.get(task, "psnr"), device) for task in reference.tasks}
