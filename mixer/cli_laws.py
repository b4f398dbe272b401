"""The `mixer` commands about laws: collect, fit, predict, validate, optimize, design."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixer.cli_options import Overwrite

if TYPE_CHECKING:
    from mixer.laws import Law
    from mixer.optimize import Optimum

LawFile = Annotated[str, typer.Argument(metavar="LAW", help="Law that 'mixer fit' wrote.")]
Mixtures = Annotated[str, typer.Argument(help="Table: run, a weight per task, perhaps steps or samples.")]
Scores = Annotated[str, typer.Argument(help="Table: run, a score per column.")]
Named = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in this order."""
    for function in (collect, fit, predict, validate, optimize, design):
        app.command()(function)


def collect(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders that 'trainer run' wrote.")],
    output: Annotated[
        str, typer.Option("-o", "--output", help="Folder for mixtures.csv and scores.csv.")
    ] = "collected",
    pick: Annotated[str, typer.Option(help="Which evaluation: last, or best of each task.")] = "last",
    overwrite: Overwrite = False,
) -> None:
    """Make the two tables of 'mixer fit' from finished runs: shares of the samples drawn, and scores.

    Runs must have the same tasks, metrics and D_ref; the first that does not is named.

    \b
    Example: mixer collect proxies/run-* -o proxies
    """
    from mixer.collect import collect as run

    mixtures, scores = run(runs, output, pick, overwrite=overwrite)
    typer.echo(f"{mixtures}, {scores}: {len(runs)} runs")
    typer.echo(f"mixer fit {shlex.quote(mixtures)} {shlex.quote(scores)} -o {shlex.quote(output)}/law.json")


def fit(
    mixtures: Mixtures,
    scores: Scores,
    law: Annotated[str, typer.Option(help="gp, exp, power (with steps or samples), lgbm.")] = "gp",
    higher_is_better: Annotated[
        bool, typer.Option("--higher-is-better", help="As of PSNR; needed where the names of the scores do not tell.")
    ] = False,
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="As of losses.")] = False,
    direction: Annotated[str | None, typer.Option(hidden=True, help="min or max, as before.")] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="Law to write.")] = "law.json",
    overwrite: Overwrite = False,
) -> None:
    """Fit a law to proxy runs: what scores would any mixture give? Tables are joined on their first columns.

    Which end is better comes from the names of the scores (psnr, musiq: higher; lpips, val_loss: lower), is stored in
    the law, and must be said where they do not tell. Prints how well each score of held-out runs is predicted (ten
    folds), and says where a constant would do as well.

    \b
    Example: mixer fit mixtures.csv scores.csv -o law.json
    Example: mixer fit mixtures.csv quality.csv --law exp --higher-is-better -o law.json
    """
    from mixer import directions, files, laws, tables

    wanted = directions.given(higher_is_better, lower_is_better) or direction

    files.refuse_existing(output, overwrite=overwrite, inputs=[mixtures, scores])
    with _warnings():
        weights, values = tables.joined(tables.mixtures(mixtures), tables.read(scores), f"{mixtures}, {scores}")
    if wanted is None:
        wanted = directions.common(values.names, None, scores)
    made = laws.fit(weights, values, law, wanted)
    laws.save(output, made)
    _print(
        ("score", "Spearman", "MAE", "R²", ""),
        [
            (
                t.name,
                f"{t.spearman:.3f}",
                f"{t.mae:.4g}",
                f"{t.r2:.3f}",
                "" if t.informative else "no better than a constant",
            )
            for t in made.targets
        ],
    )
    if made.odd_runs:
        typer.echo(f"{len(made.odd_runs)} runs are unlike the others on most scores: {', '.join(made.odd_runs[:10])}")
    typer.echo(_direction(made))
    typer.echo(output)


