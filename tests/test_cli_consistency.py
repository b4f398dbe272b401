"""What the four command lines have in common: version, completion, options, and one line for what is wrong."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

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
