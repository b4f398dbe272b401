"""The command line as a function, and a shard folder's index without its shards."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Ran = tuple[int, str, str]


@pytest.fixture
def mixer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """mixer("replay", "scores.csv") -> exit code, stdout, stderr."""
    from mixer import cli

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["mixer", *map(str, arguments)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return code, captured.out, captured.err

    return run


@pytest.fixture
def write_index(tmp_path: Path) -> Callable[..., str]:
    """write_index(name, rows): a folder of that name with manifest.json and two Parquet parts that hold the rows."""

    def write(name: str, rows: Sequence[Mapping[str, object]]) -> str:
        folder = tmp_path / name
        folder.mkdir()
        half = -(-len(rows) // 2)
        listed = []
        for number, start in enumerate(range(0, len(rows), half)):
            part = f"part-{number:05d}.parquet"
            pq.write_table(pa.Table.from_pylist(list(rows[start : start + half])), folder / part)
            listed.append({"file": part})
        (folder / "manifest.json").write_text(json.dumps({"schema_version": 1, "parts": listed}))
        return str(folder)

    return write


@pytest.fixture
def shard_folder(write_index: Callable[..., str]) -> Path:
    """deblur: 3 + 1 train pairs in two shards; sr: 2 in one. Test, dropped and unsharded rows beside them."""
    rows = [("deblur", "train", "deblur-train-000000.tar", "kept")] * 3
    rows += [("deblur", "train", "deblur-train-000001.tar", "kept"), ("sr", "train", "sr-train-000000.tar", "kept")]
    rows += [("sr", "train", "sr-train-000000.tar", "kept"), ("sr", "test", "sr-test-000000.tar", "kept")]
    rows += [("deblur", "train", "deblur-train-000001.tar", "dropped"), ("desnow", "train", None, "error")]
    names = ("task", "split", "shard", "status")
    table = [{"pair_id": f"{n:032x}", **dict(zip(names, row, strict=True))} for n, row in enumerate(rows)]
    return Path(write_index("shards", table))
