"""The `pipelines` command: runs recipes."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from manifests import console

app = typer.Typer(
    name="pipelines",
    help="Run recipes: YAML files that name stages of curate and trainer in order. What is done is skipped.",
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
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait leave the core to others; before torch
    console.run(app, "pipelines")


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="YAML file, or the name of a recipe that Equimix brings.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Folder for all outputs; default ./<name>.")
    ] = None,
) -> None:
    """Run a recipe. Killed at any point, the same command goes on from there and ends in the same bytes.

    \b
    Example: pipelines run quickstart -o demo
    Example: pipelines run my-recipe.yaml
    """
    from pipelines.recipe import load
    from pipelines.results import show
    from pipelines.runner import run as run_recipe

    loaded = load(recipe)
    places = run_recipe(loaded, output or loaded.name, say=lambda text: typer.echo(text, err=True))
    show(loaded, places)


@app.command("list")
def list_recipes() -> None:
    """Name the recipes that Equimix brings.

    \b
    Example: pipelines list
    """
    from pipelines.recipe import built_in

    for name in built_in():
        typer.echo(name)


if __name__ == "__main__":
    main()
