"""What is in every slot of every step: a pure function of (seed, step, weights, cursors, index).

    >>> from trainer.stream import index, plan
    >>> data = index.open_index("shards")  # doctest: +SKIP
    >>> steps = plan.plan_steps(data, {"denoise": 0.5, "sr": 0.5}, {}, 0, 1000, interval_start=0, batch=16, crop=128,
    ...                         seed=0)  # doctest: +SKIP

Weights hold for an interval of steps. Cursors count the samples that a stratum has given since the run began; those
passed in are always the ones *at the interval's first step*, also when the plan is wanted from a later step on: a
resume in mid-interval passes the interval's cursors and weights, and the steps before `start` are replayed (counts
only, microseconds each).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from manifests.errors import UserError
from trainer.stream import seeds
from trainer.stream.seeds import Ints
from trainer.stream.shares import check_steps, counts, open_shares

if TYPE_CHECKING:
    from trainer.stream.index import Index

__all__ = ["Slot", "Walks", "advance", "check_crop", "counts", "part", "plan_steps", "replacement"]

T = TypeVar("T")
UPSAMPLING = ("nearest", "bilinear", "bicubic")  # of super-resolution's LQ to GT size


class Slot(NamedTuple):
    """One sample of one step.

    row: into `Index.rows`. epoch: how often its stratum has been walked through before. top, left: corner of the crop
    in GT pixels, multiples of the pair's scale; 0 along a side that is shorter than the crop. After the crop come
    flip_h (mirror columns), flip_v (mirror rows) and rot90 (transposition: with the flips, all eight symmetries).
    upsampling: how an LQ that is smaller than its GT is enlarged, where that is drawn at random.
    """

    step: int
    slot: int
    stratum: str
    row: int
    epoch: int
    top: int
    left: int
    flip_h: bool
    flip_v: bool
    rot90: bool
    upsampling: str


class Walks:
    """Every stratum's own walk: cursor c is position c mod n of the permutation of epoch c // n, n its size.

    A permutation has two levels: shards are permuted, then the samples inside each block of `index.block` shards (all
    shards for None). The last permutation of every stratum is kept.
    """

    def __init__(self, index: Index, seed: int) -> None:
        self._index, self._seed = index, seed
        self._kept: dict[str, tuple[int, Ints]] = {}

    def take(self, stratum: str, cursor: int, count: int) -> tuple[Ints, Ints]:
        """(count,) rows and (count,) epochs of the samples cursor … cursor + count - 1."""
        size = self._index.sizes[stratum]
        rows, epochs = [], []
        while count:
            epoch, position = divmod(cursor, size)
            part = self._permutation(stratum, epoch)[position : position + count]
            rows.append(part)
            epochs.append(np.full(len(part), epoch))
            cursor, count = cursor + len(part), count - len(part)
        return np.concatenate(rows), np.concatenate(epochs)

    def _permutation(self, stratum: str, epoch: int) -> Ints:
        kept = self._kept.get(stratum)
        if kept is None or kept[0] != epoch:
            kept = epoch, self._shuffle(stratum, epoch)
            self._kept[stratum] = kept
        return kept[1]

    def _shuffle(self, stratum: str, epoch: int) -> Ints:
        rows = self._index.members[stratum]
        key = seeds.key("walk", self._seed, stratum, epoch)
        word = seeds.words(key, len(rows))
        if self._index.block is None:
            return rows[np.argsort(word, kind="stable")]
        shards, shard_of = np.unique(self._index.shard[rows], return_inverse=True)
        place = np.empty(len(shards), np.int64)
        place[seeds.permutation(key, len(shards), at=1)] = np.arange(len(shards))
        return rows[np.lexsort((word, place[shard_of] // self._index.block))]


def plan_steps(
    index: Index,
    weights: Mapping[str, float],
    cursors: Mapping[str, int],
    start: int,
    stop: int,
    *,
    interval_start: int,
    batch: int,
    crop: int,
    seed: int,
    walks: Walks | None = None,
) -> Iterator[list[Slot]]:
    """The steps [start, stop) of one weight interval, a list of `batch` slots each.

    weights: stratum → weight; strata that are left out get nothing. cursors: stratum → samples drawn before
    `interval_start` (0 where left out). crop: side of the square crop in GT pixels. walks: permutations kept from an
    earlier call with the same index and seed; they change nothing but the time. Raises UserError for weights that name
    no stratum of the index, are negative or not finite, and for a crop that a scale does not divide.
    """
    check_steps(interval_start, start, stop)
    check_crop(index, crop)
    weights = _complete(index.strata, weights)
    return _plan(index, weights, cursors, start, stop, interval_start, batch, crop, seed, walks or Walks(index, seed))


def _plan(
    index: Index,
    weights: Mapping[str, float],
    cursors: Mapping[str, int],
    start: int,
    stop: int,
    interval_start: int,
    batch: int,
    crop: int,
    seed: int,
    walks: Walks,
) -> Iterator[list[Slot]]:
    shares = open_shares(weights, batch, interval_start=interval_start, seed=seed)
    cursor_K = np.array([cursors.get(name, 0) for name in index.strata], np.int64)
    order, place = seeds.key("order", seed), seeds.key("crop", seed)
    cursor_K += shares.skip(start - interval_start)
    for step in range(start, stop):
        count_K = shares.next()
        drawn = np.flatnonzero(count_K)
        taken = [walks.take(index.strata[k], int(cursor_K[k]), int(count_K[k])) for k in drawn]
        mixed = seeds.permutation(order, batch, at=step)
        stratum_B = np.repeat(drawn, count_K[drawn])[mixed]
        row_B = np.concatenate([rows for rows, _ in taken])[mixed]
        epoch_B = np.concatenate([epochs for _, epochs in taken])[mixed]
        yield _slots(index, step, stratum_B, row_B, epoch_B, crop, seeds.words(place, 4 * batch, at=step))
        cursor_K += count_K


def _slots(
    index: Index, step: int, stratum_B: Ints, row_B: Ints, epoch_B: Ints, crop: int, word_4B: seeds.Words
) -> list[Slot]:
    """Slot s takes crop, flips and upsampling from words 4s … 4s + 3: they depend on (seed, step, slot) alone."""
    word_Bx4 = word_4B.reshape(-1, 4)
    scale_B = index.scale[row_B]
    top_B = scale_B * seeds.below(word_Bx4[:, 0], np.maximum(index.height[row_B] - crop, 0) // scale_B + 1)
    left_B = scale_B * seeds.below(word_Bx4[:, 1], np.maximum(index.width[row_B] - crop, 0) // scale_B + 1)
    turns_3xB = [((word_Bx4[:, 2] >> np.uint64(bit)) & np.uint64(1)).astype(bool).tolist() for bit in (61, 62, 63)]
    methods = [UPSAMPLING[k] for k in seeds.below(word_Bx4[:, 3], np.array(len(UPSAMPLING))).tolist()]
    names = [index.strata[k] for k in stratum_B.tolist()]
    columns = zip(
        names, row_B.tolist(), epoch_B.tolist(), top_B.tolist(), left_B.tolist(), *turns_3xB, methods, strict=True
    )
    return [Slot(step, slot, *values) for slot, values in enumerate(columns)]


def replacement(index: Index, slot: Slot, attempt: int, *, crop: int, seed: int) -> Slot:
    """What stands in for a slot whose pair cannot be read: another pair of its stratum, by (seed, step, slot, attempt).

    No cursor moves: the walk goes on as if the pair had been good. attempt: from 1.
    """
    key = seeds.key("replace", seed, slot.stratum, attempt)
    members = index.members[slot.stratum]
    word = seeds.words(key, slot.slot + 1, at=slot.step)[slot.slot :]
    row_1 = members[seeds.below(word, np.array([len(members)], np.int64))]
    word_4B = seeds.words(seeds.key("crop", seed), 4 * (slot.slot + 1), at=slot.step)
    stratum_1 = np.array([index.strata.index(slot.stratum)])
    made = _slots(index, slot.step, stratum_1, row_1, np.array([slot.epoch]), crop, word_4B[4 * slot.slot :])[0]
    return made._replace(slot=slot.slot)


def part(slots: Sequence[T], rank: int, world: int) -> list[T]:
    """What process `rank` of `world` takes of a step: consecutive slots, as many as the others or one more or less.

    Slots are shuffled in every step, so that each process gets the step's mixture, and the processes together get the
    same step whatever their number.
    """
    return list(slots[len(slots) * rank // world : len(slots) * (rank + 1) // world])


def advance(
    index_or_strata: Index | Sequence[str],
    weights: Mapping[str, float],
    cursors: Mapping[str, int],
    start: int,
    stop: int,
    *,
    interval_start: int,
    batch: int,
    seed: int,
) -> dict[str, int]:
    """The cursors of all strata after step stop - 1, from those at `interval_start`.

    The interval is counted from its beginning, whatever `start` is.
    """
    check_steps(interval_start, start, stop)
    strata = sorted(index_or_strata if isinstance(index_or_strata, Sequence) else index_or_strata.strata)
    shares = open_shares(_complete(strata, weights), batch, interval_start=interval_start, seed=seed)
    cursor_K = np.array([cursors.get(name, 0) for name in strata], np.int64)
    cursor_K += shares.skip(stop - interval_start)
    return dict(zip(strata, cursor_K.tolist(), strict=True))


def check_crop(index: Index, crop: int) -> None:
    """Raises UserError unless every scale of the index divides `crop`."""
    if crop < 1:
        raise UserError(f"crop {crop}: must be at least 1 pixel", exit_code=2)
    for scale in np.unique(index.scale).tolist():
        if crop % scale:
            nearest = scale * max(1, round(crop / scale))
            raise UserError(
                f"crop {crop} cannot be cut from pairs of scale {scale}: choose a multiple, such as {nearest}",
                exit_code=2,
            )


def _complete(strata: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    """Weights of all strata in order, 0 where none is given."""
    if strangers := set(weights) - set(strata):
        known = ", ".join(list(strata)[:8]) + (", …" if len(strata) > 8 else "")
        raise UserError(f"weight for {min(strangers)!r}, which has no pairs here; there are {known}")
    return {name: weights.get(name, 0.0) for name in strata}
