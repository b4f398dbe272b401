"""How many slots of every step each stratum gets: exact shares per step and over the interval at once.

Every stratum gets floor(B·p) slots of each step. The R slots that remain are a problem of proportionate fairness
(Baruah, Cohen, Plaxton, Varvel, "Proportionate progress", Algorithmica 1996): stratum j asks for one of them at the
rate f_j = frac(B·p_j) and must at all times have had floor or ceil of its due. The PD² order (Anderson and Srinivasan,
"Mixed Pfair/ERfair scheduling of asynchronous periodic tasks", ECRTS 2001) does that one step at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

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

    For the i-th unit of stratum j: released at floor((i - 1)/f), due by ceil(i/f); `_next`, `_rest` are quotient and
    remainder of i·UNIT / r, with r = f·UNIT.
    """

    def __init__(self, weight_K: Ints, batch: int, tie_K: Ints) -> None:
        if not 1 <= batch <= MAX_BATCH:
            raise UserError(f"batch {batch}: must be 1 to {MAX_BATCH}", exit_code=2)
        due_K = weight_K * batch
        self._base_K = due_K // UNIT
        rate_K = due_K % UNIT
        self._spare = int(rate_K.sum()) // UNIT  # R
        self._active = np.flatnonzero(rate_K)
        self._tie = tie_K[self._active]
        self._rate = rate_K[self._active]
        self._units = np.ones_like(self._rate)  # i
        self._release = np.zeros_like(self._rate)
        self._next, self._rest = UNIT // self._rate, UNIT % self._rate
        self._period = self._next.copy(), self._rest.copy()
        self._deadline = self._next + (self._rest > 0)
        self.step = 0  # steps of the interval that are behind

    def next(self) -> Ints:
        """(K,) counts of the next step."""
        count_K = self._base_K.copy()
        if self._spare:
            chosen = self._choose()
            count_K[self._active[chosen]] += 1
            self._advance(chosen)
        self.step += 1
        return count_K

    def _choose(self) -> Ints:
        """The R most urgent of the released units: earliest deadline first, then PD²'s two tie-breaks."""
        ready = np.flatnonzero(self._release <= self.step)
        if len(ready) == self._spare:
            return ready
        deadline = self._deadline[ready]
        last = np.partition(deadline, self._spare - 1)[self._spare - 1]
        sure, tied = ready[deadline < last], ready[deadline == last]
        lacking = self._spare - len(sure)
        if lacking < len(tied):
            overlap = self._rest[tied] > 0
            order = np.lexsort((self._tie[tied], -self._group_deadline(tied, overlap), ~overlap))
            tied = tied[order[:lacking]]
        return np.concatenate([sure, tied])

    def _group_deadline(self, tied: Ints, overlap: np.typing.NDArray[np.bool_]) -> Ints:
        """When a chain of forced units ends, for rates of a half and more: ceil(k / (1 - f)), k = deadline - i."""
        out = np.zeros_like(tied)
        for place in np.flatnonzero(overlap & (2 * self._rate[tied] >= UNIT)).tolist():
            one = tied[place]
            slack = int(self._deadline[one] - self._units[one])
            out[place] = -(-slack * UNIT // (UNIT - int(self._rate[one])))
        return out

    def _advance(self, chosen: Ints) -> None:
        self._release[chosen] = self._next[chosen]
        self._units[chosen] += 1
        rest = self._rest[chosen] + self._period[1][chosen]
        carry = rest >= self._rate[chosen]
        self._next[chosen] += self._period[0][chosen] + carry
        self._rest[chosen] = rest - carry * self._rate[chosen]
        self._deadline[chosen] = self._next[chosen] + (self._rest[chosen] > 0)


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
    out_TxK = np.empty((stop - start, len(weights)), np.int64)
    for step in range(interval_start, stop):
        count_K = shares.next()
        if step >= start:
            out_TxK[step - start] = count_K
    return out_TxK


def check_steps(interval_start: int, start: int, stop: int) -> None:
    """Raises ValueError unless 0 ≤ interval_start ≤ start ≤ stop."""
    if not 0 <= interval_start <= start <= stop:
        raise ValueError(f"steps out of order: interval_start {interval_start}, start {start}, stop {stop}")
