"""The `curate` commands by which GTs are judged: score, filter, identify, caption, calibrate, judge, review."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate import display
from curate.cli_options import (
    AllRows,
    Batch,
    Bf16,
    DaskAddress,
    Device,
    Endpoint,
    ManifestPath,
    MaxErrors,
    ModelName,
    OldColumn,
    Output,
    Overwrite,
    Parallel,
    PerMinute,
    Reuse,
    Weights,
    Workers,
    either,
    names,
    numbers,
    pairs,
    refuse,
    settings_of,
    written,
)

if TYPE_CHECKING:
    from manifests.table import Manifest

RULES = ("iqa", "minimum", "maximum", "drop_worst", "max_degradation")
ASKING = ("max_tokens", "batch", "parallel", "per_minute", "device", "max_errors")  # options of a model that is asked


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in this order."""
    for function in (score, filter, identify, caption, calibrate, judge, review):
        app.command()(function)


def score(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
    iqa: Annotated[
        list[str] | None,
        typer.Option("--metric", "--iqa", metavar="NAME", help="Metric of pyiqa, or signals; repeatable. [signals]"),
    ] = None,
    weights: Weights = None,
    device: Device = "cpu",
    bf16: Bf16 = False,
    all_rows: AllRows = False,
    reuse: Reuse = None,
    workers: Workers = 0,
    max_errors: MaxErrors = None,
    dask_address: DaskAddress = None,
) -> None:
    """Measure the GTs: built-in signals and any no-reference metric of pyiqa, each distinct GT once.

    Needs no download: signals, piqe, entropy. pyiqa is PolyForm-Noncommercial.

    \b
    Example: curate score --iqa signals --iqa piqe
    Example: curate score manifest --iqa musiq --weights musiq=musiq_koniq.pth
    """
    from curate.score import score as run

    done = written(
        partial(
            run,
            manifest,
            iqa=names(iqa) or ["signals"],
            weights=pairs(weights, "--weights"),
            device=device,
            bf16=bf16,
            all_rows=all_rows,
            reuse=reuse or (),
            workers=workers,
            max_errors=max_errors,
            dask_address=dask_address,
        ),
        output,
        overwrite,
        [manifest, *(reuse or ())],
        "score",
    )
    display.finished(done)


def filter(
    ctx: typer.Context,
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
    iqa: Annotated[
        list[str] | None,
        typer.Option("--metric", "--iqa", metavar="NAME", help="Metric to judge by: musiq, piqe, ...; repeatable."),
    ] = None,
    minimum: Annotated[list[str] | None, typer.Option("--min", metavar="NAME=X", help="Drop below: musiq=40.")] = None,
    maximum: Annotated[list[str] | None, typer.Option("--max", metavar="NAME=X", help="Drop above: piqe=60.")] = None,
    drop_worst: Annotated[
        list[str] | None, typer.Option("--drop-worst", metavar="NAME=P%", help="Drop per task: musiq=5%.")
    ] = None,
    max_degradation: Annotated[
        float | None, typer.Option(help="Drop GTs with any degradation likelier than this (0.5).")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="YAML file of rules over any columns; see docs/curate.md.")] = None,
    weights: Weights = None,
    device: Device = "cpu",
    bf16: Bf16 = False,
    all_rows: AllRows = False,
    workers: Workers = 0,
    max_errors: MaxErrors = None,
    dask_address: DaskAddress = None,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Measure nothing: a row without the value is an error of the rule.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be dropped; write no manifest.")] = False,
) -> None:
    """Drop pairs whose GT is not good enough; scores that rows lack are measured first.

    With no threshold the worst 5 % of each task's GTs are dropped. Rows without a GT are not judged. Nothing is
    deleted: rows carry the verdict and its reason, and a looser filter run on the output revives them.

    \b
    Example: curate filter --iqa musiq
    Example: curate filter manifest --max-degradation 0.5
    Example: curate filter manifest --iqa musiq --min musiq=40 --drop-worst musiq=5%
    Example: curate filter manifest --max-degradation 0.5 --dry-run
    Example: curate filter manifest --policy consensus.yaml --dry-run
    """
    from curate import filter as stage

    if policy is not None:
        refuse(ctx, RULES, "a policy stands for itself")
    if no_measure:
        refuse(ctx, ("weights", "device", "bf16", "workers", "dask_address"), "--no-measure measures nothing")
    how: dict[str, Any] = {
        "weights": pairs(weights, "--weights"),
        "device": device,
        "bf16": bf16,
        "all_rows": all_rows,
        "workers": workers,
        "max_errors": max_errors,
        "dask_address": dask_address,
        "measure": not no_measure,
        "say": lambda text: typer.echo(text, err=True),
    }
    rules: dict[str, Any] = {
        "iqa": names(iqa),
        "minimum": numbers(minimum, "--min"),
        "maximum": numbers(maximum, "--max"),
        "drop_worst": numbers(drop_worst, "--drop-worst", percent=True),
        "max_degradation": max_degradation,
    }
    if dry_run and policy is not None:
        display.clauses(stage.preview_policy(manifest, policy, output, **how))
    elif dry_run:
        found = stage.preview(manifest, output, **rules, **how)
        display.tabulate([{"task": task, **numbers} for task, numbers in found.items()])
    else:
        call = partial(stage.filter, manifest, policy=policy, **rules, **how)
        display.finished(written(call, output, overwrite, [manifest], "filter"))


