"""The commands of README.md and of every `--help`, and how one is run in this process."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import typer.main

PROGRAMS = ("curate", "mixer", "trainer", "pipelines")
README = Path(__file__).parents[2] / "README.md"
# The only words that are not run as they stand: numbers of training steps and of seeds, given where they are not named.
TINY = {"--steps": "8", "--interval": "2", "--seeds": "2"}
ADDED = {
    ("trainer", "run"): ("--steps", "--interval"),
    ("trainer", "finetune"): ("--steps", "--interval"),
    ("mixer", "simulate"): ("--seeds",),
}


def readme() -> list[str]:
    """The command lines of README's block on one's own data, without comments and without the installation."""
    text = README.read_text(encoding="utf-8")
    block = re.search(r"## On your own data\n+```sh\n(.*?)```", text, re.DOTALL)
    assert block is not None
    lines = [line for line in block[1].splitlines() if shlex.split(line, comments=True)]
    assert "pip install -e ." in lines[0]
    return lines[1:]


def helps() -> list[str]:
    """Every line after `Example:` in the help of every command."""
    found = []
    for program in PROGRAMS:
        group = typer.main.get_command(importlib.import_module(f"{program}.cli").app)
        for command in group.commands.values():  # type: ignore[attr-defined]
            found += re.findall(r"^\s*Example: (.*)$", command.help or "", re.MULTILINE)
    return found


def commands(line: str) -> list[list[str]]:
    """The commands of a line that `&&` joins, as words."""
    words, out = shlex.split(line, comments=True), [[]]
    for word in words:
        if word == "&&":
            out.append([])
        else:
            out[-1].append(word)
    return out


def tiny(words: list[str]) -> list[str]:
    """The command as it is run: with the numbers of TINY."""
    out = list(words)
    for place, word in enumerate(words[:-1]):
        if word in TINY:
            out[place + 1] = TINY[word]
    names = () if "--resume" in words else ADDED.get((words[0], words[1]), ())
    return out + [part for name in names if name not in words for part in (name, TINY[name])]


def run(words: list[str]) -> int:
    """Run one command in this process; `> FILE` takes its output. Returns the exit code."""
    words = tiny(words)
    with contextlib.ExitStack() as stack:
        if ">" in words:
            place = words.index(">")
            target = stack.enter_context(open(words[place + 1], "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(target))
            words = words[:place]
        assert words[0] in PROGRAMS, f"{words[0]}: not one of {PROGRAMS}"
        stack.enter_context(_arguments(words))
        try:
            importlib.import_module(f"{words[0]}.cli").main()
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


@contextlib.contextmanager
def _arguments(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, list(words)
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
