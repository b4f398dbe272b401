"""What the four command lines have in common: version, completion, options, and one line for what is wrong."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("curate", "mixer", "trainer", "pipelines")


def python(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd(), **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=env)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_version_is_told_without_heavy_imports(program: str) -> None:
    ran = python("-X", "importtime", "-m", program, "--version")
    number, torch = (metadata.version(name) for name in ("equimix", "torch"))
    line = f"equimix {number} (Python {sys.version.split()[0]}, torch {torch})\n"
    assert (ran.returncode, ran.stdout) == (0, line)
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in ran.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "numpy", "pandas", "pyarrow", "rich", "yaml", "pydantic"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_completion_names_commands_and_options(program: str) -> None:
    app = importlib.import_module(f"{program}.cli").app
    first = app.registered_commands[0].callback.__name__
    start = f"from {program}.cli import main; import sys; sys.argv = ['{program}']; main()"

    def complete(words: str, number: int) -> list[str]:
        asked = {f"_{program.upper()}_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        return python("-c", start, **asked).stdout.split()

    assert first in complete(f"{program} {first[0]}", 1)
    assert "--output" in complete(f"{program} {first} --o", 2)
    script = python("-m", program, "--show-completion", "bash")
    assert script.returncode == 0 and "complete -o default" in script.stdout


def commands(program: str) -> dict[str, Any]:
    """Name -> click command of a program."""
    from typer.main import get_command

    group: Any = get_command(importlib.import_module(f"{program}.cli").app)
    return dict(group.commands)


def options(command: Any) -> dict[str, Any]:
    """`--name` -> parameter, without aliases that help does not show."""
    return {
        name: one for one in command.params if not getattr(one, "hidden", False) for name in one.opts if name[:1] == "-"
    }


LAWS = {f"mixer {name}" for name in ("fit", "predict", "optimize", "design")}
GOES_ON = {"pipelines run"}  # does anew what has changed, and goes on with the rest


def test_every_command_that_writes_can_overwrite() -> None:
    for program in PROGRAMS:
        for name, command in commands(program).items():
            if f"{program} {name}" not in GOES_ON | LAWS and "--output" in options(command):
                assert "--overwrite" in options(command), f"{program} {name}"


def test_overwrite_replaces_what_the_command_wrote(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return python("-m", *arguments, cwd=tmp_path)

    (tmp_path / "scores.csv").write_text("interval,task,score\n0,deblur,20\n0,sr,40\n1,deblur,22\n1,sr,40\n")
    replay = ("mixer", "replay", "scores.csv")
    simulate = ("mixer", "simulate", "--seeds", "1", "--intervals", "2", "--rule", "uniform", "--no-oracles")
    for command, output in ((replay, "schedule.parquet"), (simulate, "simulation")):
        assert run(*command).returncode == 0
        again = run(*command)
        assert again.returncode == 1
        assert (
            again.stderr == f"mixer: {output}: exists already; name another with -o, or replace it with --overwrite\n"
        )
        assert run(*command, "--overwrite").returncode == 0
        assert run(*command, "-o", "scores.csv", "--overwrite").returncode == 1
    (tmp_path / "simulation" / "mine.txt").touch()
    refused = run(*simulate, "--overwrite")
    assert refused.returncode == 1 and "holds 'mine.txt'" in refused.stderr
    assert sorted(os.listdir(tmp_path)) == ["schedule.parquet", "scores.csv", "simulation"]
