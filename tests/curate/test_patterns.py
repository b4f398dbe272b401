"""Pairing by path patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.patterns import Pattern, pair
from manifests.errors import UserError


def test_one_gt_serves_many_lqs_and_the_shortest_capture_wins():
    paths = ["hazy/1400_1_0.8.jpg", "hazy/1400_2_0.9.jpg", "hazy/14_1_1.jpg", "clear/1400.png", "clear/14.png"]
    found = pair(paths, Pattern("hazy/{id}_*.jpg"), Pattern("clear/{id}.png"))
    assert [(lq, gt) for lq, gt, _ in found.pairs] == [
        ("hazy/1400_1_0.8.jpg", "clear/1400.png"),
        ("hazy/1400_2_0.9.jpg", "clear/1400.png"),
        ("hazy/14_1_1.jpg", "clear/14.png"),
    ]


def test_a_longer_capture_is_tried_when_the_short_one_names_no_gt():
    found = pair(["h/a_b_1.png", "c/a_b.png"], Pattern("h/{id}_*.png"), Pattern("c/{id}.png"))
    assert found.pairs[0][:2] == ("h/a_b_1.png", "c/a_b.png")


def test_suffix_in_any_case_and_any_suffix():
    assert Pattern("gt/{id}.png").match("gt/x.PNG") == {"id": "x"}
    assert Pattern("gt/{id}.*").match("gt/x.JPeG") == {"id": "x"}
    assert Pattern("gt/{id}.png").match("GT/x.png") is None


def test_lonely_files_and_clashes_are_told():
    paths = ["l/1.png", "l/2.png", "g/1.png", "g/3.png", "g/3.jpg"]
    found = pair(paths, Pattern("l/{id}.png"), Pattern("g/{id}.*"))
    assert found.lonely_lq == ["l/2.png"]
    assert found.lonely_gt == ["g/3.jpg"]
    assert found.clashes == [("g/3.jpg", "g/3.png")]


def test_levels_and_repeated_captures():
    assert Pattern("**/{id}.png").match("a/b/1.png") == {"id": "1"}
    assert Pattern("**/{id}.png").match("1.png") == {"id": "1"}
    assert Pattern("{s}/blur/{s}_{i}.png").match("a/blur/a_1.png") == {"s": "a", "i": "1"}
    assert Pattern("{s}/blur/{s}_{i}.png").match("a/blur/b_1.png") is None
    assert Pattern("x/*.png").match("x/y/1.png") is None


@pytest.mark.parametrize(
    ("lq", "gt", "message"),
    [
        ("l/*.png", "g/*.png", "share no capture"),
        ("l/{id}.png", "g/{scene}/{id}.png", "captures 'scene'"),
        ("/l/{id}.png", "g/{id}.png", "must be relative"),
        ("l/../{id}.png", "g/{id}.png", "must be relative"),
    ],
)
def test_bad_patterns_are_bad_usage(lq, gt, message):
    with pytest.raises(UserError, match=message) as error:
        pair([], Pattern(lq), Pattern(gt))
    assert error.value.exit_code == 2


names = st.text("abc_01.- ()[]+'\"\n", min_size=1, max_size=8).filter(lambda s: s.strip(".") == s)


@given(st.lists(names, unique=True, max_size=6))
def test_any_file_name_pairs_with_its_namesake(ids):
    paths = [f"lq/{i}.png" for i in ids] + [f"gt/{i}.png" for i in ids]
    found = pair(paths, Pattern("lq/{id}.png"), Pattern("gt/{id}.png"))
    assert sorted((lq[3:], gt[3:]) for lq, gt, _ in found.pairs) == sorted((f"{i}.png", f"{i}.png") for i in ids)
    assert not (found.lonely_lq or found.lonely_gt or found.clashes)