def identify(
    ctx: typer.Context,
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
    model: Annotated[str, typer.Option(help="signals: built in, offline; daclip: DA-CLIP's ten labels.")] = "signals",
    weights: Annotated[
        str | None, typer.Option(help="DA-CLIP's file, folder or hub id[/FILE]; default: the authors'.")
    ] = None,
    fit_clean: Annotated[
        bool, typer.Option("--fit-clean", help="The GTs are known to be clean: fit daclip.clean on them, once.")
    ] = False,
    device: Device = "cpu",
    all_rows: AllRows = False,
    workers: Workers = 0,
    max_errors: MaxErrors = None,
    dask_address: DaskAddress = None,
) -> None:
    """Identify what is wrong with the GTs: noise, blur, jpeg, haze, low_light, low_resolution, rain. Offline.

    Writes P(type | GT) as degradation.<type>; drops nothing. DA-CLIP writes daclip.<type>, and daclip.clean once that
    has been fitted on GTs that are known to be clean.

    \b
    Example: curate identify
    Example: curate identify manifest -o judged && curate filter judged --max degradation.noise=0.5
    Example: curate identify clean --model daclip --weights daclip_ViT-B-32.pt --fit-clean
    Example: curate identify manifest --model daclip --weights daclip_ViT-B-32.pt --device cuda
    """
    from curate import identify as stage

    if model == "signals":
        refuse(ctx, ["device", "weights", "fit_clean"], "the built-in identifier has neither weights nor a device")
    if fit_clean:
        refuse(ctx, ["output", "workers", "max_errors", "dask_address", "all_rows"], "--fit-clean writes no manifest")
        path, count = stage.fit_clean(manifest, weights=weights, device=device)
        typer.echo(f"{path}: daclip.clean, fitted on {count} GTs")
        return
    done = written(
        partial(
            stage.identify,
            manifest,
            model=model,
            weights=weights,
            device=device,
            all_rows=all_rows,
            workers=workers,
            max_errors=max_errors,
            dask_address=dask_address,
        ),
        output,
        overwrite,
        [manifest],
        "identify",
    )
    display.finished(done)


