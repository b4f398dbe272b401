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
    named = {
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"
    }  # the shell is the option's value, not the parent process
    script = python("-m", program, "--show-completion", "bash", **named)
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


GOES_ON = {"pipelines run"}  # does anew what has changed, and goes on with the rest


def test_every_command_that_writes_can_overwrite() -> None:
    for program in PROGRAMS:
        for name, command in commands(program).items():
            if f"{program} {name}" not in GOES_ON and "--output" in options(command):
                assert "--overwrite" in options(command), f"{program} {name}"


def test_overwrite_replaces_what_the_command_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scores.csv").write_text("interval,task,score\n0,deblur,20\n0,sr,40\n1,deblur,22\n1,sr,40\n")
    replay = ("mixer", "replay", "scores.csv")
    simulate = ("mixer", "simulate", "--seeds", "1", "--intervals", "2", "--rule", "uniform", "--no-oracles")
    for command, output in ((replay, "schedule.parquet"), (simulate, "simulation")):
        assert call(monkeypatch, capfd, *command)[0] == 0
        line = f"mixer: {output}: exists already; name another with -o, or replace it with --overwrite\n"
        assert call(monkeypatch, capfd, *command) == (1, line)
        assert call(monkeypatch, capfd, *command, "--overwrite")[0] == 0
        assert call(monkeypatch, capfd, *command, "-o", "scores.csv", "--overwrite")[0] == 1
    (tmp_path / "simulation" / "mine.txt").touch()
    code, err = call(monkeypatch, capfd, *simulate, "--overwrite")
    assert code == 1 and "holds 'mine.txt'" in err
    assert sorted(os.listdir(tmp_path)) == ["schedule.parquet", "scores.csv", "simulation"]


RENAMED = [
    ("curate", "ingest", "--score"),
    ("curate", "score", "--iqa"),
    ("curate", "filter", "--iqa"),
    ("curate", "dedup", "--by"),
    ("curate", "review", "--column"),
    ("trainer", "eval", "--metrics"),
]


@pytest.mark.parametrize(("program", "name", "old"), RENAMED)
def test_metrics_are_named_by_metric_everywhere(program: str, name: str, old: str) -> None:
    command = commands(program)[name]
    assert "--metric" in options(command)
    assert old in {one for parameter in command.params for one in parameter.opts}
    assert (old in options(command)) == (old == "--iqa")


def test_options_mean_the_same_in_every_command() -> None:
    """One name has one short form, and one kind of value."""
    kinds: dict[str, set[tuple[bool, bool]]] = {}
    for program in PROGRAMS:
        for command in commands(program).values():
            for parameter in command.params:
                for name in parameter.opts:
                    if name.startswith("--"):
                        kinds.setdefault(name, set()).add((parameter.is_flag, "-o" in parameter.opts))
    assert {name for name, found in kinds.items() if len(found) > 1} <= {"--intervals"}  # of predict: a flag
    assert kinds["--output"] == {(False, True)}
    for name in ("--overwrite", "--json", "--dry-run", "--all", "--resume"):
        assert kinds[name] == {(True, False)}


def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and stderr of a program in this process."""
    monkeypatch.setattr(sys, "argv", list(words))
    capfd.readouterr()
    code: Any = 0
    try:
        importlib.import_module(f"{words[0]}.cli").main()
    except SystemExit as left:
        code = left.code
    return int(code or 0), capfd.readouterr().err


def every() -> list[tuple[str, str]]:
    return [(program, name) for program in PROGRAMS for name in commands(program)]


HAPPY = {"layouts", "models", "config", "rules", "worlds", "list"}  # need no input
ODD = "[/b]\x1b[31mred"


@pytest.mark.parametrize(("program", "name"), every())
def test_what_is_wrong_is_one_line(
    program: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("nothing of ours")
    command = commands(program)[name]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    needed = [one for one in command.params if one.param_type_name == "option" and one.required]
    given = [word for one in needed for word in (one.opts[-1], "none")]
    tries = [] if name == "simulate" else [[]]  # which runs
    tries += [[*given, *[value] * len(arguments)] for value in ("none", "folder", ODD) if arguments]
    tries += [["--no-such-option"]]
    for words in tries:
        code, err = call(monkeypatch, capfd, program, name, *words)
        assert "Traceback" not in err, (words, err)
        if code == 0:
            assert name in HAPPY and not words, (words, err)
            continue
        assert code in (1, 2), (words, err)
        lines = [line for line in err.splitlines() if line.startswith((f"{program}: ", "Error: "))]
        assert len(lines) == 1, (words, err)
        assert "\x1b" not in lines[0] or lines[0].startswith("Error: "), (words, err)
    assert sorted(os.listdir(tmp_path)) == ["folder"]
