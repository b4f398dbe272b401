"""The engine: order, resume, and what a changed plan discards."""

import json
import os
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import clusters, engine
from manifests import locks
from manifests.errors import UserError


def square(n):
    return pa.table({"n": [n * n]})


def test_results_come_in_the_order_of_the_units(tmp_path):
    for workers in (0, 2):
        found = engine.run_units(
            str(tmp_path / str(workers)),
            [3, 1, 2],
            square,
            fingerprint="x",
            label="t",
            execution=engine.Execution(workers),
        )
        assert [t.column("n").to_pylist() for t in found] == [[9], [1], [4]]


@pytest.mark.slow
def test_a_cluster_that_runs_already_can_be_used(tmp_path, capsys):
    from dask.distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        options = {"fingerprint": "x", "label": "t"}
        execution = engine.Execution(address=cluster.scheduler_address)
        found = engine.run_units(str(tmp_path / ".work"), [3, 1], square, execution=execution, **options)
        assert cluster.scheduler_info["workers"]  # it is left running
    assert [t.column("n").to_pylist() for t in found] == [[9], [1]]
    assert "Dask dashboard: http://127.0.0.1:" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path):
    execution = engine.Execution(address="tcp://127.0.0.1:9")
    with pytest.raises(UserError, match=r"--dask-address tcp://127\.0\.0\.1:9: no Dask scheduler answers there"):
        engine.run_units(str(tmp_path / ".work"), [3], square, fingerprint="x", label="t", execution=execution)


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    done = []

    def work(n):
        if n == 2 and not stopped:
            stopped.append(n)
            raise UserError("stopped")
        done.append(n)
        return square(n)

    stopped = []
    with pytest.raises(UserError):
        engine.run_units(str(tmp_path), [0, 1, 2, 3], work, fingerprint="x", label="t")
    engine.run_units(str(tmp_path), [0, 1, 2, 3], work, fingerprint="x", label="t")
    assert done == [0, 1, 2, 3]


def test_another_plan_starts_over(tmp_path):
    engine.run_units(str(tmp_path), [1], square, fingerprint="x", label="t")
    found = engine.run_units(str(tmp_path), [5], square, fingerprint="y", label="t")
    assert found[0].column("n").to_pylist() == [25]


def test_near_pairs_agree_with_all_pairs():
    import numpy as np

    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 40, dtype=np.uint64)
    flips = [int(base[i % 40]) ^ sum(1 << int(b) for b in rng.choice(64, i % 8, replace=False)) for i in range(200)]
    hashes = [f"{value:016x}" for value in dict.fromkeys(flips)]
    brute = {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (int(hashes[i], 16) ^ int(hashes[j], 16)).bit_count() <= 4
    }
    assert set(clusters.near_pairs(hashes, 4)) == brute
    assert brute


def rows(numbers):
    """One row a number; 13 raises, 66 takes the whole process with it."""
    if 13 in numbers:
        raise RuntimeError("thirteen")
    if 66 in numbers:
        os.abort()
    return pa.table({"n": list(numbers), "problem": pa.array([None] * len(numbers), pa.string())})


def broken(numbers, reason):
    return pa.table({"n": list(numbers), "problem": [reason] * len(numbers)})


def problems(tables):
    return {n: p for t in tables for n, p in zip(t["n"].to_pylist(), t["problem"].to_pylist(), strict=True)}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_that_raises_does_not_take_its_unit_with_it(tmp_path, workers):
    units = [list(range(8)), list(range(8, 20))]
    found = problems(
        engine.run_units(
            str(tmp_path), units, rows, fingerprint="x", label="t", execution=engine.Execution(workers), broken=broken
        )
    )
    assert list(found) == list(range(20))
    assert {n: p for n, p in found.items() if p} == {13: "RuntimeError: thirteen"}


@pytest.mark.slow
def test_a_row_that_kills_its_worker_is_found(tmp_path):
    units = [[1, 2, 66, 3], [4, 5]]
    found = problems(
        engine.run_units(
            str(tmp_path), units, rows, fingerprint="x", label="t", execution=engine.Execution(2), broken=broken
        )
    )
    assert list(found) == [1, 2, 66, 3, 4, 5]
    assert {n for n, p in found.items() if p} == {66}
    assert "died" in found[66]


RUN = """
import sys; sys.path.insert(0, {here!r})
import test_engine as t
from curate import engine
engine.run_units({work!r}, [[1], [2, 66, 3], [4]], t.rows, fingerprint="x", label="t", broken=t.broken)
"""


@pytest.mark.slow
def test_a_row_that_killed_the_run_is_found_when_it_goes_on(tmp_path):
    here, work = os.path.dirname(__file__), str(tmp_path / ".work")
    command = [sys.executable, "-c", RUN.format(here=here, work=work)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGABRT
    script = tmp_path / "again.py"
    body = RUN.format(here=here, work=work).strip().splitlines()
    script.write_text("\n".join(body[:3]) + "\nif __name__ == '__main__':\n    " + body[3])
    assert subprocess.run([sys.executable, str(script)], capture_output=True, check=False).returncode == 0
    tables = [pq.read_table(path) for path in sorted((tmp_path / ".work").glob("unit-*.parquet"))]
    assert {n for n, p in problems(tables).items() if p} == {66}
    assert list(problems(tables)) == [1, 2, 66, 3, 4]


def test_too_many_errors_stop_the_run_and_keep_what_is_done(tmp_path):
    work, units = str(tmp_path / ".work"), [[1], [13], [2], [13], [3]]
    options = {"fingerprint": "x", "label": "t", "broken": broken}
    with pytest.raises(UserError, match=r"2 of 5 rows failed.*thirteen") as stopped:
        engine.run_units(work, units, rows, execution=engine.Execution(max_errors="20%"), **options)
    assert stopped.value.exit_code == 3
    assert len(list((tmp_path / ".work").glob("unit-*.parquet"))) == 4
    assert len(engine.run_units(work, units, rows, execution=engine.Execution(max_errors="2"), **options)) == 5
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [line["errors"] for line in lines if "unit" in line] == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("text", ["many", "-1", "nan%", ""])
def test_nonsense_for_an_error_budget_is_refused(text):
    with pytest.raises(UserError, match="max-errors"):
        engine.Execution(max_errors=text).budget(10)


LOCK = "import sys; from manifests import locks; locks.hold(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    output = str(tmp_path / "out")
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {first.pid} on "):
            locks.hold(output)
        first.kill()
        first.wait()
        locks.hold(output)  # what a killed process held is free
        locks.hold(output)
        locks.release(output)
    assert not os.path.exists(os.path.join(output, locks.NAME))
