"""The `trainer` command: each sub-command parses, calls one public function, prints."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifests import console
from manifests.errors import UserError

if TYPE_CHECKING:
    from trainer.loop import RunResult

app = typer.Typer(
    name="trainer",
    help="Train restoration models on a mixture of tasks that balances itself; evaluate and use them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Manifest = Annotated[
    str | None, typer.Option(help="Shards or manifest; default ./shards, else the newest of ./manifest*.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")]
Config = Annotated[str | None, typer.Option(help="YAML with any settings; options go over it.")]
Rule = Annotated[str | None, typer.Option(help="Rule; 'mixer rules' lists them. [equilibrium]")]
Steps = Annotated[int | None, typer.Option(help="Optimizer steps. [10000]")]
Interval = Annotated[int | None, typer.Option(help="Steps between evaluations, T. [250]")]
Batch = Annotated[int | None, typer.Option(help="Samples a step, over all processes. [16]")]
Crop = Annotated[int | None, typer.Option(help="Side of the training crops, pixels. [128]")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output of this command.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=X", help="Rule's parameter, or section.setting.")
]
Checkpoint = Annotated[str, typer.Argument(help="Run folder (its newest checkpoint), checkpoint or exported folder.")]


@app.callback()
def options(version: console.Version = False) -> None:
    """Options of the command itself."""


def main() -> None:
    """Console script: one clear line and an exit code for what a person can mend."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait leave the core to others; before torch

    logging.basicConfig(level=logging.WARNING, format="trainer: %(message)s")

    def translated() -> Any:
        from mixer.errors import MixerError

        try:
            return app()
        except MixerError as error:
            raise UserError(str(error), exit_code=error.exit_code) from error

    console.run(translated, "trainer")


@app.command()
def run(
    manifest: Manifest = None,
    output: Annotated[str, typer.Option("-o", "--output", help="Run folder.")] = "run",
    config: Config = None,
    rule: Rule = None,
    eta: Annotated[float | None, typer.Option(help="Step size of des, per unit of the score.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Replay this schedule.parquet, of tasks or shards.")] = None,
    initial: Annotated[
        list[str] | None, typer.Option(metavar="TASK=W", help="Weight of interval 0; default: uniform.")
    ] = None,
    steps: Steps = None,
    interval: Interval = None,
    max_epochs: Annotated[
        list[str] | None, typer.Option(metavar="TASK=N", help="A task's pairs are seen at most so often.")
    ] = None,
    batch: Batch = None,
    crop: Crop = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate. [0.001]")] = None,
    model: Annotated[str | None, typer.Option(help="Model; 'trainer models' lists them. [nafnet]")] = None,
    preset: Annotated[str | None, typer.Option(help="Its shape. [tiny]")] = None,
    loss: Annotated[str | None, typer.Option(help="charbonnier, l1, psnr or psnr-floor. [psnr-floor]")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="TASK=NAME", help="Score of a task on D_ref. [psnr]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of initialisation and stream. [0]")] = None,
    workers: Annotated[int | None, typer.Option(help="Loader processes. [2]")] = None,
    checkpoint: Annotated[int | None, typer.Option(help="Steps between checkpoints. [each interval]")] = None,
    keep: Annotated[int | None, typer.Option(help="Newest checkpoints kept. [2]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda. [auto]")] = None,
    threads: Threads = None,
    settings: Settings = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a model; a rule sets the tasks' weights from their scores on D_ref, or a schedule is replayed.

    \b
    Example: trainer run
    Example: trainer run --manifest shards -o run --rule des --eta 0.1 --steps 1500 --interval 250
    Example: trainer run -o run --resume
    Example: torchrun --nproc-per-node 4 -m trainer run --manifest shards --batch 64
    """
    from trainer import config as config_
    from trainer import records

    given: dict[str, dict[str, Any]] = {
        "data": {"manifest": manifest, "batch": batch, "crop": crop, "workers": workers},
        "model": {"name": model, "preset": preset},
        "optimiser": {"steps": steps, "lr": lr, "loss": loss},
        "mixture": {
            "rule": rule,
            "schedule": schedule,
            "initial": _pairs(initial, "--initial", float),
            "max_epochs": _pairs(max_epochs, "--max-epochs", float),
        },
        "evaluation": {"interval": interval, "metrics": _pairs(metric, "--metric", str)},
        "run": {"seed": seed, "device": device, "threads": threads, "checkpoint": checkpoint, "keep": keep},
    }
    options = _said(given)
    parameters = config_.assign([*(settings or []), *([] if eta is None else [f"eta={eta}"])])
    layers = [config_.read(config) if config else {}, options, parameters]
    stored = records.read_identity(output) if resume else None
    named = any(layer.get("data", {}).get("manifest") for layer in layers)
    base = stored["config"] if stored else {} if named else {"data": {"manifest": _default_manifest()}}
    from trainer import loop

    built = config_.build(base, *layers)
    _tell(loop.run(built, output, resume=resume, overwrite=overwrite), built.optimiser.steps)


def _said(given: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The settings that have a value."""
    return {name: {k: v for k, v in values.items() if v is not None} for name, values in given.items()}


