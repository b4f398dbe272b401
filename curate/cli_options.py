"""Options that several `curate` commands share, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifests.errors import UserError

if TYPE_CHECKING:
    from curate.vlm import Settings
    from manifests.table import Manifest


def _named(ctx: typer.Context, name: str) -> bool:
    """Whether the user gave this parameter."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _manifest(ctx: typer.Context, param: typer.CallbackParam, value: str) -> str:
    """The manifest named; else the newest of the chain, which is said. See `manifests.newest`."""
    if ctx.resilient_parsing or _named(ctx, param.name or ""):
        return value
    from manifests.newest import newest

    found = newest(stage=ctx.info_name or "")
    output = f"{value}-{ctx.info_name}"
    if found != value and not os.path.exists(os.path.join(output, "manifest.json")):
        typer.echo(f"reading {found}", err=True)
    return found


def _output(ctx: typer.Context, value: str | None) -> str | None:
    """The output named; manifest-<stage> where no manifest is named either, however long the chain is."""
    if value is not None or ctx.resilient_parsing or "manifest" not in ctx.params or _named(ctx, "manifest"):
        return value
    return f"manifest-{ctx.info_name}"


ManifestPath = Annotated[
    str,
    typer.Argument(
        metavar="[MANIFEST]",
        help="Manifest to read; default ./manifest, or the last one that was made of it (./manifest-filter).",
        show_default=False,
        callback=_manifest,
    ),
]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", help="Where to write; default <manifest>-<stage>.", callback=_output),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier output of this command, once the new one is whole.")
]
OldScore = Annotated[list[str] | None, typer.Option("--score", hidden=True)]  # names of before, for one version
OldBy = Annotated[str | None, typer.Option("--by", hidden=True)]
OldColumn = Annotated[str | None, typer.Option("--column", hidden=True)]
AllRows = Annotated[bool, typer.Option("--all", help="Work on dropped and failed rows as well.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Worker processes; 0: this one. With --device cuda: decoding threads per device.")
]
MaxErrors = Annotated[str | None, typer.Option(help="Stop, with exit code 3, when more rows fail: 100, or 1%. [50%]")]
Reuse = Annotated[
    list[str] | None, typer.Option(metavar="MANIFEST", help="Take scores of equal content from it; repeat for several.")
]
DaskAddress = Annotated[str | None, typer.Option(help="Scheduler of a running Dask cluster, instead of workers here.")]
Weights = Annotated[
    list[str] | None, typer.Option("--weights", metavar="METRIC=FILE", help="Checkpoint of a pyiqa metric.")
]
ModelName = Annotated[str | None, typer.Option(help="Folder or hub id of a model; or its name at --endpoint.")]
Endpoint = Annotated[str | None, typer.Option(help="OpenAI-compatible server: http://localhost:8000/v1.")]
Batch = Annotated[int, typer.Option(min=1, help="Images that go through a local model together.")]
Parallel = Annotated[int, typer.Option(min=1, help="Requests under way at an endpoint.")]
PerMinute = Annotated[int, typer.Option(min=0, help="Requests a minute, at most; 0: no limit.")]
Device = Annotated[str, typer.Option(help="Where models run: cpu, cuda (a process per device), cuda:1.")]

Bf16 = Annotated[
    bool,
    typer.Option("--bf16", help="Measure in bf16 where it moves no score by over 0.1 % of the range, tried first."),
]


def written(
    call: Callable[[str], Manifest],
    output: str | None,
    overwrite: bool,
    inputs: Sequence[str],
    stage: str = "",
    beside: Sequence[str] = (),
) -> Manifest:
    """What `call`, given where to write, made at `output` (default: of the first input and the stage), opened there.

    inputs: manifests that are read, beside: other folders that are. Neither is ever replaced.
    """
    from curate.engine import default_output
    from manifests.outputs import replacing
    from manifests.table import read

    path = output or default_output(inputs[0], stage)
    if not overwrite:
        return call(path)
    roots = [root for source in map(read, inputs) for root in source.roots.values()]
    with replacing(path, inputs=[*inputs, *beside, *roots]) as target:
        done = call(target)
    return done if target == path else read(path)


def names(*given: list[str] | None) -> list[str]:
    """Names of metrics or columns, from options that may be repeated and hold several with commas."""
    return [name.strip() for texts in given for text in texts or () for name in text.split(",") if name.strip()]


def either(new: str | None, old: str | None, option: str, before: str) -> str | None:
    """The value of an option that also has its name of before. Raises UserError when both are given."""
    if new is not None and old is not None:
        raise UserError(f"{before} is now {option}: give one of them", exit_code=2)
    return old if new is None else new


def refuse(ctx: typer.Context, names: Sequence[str], why: str) -> None:
    """Raises UserError for an option that was given though it means nothing here."""
    for name in names:
        if (source := ctx.get_parameter_source(name)) and source.name == "COMMANDLINE":
            option = next(one.opts[-1] for one in ctx.command.params if one.name == name)
            raise UserError(f"{option} means nothing here: {why}", exit_code=2)


def pairs(values: list[str] | None, option: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for value in values or ():
        name, equals, text = value.partition("=")
        if not (equals and name and text):
            raise UserError(f"{option} {value}: write it as NAME=VALUE", exit_code=2)
        if name in out:
            raise UserError(f"{option} {name}: given twice", exit_code=2)
        out[name] = text
    return out


def numbers(values: list[str] | None, option: str, *, percent: bool = False) -> dict[str, float]:
    out: dict[str, float] = {}
    for name, text in pairs(values, option).items():
        try:
            out[name] = float(text.removesuffix("%") if percent else text)
        except ValueError:
            raise UserError(f"{option} {name}={text}: {text!r} is not a number", exit_code=2) from None
    return out


def settings_of(model: str | None, endpoint: str | None, **others: Any) -> Settings | None:
    """The vision-language model that the options name; None where they name none."""
    from curate import vlm

    if model is None:
        if endpoint is not None:
            raise UserError("--endpoint needs --model: the name by which the server knows its model", exit_code=2)
        return None
    return vlm.Settings(model, endpoint, **others)
