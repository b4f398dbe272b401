"""Which clusters of rows become D_ref and which test: spread over many groups, with few rows left over.

For a task with G free groups, train keeps at least G/2 of them where the options allow it. Of the rest, D_ref takes up
to GROUPS and test takes up to GROUPS or the share asked for, whichever is more. Every group of D_ref contributes about
the same number of pairs. Whole groups that are not needed stay in train; the surplus rows of the groups of D_ref are in
no split. Draws with a surplus of at most SMALL are preferred; above LARGE a task gets fewer groups, down to FEWEST.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.cover import Ints, StuckError, cover
from manifests.errors import UserError

GROUPS = 5  # groups of D_ref and of test, where there are enough
FEWEST = 3  # groups of D_ref below which a large surplus takes no more away
SMALL, LARGE = 0.1, 0.2  # surplus as a share of a task's pairs
ATTEMPTS = 32  # orders in which D_ref and test are drawn before it counts as impossible

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Clusters:
    """What is drawn from. pairs_CxT: pairs of each task; order_C: seeded rank; testable_C: may become test."""

    tasks: Sequence[str]
    pairs_CxT: Ints
    order_C: Ints
    pinned_C: Bools  # prescribed test
    testable_C: Bools

    def untested(self) -> Bools:
        """(T,) tasks without a prescribed test that have clusters from which one can be drawn."""
        can_T = (self.pairs_CxT[self.testable_C & ~self.pinned_C] > 0).any(axis=0)
        return np.asarray(can_T & ~(self.pairs_CxT[self.pinned_C] > 0).any(axis=0))


@dataclass(frozen=True)
class _Wanted:
    """(T,) groups of D_ref, the amount that test needs at least and that it would like, groups that train keeps."""

    ref_T: Ints
    least_T: Ints
    test_T: Ints
    train_T: Ints


def draw(clusters: Clusters, ref: int, test: float) -> tuple[list[int], list[int]]:
    """Clusters of D_ref (`ref` pairs of every task) and of test (a share of the groups, or from 1 on pairs).

    Raises UserError naming the task that lacks something.
    """
    wanted = _wanted(clusters, ref, test)
    groups_T = wanted.ref_T.copy()
    while True:
        many = bool((groups_T > 1).any())
        candidates, stuck = _candidates(clusters, wanted, groups_T, ref, ATTEMPTS // 4 if many else ATTEMPTS)
        for number, refs in enumerate(candidates):
            large_T = (_surplus(clusters, refs, ref) > LARGE) & (groups_T > FEWEST)
            if number == 0 and large_T.any():
                groups_T = groups_T - large_T
                break
            try:
                return refs, _tests(clusters, wanted, refs, test)
            except StuckError as error:
                error.split = "test"
                stuck = stuck or error
        else:
            if not many:
                raise _impossible(clusters, stuck, ref, test)
            groups_T = np.maximum(groups_T - 1, 1)


def _wanted(clusters: Clusters, ref: int, test: float) -> _Wanted:
    has_CxT = clusters.pairs_CxT > 0
    groups_T = has_CxT[~clusters.pinned_C].sum(axis=0)
    testable_T = has_CxT[clusters.testable_C & ~clusters.pinned_C].sum(axis=0)
    drawn_T = clusters.untested() & (test > 0)
    out_T = groups_T // 2  # of train
    share_T = np.rint(test * groups_T if test < 1 else 0.0).astype(np.int64)
    ref_T = np.where(drawn_T, np.minimum((out_T + 1) // 2, (groups_T - share_T) // 2), out_T)
    ref_T = np.clip(ref_T, 1, min(GROUPS, ref))
    spread_T = np.clip(np.minimum(out_T - ref_T, testable_T), 1, GROUPS)
    if test < 1:
        test_T, least_T = np.maximum(share_T, spread_T), np.ones_like(groups_T)
    else:
        test_T, least_T = spread_T, np.full_like(groups_T, int(test))
    return _Wanted(ref_T, least_T * drawn_T, test_T * drawn_T, np.asarray(groups_T - out_T))


def _candidates(
    clusters: Clusters, wanted: _Wanted, groups_T: Ints, ref: int, attempts: int
) -> tuple[list[list[int]], StuckError | None]:
    """Draws of D_ref, the best first, and why one of them failed. Stops at a draw that nothing can be said against."""
    found: list[tuple[tuple[int, float], list[int]]] = []
    stuck = None
    for attempt in range(attempts):
        try:
            refs = _refs(clusters, wanted, groups_T, ref, np.random.default_rng(attempt) if attempt else None)
        except StuckError as error:
            stuck = stuck or error
            continue
        train_T = (np.delete(clusters.pairs_CxT, refs, axis=0) > 0)[~np.delete(clusters.pinned_C, refs)].sum(axis=0)
        lacking = int(np.maximum(wanted.train_T - (train_T - wanted.test_T), 0).sum())
        rank = lacking, float(_surplus(clusters, refs, ref).max())
        found.append((rank, refs))
        if rank <= (0, SMALL):
            break
    return [refs for _, refs in sorted(found, key=lambda one: one[0])], stuck


def _refs(clusters: Clusters, wanted: _Wanted, groups_T: Ints, ref: int, rng: np.random.Generator | None) -> list[int]:
    """Clusters of D_ref: `ref` pairs of every task from `groups_T` groups, or from more where they are small."""
    free_C, one_T = ~clusters.pinned_C, np.ones_like(groups_T)
    amount_CxT = np.minimum(clusters.pairs_CxT, -(-ref // groups_T))  # no group gives more than its part
    beside_C: Ints = (clusters.pairs_CxT - amount_CxT).sum(axis=1)
    spare_T = one_T + (wanted.test_T > 0)
    order_C = clusters.order_C
    refs = cover(amount_CxT, ref * one_T, free_C, order_C, spare_T=spare_T, rng=rng, beside_C=beside_C)
    return _more(clusters, refs, groups_T, free_C, spare_T, beside_C)


def _tests(clusters: Clusters, wanted: _Wanted, refs: list[int], test: float) -> list[int]:
    """Clusters of test, from those that are left and may become it."""
    free_C = ~clusters.pinned_C
    free_C[refs] = False
    able_C = free_C & clusters.testable_C
    has_CxT: Ints = (clusters.pairs_CxT > 0).astype(np.int64)
    spare_T: Ints = np.array(~has_CxT[free_C & ~able_C].any(axis=0), np.int64)  # 0: others are left to train on
    amount_CxT = clusters.pairs_CxT if test >= 1 else has_CxT
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng(attempt) if attempt else None
        try:
            tests = cover(amount_CxT, wanted.least_T, able_C, clusters.order_C, spare_T=spare_T, rng=rng)
            return _more(clusters, tests, wanted.test_T, able_C, spare_T)
        except StuckError as error:
            stuck = error
    raise stuck


def _more(
    clusters: Clusters,
    drawn: list[int],
    groups_T: Ints,
    able_C: Bools,
    spare_T: Ints,
    beside_C: Ints | None = None,
) -> list[int]:
    """`drawn`, and further clusters up to `groups_T` groups of every task, as far as there are any."""
    has_CxT: Ints = (clusters.pairs_CxT > 0).astype(np.int64)
    able_C = able_C.copy()
    able_C[drawn] = False
    lacking_T: Ints = np.maximum(groups_T - has_CxT[drawn].sum(axis=0), 0)
    order_C = clusters.order_C
    found = cover(has_CxT, lacking_T, able_C, order_C, spare_T=spare_T, beside_C=beside_C, strict=False)
    return drawn + found


def _surplus(clusters: Clusters, refs: list[int], ref: int) -> npt.NDArray[np.float64]:
    """(T,) share of each task's free pairs that are in no split."""
    taken_T = clusters.pairs_CxT[refs].sum(axis=0) - ref
    return np.asarray(taken_T / np.maximum(clusters.pairs_CxT[~clusters.pinned_C].sum(axis=0), 1))


def _impossible(clusters: Clusters, stuck: StuckError | None, ref: int, test: float) -> UserError:
    if stuck is None:
        return UserError("no split was found")
    pairs_C = clusters.pairs_CxT[~clusters.pinned_C, stuck.task]
    if stuck.split == "ref":
        text = f"D_ref needs {ref} pairs"
    else:
        text = f"the test split needs {int(test) if test >= 1 else 1} {'pairs' if test >= 1 else 'group'}"
    return UserError(
        f"task {clusters.tasks[stuck.task]!r}: {text}, {stuck.missing} could not be found among its "
        f"{np.count_nonzero(pairs_C)} groups ({pairs_C.sum()} pairs) without taking the last ones that other splits "
        "need: add photographs, cut more crops, or lower --ref or --test"
    )
