"""The command line as a function, and a shard folder's index without its shards."""

from __future__ import annotations

import json
import os
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


def write_index(folder: Path, rows: Sequence[Mapping[str, object]], parts: int = 2) -> Path:
    """A folder with manifest.json and Parquet parts that hold these rows."""
    folder.mkdir(parents=True)
    listed = []
    size = -(-len(rows) // parts)
    for number, start in enumerate(range(0, len(rows), size)):
        name = f"part-{number:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(list(rows[start : start + size])), os.path.join(folder, name))
        listed.append({"file": name})
    (folder / "manifest.json").write_text(json.dumps({"schema_version": 1, "parts": listed}))
    return folder


@pytest.fixture
def shard_folder(tmp_path: Path) -> Path:
    """deblur: 3 + 1 train pairs in two shards; sr: 2 in one. Test, dropped and unsharded rows beside them."""
    rows = [("deblur", "train", "deblur-train-000000.tar", "kept")] * 3
    rows += [("deblur", "train", "deblur-train-000001.tar", "kept"), ("sr", "train", "sr-train-000000.tar", "kept")]
    rows += [("sr", "train", "sr-train-000000.tar", "kept"), ("sr", "test", "sr-test-000000.tar", "kept")]
    rows += [("deblur", "train", "deblur-train-000001.tar", "dropped"), ("desnow", "train", None, "error")]
    names = ("task", "split", "shard", "status")
    table = [{"pair_id": f"{n:032x}", **dict(zip(names, row, strict=True))} for n, row in enumerate(rows)]
    return write_index(tmp_path / "shards", table)
