"""schedule.parquet: what is written is read, by others too; what is no schedule is refused with the file's name."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer import files, schedule
from mixer.errors import MixerError

ROWS = [
    {"interval": 0, "task": "deblur", "score": 27.5, "weight": 0.5},
    {"interval": 0, "task": "sr", "score": None, "weight": 0.5},
    {"interval": 1, "task": "deblur", "score": 28.5, "weight": 0.25},
    {"interval": 1, "task": "sr", "score": 60.0, "weight": 0.75},
]


def test_a_schedule_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "schedule.parquet")
    schedule.write(path, ROWS)
    found = schedule.read(path)
    assert (found.strata_column, found.names, found.intervals) == ("task", ("deblur", "sr"), 2)
    assert found.weights(0) == {"deblur": 0.5, "sr": 0.5}
    assert found.weights(1) == found.weights(1000) == {"deblur": 0.25, "sr": 0.75}
    assert found.rows() == ROWS
    assert found.scores_IxK is not None and np.isnan(found.scores_IxK[0, 1])
    with pytest.raises(MixerError, match="intervals count from 0"):
        found.weights(-1)


def test_others_read_it(tmp_path: Path) -> None:
    path = str(tmp_path / "schedule.parquet")
    schedule.write(path, ROWS)
    frame = pd.read_parquet(path)
    assert list(frame.columns) == ["interval", "task", "score", "weight"]
    assert frame["interval"].dtype == "int64" and frame["weight"].dtype == frame["score"].dtype == "float64"
    assert duckdb.sql(f"select count(*) from '{path}' where score is null").fetchall() == [(1,)]


def test_the_same_rows_give_the_same_bytes_and_a_longer_one_replaces_it(tmp_path: Path) -> None:
    one, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    schedule.write(str(one), ROWS[:2])
    assert len(schedule.read(str(one)).rows()) == 2
    schedule.write(str(one), ROWS)
    schedule.write(str(other), [{**row, "score": row["score"] or float("nan")} for row in ROWS])
    assert one.read_bytes() == other.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.parquet", "b.parquet"]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "schedule.parquet"
    schedule.write(str(path), ROWS)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        schedule.write(str(path), ROWS[:2])
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["schedule.parquet"]


def test_weights_by_shard(tmp_path: Path) -> None:
    path = str(tmp_path / "s.parquet")
    rows = [{"interval": 0, "shard": s, "task": "sr", "weight": 0.5} for s in ("sr-0.tar", "sr-1.tar")]
    schedule.write(path, rows)
    found = schedule.read(path)
    assert found.strata_column == "shard" and found.task_of == {"sr-0.tar": "sr", "sr-1.tar": "sr"}
    assert found.scores_IxK is None and found.rows() == rows
    assert list(pd.read_parquet(path).columns) == ["interval", "shard", "task", "weight"]


def test_a_schedule_may_be_written_by_hand_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("interval,task,weight\n0,1,0.25\n0,sr,0.75\n")
    assert schedule.read(str(path)).weights(3) == {"1": 0.25, "sr": 0.75}
    with pytest.raises(MixerError, match=r"name it with \.parquet"):
        schedule.write(str(path), ROWS)


@given(
    st.integers(1, 5).flatmap(
        lambda k: st.lists(st.lists(st.floats(1e-6, 1.0), min_size=k, max_size=k), min_size=1, max_size=5)
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_weights_come_back_bit_for_bit(tmp_path: Path, raw: list[list[float]]) -> None:
    weights_IxK = np.array(raw) / np.array(raw).sum(axis=1, keepdims=True)
    names = tuple(f"t{index}" for index in range(weights_IxK.shape[1]))
    path = str(tmp_path / "s.parquet")
    schedule.write(path, schedule.Schedule("task", names, weights_IxK).rows())
    assert np.array_equal(schedule.read(path).weights_IxK, weights_IxK)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.assign(weight=[0.5, 0.5, 0.25, 0.7499]), "interval 1: the weights sum to 0.9999, not to 1"),
        (lambda f: f.assign(weight=[0.5, 0.5, -0.25, 1.25]), "the weight of 'deblur' is -0.25"),
        (lambda f: f.assign(weight=[0.5, 0.5, float("nan"), 1.0]), "the weight of 'deblur' is None"),
        (lambda f: f.assign(weight=["a", "b", "c", "d"]), "the weight of 'deblur' is a"),
        (lambda f: f.assign(interval=[0, 0, 2, 2]), "0, 1, 2, ... without a gap"),
        (lambda f: f.assign(interval=[1, 1, 2, 2]), "0, 1, 2, ... without a gap"),
        (lambda f: f.assign(interval=[0, 0, 0.5, 0.5]), "row 3: its interval is 0.5"),
        (lambda f: f.assign(interval=[0, 0, -1, -1]), "row 3: its interval is -1"),
        (lambda f: f.assign(score=[1.0, 1.0, float("inf"), 1.0]), "the score of 'deblur' is inf"),
        (lambda f: f.assign(task=["deblur", "deblur", "deblur", "sr"]), "interval 0: 'deblur' stands twice"),
        (lambda f: f.assign(task=["deblur", None, "deblur", "sr"]), "row 2 has no task"),
        (lambda f: f.iloc[:3], "interval 1: no weight for 'sr'"),
        (lambda f: f.iloc[:0], "has no rows"),
        (lambda f: f.drop(columns="weight"), "has no column 'weight'"),
        (lambda f: f.drop(columns="task").assign(shard="a.tar"), "has no column 'task'"),
    ],
)
def test_what_is_no_schedule_is_said(tmp_path: Path, change, said: str) -> None:  # type: ignore[no-untyped-def]
    path = str(tmp_path / "s.parquet")
    frame = change(pd.DataFrame(ROWS))
    frame.to_parquet(path)
    with pytest.raises(MixerError) as error:
        schedule.read(path)
    assert str(error.value).startswith(path) and said in str(error.value)
    rows = [{k: None if v != v else v for k, v in row.items()} for row in frame.to_dict("records")]
    target = tmp_path / "new.parquet"
    with pytest.raises(MixerError):
        schedule.write(str(target), rows)
    assert not target.exists()


def test_files_that_are_none_are_said(tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_text("no")
    with pytest.raises(MixerError, match=r"s\.parquet: cannot be read as a table"):
        schedule.read(str(tmp_path / "s.parquet"))
    with pytest.raises(MixerError, match="no such schedule"):
        schedule.read(str(tmp_path / "absent.parquet"))
