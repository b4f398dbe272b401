"""The `mixer` command: each sub-command parses, calls the function of the same name, prints."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mixer import cli_laws, cli_worlds
from mixer.cli_options import (
    Eta,
    Higher,
    Initial,
    Lower,
    LowerFor,
    Overwrite,
    Params,
    Target,
    Version,
    initial_of,
    lower_of,
    params_of,
)

app = typer.Typer(
    name="mixer",
    help="In what proportion to mix tasks: rules, schedules, and worlds to try them in.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(version: Version = False) -> None:
    """Options of the command itself."""


def main() -> None:
    """Console script: one clear line and an exit code for what a person can mend."""
    from mixer.errors import MixerError

    try:
        app()
    except MixerError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", 130)


def _fail(message: str, code: int) -> None:
    text = " ".join(message.split())
    safe = "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
    print(f"mixer: {safe}", file=sys.stderr)
    sys.exit(code)


@app.command()
def replay(
    scores: Annotated[str, typer.Argument(help="CSV, Parquet or JSON with interval, task, score.")],
    rule: Annotated[str, typer.Option(help="Rule that makes the weights.")] = "equilibrium",
    eta: Eta = None,
    params: Params = None,
    target: Target = None,
    initial: Initial = None,
    higher_is_better: Higher = False,
    lower_is_better: Lower = False,
    lower_is_better_for: LowerFor = None,
    output: Annotated[str, typer.Option("-o", "--output", help="Schedule to write.")] = "schedule.parquet",
    overwrite: Overwrite = False,
) -> None:
    """Turn recorded scores into the schedule that a rule would have made of them: interval, task, score in, interval,
    task, score, weight out. Interval 0 holds the scores before training; other columns that a rule needs (task_size)
    are read as well.

    \b
    Example: mixer replay SCORES.csv --rule des --eta 0.35 -o schedule.parquet
    Example: mixer replay SCORES.csv --rule des --lower-is-better-for sr --initial deblur=2,dehaze=1,sr=1
    """
    from mixer.replay import replay as run

    lower = lower_of(higher_is_better, lower_is_better, lower_is_better_for)
    given, weights = params_of(eta, params, target), initial_of(initial)
    rows = run(scores, rule, params=given, initial=weights, lower_is_better=lower, output=output, overwrite=overwrite)
    typer.echo(f"{output}: {rows[-1]['interval'] + 1} intervals, {len(rows)} rows")
    if missing := sorted({row["task"] for row in rows if row["score"] is None}):
        typer.echo(f"mixer: scores of {', '.join(missing)} are missing; these tasks kept their weights then", err=True)


@app.command()
def step(
    state: Annotated[str, typer.Option(help="State file (JSON); begun when it is not there.")],
    scores: Annotated[str, typer.Option(help='Scores of this interval: JSON {"deblur": 27.1, ...} or a table.')],
    rule: Annotated[str | None, typer.Option(help="Rule to begin with; default: equilibrium.")] = None,
    eta: Eta = None,
    params: Params = None,
    target: Target = None,
    initial: Initial = None,
    higher_is_better: Higher = False,
    lower_is_better: Lower = False,
    lower_is_better_for: LowerFor = None,
) -> None:
    """One update, for a trainer of your own: scores in, {"interval", "weights"} out as JSON, the rule's state kept in a
    file that is replaced atomically. The first call is interval 0 and returns the initial weights. Scores that name
    their interval are refused when the state has seen it.

    \b
    Example: mixer step --state des.json --scores scores.json
    Example: mixer step --state des.json --scores scores.csv --rule des --eta 0.35
    """
    import json

    from mixer.replay import step as run

    lower = lower_of(higher_is_better, lower_is_better, lower_is_better_for)
    result = run(
        state, scores, rule, params=params_of(eta, params, target), initial=initial_of(initial), lower_is_better=lower
    )
    typer.echo(json.dumps(result))


@app.command()
def shards(
    schedule: Annotated[str, typer.Argument(help="Schedule of task weights.")],
    folder: Annotated[str, typer.Argument(metavar="SHARDS", help="Shard folder that 'curate shard' wrote.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Schedule to write.")] = "shard_schedule.parquet",
    overwrite: Overwrite = False,
) -> None:
    """Turn task weights into weights of every train shard, interval by interval: a task's weight is split over its
    shards by their numbers of samples. 'trainer run --schedule' takes the result; a JSON file beside it says the same
    to other loaders.

    \b
    Example: mixer shards simulation/des/schedule.parquet shards -o shard_schedule.parquet
    """
    from mixer.shards import shards as run

    made = run(schedule, folder, output, overwrite=overwrite)
    typer.echo(f"{output}: {made.intervals} intervals, {len(made.names)} shards")


@app.command()
def rules() -> None:
    """List the rules: what each does, its parameters with their defaults, and the observation fields that it needs.

    \b
    Example: mixer rules
    """
    from mixer import rules as rules_

    for name in rules_.names():
        said = ", ".join(f"{key}={value}" for key, value in rules_.parameters(name).items() if value is not None)
        needed = "; needs " + ", ".join(rules_.needs(name)) if rules_.needs(name) else ""
        also = [other for other, one in rules_.ALIASES.items() if one == name]
        typer.echo(f"{name:13} {rules_.about(name)}" + (f" Also called {', '.join(also)}." if also else ""))
        if said or needed:
            typer.echo(f"{'':13} ({said or 'no parameters'}{needed})")


@app.command()
def plot(
    schedule: Annotated[str, typer.Argument(help="Schedule: of a run, of 'mixer simulate' or 'mixer replay'.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Picture (.png) or page (.html).")] = "schedule.png",
    overwrite: Overwrite = False,
) -> None:
    """Draw a schedule: the weights by interval, and the scores that they came from.

    \b
    Example: mixer plot run/schedule.parquet -o run.png
    Example: mixer plot simulation/des/schedule.parquet -o des.html
    """
    from mixer.plots import plot as run

    run(schedule, output, overwrite=overwrite)
    typer.echo(output)


cli_worlds.register(app)
cli_laws.register(app)


if __name__ == "__main__":
    main()
