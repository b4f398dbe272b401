"""What a run's evaluations say of noise, and a world fitted to a log that a known world has made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixer import schedule, worlds
from mixer.errors import MixerError
from mixer.noise import noise
from mixer.simulate import simulate
from mixer.world_from import world_from


def run_of(folder: Path, value_IxK: np.ndarray, tasks: tuple[str, ...], weight_IxK: np.ndarray | None = None) -> str:
    """A folder like a run's: metrics.parquet and schedule.parquet."""
    folder.mkdir()
    rows = [
        {"step": 100 * i, "task": task, "metric": "psnr", "value": float(value), "se": 0.4, "n": 10}
        for i, row in enumerate(value_IxK)
        for task, value in zip(tasks, row, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "metrics.parquet")
    if weight_IxK is not None:
        made = schedule.Schedule("task", tasks, weight_IxK, value_IxK)
        schedule.write(str(folder / "schedule.parquet"), made.rows())
    return str(folder)


def test_noise_of_a_known_series(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    steady = 20 + 0.5 * np.arange(400) + rng.normal(0, 0.3, 400)
    flat = 30 + rng.normal(0, 0.2, 400)
    one, other = noise(run_of(tmp_path / "run", np.stack([steady, flat], axis=1), ("deblur", "sr")))
    assert (one.task, one.images, one.se) == ("deblur", 10, 0.4)
    assert one.jitter == pytest.approx(0.3, rel=0.5) and one.gain == pytest.approx(0.5, rel=0.05)
    assert one.longer in (1, 2) and one.images_needed == 2
    assert other.longer is None and "nothing is gained" in other.advice and other.images_needed == 10


@pytest.mark.parametrize(
    ("groups", "n", "enough", "text"),
    [
        (5, 10, True, "enough"),
        (3, 30, False, "5 scenes of D_ref or more (it has 3, so the standard error is known within about 50 %)"),
        (1, 30, False, "it has 1, so the standard error is not known"),
        (None, 3, False, "not enough: 5 images of D_ref or more (it has 3"),
        (None, 10, True, "enough"),
    ],
)  # fmt: skip
def test_few_scenes_are_never_enough(tmp_path: Path, groups: int | None, n: int, enough: bool, text: str) -> None:
    path = run_of(tmp_path / "run", 20 + 5.0 * np.arange(20)[:, None], ("sr",))
    table = pq.read_table(f"{path}/metrics.parquet").drop_columns(["n", "se"])
    table = table.append_column("n", pa.array([n] * len(table)))
    table = table.append_column("se", pa.array([None if groups == 1 else 0.1] * len(table), pa.float64()))
    table = table.append_column("groups", pa.array([groups] * len(table), pa.int64()))
    pq.write_table(table, f"{path}/metrics.parquet")
    (found,) = noise(path)
    assert found.groups == groups and text in found.advice and (found.advice == "enough") is enough


def test_noise_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(MixerError, match=r"has no metrics\.parquet"):
        noise(str(tmp_path))
    with pytest.raises(MixerError, match="fewer than 4 evaluations"):
        noise(run_of(tmp_path / "run", np.ones((3, 1)), ("sr",)))


def test_a_world_is_found_again(tmp_path: Path) -> None:
    """From two runs of a known world, at other weights: the curves and the one strong transfer come back."""
    path = tmp_path / "known.yaml"
    path.write_text(
        "name: known\ndefaults: {start: 17, attainable: 28, tau: 6, beta: 0.8, noise: 0.03, size: 1.0e+9}\n"
        "tasks: {a: {}, b: {attainable: 24}, c: {tau: 12}}\ntransfer: {pairs: {a: {b: 0.5}}}\n"
    )
    runs = []
    for number, initial in enumerate([{"a": 1, "b": 1, "c": 1}, {"a": 3, "b": 1, "c": 1}, {"a": 1, "b": 1, "c": 3}]):
        done = simulate(str(path), ["static"], 40, [number], initial=initial).outcomes[0]
        runs.append(run_of(tmp_path / f"run{number}", done.scores[:, 0], done.tasks, done.weights[:, 0]))
    output = tmp_path / "found.yaml"
    lines = world_from(runs, str(output))
    assert len(lines) == 4 and lines[0].startswith("a: ") and lines[3].startswith("forgetting")
    found, true = (worlds.draw(worlds.load(str(one)), [0]) for one in (output, path))
    for practice in (3.0, 10.0, 40.0):
        there = found.score(np.full((1, 3), practice)), true.score(np.full((1, 3), practice))
        np.testing.assert_allclose(*there, atol=0.35)
    transfer = found.transfer[0] - np.eye(3)
    assert transfer.argmax() == 1 and 0.25 < transfer[0, 1] < 0.75  # of a to b
    with pytest.raises(MixerError, match="exists already"):
        world_from(runs, str(output))


def test_what_cannot_be_fitted_is_said(tmp_path: Path) -> None:
    short = run_of(tmp_path / "short", np.ones((3, 2)), ("a", "b"), np.full((3, 2), 0.5))
    with pytest.raises(MixerError, match="6 intervals or more"):
        world_from([short], str(tmp_path / "w.yaml"))
    long = [run_of(tmp_path / name, np.ones((8, 2)), tuple(name), np.full((8, 2), 0.5)) for name in ("ab", "ac")]
    with pytest.raises(MixerError, match="has the tasks a, c, the first run a, b"):
        world_from(long, str(tmp_path / "w.yaml"))
    said = world_from(long[:1], str(tmp_path / "flat.yaml"))
    assert "hardly moved" in said[-1]
