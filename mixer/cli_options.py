"""Options that several `mixer` commands share, and what they mean."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Eta = Annotated[float | None, typer.Option(help="Step size of des, per unit of the score. [0.1]")]
Params = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=X", help="Any parameter of the rule.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output of this command.")]
Lower = Annotated[bool, typer.Option("--lower-is-better", help="Negate every score. Default: as column metric tells.")]
Higher = Annotated[bool, typer.Option("--higher-is-better", help="Take every score as it is.")]
LowerFor = Annotated[
    list[str] | None, typer.Option("--lower-is-better-for", metavar="TASK", help="Negate the scores of these tasks.")
]
Target = Annotated[
    list[str] | None, typer.Option("--target", metavar="TASK=SCORE", help="Attainable scores, for equilibrium.")
]
Initial = Annotated[
    list[str] | None, typer.Option("--initial", metavar="TASK=W", help="Weights of interval 0; default: uniform.")
]


def _version(value: bool) -> None:
    import platform
    from importlib import metadata

    if value:  # the line of the other commands, which this package may not import
        torch = metadata.version("torch")
        typer.echo(f"equimix {metadata.version('equimix')} (Python {platform.python_version()}, torch {torch})")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
]


def params_of(eta: float | None, params: list[str] | None, target: list[str] | None = None) -> dict[str, Any]:
    """A rule's parameters: --eta, --target, and --set NAME=X with X a number, JSON, or else text."""
    import json

    from mixer.errors import MixerError

    out: dict[str, Any] = {} if eta is None else {"eta": eta}
    if target:
        out["targets"] = pairs(split(target), "--target")
    for text in params or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise MixerError(f"--set {text}: write it as NAME=VALUE", exit_code=2)
        if name in out:
            raise MixerError(f"--set {text}: {name} is given twice", exit_code=2)
        try:
            out[name] = json.loads(value)
        except ValueError:
            out[name] = value
    return out


def lower_of(higher: bool, lower: bool, lower_for: list[str] | None) -> list[str] | bool | None:
    """Which scores are negated: all, none, those of some tasks, or (None) as their metrics' names tell."""
    from mixer import directions

    way = directions.given(higher, lower)
    if way == "min":
        return True
    if lower_for:
        return split(lower_for)
    return False if way else None


def initial_of(initial: list[str] | None) -> dict[str, float] | None:
    """Weights of interval 0 by task; None where nothing is said."""
    return pairs(split(initial), "--initial") if initial else None


def split(texts: list[str] | None) -> list[str]:
    """The parts between commas."""
    return [one.strip() for text in texts or () for one in text.split(",")]


def pairs(texts: list[str], option: str) -> dict[str, float]:
    """NAME=NUMBER texts as a mapping. Raises MixerError for anything else, and for a name that stands twice."""
    from mixer.errors import MixerError

    out: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise MixerError(f"{option} {text}: write it as NAME=NUMBER", exit_code=2) from None
        if name in out:
            raise MixerError(f"{option} {text}: {name} is given twice", exit_code=2)
        out[name] = number
    return out
