"""What a training run is told: small models, one per concern, read from YAML and from the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manifests.errors import UserError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Section):
    """What is trained on, and how much of it a step takes."""

    manifest: str = "./manifest"  # shards or an unsharded manifest, with the splits train and ref
    batch: int = Field(default=16, ge=1)  # global batch of an optimizer step
    crop: int = Field(default=128, ge=8)  # pixels, square, of the GT
    workers: int = Field(default=2, ge=0)  # loader processes; the samples are the same for any number
    upsampling: Literal["random", "nearest", "bilinear", "bicubic"] = "random"  # of an LQ smaller than its GT
    replay: str | None = None  # a second manifest whose tasks are trained on as well
    cache: str | None = None  # folder for remote shards; None: equimix/shards in the user's cache folder
    cache_gb: float = Field(default=32.0, ge=0)  # how much of them is kept; 0: none, they are read where they are


class Net(_Section):
    """Which model: a module of trainer/models and one of its presets, with fields replaced by `options`."""

    name: str = "nafnet"
    preset: str = "tiny"
    options: dict[str, Any] = {}
    init: str | None = None  # a checkpoint, run or exported folder whose weights are begun from


class Optimiser(_Section):
    """AdamW under a linear warm-up and a cosine down to `final` × lr, and the moving average."""

    steps: int = Field(default=10_000, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    final: float = Field(default=0.01, ge=0, le=1)
    warmup: int = Field(default=100, ge=0)  # steps
    betas: tuple[float, float] = (0.9, 0.9)  # NAFNet's
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)  # largest norm of the gradient
    loss: Literal["charbonnier", "l1", "psnr", "psnr-floor"] = "psnr-floor"  # psnr: NAFNet's, ruled by identical pairs
    ema: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 autocast on CUDA, fp32 on CPU
    accumulate: int = Field(default=1, ge=1)  # pieces that each process cuts its part of a batch into
    checkpointing: bool = False  # compute activations anew in the backward pass: less memory, more time
    rollback: float | None = Field(default=None, gt=0)  # deviations of the loss that make it go back to a checkpoint


class Mixture(_Section):
    """The rule that sets the tasks' weights from their scores, or a schedule that is replayed instead."""

    rule: str = "equilibrium"
    params: dict[str, Any] = {}
    initial: dict[str, float] | None = None  # weights of interval 0; uniform otherwise
    schedule: str | None = None  # schedule.parquet of tasks or of shards
    max_epochs: dict[str, Annotated[float, Field(gt=0)]] = {}  # task → how often its pairs are seen, at most


class Evaluation(_Section):
    """How D_ref is scored, every `interval` steps."""

    interval: int = Field(default=250, ge=1)  # T: 40 evaluations in the default 10 000 steps
    metrics: dict[str, str] = {}  # task → metric that its score is; psnr otherwise
    crop: int | None = Field(default=None, ge=8)  # centre crop of larger reference images, pixels; None: whole images
    tile: int = Field(default=1024, ge=32)  # images of more than tile² pixels are restored in tiles


class Running(_Section):
    """Where and how the run is carried out."""

    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)  # of torch on the CPU; None: as many as it takes by itself
    checkpoint: int | None = Field(default=None, ge=1)  # steps between checkpoints; None: every interval
    keep: int = Field(default=2, ge=1)  # newest checkpoints that are kept, beside the best two
    compile: bool = False  # torch.compile
    channels_last: bool = False  # memory format of model and batches
    trackers: tuple[str, ...] = ()  # beside TensorBoard: wandb, mlflow and what else accelerate knows


class Config(_Section):
    """A whole run. Every field has a default, so `Config()` trains on ./manifest."""

    data: Data = Data()
    model: Net = Net()
    optimiser: Optimiser = Optimiser()
    mixture: Mixture = Mixture()
    evaluation: Evaluation = Evaluation()
    run: Running = Running()


# What may change between a run and its resume: none of it moves a sample, and what is in the second line moves a weight
# by rounding alone, as another number of processes does. Manifests, schedule and first weights may lie elsewhere; their
# content is compared by fingerprint.
FREE = (
    "data.manifest", "data.replay", "data.workers", "data.cache", "data.cache_gb", "mixture.schedule", "model.init",
    "optimiser.accumulate", "optimiser.checkpointing", "run.compile", "run.channels_last",
    "run.keep", "run.trackers",
)  # fmt: skip


def build(*layers: Mapping[str, Any]) -> Config:
    """A config from nested mappings, later ones over earlier ones. Raises UserError naming the setting."""
    try:
        return Config.model_validate(merge(*layers))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        given = "" if first["type"] == "extra_forbidden" else f", not {first['input']!r}"
        message = "no such setting" if first["type"] == "extra_forbidden" else first["msg"].lower()
        raise UserError(f"config: {name}: {message}{given}", exit_code=2) from None


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one, later ones over earlier ones."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, layer)
    return merged


def defaults() -> str:
    """Every setting with its default, as YAML."""
    return yaml.safe_dump(Config().model_dump(mode="json"), sort_keys=False)


def schema() -> str:
    """The JSON schema of a config, as text."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(content, indent=2) + "\n"


def read(path: str) -> dict[str, Any]:
    """The nested mapping in a YAML file. Raises UserError when it is none."""
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())[:160]})", exit_code=2) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: a config is a mapping of sections ({', '.join(Config.model_fields)})", exit_code=2)
    return content


def assign(settings: list[str]) -> dict[str, Any]:
    """`["eta=0.3", "optimiser.lr=1e-4"]` as a layer: a name without a dot is a parameter of the mixture's rule."""
    layer: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise UserError(f"--set {setting}: write name=value", exit_code=2)
        *parents, last = name.split(".") if "." in name else ["mixture", "params", name]
        place = layer
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = _number(text) if isinstance(value := yaml.safe_load(text), str) else value
    return layer


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Each setting in which two dumped configs differ and must not, as `optimiser.lr: 0.001, now 0.01`."""
    before, after = flat(old), flat(new)
    return [
        f"{name}: {before.get(name)}, now {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if name not in FREE and before.get(name) != after.get(name)
    ]


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _merge(out[key], value) if both else value
    return out


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted names."""
    out: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        out.update(flat(inner, f"{name}.") if isinstance(inner, Mapping) else {name: inner})
    return out


def _number(text: str) -> Any:
    try:
        return float(text)  # YAML 1.1 reads 1e-4 as a string
    except ValueError:
        return text