def _tell(result: RunResult, steps: int) -> None:
    """Print what a run ended with, once for all of its processes."""
    if not result.is_main:
        return
    skipped = f", {result.skipped} steps skipped" if result.skipped else ""
    skipped += f", {len(result.replaced)} pairs could not be read (run.jsonl lists them)" if result.replaced else ""
    left = "" if result.steps == steps else "; stopped by SIGTERM, go on with --resume"
    typer.echo(f"{result.folder}: {result.steps} steps done{skipped}{left}")
    seen = ", ".join(f"{task} {epochs:.2f}" for task, epochs in result.epochs.items())
    typer.echo(f"epochs: {seen}")


@app.command()
def finetune(
    checkpoint: Checkpoint,
    manifest: Annotated[str, typer.Option(help="Shards or manifest of the new task.")],
    replay: Annotated[str | None, typer.Option(help="Shards or manifest of the old tasks, to keep them.")] = None,
    replay_share: Annotated[float, typer.Option(help="Weight of the old tasks at first.")] = 0.25,
    output: Annotated[str, typer.Option("-o", "--output", help="Run folder.")] = "finetuned",
    config: Config = None,
    rule: Rule = None,
    steps: Steps = None,
    interval: Interval = None,
    batch: Batch = None,
    crop: Crop = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate. [0.0002]")] = None,
    settings: Settings = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a checkpoint on for a new task, with a part of the old mixture if it is not to be forgotten.

    \b
    Example: trainer finetune run --manifest underwater
    Example: trainer finetune run --manifest underwater --replay shards --replay-share 0.3 --steps 2000
    """
    from trainer import config as config_
    from trainer.finetune import finetune as call

    given: dict[str, dict[str, Any]] = {
        "data": {"batch": batch, "crop": crop},
        "optimiser": {"steps": steps, "lr": lr},
        "mixture": {"rule": rule},
        "evaluation": {"interval": interval},
    }
    options = _said(given)
    layer = config_.merge(config_.read(config) if config else {}, options, config_.assign(settings or []))
    result = call(
        checkpoint,
        manifest,
        replay=replay,
        replay_share=replay_share,
        output=output,
        settings=layer,
        resume=resume,
        overwrite=overwrite,
    )
    _tell(result, config_.build(layer).optimiser.steps)


@app.command()
def export(
    checkpoint: Checkpoint,
    safetensors: Annotated[str | None, typer.Option(help="Write the weights to this file.")] = None,
    onnx: Annotated[str | None, typer.Option(help="Write a graph to this file.")] = None,
    hub_folder: Annotated[str | None, typer.Option(help="Write weights, config and model card there.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a checkpoint's moving-average weights for others.

    \b
    Example: trainer export run --hub-folder my-restorer
    Example: trainer export run/checkpoints/best-worst --onnx restorer.onnx --safetensors restorer.safetensors
    """
    from trainer import export as export_

    to_onnx = partial(export_.to_onnx, say=lambda text: typer.echo(text, err=True))
    wanted: list[tuple[Callable[..., str], str | None]] = [
        (export_.to_safetensors, safetensors),
        (to_onnx, onnx),
        (export_.to_hub_folder, hub_folder),
    ]
    if not any(path for _, path in wanted):
        raise UserError("say what to write: --safetensors FILE, --onnx FILE or --hub-folder FOLDER", exit_code=2)
    for call, path in wanted:
        if path is not None:
            typer.echo(call(checkpoint, path, overwrite=overwrite))


@app.command()
def config(
    schema: Annotated[bool, typer.Option("--schema", help="Its JSON schema, for editors and checks.")] = False,
) -> None:
    """Print every setting with its default as YAML, as --config takes it.

    \b
    Example: trainer config > settings.yaml
    Example: trainer config --schema > settings.schema.json
    """
    from trainer import config as config_

    typer.echo(config_.schema() if schema else config_.defaults(), nl=False)


@app.command("eval")
def evaluate(
    checkpoint: Checkpoint,
    manifest: Manifest = None,
    split: Annotated[str, typer.Option(help="Split to score.")] = "test",
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="psnr, ssim, or a metric of pyiqa; repeatable, or with commas. [psnr,ssim]"),
    ] = None,
    metrics: Annotated[str | None, typer.Option("--metrics", hidden=True)] = None,  # its name before, for one version
    tile: Annotated[int, typer.Option(min=32, help="Tiles of so many pixels a side for larger images.")] = 1024,
    channel: Annotated[str, typer.Option(help="PSNR and SSIM of rgb, or of y alone.")] = "rgb",
    border: Annotated[int, typer.Option(min=0, help="Pixels cut off at every side first.")] = 0,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="JSON; default RUN/eval/SPLIT-STEP.json.")
    ] = None,
    table: Annotated[str | None, typer.Option(help="Also a table per dataset: FILE.md, .tex or .csv.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Score a checkpoint per task: input, restored, standard error; every image goes to a Parquet.

    \b
    Example: trainer eval run --manifest shards
    Example: trainer eval run --split ref --metric psnr,ssim,piqe
    Example: trainer eval run --channel y --border 4 --table sr.tex
    """
    from trainer import devices
    from trainer.evaluate import evaluate as call
    from trainer.show import show_evaluation

    with devices.computing("cpu", threads):
        result = call(
            checkpoint,
            manifest or _default_manifest(),
            split=split,
            metrics=[*(metric or ()), *([metrics] if metrics else ())] or ["psnr,ssim"],
            output=output,
            device=device,
            tile=tile,
            channel=channel,
            border=border,
            table=table,
            overwrite=overwrite,
        )
    show_evaluation(result)


@app.command()
def restore(
    checkpoint: Checkpoint,
    inputs: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, or folders of them.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Folder for the PNGs.")] = "restored",
    scale: Annotated[int, typer.Option(min=1, max=8, help="Enlarge first, for super-resolution.")] = 1,
    tile: Annotated[int, typer.Option(min=32, help="Tiles of so many pixels a side for larger images.")] = 512,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that tiles share.")] = 64,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Restore images of any size; 16 bit, transparency and EXIF are kept.

    \b
    Example: trainer restore run photo.jpg
    Example: trainer restore run photos/ -o better --scale 2
    """
    from trainer import devices
    from trainer.restore import restore as call

    with devices.computing("cpu", threads):
        done = call(
            checkpoint,
            inputs,
            output=output,
            scale=scale,
            tile=tile,
            overlap=overlap,
            device=device,
            overwrite=overwrite,
        )
    for path in done.written.values():
        typer.echo(path)
    for source, reason in done.failed.items():
        typer.echo(f"trainer: {source}: {reason}", err=True)
    if done.failed:
        raise typer.Exit(1)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="Run folder.")] = "run",
    evaluation: Annotated[str | None, typer.Option(help="JSON of 'trainer eval'; default: the newest.")] = None,
    output: Annotated[str | None, typer.Option("-o", "--output", help="Page; default RUN/report.html.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one HTML page about a run that opens offline.

    \b
    Example: trainer report run
    """
    from trainer.report import report as call

    typer.echo(call(run, evaluation=evaluation, output=output, overwrite=overwrite))


@app.command()
def show(run: Annotated[str, typer.Argument(help="Run folder.")] = "run") -> None:
    """Print what a run is: its settings, versions, data, how far it is, its last scores and weights, its checkpoints.

    \b
    Example: trainer show run
    """
    from trainer.show import show_run

    show_run(run)


@app.command()
def models() -> None:
    """List models, their presets and parameter counts.

    \b
    Example: trainer models
    """
    from trainer import models as models_

    for name in models_.names():
        for preset, config in models_.presets(name).items():
            count = models_.count_parameters(name, preset)
            typer.echo(f"{name:10} {preset:16} {count / 1e6:8.2f} M   {config}")


def _default_manifest() -> str:
    """./shards where it is there, else the last manifest of the chain in this folder, which is said."""

    if os.path.exists("./shards"):
        return "./shards"
    from manifests.newest import newest

    found = newest()
    if found != "manifest":
        typer.echo(f"reading {found}", err=True)
    return f"./{found}"


def _pairs(given: list[str] | None, option: str, kind: type) -> dict[str, Any] | None:
    """`["deblur=0.5"]` → {"deblur": 0.5}; None stays None."""
    if given is None:
        return None
    out: dict[str, Any] = {}
    for one in given:
        task, equals, text = one.partition("=")
        try:
            out[task] = kind(text)
        except ValueError:
            raise UserError(
                f"{option} {one}: write TASK={'NUMBER' if kind is float else 'NAME'}", exit_code=2
            ) from None
        if not equals or not task:
            raise UserError(f"{option} {one}: write TASK={'NUMBER' if kind is float else 'NAME'}", exit_code=2)
    return out
