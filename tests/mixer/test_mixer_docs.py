"""The commands and the Python of docs/mixer.md work as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import mixer


def test_the_guide_works(tmp_path: Path) -> None:
    guide = (Path(mixer.__file__).parents[1] / "docs" / "mixer.md").read_text(encoding="utf-8")
    commands = re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)
    programs = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(commands) == 4 and len(programs) == 1
    on_path = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    shell = {"cwd": tmp_path, "env": on_path, "capture_output": True, "text": True}
    ran = subprocess.run(["bash", "-e", "-c", "".join(commands)], check=False, **shell)
    assert (ran.returncode, ran.stderr) == (0, "") and '"interval": 1' in ran.stdout
    ran = subprocess.run([sys.executable, "-c", programs[0]], check=False, **shell)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_published_schema_is_that_of_the_worlds() -> None:
    import json

    from mixer import worlds

    docs = Path(mixer.__file__).parents[1] / "docs"
    assert json.loads((docs / "world.schema.json").read_text()) == worlds.schema()