def predict(
    law: LawFile,
    mixtures: Mixtures,
    output: Annotated[
        str, typer.Option("-o", "--output", help="Table to write; .parquet for Parquet.")
    ] = "predicted.csv",
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Add NAME.low and NAME.high: 90 % for a new run.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Predict the scores of mixtures; rows and columns keep their names.

    \b
    Example: mixer predict law.json candidates.csv -o predicted.csv
    """
    import numpy as np

    from mixer import files, laws, tables

    files.refuse_existing(output, overwrite=overwrite, inputs=[law, mixtures])
    made = laws.load(law)
    with _warnings():
        weights = tables.mixtures(mixtures)
    mean, half = made.predict(made.of(weights))
    names = [target.name for target in made.targets]
    if intervals:
        names += [f"{name}.{side}" for side in ("low", "high") for name in names]
        mean = np.concatenate([mean, mean - half, mean + half], axis=1)
    tables.write(output, tables.Table(weights.label, weights.runs, tuple(names), mean))
    typer.echo(_direction(made))
    typer.echo(output)


def validate(law: LawFile, mixtures: Mixtures, scores: Scores) -> None:
    """Hold a law against runs that it has not seen: rank correlation, error, and how many its intervals hold.

    \b
    Example: mixer validate law.json later-mixtures.csv later-scores.csv
    """
    from mixer import laws, tables, validation

    made = laws.load(law)
    with _warnings():
        weights, values = tables.joined(tables.mixtures(mixtures), tables.read(scores), f"{mixtures}, {scores}")
    rows = validation.validate(made, weights, values)
    names = ("score", "Spearman", "MAE", "R²", "in the 90 % interval")
    table = [(r.name, f"{r.spearman:.4f}", f"{r.mae:.4g}", f"{r.r2:.3f}", f"{r.covered:.1%}") for r in rows]
    mean = validation.mean(rows)
    table.append((mean.name, f"{mean.spearman:.4f}", f"{mean.mae:.4g}", f"{mean.r2:.3f}", f"{mean.covered:.1%}"))
    _print(names, table)
    typer.echo(_direction(made))


def optimize(
    law: LawFile,
    objective: Annotated[str, typer.Option(help="mean, worst, weighted or pareto.")] = "mean",
    importance: Annotated[Named, typer.Option(metavar="SCORE=X", help="For weighted: how much a score counts.")] = None,
    min_weight: Annotated[Named, typer.Option(metavar="[TASK=]X", help="Floor of all tasks, or of one.")] = None,
    max_weight: Annotated[Named, typer.Option(metavar="[TASK=]X", help="Ceiling of all tasks, or of one.")] = None,
    available_data: Annotated[
        Named, typer.Option(metavar="TASK=N", help="Samples that there are of each task.")
    ] = None,
    samples: Annotated[float | None, typer.Option(help="Samples that the run will draw.")] = None,
    max_epochs: Annotated[float, typer.Option(help="Times that a sample may be seen.")] = 4.0,
    prior: Annotated[Named, typer.Option(metavar="TASK=W", help="To fall back on; default: available data.")] = None,
    kl: Annotated[float, typer.Option(help="Penalty per nat of distance to the prior.")] = 0.0,
    scale: Annotated[float | None, typer.Option(help="Steps or samples to predict for; default: the most.")] = None,
    seed: Annotated[int, typer.Option(help="Of the search.")] = 0,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Table of mixtures, for 'mixer predict'.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="Schedule of the optimum, for 'trainer run'.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """The mixtures with the best and the worst predicted scores, intervals, and what moving away from the best costs.

    Proposes the prior where the law predicts no better than a constant.

    \b
    Example: mixer optimize law.json --objective worst --min-weight 0.02
    Example: mixer optimize law.json --available-data deblur=2e3,dehaze=7e4,denoise=5e3,sr=9e4 --samples 640000
    """
    from mixer import files, laws, tables
    from mixer import optimize as stage
    from mixer import schedule as schedules
    from mixer.errors import MixerError

    for path in (output, schedule):
        if path is not None:
            files.refuse_existing(path, overwrite=overwrite, inputs=[law])
    if schedule is not None and objective == "pareto":
        raise MixerError(
            "--schedule: a Pareto front has many mixtures; choose one with --objective weighted", exit_code=2
        )
    made = laws.load(law)
    constraints: dict[str, Any] = {
        "min_weight": _bound(min_weight, "--min-weight", 0.0),
        "max_weight": _bound(max_weight, "--max-weight", 1.0),
        "available": _numbers(available_data, "--available-data") or None,
        "samples": samples,
        "max_epochs": max_epochs,
        "prior": _numbers(prior, "--prior") or None,
        "kl": kl,
        "scale": scale,
        "seed": seed,
    }
    if objective == "pareto":
        found = stage.pareto(made, **constraints)
    else:
        given = _numbers(importance, "--importance")
        found = [stage.optimize(made, objective, importance=given, **constraints)]
    _optima(made, found, objective)
    if objective != "pareto":
        _worst(made, found[0], stage.optimize(made, objective, importance=given, worst=True, **constraints))
    if output is not None:
        runs = tuple(str(i + 1) for i in range(len(found)))
        tables.write(output, tables.Table("index", runs, made.tasks, stage.weights(made, found)))
        typer.echo(output)
    if schedule is not None:
        schedules.write(schedule, schedules.Schedule("task", made.tasks, stage.weights(made, found)).rows())
        typer.echo(schedule)


def design(
    tasks: Annotated[str, typer.Option(metavar="A,B,...", help="Names of the tasks.")],
    runs: Annotated[int, typer.Option("-n", "--runs", min=1, help="Mixtures to propose.")] = 32,
    law: Annotated[str | None, typer.Option(help="Law (gp): propose where it would learn most.")] = None,
    min_weight: Annotated[float, typer.Option(help="Floor of every task.")] = 0.0,
    max_weight: Annotated[float, typer.Option(help="Ceiling of every task.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Which of the many designs.")] = 0,
    output: Annotated[str, typer.Option("-o", "--output", help="Table of mixtures to write.")] = "mixtures.csv",
    overwrite: Overwrite = False,
) -> None:
    """Propose the mixtures of proxy runs: far from each other, or (with a law) where the next runs teach most.

    \b
    Example: mixer design --tasks deblur,dehaze,denoise,sr -n 32 -o mixtures.csv
    Example: mixer design --tasks deblur,dehaze,denoise,sr -n 8 --law law.json -o next.csv
    """
    from mixer import design as stage
    from mixer import files, laws, tables

    files.refuse_existing(output, overwrite=overwrite, inputs=[law] if law else [])
    names = [name.strip() for name in tasks.split(",")]
    known = laws.load(law) if law else None
    made = stage.design(names, runs, min_weight=min_weight, max_weight=max_weight, law=known, seed=seed)
    tables.write(output, made)
    typer.echo(f"{output}: {runs} mixtures of {len(names)} tasks")


def _optima(law: Law, found: Sequence[Optimum], objective: str) -> None:
    if objective == "pareto":
        names = [target.name for target in law.targets]
        rows = [
            [f"{one.weights[task]:.3f}" for task in law.tasks] + [f"{one.predicted[n]['mean']:.4g}" for n in names]
            for one in found
        ]
        _print((*law.tasks, *names), rows)
        return
    one = found[0]
    if one.reason:
        typer.echo(one.reason, err=True)
    _print(
        ("task", "weight", "objective with 0.05 more", "0.05 less"),
        [
            (task, f"{weight:.4f}", f"{one.sensitivity[task]['more']:+.3g}", f"{one.sensitivity[task]['less']:+.3g}")
            for task, weight in one.weights.items()
        ],
    )
    _print(
        ("score", "predicted", "90 % of new runs between"),
        [(name, f"{of['mean']:.4g}", f"{of['low']:.4g} and {of['high']:.4g}") for name, of in one.predicted.items()],
    )
    typer.echo(f"{objective}: {one.objective:.6g}; {one.kl:.3g} nats from the prior")


def _direction(law: Law) -> str:
    """In words, which end of the scores is better."""
    from mixer import directions

    names = [target.name for target in law.targets]
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}: {directions.WORDS[law.direction]}"


def _worst(law: Law, best: Optimum, worst: Optimum) -> None:
    """The two ends side by side, so that a wrong direction is seen."""
    if not law.informative:
        return
    for name, optimum in (("best", best), ("worst", worst)):
        weights = ", ".join(f"{task} {weight:.3f}" for task, weight in optimum.weights.items())
        means = ", ".join(f"{score} {of['mean']:.4g}" for score, of in list(optimum.predicted.items())[:4])
        typer.echo(f"{name} mixture: {weights} (predicted {means})")
    typer.echo(_direction(law))


def _print(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=True).print(table)


@contextmanager
def _warnings() -> Iterator[None]:
    """Warnings as one line each on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for one in caught:
        typer.echo(f"mixer: {one.message}", err=True)


def _bound(texts: Named, option: str, default: float) -> dict[str, float] | float:
    """`0.02` for all tasks, or TASK=X for some."""
    from mixer.errors import MixerError

    parts = [one.strip() for text in texts or () for one in text.split(",")]
    if not parts:
        return default
    if len(parts) == 1 and "=" not in parts[0]:
        try:
            return float(parts[0])
        except ValueError:
            raise MixerError(f"{option} {parts[0]}: a number, or TASK=NUMBER", exit_code=2) from None
    return _numbers(parts, option)


def _numbers(texts: Named, option: str) -> dict[str, float]:
    from mixer.cli_options import pairs, split

    return pairs(split(texts), option)
