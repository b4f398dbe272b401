"""The engine: order, resume, and what a changed plan discards."""

import pyarrow as pa
import pytest

from curate import clusters, engine
from manifests.errors import UserError


def square(n):
    return pa.table({"n": [n * n]})


def test_results_come_in_the_order_of_the_units(tmp_path):
    for workers in (0, 2):
        found = engine.run_units(
            str(tmp_path / str(workers)), [3, 1, 2], square, fingerprint="x", label="t", workers=workers
        )
        assert [t.column("n").to_pylist() for t in found] == [[9], [1], [4]]


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
