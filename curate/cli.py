"""The `curate` command: each sub-command parses, calls the function of the same name, prints."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated

import typer

from curate import cli_judges, cli_look, display
from curate.cli_options import (
    AllRows,
    DaskAddress,
    ManifestPath,
    MaxErrors,
    OldBy,
    OldScore,
    Output,
    Overwrite,
    Reuse,
    Workers,
    either,
    names,
    written,
)
from manifests import console
from manifests.errors import UserError

app = typer.Typer(
    name="curate",
    help="Curate training data for image restoration: folders of photographs in, manifests and shards out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(version: console.Version = False) -> None:
    """Options of the command itself."""


def main() -> None:
    """Console script."""
    console.run(app, "curate")


@app.command()
def ingest(
    folder: Annotated[str, typer.Argument(help="Folder or fsspec URL that the patterns are relative to.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Manifest to write.")] = "manifest",
    overwrite: Overwrite = False,
    gt: Annotated[str | None, typer.Option(help="Pattern of the ground truth: 'clear/{id}.png'.")] = None,
    lq: Annotated[str | None, typer.Option(help="Pattern of the low-quality side: 'hazy/{id}_*.jpg'.")] = None,
    task: Annotated[str | None, typer.Option(help="Task that the pairs train (clean: GT alone).")] = None,
    subtask: Annotated[str, typer.Option(help="Variant of the task.")] = "",
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset; default: the folder's.")] = None,
    split: Annotated[str | None, typer.Option(help="Split that the dataset prescribes.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Template of the scene ('{scene}'), auto (names, looks) or none.")
    ] = "auto",
    license: Annotated[str | None, typer.Option(help="Licence of the images.")] = None,
    layout: Annotated[str | None, typer.Option(help="Known dataset (curate layouts lists them), or auto.")] = None,
    pairs: Annotated[
        str | None, typer.Option(metavar="FILE", help="List of pairs: CSV or JSONL with lq and gt, or two columns.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Metric to measure from the same decode: signals, piqe, ...; repeatable."),
    ] = None,
    score: OldScore = None,
    identify: Annotated[bool, typer.Option("--identify", help="Identify degradations of the GT, same decode.")] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Largest image that is decoded, in pixels.")] = None,
    append: Annotated[str | None, typer.Option(metavar="MANIFEST", help="Its rows, and what is new.")] = None,
    reuse: Reuse = None,
    crop_to_scale: Annotated[
        bool, typer.Option("--crop-to-scale", help="Use GTs that are no multiple of the scale, cropped on reading.")
    ] = False,
    join_scores: Annotated[
        str | None, typer.Option(metavar="FILE", help="Scores of your own, by pair_id or sha256 (see curate join).")
    ] = None,
    no_pairs: Annotated[bool, typer.Option("--no-pairs", help="Do not compare LQ with GT; see curate pairs.")] = False,
    workers: Workers = 0,
    max_errors: MaxErrors = None,
    dask_address: DaskAddress = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be found; write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Run the first proposal, if no other takes other files.")] = False,
    choose: Annotated[int | None, typer.Option(metavar="N", help="Run the N-th proposal.")] = None,
) -> None:
    """Make a manifest of a folder of photographs: pairs, or ground truth alone.

    With a folder alone it proposes: known layouts and pairings that the names tell, each with its command. Nothing is
    written then, unless --yes or --choose says which one to run.

    Every image is decoded once: size, hash, perceptual hash, integrity. A broken or mismatched pair becomes an
    error row with the reason.

    \b
    Example: curate ingest data/mine
    Example: curate ingest data/mine --yes
    Example: curate ingest data/SOTS --layout SOTS
    Example: curate ingest data/unknown --layout auto --dry-run
    Example: curate ingest data/mine --lq 'hazy/{id}_*.jpg' --gt 'clear/{id}.png' --task dehaze -o mine
    Example: curate ingest data/Urban100 --lq 'LRx4/{id}x4.png' --gt 'HR/{id}.png' --task sr --crop-to-scale
    Example: curate ingest data/mine --pairs pairs.csv --task derain -o listed
    Example: curate ingest photos --gt '{id}.png' --task clean --dataset mine --metric signals --identify
    """
    from curate import ingest as stage
    from curate import layouts as known
    from curate.doctor import diagnose
    from manifests.images import MAX_PIXELS

    if not (gt or lq or layout or pairs):
        from curate.proposals import propose

        named = {"task": task, "subtask": subtask, "split": split, "license": license}
        named |= {} if group in (None, "auto") else {"group": group}
        found = propose(folder, {name: value for name, value in named.items() if value})
        display.proposed(found, None if output == "manifest" else output)
        if not yes and choose is None:
            raise UserError(
                "nothing was written: run one of these commands, or choose by --yes or --choose N", exit_code=2
            )
        chosen_one = found.chosen(choose) if choose is not None else found.clear()
        typer.echo(f"runs {choose or 1}: {chosen_one.command(folder)}", err=True)
        options = {**chosen_one.options}
        gt, lq, layout, task = (options.get(name) for name in ("gt", "lq", "layout", "task"))
        subtask, split, group = options.get("subtask", ""), options.get("split"), options.get("group", group)
    elif yes or choose is not None:
        option = "--yes" if yes else "--choose"
        raise UserError(f"{option} means nothing here: the options say what to ingest", exit_code=2)
    if layout == "auto":
        from curate.survey import best_layout

        layout = best_layout(folder)
        typer.echo(f"layout: {layout}", err=True)
    if dry_run:
        from curate import sources
        from curate.groups import template
        from curate.survey import survey

        group = template(group)
        if pairs:
            from curate import pair_list

            sources.refuse_with_list(gt, lq, layout)
            listed = pair_list.read(pairs, folder, pair_list.Defaults(task, subtask, split, group, license))
            display.surveyed(survey(folder, known.Layout("", task or "", (), license), listed))
            return
        chosen = known.load(layout) if layout else sources.from_patterns(gt, lq, task, subtask, split, group, license)
        display.surveyed(survey(folder, chosen))
        return
    call = partial(
        stage.ingest,
        folder,
        gt=gt,
        lq=lq,
        task=task,
        subtask=subtask,
        dataset=dataset,
        split=split,
        group=group,
        license=license,
        layout=layout,
        pairs=pairs,
        score=names(metric, score),
        identify=identify,
        max_pixels=max_pixels or MAX_PIXELS,
        append=append,
        reuse=reuse or (),
        crop_to_scale=crop_to_scale,
        join_scores=join_scores,
        check_pairs=not no_pairs,
        workers=workers,
        max_errors=max_errors,
        dask_address=dask_address,
    )
    earlier = [one for one in (append, *(reuse or ())) if one]
    beside = [one for one in (folder, pairs, join_scores) if one]
    done = written(call, output, overwrite, earlier, beside=beside)
    display.finished(done)
    display.pair_states(done, short=True)
    display.diagnosed(diagnose(done.path), done.path, first=3)


@app.command()
def pairs(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
    scene: Annotated[
        float, typer.Option(min=0, max=1, help="Drop pairs of one scene less probably than this; 0: none.")
    ] = 0.5,
    swapped: Annotated[
        float, typer.Option(min=0, max=1, help="Drop pairs with exchanged sides more probably than this; 1: none.")
    ] = 0.8,
    align: Annotated[bool, typer.Option("--align", help="Crop shifted pairs to their overlap, as new files.")] = False,
    all_rows: AllRows = False,
    workers: Workers = 0,
    max_errors: MaxErrors = None,
    dask_address: DaskAddress = None,
) -> None:
    """Compare LQ with GT: drop pairs of other scenes, identical and exchanged ones; mark shifted, upscaled, flat ones.

    Ingest does the same from its decode; this measures what has no `pair.*` columns yet, and judges again.

    \b
    Example: curate pairs
    Example: curate pairs manifest -o aligned --align
    Example: curate pairs manifest -o loose --scene 0.2 --swapped 1
    """
    from curate.pairs import pairs as run

    call = partial(
        run,
        manifest,
        scene=scene,
        swapped=swapped,
        align=align,
        all_rows=all_rows,
        workers=workers,
        max_errors=max_errors,
        dask_address=dask_address,
    )
    done = written(call, output, overwrite, [manifest], "pairs")
    display.finished(done)
    display.pair_states(done)


@app.command()
def layouts(
    as_json: Annotated[bool, typer.Option("--json", help="For machines, with licences and homepages.")] = False,
) -> None:
    """List the datasets whose folder naming is known. `verified`: confirmed by the authors' own files.

    \b
    Example: curate layouts
    Example: curate layouts --json
    """
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
    console.out().print(shown)


@app.command()
def retry(manifest: ManifestPath = "manifest", output: Output = None, overwrite: Overwrite = False) -> None:
    """Read the files of error rows again, once the disk is back or the file has been mended.

    \b
    Example: curate retry manifest -o mended
    """
    from curate.retry import retry as run

    display.finished(written(partial(run, manifest), output, overwrite, [manifest], "retry"))


@app.command()
def merge(
    manifests: Annotated[list[str], typer.Argument(help="Manifests to unite, in this order.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Manifest to write.")] = "merged",
    overwrite: Overwrite = False,
) -> None:
    """Unite manifests: rows, columns and roots; a pair that stands in several is taken once.

    \b
    Example: curate merge sots rain100l mine -o all
    """
    from curate.merge import merge as run
    from manifests.table import read

    display.finished(written(partial(run, manifests), output, overwrite, manifests), [read(path) for path in manifests])


@app.command()
def join(
    scores: Annotated[str, typer.Option(metavar="FILE", help="CSV, Parquet or JSONL with pair_id or sha256.")],
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
) -> None:
    """Add scores of your own as columns, to be used by filter: numbers by pair_id, or by the sha256 of the GT.

    A column is called as in the file where that begins with a prefix of scores (user., iqa., judge., ...); another
    becomes user.<name>.

    \b
    Example: curate join manifest --scores aesthetics.csv
    Example: curate filter manifest-join --min user.aesthetics=5
    """
    from curate.join import join as run

    display.finished(written(partial(run, manifest, scores=scores), output, overwrite, [manifest], "join"))


@app.command()
def degrade(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
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
        written(
            partial(
                run,
                manifest,
                tasks=tasks or (),
                crop=crop,
                crops=crops,
                seed=seed,
                dataset=dataset,
                workers=workers,
                max_errors=max_errors,
                dask_address=dask_address,
            ),
            output,
            overwrite,
            [manifest],
            "degrade",
        )
    )


cli_judges.register(app)
cli_look.register(app)


@app.command()
def split(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
    ref: Annotated[int, typer.Option(min=1, help="Pairs per task in D_ref.")] = 10,
    test: Annotated[float, typer.Option(help="Share of the groups, or (from 1) pairs per task.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Which groups are drawn.")] = 0,
    ignore_prescribed: Annotated[
        bool, typer.Option("--ignore-prescribed", help="Draw anew what datasets prescribe as train or test.")
    ] = False,
) -> None:
    """Split into D_ref (an equal number per task), test and train; whole groups move, across all tasks.

    D_ref and test come from 5 groups (scenes) each where train keeps half of the groups, else from fewer.

    \b
    Example: curate split
    Example: curate split manifest --ref 10 --test 0.2 --seed 1
    """
    from curate.split import split as run

    display.finished(
        written(
            partial(run, manifest, ref=ref, test=test, seed=seed, prescribed=not ignore_prescribed),
            output,
            overwrite,
            [manifest],
            "split",
        )
    )


@app.command()
def shard(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
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
        written(
            partial(
                run,
                manifest,
                samples_per_shard=samples,
                tile=tile,
                overlap=overlap,
                workers=workers,
                max_errors=max_errors,
                dask_address=dask_address,
            ),
            output,
            overwrite,
            [manifest],
            "shard",
        )
    )


@app.command()
def report(
    manifest: ManifestPath = "manifest",
    output: Annotated[str | None, typer.Option("-o", "--output", help="Page; default <manifest>-report.html.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a self-contained page: counts, reasons, histograms with thresholds, best and worst images.

    \b
    Example: curate report manifest-filter
    """
    from curate.report import report as run
    from manifests.outputs import replacing

    path = output or f"{manifest.rstrip('/')}-report.html"
    with replacing(path, overwrite=overwrite, kind=None, inputs=[manifest]) as target:
        run(manifest, target)
    typer.echo(path)


