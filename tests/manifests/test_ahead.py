"""Reading ahead keeps the order, the window and the exceptions."""

import threading

import pytest

from manifests.ahead import ahead


def test_everything_comes_in_order():
    assert list(ahead(lambda x: x * x, range(50), threads=3, window=5)) == [x * x for x in range(50)]
    assert list(ahead(str, [])) == []


def test_no_more_than_the_window_is_asked_for():
    asked = []
    items = (asked.append(i) or i for i in range(100))
    results = ahead(lambda x: x, items, threads=2, window=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(asked) <= 3 + 4
    results.close()
    assert threading.active_count() < 10


def test_an_exception_comes_in_its_turn():
    results = ahead(lambda x: 1 / x, [1, 2, 0, 4], threads=2, window=4)
    assert [next(results), next(results)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
