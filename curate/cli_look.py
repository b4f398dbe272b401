"""The `curate` commands that look at a manifest and write nothing: doctor, show."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from curate import display
from curate.cli_options import ManifestPath


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in this order."""
    for function in (doctor, show):
        app.command()(function)


def doctor(
    manifest: ManifestPath = "manifest",
    min_pairs: Annotated[int, typer.Option(min=0, help="Report tasks with fewer kept pairs.")] = 100,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 when there is an error.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what is wrong with the data, the worst first: counts, three names, and the command that mends it.

    Looks at pairs (other scenes, shifted, exchanged, equal, enlarged, flat), scenes without a group, small tasks, D_ref
    of few photographs, test rows that are in train, copies, error rows, degraded GTs, missing scores and licenses.

    \b
    Example: curate doctor
    Example: curate doctor shards --strict
    Example: curate doctor manifest --min-pairs 500 --json
    """
    from curate.doctor import diagnose, has_errors

    findings = diagnose(manifest, min_pairs=min_pairs)
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=2, ensure_ascii=False))
    else:
        display.diagnosed(findings, manifest)
    if strict and has_errors(findings):
        raise typer.Exit(1)


def show(
    manifest: ManifestPath = "manifest",
    status: Annotated[str | None, typer.Option(help="kept, dropped or error.")] = None,
    task: Annotated[str | None, typer.Option(help="Rows of this task only.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows at most; 0: all.")] = 20,
    columns: Annotated[str | None, typer.Option(metavar="A,B", help="More columns: iqa.piqe,width.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List rows: id, task, split, status, the two files, and why a row is not kept.

    \b
    Example: curate show
    Example: curate show manifest --status error --limit 5
    Example: curate show manifest --task dehaze --columns width,height,phash
    """
    from curate.show import show as run

    names = [name.strip() for name in (columns or "").split(",") if name.strip()]
    rows = run(manifest, status=status, task=task, limit=limit, columns=names)
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False, default=str))
    else:
        display.listed(rows)
