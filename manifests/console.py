"""What the command lines share: how they end, what `--version` says, and how text from files reaches a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifests.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def run(app: Callable[[], Any], name: str) -> None:
    """Run a Typer app as the console script `name`.

    Exit codes: 0 done, 1 failed, 2 bad usage (Typer's own), 3 error budget exceeded, 130 interrupted.
    `UserError` and operating-system errors become one line on stderr; anything else is a defect of ours and
    keeps its traceback.
    """
    try:
        app()
    except UserError as error:
        _say(name, str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(name, f"{where}{error.strerror or error}")
        sys.exit(1)
    except KeyboardInterrupt:
        _say(name, "interrupted; what was finished is kept, the same command goes on from there")
        sys.exit(130)


def _say(name: str, message: str) -> None:
    print(f"{name}: {printable(' '.join(message.split()))}", file=sys.stderr)


def printable(text: str) -> str:
    """Text on one line, safe for a terminal: control characters and undecodable bytes as escapes.

    >>> printable("a\\x1b[31m b\\n")
    'a\\\\x1b[31m b\\\\n'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def out() -> Console:
    """Standard output for text that comes from files: nothing in it is taken for markup, an emoji or a number."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def _version(value: bool) -> None:
    if value:
        typer.echo(version())
        raise typer.Exit


def version() -> str:
    """Versions of Equimix, Python and torch, from the metadata of the installation: nothing is imported.

    >>> version().startswith("equimix ")
    True
    """
    import platform
    from importlib import metadata

    numbers = f"Python {platform.python_version()}, torch {metadata.version('torch')}"
    return f"equimix {metadata.version('equimix')} ({numbers})"


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
]
