"""Every example of every `--help`, run as it stands beside the files that it names."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.readme.examples import TINY, commands, helps, inside, run
from tests.readme.world import build, place

# What cannot run here: why, and the one line that says so. Everything that is not listed must end with code 0.
CANNOT = {
    "curate ingest data/mine": ("it proposes, and writes nothing", "nothing was written"),
    "curate score manifest --iqa musiq --weights musiq=musiq_koniq.pth": ("weights are a download", "musiq_koniq.pth"),
    "curate identify clean --model daclip --weights daclip_ViT-B-32.pt --fit-clean": (
        "weights are a download", "daclip_ViT-B-32.pt",
    ),
    "curate identify manifest --model daclip --weights daclip_ViT-B-32.pt --device cuda": (
        "weights are a download", "daclip_ViT-B-32.pt",
    ),
    "curate caption manifest --model llava-hf/llava-1.5-7b-hf --device cuda -o captioned": (
        "the model is a download", "could not be loaded",
    ),
    "curate caption manifest --endpoint http://localhost:8000/v1 --model llava --on both": (
        "needs a server", "localhost:8000",
    ),
    "curate judge manifest --endpoint http://localhost:8000/v1 --model qwen-vl": ("needs a server", "localhost:8000"),
    "curate judge manifest --model llava-hf/llava-onevision-qwen2-7b-ov-hf --device cuda": (
        "the model is a download", "could not be loaded",
    ),
    "curate calibrate ResultsCalibra/dist_dir": ("images are a download", "ResultsCalibra/dist_dir"),
}  # fmt: skip
# What is not started here, and where it is tested instead.
ELSEWHERE = {
    "pipelines run quickstart -o demo": "six minutes: make demo, and tests/pipelines/test_pipelines.py",
    "torchrun --nproc-per-node 4 -m trainer run --manifest shards --batch 64": "tests/trainer/test_team.py",
    "mixer collect proxies/run-* -o proxies": "the shell expands the star: tests/mixer/test_collect.py",
    "curate review manifest --metric iqa.musiq --near 45": "serves until it is stopped: tests/curate/test_review.py",
}
# Files beside those that a command names: what a chain made before.
BESIDE = {
    "curate shard": ["manifest-split"],
    "trainer run": ["shards"],
    "trainer run -o run --resume": ["run", "shards"],
    "trainer eval": ["shards"],
    "mixer fit": ["run"],
    "curate review manifest --apply": ["manifest-review.jsonl"],
}
# The same name means other files in other examples.
INSTEAD = {
    "curate retry": {"manifest": "with-errors"},
    "curate degrade": {"manifest": "clean"},
    "mixer fit": {"scores.csv": "scores-law.csv"},
    "mixer validate": {"later-scores.csv": "later-scores-law.csv"},
    "mixer step": {"scores.csv": "step.csv"},
}
SLOW = ("trainer run", "trainer finetune", "trainer eval", "trainer restore", "mixer simulate", "mixer fit")


def _marked(line: str) -> object:
    return pytest.param(line, marks=pytest.mark.slow) if line.startswith(SLOW) else line


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files that examples name; see `world.build`."""
    return build(tmp_path_factory.mktemp("readme"))


@pytest.fixture(scope="session")
def trained(world: Path) -> Path:
    """The world with training runs, a simulation and a law in it."""
    with inside(world):
        words = ["trainer", "run", "--manifest", "shards", "-o", "run", "--batch", "2", "--crop", "64"]
        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.setitem(TINY, "--steps", "14")  # mixer world-from needs six intervals
        assert run(words) == 0
        monkeypatch.undo()
        for name in ("run-uniform", "run-des", "run-equilibrium"):
            shutil.copytree("run", name)
        simulation = "mixer simulate --tasks deblur,dehaze,sr --rule des --seeds 1 --intervals 6 -o simulation"
        assert run(simulation.split()) == 0
        assert run(["mixer", "fit", "mixtures.csv", "scores-law.csv", "-o", "law.json"]) == 0
    return world


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No network, and no weights that earlier downloads left on this machine."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family == socket.AF_UNIX or (host in ("127.0.0.1", "::1") and address[1] != 8000):  # type: ignore[index]
            return real(self, address)  # type: ignore[arg-type]
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket.socket, "connect", connect)
    for name in ("HF_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield


def _needs(line: str) -> tuple[list[str], dict[str, str]]:
    """The names that a line mentions as inputs, and which files stand for some of them."""
    made, names = set(), [] if line.startswith("curate ingest") else ["manifest"]
    for words in commands(line):
        for before, word in itertools.pairwise(words[1:]):
            if before in ("-o", "--output", ">", "--export"):
                made.add(word)
            else:
                names += [word, word.split("=")[-1], word.rstrip("/"), word.split("/")[0]]
    for start, more in BESIDE.items():
        names += more if line.startswith(start) else []
    instead = {name: other for start, some in INSTEAD.items() if line.startswith(start) for name, other in some.items()}
    return [name for name in names if name not in made or (name == "run" and "--resume" in line)], instead


@pytest.mark.parametrize("line", [_marked(line) for line in helps() if line not in ELSEWHERE])
def test_an_example_of_the_help_runs(
    line: str, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    serves = line.startswith("curate review") and "--apply" not in line
    assert not serves, "it serves until it is stopped: name it in ELSEWHERE"
    names, instead = _needs(line)
    folder = tmp_path / "here"
    place(trained, folder, [name for name in names if name not in instead])
    for name, other in instead.items():
        if (trained / other).is_dir():
            shutil.copytree(trained / other, folder / name)
        else:
            shutil.copy(trained / other, folder / name)
    capfd.readouterr()
    with inside(folder):
        codes = [run(words) for words in commands(line)]
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err, err
    if line not in CANNOT:
        assert not any(codes), f"{codes}\n{out}\n{err}"
        return
    why, said = CANNOT[line]
    last = err.strip().splitlines()[-1]
    assert codes[-1] in (1, 2, 3) and last.startswith("curate: ") and said in last, f"{why}\n{err}"


def test_the_tables_name_examples_that_there_are() -> None:
    lines = helps()
    assert not {*CANNOT, *ELSEWHERE} - {*lines}
    assert len(lines) > 90 and len(CANNOT) + len(ELSEWHERE) < 15
    assert os.path.exists(ELSEWHERE["torchrun --nproc-per-node 4 -m trainer run --manifest shards --batch 64"])
