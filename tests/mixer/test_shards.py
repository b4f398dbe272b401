"""Task weights become shard weights: each task keeps its sum, shards count by their train samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer import schedule, shards
from mixer.errors import MixerError
from mixer.schedule import Schedule

WriteIndex = Callable[[str, list[dict[str, str]]], str]
WEIGHTS_IxK = np.array([[0.5, 0.5], [0.2, 0.8]])


@pytest.fixture
def task_schedule(tmp_path: Path) -> str:
    path = str(tmp_path / "schedule.parquet")
    schedule.write(path, Schedule("task", ("deblur", "sr"), WEIGHTS_IxK).rows())
    return path


def test_only_kept_train_samples_count(shard_folder: Path) -> None:
    assert shards.read_shards(str(shard_folder)) == {
        "deblur": {"deblur-train-000000.tar": 3, "deblur-train-000001.tar": 1},
        "sr": {"sr-train-000000.tar": 2},
    }


def test_a_task_weight_is_split_by_samples(task_schedule: str, shard_folder: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out.parquet")
    made = shards.shards(task_schedule, str(shard_folder), output)
    assert made.weights(0) == {
        "deblur-train-000000.tar": 0.375,
        "deblur-train-000001.tar": 0.125,
        "sr-train-000000.tar": 0.5,
    }
    found = schedule.read(output)
    assert found.strata_column == "shard" and found.rows() == made.rows()
    assert found.task_of == {name: name.split("-")[0] for name in found.names}


@given(
    counts=st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=40), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_shards_of_a_task_sum_to_its_weight(counts: list[list[int]], seed: int) -> None:
    tasks = tuple(f"t{index}" for index in range(len(counts)))
    samples = {t: {f"{t}-{i}.tar": n for i, n in enumerate(ns)} for t, ns in zip(tasks, counts, strict=True)}
    weights_IxK = np.random.default_rng(seed).dirichlet(np.ones(len(tasks)), 3)
    made = shards.shard_schedule(Schedule("task", tasks, weights_IxK), samples)
    assert made.task_of is not None
    for interval in range(3):
        weight = made.weights(interval)
        for index, task in enumerate(tasks):
            own = {name: w for name, w in weight.items() if made.task_of[name] == task}
            assert abs(math.fsum(own.values()) - weights_IxK[interval, index]) <= 1e-12
            each = [w / samples[task][name] for name, w in own.items()]
            assert max(each) == pytest.approx(min(each), rel=1e-12)  # every sample of a task weighs the same


def test_a_task_without_weight_needs_no_shards() -> None:
    tasks = Schedule("task", ("deblur", "sr"), np.array([[1.0, 0.0]]))
    assert shards.shard_schedule(tasks, {"deblur": {"a.tar": 2}}).weights(0) == {"a.tar": 1.0}


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ({"deblur": {"a.tar": 2}}, "task 'sr' has weight but no train shards"),
        ({"deblur": {"a.tar": 2}, "sr": {}}, "task 'sr' has weight but no train shards"),
        ({"deblur": {"a.tar": 2}, "sr": {"b.tar": 1}, "x": {"c.tar": 1}}, "shards of task 'x' have no weight"),
        ({"deblur": {"a.tar": 2}, "sr": {"a.tar": 1}}, "a shard holds more than one task"),
    ],
)
def test_what_does_not_fit_is_said(samples: dict[str, dict[str, int]], said: str) -> None:
    with pytest.raises(MixerError, match=said):
        shards.shard_schedule(Schedule("task", ("deblur", "sr"), WEIGHTS_IxK), samples)


def test_the_file_that_does_not_fit_is_named(task_schedule: str, shard_folder: Path, tmp_path: Path) -> None:
    made = str(tmp_path / "by-shard.parquet")
    shards.shards(task_schedule, str(shard_folder), made)
    with pytest.raises(MixerError, match=r"by-shard\.parquet does not fit .*: the schedule is one of shards already"):
        shards.shards(made, str(shard_folder))
    with pytest.raises(MixerError, match="exists already"):
        shards.shards(task_schedule, str(shard_folder), made)
    other = str(tmp_path / "other.parquet")
    schedule.write(other, Schedule("task", ("deblur", "derain"), WEIGHTS_IxK).rows())
    with pytest.raises(MixerError) as error:
        shards.shards(other, str(shard_folder))
    assert str(error.value).startswith(f"{other} does not fit {shard_folder}: shards of task 'sr'")


def test_a_folder_without_shards_is_said(shard_folder: Path, write_index: WriteIndex, tmp_path: Path) -> None:
    with pytest.raises(MixerError, match=r"absent/manifest\.json: no such file; 'curate shard'"):
        shards.read_shards(str(tmp_path / "absent"))
    row = {"task": "sr", "split": "test", "status": "kept", "shard": "sr.tar"}
    with pytest.raises(MixerError, match="has no train shards"):
        shards.read_shards(write_index("tests-only", [row]))
    unsharded = [{name: value for name, value in row.items() if name != "shard"}]
    with pytest.raises(MixerError, match="has no column 'shard'"):
        shards.read_shards(write_index("unsharded", unsharded))
    (shard_folder / "part-00001.parquet").unlink()
    with pytest.raises(MixerError, match=r"part-00001\.parquet: no such file"):
        shards.read_shards(str(shard_folder))
    (shard_folder / "part-00001.parquet").write_text("no")
    with pytest.raises(MixerError, match="its index cannot be read"):
        shards.read_shards(str(shard_folder))
    (shard_folder / "manifest.json").write_text("{")
    with pytest.raises(MixerError, match="its index cannot be read"):
        shards.read_shards(str(shard_folder))
