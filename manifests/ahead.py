"""Reading ahead: the next items are worked on in threads while the caller is busy with this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def ahead(function: Callable[[In], Out], items: Iterable[In], threads: int = 1, window: int = 1) -> Iterator[Out]:
    """`function` of every item, in order; `threads` of them work on up to `window` items that nobody asked for yet.

    An exception comes when its item's turn has come.
    """
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Out]] = deque(pool.submit(function, item) for item in islice(rest, window))
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
            yield done
