"""How a command line of ours ends: one clear line for what a person can mend, and the right exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from manifests.errors import UserError


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
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
