"""The `mixer` command: each sub-command parses, calls the function of the same name, prints."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mixer import cli_laws

app = typer.Typer(
    name="mixer",
    help="In what proportion to mix tasks: rules, schedules, and worlds to try them in.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Eta = Annotated[float | None, typer.Option(help="Step size of des, per unit of the score. [0.1]")]
Params = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=X", help="Any parameter of the rule.")]
Lower = Annotated[bool, typer.Option("--lower-is-better", help="Negate every score: lower is better.")]
LowerFor = Annotated[
    list[str] | None, typer.Option("--lower-is-better-for", metavar="TASK", help="Negate the scores of these tasks.")
]
Initial = Annotated[
    list[str] | None, typer.Option("--initial", metavar="TASK=W", help="Weights of interval 0; default: uniform.")
]


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
    print(f"mixer: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


@app.command()
def simulate(
    world: Annotated[str, typer.Option(help="mild, or conflict (negative transfer and forgetting).")] = "mild",
    rule: Annotated[list[str] | None, typer.Option(help="Rule to play, repeatable; default: all.")] = None,
    intervals: Annotated[int, typer.Option(min=1, help="Intervals to play.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Which world and which noise.")] = 0,
    tasks: Annotated[str | None, typer.Option(metavar="A,B,...", help="Names of the tasks: deblur,denoise,sr.")] = None,
    eta: Eta = None,
    params: Params = None,
    initial: Initial = None,
    output: Annotated[str, typer.Option("-o", "--output", help="Folder for schedules and plot.")] = "simulation",
) -> None:
    """Play rules against a synthetic world and print what each reached and how its weights went. The folder gets a
    schedule per rule (OUT/<rule>/schedule.parquet, which 'trainer run --schedule' takes) and the curves
    (OUT/simulation.html). Means are in dB; a task called sr is scored in MUSIQ, 5 units to the dB. Worlds show failure
    modes of rules, and are no evidence about real training.

    \b
    Example: mixer simulate
    Example: mixer simulate --world conflict --rule des --eta 0.35 --seed 7 -o sim
    Example: mixer simulate --tasks deblur,denoise,derain --rule des --intervals 20 -o sim
    """
    from mixer import worlds
    from mixer.show import show
    from mixer.simulate import simulate as run

    names = tuple(name.strip() for name in tasks.split(",")) if tasks is not None else worlds.TASKS
    given, weights = _params(eta, params), _weights(initial)
    outcomes = run(world, rule or (), intervals, seed, tasks=names, params=given, initial=weights, output=output)
    show(outcomes)
    typer.echo(f"\n{os.path.join(output, 'simulation.html')}")


@app.command()
def replay(
    scores: Annotated[str, typer.Argument(help="CSV, Parquet or JSON with interval, task, score.")],
    rule: Annotated[str, typer.Option(help="Rule that makes the weights.")] = "des",
    eta: Eta = None,
    params: Params = None,
    initial: Initial = None,
    lower_is_better: Lower = False,
    lower_is_better_for: LowerFor = None,
    output: Annotated[str, typer.Option("-o", "--output", help="Schedule to write.")] = "schedule.parquet",
) -> None:
    """Turn recorded scores into the schedule that a rule would have made of them: interval, task, score in, interval,
    task, score, weight out. Interval 0 holds the scores before training; other columns that a rule needs (task_size)
    are read as well.

    \b
    Example: mixer replay SCORES.csv --rule des --eta 0.35 -o schedule.parquet
    Example: mixer replay SCORES.csv --rule des --lower-is-better-for sr --initial deblur=2,dehaze=1,sr=1
    """
    from mixer.replay import replay as run

    lower = lower_is_better or split(lower_is_better_for)
    given, weights = _params(eta, params), _weights(initial)
    rows = run(scores, rule, params=given, initial=weights, lower_is_better=lower, output=output)
    typer.echo(f"{output}: {rows[-1]['interval'] + 1} intervals, {len(rows)} rows")


@app.command()
def step(
    state: Annotated[str, typer.Option(help="State file (JSON); begun when it is not there.")],
    scores: Annotated[str, typer.Option(help='Scores of this interval: JSON {"deblur": 27.1, ...} or a table.')],
    rule: Annotated[str | None, typer.Option(help="Rule to begin with; default: des.")] = None,
    eta: Eta = None,
    params: Params = None,
    initial: Initial = None,
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

    lower = lower_is_better or split(lower_is_better_for)
    result = run(state, scores, rule, params=_params(eta, params), initial=_weights(initial), lower_is_better=lower)
    typer.echo(json.dumps(result))


@app.command()
def shards(
    schedule: Annotated[str, typer.Argument(help="Schedule of task weights.")],
    folder: Annotated[str, typer.Argument(metavar="SHARDS", help="Shard folder that 'curate shard' wrote.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Schedule to write.")] = "shard_schedule.parquet",
) -> None:
    """Turn task weights into weights of every train shard, interval by interval: a task's weight is split over its
    shards by their numbers of samples. 'trainer run --schedule' takes the result.

    \b
    Example: mixer shards simulation/des/schedule.parquet shards -o shard_schedule.parquet
    """
    from mixer.shards import shards as run

    made = run(schedule, folder, output)
    typer.echo(f"{output}: {made.intervals} intervals, {len(made.names)} shards")


cli_laws.register(app)


def _params(eta: float | None, params: list[str] | None) -> dict[str, float]:
    return ({} if eta is None else {"eta": eta}) | pairs(params or [], "--set")


def _weights(initial: list[str] | None) -> dict[str, float] | None:
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


if __name__ == "__main__":
    main()
