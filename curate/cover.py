"""Which few clusters reach what every task needs: a greedy set multicover that leaves each task its last clusters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class StuckError(Exception):
    """No admissible cluster is left that task number `task` could use; `missing` is what it still needs of `split`."""

    split = "ref"

    def __init__(self, task: int, missing: int) -> None:
        super().__init__(f"task {task} lacks {missing}")
        self.task, self.missing = task, missing


def cover(
    amount_CxT: Ints,
    need_T: Ints,
    free_C: npt.NDArray[np.bool_],
    order_C: Ints,
    *,
    spare_T: Ints,
    rng: np.random.Generator | None = None,
    beside_C: Ints | None = None,
    strict: bool = True,
) -> list[int]:
    """Clusters c out of `free_C` whose summed `amount_CxT[c]` reaches `need_T`, few of them, in the order drawn.

    Each step takes the cluster that gives most of what is still needed, then the one that gives least beside it, then
    the first in `order_C` (a rank). `beside_C`: what a cluster has beyond its amounts; a gain g with b beside it counts
    as g * g / (g + b). Every task keeps `spare_T` free clusters. `rng` disturbs the gains, for another try. When
    nothing helps any more: raises StuckError, or returns what there is if not `strict`.
    """
    if not need_T.any():
        return []
    rows = np.flatnonzero(free_C & amount_CxT.any(axis=1))
    beside_C = np.zeros(len(amount_CxT), np.int64) if beside_C is None else beside_C
    alike = np.concatenate([amount_CxT[rows], beside_C[rows, None]], axis=1)
    alike, kind = np.unique(alike, axis=0, return_inverse=True)  # clusters alike are one kind
    kinds_SxT, beside_S = alike[:, :-1], alike[:, -1]
    ranked = rows[np.argsort(order_C[rows])]
    kind_of = dict(zip(rows.tolist(), np.ravel(kind).tolist(), strict=True))
    queues: list[list[int]] = [[] for _ in kinds_SxT]
    for cluster in ranked[::-1].tolist():
        queues[kind_of[cluster]].append(cluster)
    size_S = np.array([len(queue) for queue in queues], np.int64)
    head_S = np.array([order_C[queue[-1]] for queue in queues], np.int64)
    has_SxT, total_S = kinds_SxT > 0, kinds_SxT.sum(axis=1)
    left_T = has_SxT.T @ size_S
    need_T, chosen = need_T.copy(), []
    while need_T.any():
        gain_S = np.minimum(kinds_SxT, need_T).sum(axis=1)
        spares = ((left_T > spare_T) | ~has_SxT).all(axis=1)
        able = np.flatnonzero((size_S > 0) & (gain_S > 0) & spares)
        if not len(able):
            if not strict:
                break
            task = int(np.argmin(np.where(need_T > 0, left_T, np.iinfo(np.int64).max)))
            raise StuckError(task, int(need_T[task]))
        appeal = (
            gain_S[able] ** 2
            / (gain_S[able] + beside_S[able])
            * (1.0 if rng is None else rng.uniform(0.1, 1.0, len(able)))
        )
        best = able[np.lexsort((head_S[able], total_S[able] - gain_S[able], -appeal))[0]]
        chosen.append(queues[best].pop())
        size_S[best] -= 1
        head_S[best] = order_C[queues[best][-1]] if queues[best] else 0
        left_T = left_T - has_SxT[best]
        need_T = np.maximum(0, need_T - kinds_SxT[best])
    return chosen
