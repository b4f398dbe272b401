"""The plan as mathematics: shares are exact, walks repeat nothing, and everything follows from its arguments."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manifests.errors import UserError
from trainer.stream import seeds
from trainer.stream.index import Index
from trainer.stream.plan import Slot, Walks, advance, counts, part, plan_steps
from trainer.stream.shares import UNIT, quantise

PINNED = {
    "key": [1093961713484422220, 14050606658071204995],
    "words": [15343533896085585536, 11355824151329964614, 8287645320046578007],
    "permutation": [1, 0, 3, 2, 4, 5],
}
SLACK = 1e-6  # room for the 2^-46 to which weights are rounded


def _names(count: int) -> list[str]:
    return [f"t{k:05d}" for k in range(count)]


def _index(sizes: dict[str, int], *, block: int | None = None, shard_size: int = 10, scale: int = 1) -> Index:
    """An index without files: strata of these sizes in shards of `shard_size`, GT of 96 x 60 to 131 x 60 pixels."""
    stratum = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    names = sorted(sizes)
    assert names == list(sizes)
    rows = np.arange(len(stratum))
    members = {name: rows[stratum == k] for k, name in enumerate(names)}
    shard = np.concatenate([1000 * k + np.arange(size) // shard_size for k, size in enumerate(sizes.values())])
    return Index(
        tasks=tuple(names), strata=tuple(names), sizes=dict(sizes), fingerprint="f" * 32, rows=(),  # type: ignore[arg-type]
        block=block, task_of=dict(zip(names, names, strict=True)), members=members,
        shard=shard, scale=np.full(len(rows), scale),
        width=96 + 4 * (rows % 10), height=np.full(len(rows), 60),
    )  # fmt: skip


def _plan(index: Index, weights: dict[str, float], start: int, stop: int, **other: Any) -> list[list[Slot]]:
    options: dict[str, Any] = {"interval_start": 0, "batch": 8, "crop": 48, "seed": 3, "cursors": {}} | other
    cursors = options.pop("cursors")
    return list(plan_steps(index, weights, cursors, start, stop, **options))


extreme = st.one_of(
    st.just(0.0),
    st.floats(0.0, 1.0),
    st.floats(1e-12, 1e-6),
    st.sampled_from([1.0, 0.5, 0.25, 1 / 3, 1e-300, 1e6, 1.0 - 1e-9]),
)
few = st.lists(extreme, min_size=1, max_size=12)
many = st.integers(0, 2**32 - 1).flatmap(
    lambda seed: st.sampled_from([20, 77, 200]).map(
        lambda size: np.random.default_rng(seed).dirichlet(np.full(size, 0.3)).tolist()
    )
)


@settings(max_examples=300, deadline=None)
@given(weights=st.one_of(few, many), batch=st.integers(1, 64), steps=st.integers(1, 120), seed=st.integers(0, 99))
@example(weights=[1.0, 1.0, 1.0], batch=1, steps=100, seed=0)
@example(weights=[0.9, 0.9, 0.2], batch=2, steps=100, seed=0)
@example(weights=[1 / 3] * 3, batch=3, steps=30, seed=0)
@example(weights=[0.7, 0.1, 0.1, 0.1], batch=1, steps=120, seed=0)
@example(weights=[5 / 6, 5 / 6, 5 / 6, 1 / 2], batch=3, steps=120, seed=0)
def test_shares_are_exact_per_batch_and_over_the_interval(
    weights: list[float], batch: int, steps: int, seed: int
) -> None:
    if not sum(weights) > 0:
        weights = [*weights, 1.0]
    share_K = np.array(weights) / sum(weights)
    count_TxK = counts(dict(zip(_names(len(weights)), weights, strict=True)), batch, 40, 40 + steps,
                       interval_start=40, seed=seed)  # fmt: skip
    assert (count_TxK.sum(axis=1) == batch).all()
    assert (count_TxK >= np.floor(batch * share_K - SLACK)).all()
    assert (count_TxK <= np.ceil(batch * share_K + SLACK)).all()
    due_TxK = np.arange(1, steps + 1)[:, None] * batch * share_K
    assert np.abs(count_TxK.cumsum(axis=0) - due_TxK).max() < 1 + SLACK
    assert not count_TxK[:, share_K == 0].any()


@pytest.mark.parametrize("size", [200, 1000])
def test_shares_hold_over_long_intervals(size: int) -> None:
    weights = np.random.default_rng(size).dirichlet(np.full(size, 0.5))
    count_TxK = counts(dict(zip(_names(size), weights, strict=True)), 64, 0, 3000, interval_start=0, seed=1)
    due_TxK = np.arange(1, 3001)[:, None] * 64 * weights
    assert np.abs(count_TxK.cumsum(axis=0) - due_TxK).max() < 1 + SLACK


@settings(max_examples=100, deadline=None)
@given(weights=st.lists(extreme, min_size=1, max_size=50).filter(lambda w: sum(w) > 0))
def test_quantised_weights_sum_to_the_unit(weights: list[float]) -> None:
    whole_K = quantise(dict(zip(_names(len(weights)), weights, strict=True)))
    assert whole_K.sum() == UNIT and (whole_K >= 0).all()
    assert not whole_K[np.array(weights) == 0].any()
    np.testing.assert_allclose(whole_K / UNIT, np.array(weights) / sum(weights), atol=1e-13)


@settings(max_examples=60, deadline=None)
@given(weights=few.filter(lambda w: sum(w) > 0), start=st.integers(0, 30), more=st.integers(0, 20))
def test_counts_from_the_middle_equal_those_from_the_start(weights: list[float], start: int, more: int) -> None:
    named = dict(zip(_names(len(weights)), weights, strict=True))
    whole = counts(named, 8, 100, 130 + more, interval_start=100, seed=5)
    part = counts(dict(reversed(named.items())), 8, 100 + start, 130 + more, interval_start=100, seed=5)
    np.testing.assert_array_equal(whole[start:], part)


def test_ties_fall_differently_in_every_interval() -> None:
    weights = dict.fromkeys(_names(50), 0.02)
    first = {tuple(counts(weights, 4, at, at + 1, interval_start=at, seed=0)[0].tolist()) for at in range(20)}
    assert len(first) > 15


@pytest.mark.parametrize(
    ("weights", "said"),
    [({"a": float("nan")}, "weight of 'a' is nan"), ({"a": -1.0, "b": 2.0}, "at least 0"), ({"a": 0.0}, "all weights")],
)
def test_impossible_weights_are_refused(weights: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        counts(weights, 4, 0, 1, interval_start=0, seed=0)


def test_impossible_plans_are_refused() -> None:
    index = _index({"a": 5, "b": 5}, scale=4)
    with pytest.raises(UserError, match="weight for 'c', which has no pairs here; there are a, b"):
        plan_steps(index, {"c": 1.0}, {}, 0, 1, interval_start=0, batch=4, crop=48, seed=0)
    with pytest.raises(UserError, match=r"crop 50 .* scale 4: choose a multiple, such as 48"):
        plan_steps(index, {"a": 1.0}, {}, 0, 1, interval_start=0, batch=4, crop=50, seed=0)
    with pytest.raises(ValueError, match="out of order"):
        plan_steps(index, {"a": 1.0}, {}, 4, 6, interval_start=5, batch=4, crop=48, seed=0)
    with pytest.raises(UserError, match="batch 0"):
        counts({"a": 1.0}, 0, 0, 1, interval_start=0, seed=0)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    block=st.sampled_from([None, 1, 2, 16]),
    batch=st.integers(1, 16),
    resume=st.integers(0, 15),
    seed=st.integers(0, 3),
)
def test_a_plan_is_pure_and_can_be_taken_up_anywhere(
    sizes: list[int], block: int | None, batch: int, resume: int, seed: int
) -> None:
    names = _names(len(sizes))
    weights = dict(zip(names, np.random.default_rng(seed).dirichlet(np.ones(len(names))), strict=True))
    cursors = {name: 7 * k for k, name in enumerate(names)}
    options: dict[str, Any] = {"batch": batch, "seed": seed, "cursors": cursors, "interval_start": 30}
    index = _index(dict(zip(names, sizes, strict=True)), block=block)
    whole = _plan(index, weights, 30, 46, **options)
    assert [len(slots) for slots in whole] == [batch] * 16
    assert [(s.step, s.slot) for slots in whole for s in slots] == list(itertools.product(range(30, 46), range(batch)))
    assert whole[resume:] == _plan(index, weights, 30 + resume, 46, **options)
    walks = Walks(index, seed)
    assert whole == _plan(index, weights, 30, 46, walks=walks, **options)
    assert whole == _plan(index, weights, 30, 46, walks=walks, **options)

    after = advance(index, weights, cursors, 30, 46, interval_start=30, batch=batch, seed=seed)
    assert after == advance(names, weights, cursors, 40, 46, interval_start=30, batch=batch, seed=seed)
    drawn = Counter(slot.stratum for slots in whole for slot in slots)
    assert after == {name: cursors[name] + drawn[name] for name in names}


@pytest.mark.parametrize("block", [None, 2])
def test_every_sample_comes_once_per_epoch_across_intervals(block: int | None) -> None:
    index = _index({"a": 37, "b": 11}, block=block)
    cursors: dict[str, int] = {}
    seen: list[Slot] = []
    for start, weights in ((0, {"a": 0.5, "b": 0.5}), (7, {"a": 0.9, "b": 0.1}), (20, {"b": 1.0}), (26, {"a": 1.0})):
        stop = {0: 7, 7: 20, 20: 26, 26: 40}[start]
        for slots in _plan(index, weights, start, stop, interval_start=start, cursors=cursors, batch=5):
            seen += slots
        cursors = advance(index, weights, cursors, start, stop, interval_start=start, batch=5, seed=3)
    times = Counter((slot.stratum, slot.epoch, slot.row) for slot in seen)
    assert set(times.values()) == {1}
    orders = {}
    for name, size in index.sizes.items():
        total = sum(slot.stratum == name for slot in seen)
        per_epoch = Counter(slot.epoch for slot in seen if slot.stratum == name)
        assert [per_epoch[e] for e in range(total // size)] == [size] * (total // size)
        for epoch in range(total // size):
            rows = Walks(index, 3).take(name, epoch * size, size)[0]
            orders[name, epoch] = tuple(rows.tolist())
            assert sorted(rows.tolist()) == index.members[name].tolist()
    assert len(set(orders.values())) == len(orders)


def test_blocks_keep_few_shards_open_at_a_time() -> None:
    index = _index({"a": 400}, block=4)
    rows, _ = Walks(index, 0).take("a", 0, 400)
    shards = index.shard[rows].reshape(-1, 40)
    assert all(len(set(block.tolist())) == 4 for block in shards)
    assert len({tuple(sorted(set(block.tolist()))) for block in shards}) == 10
    assert (np.sort(index.shard[Walks(_index({"a": 400}), 0).take("a", 0, 400)[0]][:40]) != np.sort(shards[0])).any()


def test_crops_fit_are_aligned_and_all_symmetries_come() -> None:
    index = _index({"a": 50}, scale=4)
    slots = [slot for step in _plan(index, {"a": 1.0}, 0, 200) for slot in step]
    for slot in slots:
        assert slot.top % 4 == slot.left % 4 == 0
        assert 0 <= slot.top <= 60 - 48 and 0 <= slot.left <= index.width[slot.row] - 48
    assert {slot.top for slot in slots} == {0, 4, 8, 12}
    turns = Counter((slot.flip_h, slot.flip_v, slot.rot90) for slot in slots)
    assert len(turns) == 8 and min(turns.values()) > 150
    assert all(slot.top == 0 and slot.left == 0 for slot in _plan(index, {"a": 1.0}, 0, 1, crop=200)[0])


def test_slots_are_mixed_and_depend_on_the_seed() -> None:
    index = _index({"a": 500, "b": 500})
    plan = _plan(index, {"a": 0.5, "b": 0.5}, 0, 50)
    assert len({tuple(slot.stratum for slot in slots) for slots in plan}) > 20
    assert plan != _plan(index, {"a": 0.5, "b": 0.5}, 0, 50, seed=4)


def test_random_words_are_those_of_the_first_release() -> None:
    key = seeds.key("crop", 0)
    assert key.tolist() == PINNED["key"]
    assert seeds.words(key, 3, at=5).tolist() == PINNED["words"]
    assert seeds.permutation(key, 6).tolist() == PINNED["permutation"]
    np.testing.assert_array_equal(seeds.words(key, 12)[4:8], seeds.words(key, 8)[4:])
    assert (seeds.below(seeds.words(key, 10_000), np.full(10_000, 3)) < 3).all()


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(extreme.map(lambda x: min(x, 1.0)), min_size=1, max_size=6).filter(any),
    sizes=st.lists(st.integers(1, 40), min_size=6, max_size=6),
    batch=st.integers(1, 33),
    world=st.integers(1, 8),
    seed=st.integers(0, 99),
    start=st.integers(0, 9),
)
def test_any_number_of_processes_shares_the_same_steps(
    weights: list[float], sizes: list[int], batch: int, world: int, seed: int, start: int
) -> None:
    names = _names(len(weights))
    index = _index(dict(zip(names, sizes, strict=False)))
    given_weights = dict(zip(names, weights, strict=True))
    whole = _plan(index, given_weights, 0, 12, batch=batch, seed=seed)
    assert _plan(index, given_weights, start, 12, batch=batch, seed=seed) == whole[start:]
    for slots in whole:
        shares = [part(slots, rank, world) for rank in range(world)]
        assert [slot for share in shares for slot in share] == slots
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert batch < world or min(map(len, shares)) >= 1
    drawn: dict[str, list[int]] = {name: [] for name in names}
    for slots in whole:
        for name in names:
            drawn[name] += sorted(slot.row for slot in slots if slot.stratum == name)
    for name, size in zip(names, sizes, strict=False):  # an epoch is a permutation: the first `size` draws are all rows
        if len(drawn[name]) >= size:
            used = Counter(drawn[name])
            assert max(used.values()) - min(used[row] for row in index.members[name].tolist()) <= 1


def test_no_process_gets_one_task_alone() -> None:
    index = _index({"a": 500, "b": 500})
    both = [0, 0]
    for slots in _plan(index, {"a": 0.5, "b": 0.5}, 0, 200, batch=16):
        for rank in range(2):
            both[rank] += len({slot.stratum for slot in part(slots, rank, 2)}) == 2
    assert min(both) > 190


def test_upsampling_is_drawn_per_slot_and_uses_all_three() -> None:
    index = _index({"a": 500}, scale=2)
    seen = Counter(slot.upsampling for slots in _plan(index, {"a": 1.0}, 0, 100, batch=16) for slot in slots)
    assert set(seen) == {"nearest", "bilinear", "bicubic"} and min(seen.values()) > 450
