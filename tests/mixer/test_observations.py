"""Tables of scores: three formats read the same, and each impossible value is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixer import observations
from mixer.errors import MixerError

ROWS = [
    {"interval": 0, "task": "deblur", "score": 27.125, "task_size": 1000},
    {"interval": 0, "task": "007", "score": -3.5, "task_size": 20},
]


@pytest.mark.parametrize("name", ["s.csv", "s.parquet", "s.json", "s.txt", "S.JSON"])
def test_formats_read_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    frame = pd.DataFrame(ROWS).assign(note="other columns are left out")
    if name.endswith("parquet"):
        frame.to_parquet(path)
    elif name.lower().endswith("json"):
        frame.to_json(path, orient="records")
    else:
        frame.to_csv(path)  # with pandas' nameless index column
    assert observations.read(str(path)) == ROWS


def test_a_byte_order_mark_is_no_column(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes(b"\xef\xbb\xbftask,score,score_se\r\nsr,61.5,\r\n\r\n")
    assert observations.read(str(path)) == [{"task": "sr", "score": 61.5}]


def test_scores_by_task_in_json(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"deblur": 27, "sr": 61.5}')
    found = observations.read(str(path), lower_is_better=["sr"])
    assert found == [{"task": "deblur", "score": 27.0}, {"task": "sr", "score": -61.5}]
    assert [row["score"] for row in observations.read(str(path), lower_is_better=True)] == [-27.0, -61.5]
    with pytest.raises(MixerError, match="has no scores of 'derain'"):
        observations.read(str(path), lower_is_better=["derain"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("task,score\nsr,good\n", "its score is good"),
        ("task,score\n,3\n", "has no task"),
        ("task,psnr\nsr,3\n", "needs the columns task and score, has task, psnr"),
        ("task,score\n", "has no rows"),
        ("", "has no rows"),
        ("task,score\nsr,3,4\n", "more cells than the header"),
        ("task,score,n\nsr,3,2.5\n", "its n is 2.5, a whole number"),
        ("task,score,task_size\nsr,3,-1\n", "its task_size is -1"),
        ("task,score,score_se\nsr,3,-1\n", "its score_se is -1.0, 0 or more"),
        ("interval,task,score\n1.5,sr,3\n", "its interval is 1.5"),
    ],
)
def test_what_is_wrong_with_a_csv_is_said(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(content)
    with pytest.raises(MixerError) as error:
        observations.read(str(path))
    assert str(error.value).startswith(str(path)) and said in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.json", '{"sr": 1'),
        ("s.json", "3"),
        ("s.json", "[3]"),
        ("s.json", '{"sr": 1, "sr": 2}'),
        ("s.parquet", "no"),
        ("s.csv", "task,score\n\udcff"),
    ],
)
def test_what_is_no_table_is_said(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(MixerError, match="cannot be read as a table"):
        observations.read(str(path))
    with pytest.raises(MixerError, match="no such file"):
        observations.read(str(tmp_path / "absent.csv"))


def test_numbers_of_numpy_become_pythons() -> None:
    (one,) = observations.parse([{"task": "sr", "score": np.float32(1.5), "n": np.int64(10), "score_se": None}])
    assert (type(one.score), type(one.n), one.score_se) == (float, int, None)
    assert json.dumps(vars(one))


@pytest.mark.parametrize("cell", ["nan", "inf", ""])
def test_a_score_may_be_missing(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"task,score,train_loss\nsr,{cell},nan\nderain,3,0.5\n")
    assert observations.read(str(path)) == [
        {"task": "sr", "score": None},
        {"task": "derain", "score": 3.0, "train_loss": 0.5},
    ]
    found = observations.aligned([{"task": "derain", "score": 3.0}], ["sr", "derain"])
    assert [one.score for one in found] == [None, 3.0]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"task": "sr", "score": 1.0}] * 2, "task 'sr' has more than one observation"),
        ([{"task": t, "score": 1.0} for t in ("sr", "derain", "x")], "unknown task 'x'; the mixture has sr, derain"),
        ([{"task": "sr", "score": 1.0, "psnr": 2.0}], "an observation has no field 'psnr'"),
        ([{"task": "sr", "score": True}], "its score is True"),
    ],
)
def test_what_does_not_fit_the_tasks_is_said(rows: list[dict[str, object]], said: str) -> None:
    with pytest.raises(MixerError) as error:
        observations.aligned(rows, ["sr", "derain"])
    assert said in str(error.value)