@app.command()
def dedup(
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
    distance: Annotated[int, typer.Option(help="Bits of 64 that the looks of two copies may differ in.")] = 4,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep the best by this metric or column; default: most pixels.")
    ] = None,
    by: OldBy = None,
    exact: Annotated[bool, typer.Option("--exact", help="Only pairs of equal files, not of equal looks.")] = False,
) -> None:
    """Drop copies: the same pair twice, or another copy of a photograph for the same task; the best one stays.

    One GT with many LQs is no copy, nor are frames of a scene that the layout names. Column `cluster` names the pair
    that is kept. Run it after filter; a looser run on the output revives pairs.

    \b
    Example: curate dedup
    Example: curate dedup merged --metric musiq --distance 2 -o unique
    """
    from curate.dedup import dedup as run

    by = either(metric, by, "--metric", "--by")
    display.finished(
        written(partial(run, manifest, distance=distance, by=by, exact=exact), output, overwrite, [manifest], "dedup")
    )


@app.command()
def decontaminate(
    against: Annotated[list[str], typer.Option(metavar="TEST_MANIFEST", help="Test images; repeat for several.")],
    manifest: ManifestPath = "manifest",
    output: Output = None,
    overwrite: Overwrite = False,
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

    display.finished(
        written(
            partial(run, manifest, against=against, distance=distance, strict=strict),
            output,
            overwrite,
            [manifest, *against],
            "decontaminate",
        )
    )


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


if __name__ == "__main__":
    main()
