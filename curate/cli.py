"""The `curate` command: each sub-command parses, calls the function of the same name, prints."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from curate import display
from manifests import console
from manifests.errors import UserError

app = typer.Typer(
    name="curate",
    help="Curate training data for image restoration: folders of photographs in, manifests and shards out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ManifestPath = Annotated[str, typer.Argument(metavar="[MANIFEST]", help="Manifest to read.")]
Output = Annotated[str | None, typer.Option("-o", "--output", help="Where to write; default <manifest>-<stage>.")]
AllRows = Annotated[bool, typer.Option("--all", help="Work on dropped and failed rows as well.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Worker processes; 0: this one. With --device cuda: decoding threads per device.")
]
MaxErrors = Annotated[str | None, typer.Option(help="Stop, with exit code 3, when more rows fail: 100, or 1%.")]
Reuse = Annotated[
    list[str] | None, typer.Option(metavar="MANIFEST", help="Take scores of equal content from it; repeat for several.")
]
DaskAddress = Annotated[str | None, typer.Option(help="Scheduler of a running Dask cluster, instead of workers here.")]
Weights = Annotated[
    list[str] | None, typer.Option("--weights", metavar="METRIC=FILE", help="Checkpoint of a pyiqa metric.")
]
Device = Annotated[str, typer.Option(help="Where pyiqa's models run: cpu, cuda (a process per device), cuda:1.")]


def main() -> None:
    """Console script."""
    console.run(app, "curate")


@app.command()
def ingest(
    folder: Annotated[str, typer.Argument(help="Folder or fsspec URL that the patterns are relative to.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Manifest to write.")] = "manifest",
    gt: Annotated[str | None, typer.Option(help="Pattern of the ground truth: 'clear/{id}.png'.")] = None,
    lq: Annotated[str | None, typer.Option(help="Pattern of the low-quality side: 'hazy/{id}_*.jpg'.")] = None,
    task: Annotated[str | None, typer.Option(help="Task that the pairs train (clean: GT alone).")] = None,
    subtask: Annotated[str, typer.Option(help="Variant of the task.")] = "",
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset; default: the folder's.")] = None,
    split: Annotated[str | None, typer.Option(help="Split that the dataset prescribes.")] = None,
    group: Annotated[str | None, typer.Option(help="Template of the scene: '{scene}'.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence of the images.")] = None,
    layout: Annotated[str | None, typer.Option(help="Known dataset (curate layouts lists them), or auto.")] = None,
    score: Annotated[list[str] | None, typer.Option(help="Metrics to measure from the same decode.")] = None,
    identify: Annotated[bool, typer.Option("--identify", help="Identify degradations of the GT, same decode.")] = False,
    max_pixels: Annotated[int | None, typer.Option(help="Largest image that is decoded, in pixels.")] = None,
    append: Annotated[str | None, typer.Option(metavar="MANIFEST", help="Its rows, and what is new.")] = None,
    reuse: Reuse = None,
    workers: Workers = 0,
    max_errors: MaxErrors = None,
    dask_address: DaskAddress = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be found; write nothing.")] = False,
) -> None:
    """Make a manifest of a folder of photographs: pairs, or ground truth alone.

    Every image is decoded once: size, hash, perceptual hash, integrity. A broken or mismatched pair becomes an
    error row with the reason.

    \b
    Example: curate ingest data/SOTS --layout SOTS
    Example: curate ingest data/unknown --layout auto --dry-run
    Example: curate ingest data/mine --lq 'hazy/{id}_*.jpg' --gt 'clear/{id}.png' --task dehaze -o mine
    Example: curate ingest photos --gt '{id}.png' --task clean --dataset mine --score signals --identify
    """
    from curate import ingest as stage
    from curate import layouts as known
    from manifests.images import MAX_PIXELS

    if layout == "auto":
        from curate.survey import best_layout

        layout = best_layout(folder)
        typer.echo(f"layout: {layout}", err=True)
    if dry_run:
        from curate.survey import survey

        chosen = known.load(layout) if layout else stage.from_patterns(gt, lq, task, subtask, split, group, license)
        display.surveyed(survey(folder, chosen))
        return
    done = stage.ingest(
        folder,
        output,
        gt=gt,
        lq=lq,
        task=task,
        subtask=subtask,
        dataset=dataset,
        split=split,
        group=group,
        license=license,
        layout=layout,
        score=score or (),
        identify=identify,
        max_pixels=max_pixels or MAX_PIXELS,
        append=append,
        reuse=reuse or (),
        workers=workers,
        max_errors=max_errors,
        dask_address=dask_address,
    )
    display.finished(done)


@app.command()
def layouts(
    as_json: Annotated[bool, typer.Option("--json", help="For machines, with licences and homepages.")] = False,
) -> None:
    """List the datasets whose folder naming is known. `verified`: confirmed by the authors' own files.

    \b
    Example: curate layouts
    Example: curate layouts --json
    """
    from rich.console import Console
    from rich.table import Table

    from curate.layouts import table as known

    rows = known()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    shown = Table(box=None, pad_edge=False)
    for name in ("name", "tasks", "splits", "pairs", "verified"):
        shown.add_column(name, justify="right" if name == "pairs" else "left")
    for row in rows:
        pairs = f"{row['pairs']:,}" if row["pairs"] else ""
        verified = "yes" if row["verified"] else ""
        shown.add_row(row["name"], ", ".join(row["tasks"]), ", ".join(row["splits"]), pairs, verified)
    Console().print(shown)


@app.command()
def retry(manifest: ManifestPath = "manifest", output: Output = None) -> None:
    """Read the files of error rows again, once the disk is back or the file has been mended.

    \b
    Example: curate retry manifest -o mended
    """
    from curate.retry import retry as run

    display.finished(run(manifest, output))


@app.command()
def merge(
    manifests: Annotated[list[str], typer.Argument(help="Manifests to unite, in this order.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Manifest to write.")] = "merged",
) -> None:
    """Unite manifests: rows, columns and roots; a pair that stands in several is taken once.

    \b
    Example: curate merge sots rain100l mine -o all
    """
    from curate.merge import merge as run

    display.finished(run(manifests, output))


@app.command()
def degrade(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    tasks: Annotated[list[str] | None, typer.Option("--task", help="deblur, or deblur:motion; default: all.")] = None,
    crop: Annotated[int | None, typer.Option(help="Cut squares of this many pixels; default: whole images.")] = None,
    crops: Annotated[int, typer.Option(help="Squares per photograph, the most detailed ones.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    dataset: Annotated[str, typer.Option(help="Dataset name of the new pairs.")] = "synthetic",
    workers: Workers = 0,
    max_errors: MaxErrors = None,
    dask_address: DaskAddress = None,
) -> None:
    """Make pairs of clean photographs: blur, haze, low light, noise, rain, snow, JPEG, low resolution.

    \b
    Example: curate degrade manifest --crop 256 --crops 8
    Example: curate degrade manifest --task deblur:motion --task sr:x4
    """
    from curate.degrade import degrade as run

    display.finished(
        run(
            manifest,
            output,
            tasks=tasks or (),
            crop=crop,
            crops=crops,
            seed=seed,
            dataset=dataset,
            workers=workers,
            max_errors=max_errors,
            dask_address=dask_address,
        )
    )


@app.command()
def score(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    iqa: Annotated[list[str] | None, typer.Option(help="Metric of pyiqa, or signals; repeat for several.")] = None,
    weights: Weights = None,
    device: Device = "cpu",
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

    done = run(
        manifest,
        output,
        iqa=iqa or ["signals"],
        weights=_pairs(weights, "--weights"),
        device=device,
        all_rows=all_rows,
        reuse=reuse or (),
        workers=workers,
        max_errors=max_errors,
        dask_address=dask_address,
    )
    display.finished(done)


@app.command()
def filter(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    iqa: Annotated[list[str] | None, typer.Option(help="Metric to judge by: musiq, piqe, signals, ...")] = None,
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
    all_rows: AllRows = False,
    workers: Workers = 0,
    max_errors: MaxErrors = None,
    dask_address: DaskAddress = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be dropped; write nothing.")] = False,
) -> None:
    """Drop pairs whose GT is not good enough; scores that are missing are measured first.

    With no threshold the worst 5 % of each task's GTs are dropped. Nothing is deleted: rows carry the verdict and
    its reason, and a looser filter run on the output revives them.

    \b
    Example: curate filter --iqa musiq
    Example: curate filter manifest --iqa piqe --max piqe=60 --max-degradation 0.5
    Example: curate filter manifest --iqa musiq --min musiq=40 --drop-worst musiq=5%
    Example: curate filter manifest --max piqe=60 --dry-run
    Example: curate filter manifest --policy consensus.yaml --dry-run
    """
    from curate import filter as stage

    rules: dict[str, Any] = {
        "iqa": iqa or (),
        "minimum": _numbers(minimum, "--min"),
        "maximum": _numbers(maximum, "--max"),
        "drop_worst": _numbers(drop_worst, "--drop-worst"),
        "max_degradation": max_degradation,
        "all_rows": all_rows,
        "say": lambda text: typer.echo(text, err=True),
    }
    if dry_run and policy is not None:
        display.clauses(stage.preview_policy(manifest, policy, all_rows=all_rows))
        return
    if dry_run:
        found = stage.preview(manifest, **rules)
        display.tabulate([{"task": task, **numbers} for task, numbers in found.items()])
        return
    done = stage.filter(
        manifest,
        output,
        weights=_pairs(weights, "--weights"),
        device=device,
        workers=workers,
        max_errors=max_errors,
        dask_address=dask_address,
        policy=policy,
        **rules,
    )
    display.finished(done)


@app.command()
def identify(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    model: Annotated[str, typer.Option(help="signals: built in, offline; daclip: DA-CLIP's ten labels.")] = "signals",
    weights: Annotated[
        str | None, typer.Option(help="DA-CLIP's file, folder or hub id; default: the authors' hub id.")
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
    """Identify what is wrong with the GTs: noise, blur, jpeg, haze, low_light, low_resolution. Offline.

    Writes P(type | GT) as degradation.<type>; drops nothing. DA-CLIP writes daclip.<type>, and daclip.clean once that
    has been fitted on GTs that are known to be clean.

    \b
    Example: curate identify
    Example: curate identify manifest -o judged && curate filter judged --max degradation.noise=0.5
    Example: curate identify clean --model daclip --weights daclip_ViT-B-32.pt --fit-clean
    Example: curate identify manifest --model daclip --weights daclip_ViT-B-32.pt --device cuda
    """
    from curate import identify as stage

    if fit_clean:
        if model != "daclip":
            raise UserError("--fit-clean is for --model daclip", exit_code=2)
        path, count = stage.fit_clean(manifest, weights=weights, device=device)
        typer.echo(f"{path}: daclip.clean, fitted on {count} GTs")
        return
    done = stage.identify(
        manifest,
        output,
        model=model,
        weights=weights,
        device=device,
        all_rows=all_rows,
        workers=workers,
        max_errors=max_errors,
        dask_address=dask_address,
    )
    display.finished(done)


@app.command()
def caption(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    captioner: Annotated[
        str | None, typer.Option(help="signals: measured attributes; llava: a model. [llava with --model]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or hub id of a LLaVA; or the endpoint's name of it.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="OpenAI-compatible server: http://localhost:8000/v1.")] = None,
    on: Annotated[str, typer.Option(help="gt, lq or both.")] = "gt",
    prompt: Annotated[str | None, typer.Option(help="What is asked. [SUPIR's: describe it in detail]")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest words.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of words that are drawn.")] = 0,
    opening: Annotated[int, typer.Option(min=0, help="Words dropped at the start: 'The image shows'.")] = 3,
    sentences: Annotated[int, typer.Option(min=0, help="Sentences kept; 0: all.")] = 2,
    batch: Annotated[int, typer.Option(min=1, help="Images that go through a local model together.")] = 8,
    parallel: Annotated[int, typer.Option(min=1, help="Requests under way at an endpoint.")] = 8,
    per_minute: Annotated[int, typer.Option(min=0, help="Requests a minute, at most; 0: no limit.")] = 0,
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
    from curate import vlm

    task = None
    if model is not None:
        settings = vlm.Settings(
            model, endpoint, device=device, max_tokens=max_tokens, temperature=temperature, batch=batch,
            parallel=parallel, per_minute=per_minute,
        )  # fmt: skip
        task = stage.Task(settings, prompt or stage.PROMPT, opening, sentences, seed)
    elif endpoint is not None:
        raise UserError("--endpoint needs --model: the name by which the server knows its model", exit_code=2)
    name = captioner or ("signals" if task is None else stage.LLAVA)
    if captioner is None and task is None:
        typer.echo("captions from measured attributes; for LLaVA's point to one with --model or --endpoint", err=True)
    done = stage.caption(manifest, output, captioner=name, task=task, on=on, all_rows=all_rows, max_errors=max_errors)
    display.finished(done)


@app.command()
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


@app.command()
def judge(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    model: Annotated[str | None, typer.Option(help="Folder or hub id of a model; or its name at --endpoint.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="OpenAI-compatible server: http://localhost:8000/v1.")] = None,
    answers: Annotated[str | None, typer.Option(help="Answers that DepictQA's infer.py wrote.")] = None,
    export: Annotated[str | None, typer.Option(help="Write DepictQA's tasks to this file, and no more.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 32,
    batch: Annotated[int, typer.Option(min=1, help="Images that go through a local model together.")] = 8,
    parallel: Annotated[int, typer.Option(min=1, help="Requests under way at an endpoint.")] = 8,
    per_minute: Annotated[int, typer.Option(min=0, help="Requests a minute, at most; 0: no limit.")] = 0,
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
    from curate import vlm

    if export is not None:
        typer.echo(f"{export}: {stage.export(manifest, export, all_rows=all_rows)} questions")
        return
    if endpoint is not None and model is None:
        raise UserError("--endpoint needs --model: the name by which the server knows its model", exit_code=2)
    settings = None if model is None else vlm.Settings(
        model, endpoint, device=device, max_tokens=max_tokens, batch=batch, parallel=parallel, per_minute=per_minute
    )  # fmt: skip
    done = stage.judge(manifest, output, settings=settings, answers=answers, all_rows=all_rows, max_errors=max_errors)
    display.finished(done)


@app.command()
def review(
    manifest: ManifestPath = "manifest",
    verdicts: Annotated[
        list[str] | None, typer.Option(help="File of verdicts; default <manifest>-review.jsonl. Several with --apply.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the manifest with the verdicts; open no page.")] = False,
    output: Output = None,
    column: Annotated[str, typer.Option(help="Score that the page is ordered by: iqa.musiq.")] = "",
    near: Annotated[float | None, typer.Option(help="Rows whose score is nearest to this come first.")] = None,
    host: Annotated[str, typer.Option(help="Others than this machine need a token, which is printed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8321,
) -> None:
    """Look at pairs in a browser, LQ beside GT, and say keep, drop or skip; then apply what was said.

    \b
    Example: curate review manifest --column iqa.musiq --near 45
    Example: curate review manifest --apply -o reviewed
    """
    from curate import review as stage

    files_ = verdicts or [stage.default_file(manifest)]
    if apply:
        done, disputed = stage.apply(manifest, files_, output)
        display.finished(done)
        if disputed:
            typer.echo(f"{disputed} pairs are disputed: one keeps what another drops; they stay as they were")
        return
    from curate.review import serve

    serve.serve(manifest, files_[0], column=column, near=near, host=host, port=port)


@app.command()
def split(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    ref: Annotated[int, typer.Option(min=1, help="Pairs per task in D_ref.")] = 10,
    test: Annotated[float, typer.Option(help="Share of the groups, or (from 1) pairs per task.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Which groups are drawn.")] = 0,
) -> None:
    """Split into D_ref (an equal number per task), test and train; whole groups move, across all tasks.

    \b
    Example: curate split
    Example: curate split manifest --ref 10 --test 0.2 --seed 1
    """
    from curate.split import split as run

    display.finished(run(manifest, output, ref=ref, test=test, seed=seed))


@app.command()
def shard(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    samples: Annotated[int, typer.Option(min=1, help="Pairs per shard.")] = 1000,
    tile: Annotated[int | None, typer.Option(min=32, help="Cut larger training pairs into tiles of that side.")] = None,
    overlap: Annotated[int, typer.Option(min=0, help="GT pixels that tiles share.")] = 64,
    workers: Workers = 0,
    max_errors: MaxErrors = None,
    dask_address: DaskAddress = None,
) -> None:
    """Write WebDataset shards, one task and one split each, and an index that is itself a manifest.

    \b
    Example: curate shard
    Example: curate shard manifest-split -o shards --samples 500
    Example: curate shard 8-megapixels -o shards --tile 512 --overlap 64
    """
    from curate.shard import shard as run

    display.finished(
        run(
            manifest,
            output,
            samples_per_shard=samples,
            tile=tile,
            overlap=overlap,
            workers=workers,
            max_errors=max_errors,
            dask_address=dask_address,
        )
    )


@app.command()
def report(
    manifest: ManifestPath = "manifest",
    output: Annotated[str | None, typer.Option("-o", "--output", help="Default: <manifest>-report.html.")] = None,
) -> None:
    """Write a self-contained page: counts, reasons, histograms with thresholds, best and worst images.

    \b
    Example: curate report manifest-filter
    """
    from curate.report import report as run

    typer.echo(run(manifest, output))


@app.command()
def dedup(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    distance: Annotated[int, typer.Option(help="Bits of 64 that the looks of two copies may differ in.")] = 4,
    by: Annotated[
        str | None, typer.Option(metavar="METRIC", help="Keep the best by this; default: most pixels.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Only pairs of equal files, not of equal looks.")] = False,
) -> None:
    """Drop copies: the same pair twice, or another copy of a photograph for the same task; the best one stays.

    One GT with many LQs is no copy, nor are frames of a scene that the layout names. Column `cluster` names the pair
    that is kept. Run it after filter; a looser run on the output revives pairs.

    \b
    Example: curate dedup
    Example: curate dedup merged --by musiq --distance 2 -o unique
    """
    from curate.dedup import dedup as run

    display.finished(run(manifest, output, distance=distance, by=by, exact=exact))


@app.command()
def decontaminate(
    against: Annotated[list[str], typer.Option(metavar="TEST_MANIFEST", help="Test images; repeat for several.")],
    manifest: ManifestPath = "manifest",
    output: Output = None,
    distance: Annotated[int, typer.Option(help="Bits of 64 that the looks of two copies may differ in.")] = 4,
    strict: Annotated[bool, typer.Option("--strict", help="Fail, and write nothing, when any pair matches.")] = False,
) -> None:
    """Drop training pairs whose GT or LQ is a test image: the same file, or resized or recompressed.

    Of a test manifest that has rows of split test, these count; of another, all.

    \b
    Example: curate decontaminate manifest --against sots --against rain100l
    Example: curate decontaminate manifest --against benchmarks --strict
    """
    from curate.decontaminate import decontaminate as run

    display.finished(run(manifest, output, against=against, distance=distance, strict=strict))


@app.command()
def explain(
    pair_id: Annotated[str, typer.Argument(help="The pair's id, or the beginning of it.")],
    manifest: ManifestPath = "manifest",
) -> None:
    """Tell all about a pair: its columns, files, scores, what was decided and why, and the stages it went through.

    \b
    Example: curate explain 3f2a
    Example: curate explain 3f2a manifest-filter
    """
    from curate.explain import explain as run
    from curate.explain import text

    typer.echo(text(run(pair_id, manifest)))


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="Manifest before.")],
    b: Annotated[str, typer.Argument(help="Manifest after.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what changed between two manifests: rows, verdicts by reason, columns.

    \b
    Example: curate diff manifest manifest-filter
    Example: curate diff strict loose --json
    """
    import json
    from dataclasses import asdict

    from curate.diff import diff as run
    from curate.diff import text

    found = run(a, b)
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else text(found))


def _pairs(values: list[str] | None, option: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for value in values or ():
        name, equals, text = value.partition("=")
        if not (equals and name and text):
            raise UserError(f"{option} {value}: write it as NAME=VALUE", exit_code=2)
        out[name] = text
    return out


def _numbers(values: list[str] | None, option: str) -> dict[str, float]:
    out: dict[str, float] = {}
    for name, text in _pairs(values, option).items():
        try:
            out[name] = float(text.removesuffix("%"))
        except ValueError:
            raise UserError(f"{option} {name}={text}: {text!r} is not a number", exit_code=2) from None
    return out


if __name__ == "__main__":
    main()
