"""How many slots of every step each stratum gets: exact shares per step and over the interval at once.

Every stratum gets floor(B·p) slots of each step. The R slots that remain are a problem of proportionate fairness
(Baruah, Cohen, Plaxton, Varvel, "Proportionate progress", Algorithmica 1996): stratum j asks for one of them at the
rate f_j = frac(B·p_j) and must at all times have had floor or ceil of its due. The PD² order (Anderson and Srinivasan,
"Mixed Pfair/ERfair scheduling of asynchronous periodic tasks", ECRTS 2001) does that one step at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from heapq import heappop, heappush

import numpy as np

from manifests.errors import UserError
from trainer.stream import seeds
from trainer.stream.seeds import Ints

UNIT = 1 << 46  # weights are integers that sum to this
MAX_BATCH = 1 << 16  # B · UNIT fits into 63 bits


def quantise(weights: Mapping[str, float]) -> Ints:
    """(K,) weights as integers that sum to UNIT, in the sorted order of their names; zero stays zero.

    Weights are normalised first. Largest remainders are rounded up: no share moves by more than 2^-46. Raises
    UserError for weights that are negative or not finite, or all zero.
    """
    names = sorted(weights)
    for name in names:
        if not (math.isfinite(weights[name]) and weights[name] >= 0):
            raise UserError(f"weight of {name!r} is {weights[name]}: weights are finite and at least 0")
    total = math.fsum(weights.values())
    if not total > 0:
        raise UserError("all weights are zero: at least one stratum must have weight")
    share_K = np.array([weights[name] / total for name in names]) * UNIT
    whole_K: Ints = np.floor(share_K).astype(np.int64)
    lacking = UNIT - int(whole_K.sum())
    rest_K = np.where(whole_K + share_K > 0, share_K - whole_K, -1.0)
    if lacking > 0:
        whole_K[np.argsort(-rest_K, kind="stable")[:lacking]] += 1
    else:  # the division rounded up by a unit or so
        whole_K[np.argmax(whole_K)] += lacking
    return whole_K


class Shares:
    """The shares of one interval, step after step: `next()` gives (K,) counts that sum to B.

    weight_K: from `quantise`. tie_K: a permutation that settles what PD² leaves open. Integers only, so exact.

    The i-th unit of stratum j is released at floor((i - 1)/f) and due by ceil(i/f). Its urgency is fixed when it is
    released, so that a step costs a few operations on heaps, however many strata there are.
    """

    def __init__(self, weight_K: Ints, batch: int, tie_K: Ints) -> None:
        if not 1 <= batch <= MAX_BATCH:
            raise UserError(f"batch {batch}: must be 1 to {MAX_BATCH}", exit_code=2)
        due_K = weight_K * batch
        self._base_K = due_K // UNIT
        self._rate: list[int] = (due_K % UNIT).tolist()  # f · UNIT
        self._spare = sum(self._rate) // UNIT  # R
        self._tie: list[int] = tie_K.tolist()
        self._unit = [1] * len(self._rate)  # i
        self._waiting = [(0, j) for j, rate in enumerate(self._rate) if rate]  # a heap of releases
        self._ready: list[tuple[int, bool, int, int, int]] = []  # a heap of units, the most urgent first
        self.step = 0  # steps of the interval that are behind

    def next(self) -> Ints:
        """(K,) counts of the next step."""
        count_K = self._base_K.copy()
        for j in self._choose():
            count_K[j] += 1
        return count_K

    def skip(self, steps: int) -> Ints:
        """(K,) counts of so many steps together, which are then behind."""
        chosen = [0] * len(self._rate)
        for _ in range(steps):
            for j in self._choose():
                chosen[j] += 1
        return self._base_K * steps + np.array(chosen, np.int64)

    def _choose(self) -> list[int]:
        """The strata of the R most urgent units that are released; the step is then behind."""
        if not self._spare:
            self.step += 1
            return []
        waiting, ready, unit, rate = self._waiting, self._ready, self._unit, self._rate
        while waiting and waiting[0][0] <= self.step:
            heappush(ready, self._urgency(heappop(waiting)[1]))
        chosen = [heappop(ready)[-1] for _ in range(self._spare)]
        for j in chosen:
            heappush(waiting, (unit[j] * UNIT // rate[j], j))
            unit[j] += 1
        self.step += 1
        return chosen

    def _urgency(self, j: int) -> tuple[int, bool, int, int, int]:
        """What the released unit of a stratum is ordered by: its deadline, then PD²'s two tie-breaks, then `tie`.

        The second tie-break is when a chain of forced units ends, for rates of a half and more: ceil(k / (1 - f)),
        k = deadline - i.
        """
        unit, rate = self._unit[j], self._rate[j]
        whole, rest = divmod(unit * UNIT, rate)
        deadline, overlap = whole + (rest > 0), rest > 0
        group = -(-(deadline - unit) * UNIT // (UNIT - rate)) if overlap and 2 * rate >= UNIT else 0
        return deadline, not overlap, -group, self._tie[j], j


def open_shares(weights: Mapping[str, float], batch: int, *, interval_start: int, seed: int) -> Shares:
    """The shares of the interval that begins at step `interval_start`, at its first step."""
    tie_K = seeds.permutation(seeds.key("shares", seed, interval_start), len(weights))
    return Shares(quantise(weights), batch, tie_K)


def counts(weights: Mapping[str, float], batch: int, start: int, stop: int, *, interval_start: int, seed: int) -> Ints:
    """Slots per stratum of the steps [start, stop) of an interval with constant weights.

    weights: stratum → weight p ≥ 0 (normalised here). batch: B, slots per step. Returns (stop - start, K) counts,
    strata in sorted order of their names. Every row sums to B; every entry is floor or ceil of B·p; and every column's
    sum from `interval_start` to any step is within 1 of its due. A zero weight gets nothing. The steps from
    `interval_start` to `start` are replayed.
    """
    check_steps(interval_start, start, stop)
    shares = open_shares(weights, batch, interval_start=interval_start, seed=seed)
    shares.skip(start - interval_start)
    out_TxK = np.empty((stop - start, len(weights)), np.int64)
    for count_K in out_TxK:
        count_K[:] = shares.next()
    return out_TxK


def check_steps(interval_start: int, start: int, stop: int) -> None:
    """Raises ValueError unless 0 ≤ interval_start ≤ start ≤ stop."""
    if not 0 <= interval_start <= start <= stop:
        raise ValueError(f"steps out of order: interval_start {interval_start}, start {start}, stop {stop}")
