"""README's commands on one's own data, run in order and as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests import table
from tests.readme.examples import commands, inside, readme, run, tiny
from tests.readme.trees import alone, one_gt_many_lqs, photographs, save, two_folders


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/haze, data/rain, data/photos and photo.jpg."""
    folder = tmp_path_factory.mktemp("home")
    squares = photographs()
    one_gt_many_lqs(folder / "data/haze", squares[0::4])
    two_folders(folder / "data/rain", squares[1::4])
    alone(folder / "data/photos", [*squares[2::4], *squares[3::4]])
    save(folder / "photo.jpg", squares[0])
    return folder


def test_only_numbers_of_steps_are_changed() -> None:
    for line in readme():
        for words in commands(line):
            changed = [(a, b) for a, b in zip(words, tiny(words), strict=True) if a != b]
            assert all(a.isdigit() for a, _ in changed) and len(changed) <= 2


@pytest.mark.slow
def test_the_readme_runs_as_it_stands(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with inside(home):
        for line in readme():
            for words in commands(line):
                code = run(words)
                out, err = capfd.readouterr()
                assert code == 0 and "Traceback" not in err, f"{line}\n{out}\n{err}"
        for name in ("manifest", "good", "captioned", "split", "shards"):
            rows = table.read(name).rows
            assert rows["error"] == 0, name
            assert rows["kept"] > rows["rows"] / 2, name
        assert Path("shards-report.html").exists() and Path("run/report.html").exists()
        splits = {row["split"] for row in table.read("shards").table(["split"]).to_pylist()}
        assert {"train", "ref", "test"} <= splits
