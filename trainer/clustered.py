"""Means with standard errors over groups: images of one scene are not independent."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def mean_and_error(values: Sequence[float], groups: Sequence[str | None]) -> tuple[float, float | None, int | None]:
    """Mean of `values`, its standard error, and the number of groups (None where one of them is unknown).

    With n values in G groups, e_g the sum over group g of value - mean:

        SE = sqrt(G / (G - 1) * sum_g e_g^2) / n

    This is the cluster-robust standard error of a mean (Liang and Zeger 1986, with the factor G / (G - 1)). It equals
    the usual one where each group has one value, and that of the group means where all groups have equally many. A
    value whose group is unknown makes every value a group of its own. None for fewer than two groups.
    """
    mean = statistics.fmean(values)
    known = None not in groups
    sums: dict[str | int | None, float] = {}
    for number, (value, group) in enumerate(zip(values, groups, strict=True)):
        key = group if known else number
        sums[key] = sums.get(key, 0.0) + value - mean
    count = len(sums)
    error = None
    if count > 1:
        error = math.sqrt(count / (count - 1) * math.fsum(e * e for e in sums.values())) / len(values)
    return mean, error, count if known else None