def caption(
    ctx: typer.Context,
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
    captioner: Annotated[
        str | None, typer.Option(help="signals: measured attributes; llava: a model. [llava with --model]")
    ] = None,
    model: ModelName = None,
    endpoint: Endpoint = None,
    on: Annotated[str, typer.Option(help="gt, lq or both.")] = "gt",
    prompt: Annotated[str | None, typer.Option(help="What is asked. [SUPIR's: describe it in detail]")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest words.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of words that are drawn.")] = 0,
    opening: Annotated[int, typer.Option(min=0, help="Words dropped at the start: 'The image shows'.")] = 3,
    sentences: Annotated[int, typer.Option(min=0, help="Sentences kept; 0: all.")] = 2,
    batch: Batch = 8,
    parallel: Parallel = 8,
    per_minute: PerMinute = 0,
    device: Device = "cpu",
    all_rows: AllRows = False,
    max_errors: MaxErrors = None,
) -> None:
    """Caption the images; model, prompt and seed of a caption stand beside it.

    \b
    Example: curate caption
    Example: curate caption manifest --model llava-hf/llava-1.5-7b-hf --device cuda -o captioned
    Example: curate caption manifest --endpoint http://localhost:8000/v1 --model llava --on both
    """
    from curate import caption as stage

    if model is None and endpoint is None:
        refuse(
            ctx,
            [
                *(name for name in ASKING if name != "max_errors"),
                "prompt",
                "temperature",
                "seed",
                "opening",
                "sentences",
            ],
            "no model is asked; see --model",
        )
    settings = settings_of(
        model, endpoint, device=device, max_tokens=max_tokens, temperature=temperature, batch=batch,
        parallel=parallel, per_minute=per_minute,
    )  # fmt: skip
    task = settings if settings is None else stage.Task(settings, prompt or stage.PROMPT, opening, sentences, seed)
    name = captioner or ("signals" if task is None else stage.LLAVA)
    if captioner is None and task is None:
        typer.echo("captions from measured attributes; for LLaVA's point to one with --model or --endpoint", err=True)
    done = written(
        partial(stage.caption, manifest, captioner=name, task=task, on=on, all_rows=all_rows, max_errors=max_errors),
        output,
        overwrite,
        [manifest],
        "caption",
    )
    display.finished(done)


def calibrate(folder: Annotated[str, typer.Argument(help="Folder with I03, I04, I06, I08, I19 of pyiqa.")]) -> None:
    """Compare PIQE's scores of pyiqa's calibration images with the published ones.

    \b
    Example: curate calibrate ResultsCalibra/dist_dir
    """
    from curate.calibrate import calibrate as run

    found = run(folder)
    for one in found:
        shown = "none" if one.value is None else f"{one.value:.4f}"
        typer.echo(f"{one.name}  {shown:>9}  published {one.published:.4f}  {'agrees' if one.agrees else 'DIFFERS'}")
    if not all(one.agrees for one in found):
        raise typer.Exit(1)


def judge(
    ctx: typer.Context,
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
    model: ModelName = None,
    endpoint: Endpoint = None,
    answers: Annotated[str | None, typer.Option(help="Answers that DepictQA's infer.py wrote.")] = None,
    export: Annotated[str | None, typer.Option(help="Write DepictQA's tasks to this file, and no more.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 32,
    batch: Batch = 8,
    parallel: Parallel = 8,
    per_minute: PerMinute = 0,
    device: Device = "cpu",
    all_rows: AllRows = False,
    max_errors: MaxErrors = None,
) -> None:
    """Ask a judge which distortions a GT has and how good it is; drops nothing, `curate filter --policy` decides.

    \b
    Example: curate judge manifest --endpoint http://localhost:8000/v1 --model qwen-vl
    Example: curate judge manifest --model llava-hf/llava-onevision-qwen2-7b-ov-hf --device cuda
    Example: curate judge manifest --export tasks.json
    Example: curate judge manifest --answers answers.jsonl
    """
    from curate import judge as stage
    from manifests.outputs import replacing

    if export is not None or answers is not None:
        beside = ["output", "model", "endpoint", "answers"] if export is not None else ["model", "endpoint"]
        refuse(ctx, [*ASKING, *beside], f"{'--export' if export is not None else '--answers'} asks no model")
    if export is not None:
        with replacing(export, overwrite=overwrite, kind=None, inputs=[manifest]) as target:
            count = stage.export(manifest, target, all_rows=all_rows)
        typer.echo(f"{export}: {count} questions")
        return
    settings = settings_of(
        model, endpoint, device=device, max_tokens=max_tokens, batch=batch, parallel=parallel, per_minute=per_minute
    )
    done = written(
        partial(stage.judge, manifest, settings=settings, answers=answers, all_rows=all_rows, max_errors=max_errors),
        output,
        overwrite,
        [manifest],
        "judge",
    )
    display.finished(done)


def review(
    manifest: ManifestPath = "manifest",
    verdicts: Annotated[
        list[str] | None, typer.Option(help="File of verdicts; default <manifest>-review.jsonl. Several with --apply.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the manifest with the verdicts; open no page.")] = False,
    output: Output = None,
    overwrite: Overwrite = False,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Metric or column that the page is ordered by: iqa.musiq.")
    ] = None,
    column: OldColumn = None,
    near: Annotated[float | None, typer.Option(help="Rows whose score is nearest to this come first.")] = None,
    host: Annotated[str, typer.Option(help="Others than this machine need a token, which is printed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8321,
) -> None:
    """Look at pairs in a browser, LQ beside GT, and say keep, drop or skip; then apply what was said.

    \b
    Example: curate review manifest --metric iqa.musiq --near 45
    Example: curate review manifest --apply -o reviewed
    """
    from curate import review as stage

    files_ = verdicts or [stage.default_file(manifest)]
    if apply:
        disputed = 0

        def call(path: str) -> Manifest:
            nonlocal disputed
            done, disputed = stage.apply(manifest, files_, path)
            return done

        display.finished(written(call, output, overwrite, [manifest], "review"))
        if disputed:
            typer.echo(f"{disputed} pairs are disputed: one keeps what another drops; they stay as they were")
        return
    from curate.review import serve

    serve.serve(
        manifest,
        files_[0],
        column=either(metric, column, "--metric", "--column") or "",
        near=near,
        host=host,
        port=port,
    )
