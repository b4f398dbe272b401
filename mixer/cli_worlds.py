"""The `mixer` commands about worlds and runs: simulate, worlds, world-from, noise."""

from __future__ import annotations

import os
import shutil
from typing import Annotated

import typer

from mixer.cli_options import Eta, Initial, Overwrite, Params, Target, initial_of, params_of

Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders that 'trainer run' wrote.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in this order."""
    for function in (simulate, worlds, noise):
        app.command()(function)
    app.command("world-from")(world_from)


def simulate(
    world: Annotated[
        list[str] | None, typer.Option(help="World of the zoo, or a YAML file; repeatable; 'zoo': all. [mild]")
    ] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Rule to play, repeatable; default: all.")] = None,
    intervals: Annotated[int, typer.Option(min=1, help="Intervals to play.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: each draws the world and its noise.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    tasks: Annotated[str | None, typer.Option(metavar="A,B,...", help="Names of the tasks: deblur,denoise,sr.")] = None,
    oracles: Annotated[bool, typer.Option(help="Also find the best static and moving mixture.")] = True,
    eta: Eta = None,
    params: Params = None,
    target: Target = None,
    initial: Initial = None,
    output: Annotated[str, typer.Option("-o", "--output", help="Folder for results and pictures.")] = "simulation",
    overwrite: Overwrite = False,
) -> None:
    """Play rules against synthetic worlds, and print what each reached: means over seeds with 95 % intervals, the
    distance to the best mixtures (oracles), how the weights behaved, and our rule against each other (paired t
    tests, corrected for their number).

    The folder gets a row per rule and seed (results.parquet), bars (simulation.png), the first seed's curves
    (simulation.html) and schedules (OUT/<rule>/schedule.parquet, which 'trainer run --schedule' takes). Means are in
    dB, 5 units of MUSIQ to the dB. Worlds show failure modes of rules, and are no evidence about real training.

    \b
    Example: mixer simulate
    Example: mixer simulate --world conflict --rule des --rule equilibrium --eta 0.35 --seeds 200 -o sim
    Example: mixer simulate --world zoo --no-oracles -o zoo
    Example: mixer simulate --tasks deblur,denoise,derain --rule des --seeds 1 --intervals 20 -o sim
    """
    from mixer import files
    from mixer import worlds as worlds_
    from mixer.show import show
    from mixer.simulate import save
    from mixer.simulate import simulate as run

    if overwrite and os.path.lexists(output):
        files.check_simulation(output, world or [])
    else:
        files.refuse_existing(output)
    names = [name.strip() for name in tasks.split(",")] if tasks is not None else None
    chosen = [one for name in world or ["mild"] for one in (worlds_.zoo() if name == "zoo" else [name])]
    done = []
    for number, name in enumerate(chosen):
        one = run(
            name,
            rule or (),
            intervals,
            range(seed, seed + seeds),
            tasks=names,
            params=params_of(eta, params, target),
            initial=initial_of(initial),
            with_oracles=oracles,
        )
        if number:
            typer.echo()
        show(one)
        done.append(one)
    if overwrite and os.path.lexists(output):
        real = os.path.realpath(output)
        draft = os.path.join(os.path.dirname(real), f".overwrite-{os.path.basename(real)}")
        shutil.rmtree(draft, ignore_errors=True)
        save(done, draft)
        shutil.rmtree(real)
        os.rename(draft, real)
    else:
        save(done, output)
    typer.echo(f"\n{os.path.join(output, 'results.parquet')}")


def worlds(
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of a world's YAML file.")] = False,
    show: Annotated[str | None, typer.Option(metavar="NAME", help="Print this world's YAML.")] = None,
) -> None:
    """List the worlds that Equimix brings, or show how one is written.

    \b
    Example: mixer worlds
    Example: mixer worlds --show conflict > mine.yaml
    Example: mixer worlds --schema > world.schema.json
    """
    import json

    from mixer import worlds as worlds_

    if schema:
        typer.echo(json.dumps(worlds_.schema(), indent=2))
    elif show is not None:
        typer.echo(worlds_.text(show), nl=False)
    else:
        for name in worlds_.zoo():
            world = worlds_.load(name)
            typer.echo(f"{name:16} {len(world.tasks):2} tasks  {world.about}")


def noise(runs: Runs) -> None:
    """How noisy a run's evaluations were, and what follows: for each task the standard error over the scenes of D_ref,
    the jitter from one evaluation to the next, what an interval gains, and how many images and steps would be enough.
    Below 5 scenes (images, where scenes are unknown) nothing is called enough: the error of so few is not known.

    \b
    Example: mixer noise run
    """
    from rich.console import Console
    from rich.table import Table

    from mixer.noise import noise as measure

    for run in runs:
        table = Table("task", "metric", "images", "scenes", "se", "jitter", "gain", "advice", box=None, pad_edge=False)
        for one in measure(run):
            scenes = "-" if one.groups is None else str(one.groups)
            numbers = (
                str(one.images),
                scenes,
                "-" if one.se != one.se else f"{one.se:.3f}",
                f"{one.jitter:.3f}",
                f"{one.gain:+.3f}",
            )
            table.add_row(one.task, one.metric, *numbers, one.advice)
        Console(markup=False, emoji=False).print(table, highlight=False)


def world_from(
    runs: Runs,
    output: Annotated[str, typer.Option("-o", "--output", help="World to write.")] = "world.yaml",
    overwrite: Overwrite = False,
) -> None:
    """Fit a world to closed-loop runs, so that rules can be tried on tasks like yours: learning curves, transfer and
    noise from the scores and weights of every interval. Several runs with different weights tell more of transfer.

    \b
    Example: mixer world-from run -o mine.yaml
    Example: mixer world-from run-uniform run-des run-equilibrium -o mine.yaml
    """
    from mixer.world_from import world_from as fit

    found = fit(runs, output, overwrite=overwrite)
    for line in found:
        typer.echo(line)
    typer.echo(output)
