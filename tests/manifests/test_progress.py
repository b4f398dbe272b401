"""Progress where stderr is no terminal: few plain lines, and none for short work."""

import pytest

from manifests import progress


@pytest.fixture
def clock():
    """A clock that the test moves."""

    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


def run(clock, items, seconds, total=None):
    """Lines of `items` items of so many seconds each."""
    written = []
    lines = progress.Lines("score", total or items, "rows", write=written.append, clock=clock)
    for _ in range(items):
        clock.now += seconds
        lines.advance(1)
    return written


def test_short_work_says_nothing(clock):
    assert run(clock, 1000, 0.001) == []


def test_a_line_for_every_tenth_and_one_at_the_end(clock):
    written = run(clock, 100, 0.5)
    assert len(written) == 10
    assert written[0] == "score: 10 of 100 rows (10%), 2.0/s, 45 s left"
    assert written[-1] == "score: 100 of 100 rows (100%), 2.0/s"


def test_a_line_every_ten_seconds_where_a_tenth_takes_longer(clock):
    written = run(clock, 10, 4.0, total=1_000)
    assert written == [
        "score: 3 of 1,000 rows (0%), 4.0 s each, 66 min left",
        "score: 6 of 1,000 rows (1%), 4.0 s each, 66 min left",
        "score: 9 of 1,000 rows (1%), 4.0 s each, 66 min left",
    ]


def test_errors_are_counted_in_the_line(clock, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LEAST", 0.0)
    with progress.counted("ingest", 10, "rows") as tick:
        tick(5, 1)
        tick(5, 2)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 2
    assert err.splitlines()[-1].endswith(", 2 errors")
    assert err.replace("\n", "").isprintable()


def test_work_that_goes_back_keeps_its_rate(clock):
    written = []
    lines = progress.Lines("train", 1000, "steps", done=500, write=written.append, clock=clock)
    clock.now = 20.0
    lines.advance(100)
    lines.advance(-50)
    clock.now = 40.0
    lines.advance(50)
    assert written == [
        "train: 600 of 1,000 steps (60%), 5.0/s, 80 s left",
        "train: 600 of 1,000 steps (60%), 2.5/s, 3 min left",
    ]
