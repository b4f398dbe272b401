"""Pairing by path patterns."""

import re
import unicodedata
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.patterns import Pattern, pair
from manifests.errors import UserError


def test_one_gt_serves_many_lqs():
    paths = ["hazy/1400_1_0.8.jpg", "hazy/1400_2_0.9.jpg", "hazy/14_1_1.jpg", "clear/1400.png", "clear/14.png"]
    found = pair(paths, Pattern("hazy/{id}_*.jpg"), Pattern("clear/{id}.png"))
    assert [(lq, gt) for lq, gt, _ in found.pairs] == [
        ("hazy/1400_1_0.8.jpg", "clear/1400.png"),
        ("hazy/1400_2_0.9.jpg", "clear/1400.png"),
        ("hazy/14_1_1.jpg", "clear/14.png"),
    ]


def pairs_of(found):
    return [(lq, gt) for lq, gt, _ in found.pairs]


def test_the_longest_capture_that_names_a_gt_counts():
    lqs, gts = ["h/a_b_1.png", "h/a_1.png", "h/a_c_1.png"], ["c/a_b.png", "c/a.png"]
    found = pair([*lqs, *gts], Pattern("h/{id}_*.png"), Pattern("c/{id}.png"))
    assert pairs_of(found) == [("h/a_1.png", "c/a.png"), ("h/a_b_1.png", "c/a_b.png"), ("h/a_c_1.png", "c/a.png")]
    assert [captured for _, _, captured in found.pairs] == [{"id": "a"}, {"id": "a_b"}, {"id": "a"}]


def test_several_captures_that_can_be_read_in_two_ways_are_unclear():
    paths = ["l/1_2_3.png", "g/1/2_3.png", "g/1_2/3.png"]
    found = pair(paths, Pattern("l/{a}_{b}.png"), Pattern("g/{a}/{b}.png"))
    assert not found.pairs
    assert found.unclear_lq == [("l/1_2_3.png", "several GT files fit it equally: g/1/2_3.png, g/1_2/3.png")]
    assert [path for path, _ in found.unclear_gt] == ["g/1/2_3.png", "g/1_2/3.png"]
    assert pairs_of(pair(paths[:2], Pattern("l/{a}_{b}.png"), Pattern("g/{a}/{b}.png"))) == [tuple(paths[:2])]


SCENES = [f"scene0{n}/{side}" for n in (1, 2) for side in ("lq/0001.jpg", "gt/0001.png")]


@pytest.mark.parametrize("deep", ["**", "*", "?cene0?", "scene*", "**/*"])
def test_wildcards_for_folders_stand_for_the_same_folders(deep):
    found = pair(SCENES, Pattern(f"{deep}/lq/{{id}}.jpg"), Pattern(f"{deep}/gt/{{id}}.png"))
    assert pairs_of(found) == [(SCENES[0], SCENES[1]), (SCENES[2], SCENES[3])]
    found = pair(SCENES[:3], Pattern(f"{deep}/lq/{{id}}.jpg"), Pattern(f"{deep}/gt/{{id}}.png"))
    assert pairs_of(found) == [(SCENES[0], SCENES[1])]
    assert found.lonely_lq == [SCENES[2]]


@pytest.mark.parametrize(
    ("lq", "gt"),
    [("**/lq/{id}.jpg", "*/gt/{id}.png"), ("{a}/lq/*.jpg", "*/{a}/*.png"), ("**/{id}.jpg", "scene*/gt/{id}.png")],
)
def test_what_cannot_be_told_apart_is_never_kept(lq, gt):
    try:
        found = pair(SCENES, Pattern(lq), Pattern(gt))
    except UserError:
        return
    assert not found.pairs


def test_wildcards_of_one_side_are_free():
    paths = ["lq/a/1.png", "lq/b/1.png", "gt/1.png"]
    assert len(pair(paths, Pattern("lq/*/{id}.png"), Pattern("gt/{id}.png")).pairs) == 2
    paths = ["x/1_hazy.png", "x/1_clean.png"]
    assert len(pair(paths, Pattern("x/{id}_h*.png"), Pattern("x/{id}_c*.png")).pairs) == 1
    paths = ["lq/level1/s1/1.png", "lq/level2/s1/1.png", "gt/s1/1.png", "gt/s2/1.png"]
    found = pair(paths, Pattern("lq/{level}/**/{id}.png"), Pattern("gt/**/{id}.png"))
    assert pairs_of(found) == [(paths[0], paths[2]), (paths[1], paths[2])]


def test_names_pair_in_composed_and_decomposed_form():
    nfc = unicodedata.normalize("NFC", "caf\u00e9_01")
    nfd = unicodedata.normalize("NFD", nfc)
    for a, b in product((nfc, nfd), repeat=2):
        assert pairs_of(pair([f"l/{a}.jpg", f"g/{b}.png"], Pattern("l/{id}.jpg"), Pattern("g/{id}.png"))) == [
            (f"l/{a}.jpg", f"g/{b}.png")
        ]
        assert Pattern(f"{a}/{{id}}.png").match(f"{b}/1.png") == {"id": "1"}
    both = pair([f"l/{nfc}.jpg", f"g/{nfc}.png", f"g/{nfd}.png"], Pattern("l/{id}.jpg"), Pattern("g/{id}.png"))
    assert not both.pairs and len(both.unclear_gt) == 2


def test_a_file_that_fits_both_patterns_has_one_role():
    paths = ["x.png", "x_1.png", "x_2.png"]
    found = pair(paths, Pattern("{id}_*.png"), Pattern("{id}.png"))
    assert pairs_of(found) == [("x_1.png", "x.png"), ("x_2.png", "x.png")]
    assert not (found.lonely_lq or found.lonely_gt or found.unclear_lq or found.unclear_gt)
    chain = pair([*paths, "x_1_1.png"], Pattern("{id}_*.png"), Pattern("{id}.png"))
    assert pairs_of(chain) == [("x_2.png", "x.png")]
    assert {path for path, _ in chain.unclear_lq} == {"x_1.png", "x_1_1.png"}


def test_a_pattern_of_many_wildcards_is_refused_or_fast():
    pattern = Pattern("*a*a*a*a*a*a*a*b{id}.png")
    assert pattern.match("a" * 200 + ".png") is None
    with pytest.raises(UserError, match="more than 2000 ways"):
        pattern.readings("a" * 60 + "b1.png")
    with pytest.raises(UserError, match="more than 64"):
        Pattern("*a" * 40)


def test_suffix_in_any_case_and_any_suffix():
    assert Pattern("gt/{id}.png").match("gt/x.PNG") == {"id": "x"}
    assert Pattern("gt/{id}.*").match("gt/x.JPeG") == {"id": "x"}
    assert Pattern("gt/{id}.png").match("GT/x.png") is None
    assert Pattern("{id}.{ext}").match("x.png") == {"id": "x", "ext": "png"}


def test_lonely_files_and_clashes_are_told():
    paths = ["l/1.png", "l/2.png", "g/1.png", "g/3.png", "g/3.jpg"]
    found = pair(paths, Pattern("l/{id}.png"), Pattern("g/{id}.*"))
    assert found.lonely_lq == ["l/2.png"]
    assert found.lonely_gt == []
    assert found.unclear_gt == [
        ("g/3.jpg", "several GT files with equal captures: g/3.png"),
        ("g/3.png", "several GT files with equal captures: g/3.jpg"),
    ]
    found = pair([*paths, "l/3.png"], Pattern("l/{id}.png"), Pattern("g/{id}.*"))
    assert pairs_of(found) == [("l/1.png", "g/1.png")]
    assert found.unclear_lq == [("l/3.png", "several GT files fit it equally: g/3.jpg, g/3.png")]
    assert [path for path, _ in found.unclear_gt] == ["g/3.jpg", "g/3.png"]


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
        ("l/{Id}.png", "g/{id}.png", "small letters"),
        ("l/{}.png", "g/{id}.png", "small letters"),
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
    assert not (found.lonely_lq or found.lonely_gt or found.unclear_lq or found.unclear_gt)


def readings(tokens, path):
    """All ways in which a list of tokens reads a path, by trying every cut: [{capture: text}]."""
    if not tokens:
        return [{}] if not path else []
    head, rest, out = tokens[0], tokens[1:], []
    for cut in range(len(path) + 1):
        text = path[:cut]
        if head == "*":
            fits = "/" not in text
        elif head == "**":
            fits = True
        elif head == "**/":
            fits = not text or text.endswith("/")
        elif head == "?":
            fits = cut == 1 and text != "/"
        elif head.startswith("{"):
            fits = cut > 0 and "/" not in text
        else:
            fits = text == head
        if fits:
            found = readings(rest, path[cut:])
            if head.startswith("{"):
                found = [{head: text, **more} for more in found if more.get(head, text) == text]
            out += found
    return out


TOKENS = st.lists(
    st.sampled_from(["{a}", "{b}", "{a}", "*", "**", "**/", "?", "_", "/", "l", "g"]), min_size=1, max_size=6
)
TREES = st.lists(st.text("lg_/12", min_size=1, max_size=7), unique=True, max_size=8)


def sane(path):
    return not path.startswith("/") and not path.endswith("/") and "//" not in path


@settings(max_examples=400, deadline=None)
@given(TREES, TOKENS, TOKENS)
def test_a_kept_pair_has_equal_captures_that_no_other_gt_has(tree, lq, gt):
    tree = [path for path in tree if sane(path)]
    try:
        found = pair(tree, Pattern("".join(lq)), Pattern("".join(gt)))
    except UserError:
        return
    shared = {token for token in gt if token.startswith("{")}
    lq, gt = (_merged(tokens) for tokens in (lq, gt))
    for low, high, captured in found.pairs:
        mine = [{name: one[name] for name in shared} for one in readings(lq, low)]
        chosen = {name: captured[name[1:-1]] for name in shared}
        assert chosen in mine and chosen in readings_of(gt, high, shared)
        for other in set(tree) - {low, high}:
            theirs = [one for one in readings_of(gt, other, shared) if one in mine]
            same_folders = not ({"*", "**", "**/", "?"} & set(lq)) or not ({"*", "**", "**/", "?"} & set(gt))
            if same_folders:
                assert chosen not in theirs
            assert not any(
                all(len(one[n]) >= len(chosen[n]) for n in shared) and one != chosen for one in theirs if same_folders
            )
    roles = [path for low, high, _ in found.pairs for path in (low, high)]
    told = [*found.lonely_lq, *found.lonely_gt, *(path for path, _ in [*found.unclear_lq, *found.unclear_gt])]
    assert len(told) == len(set(told)) and not set(told) & set(roles)
    assert not {low for low, _, _ in found.pairs} & {high for _, high, _ in found.pairs}
    for path in tree:  # nothing that fits vanishes
        assert path in roles or path in told or not (readings(lq, path) or readings(gt, path))


def readings_of(tokens, path, names):
    return [{name: one[name] for name in names} for one in readings(tokens, path)]


def _merged(tokens):
    """The tokens as the pattern reads its own text: `**` and `/` become `**/`, `*` and `*` become `**`."""
    text = "".join(tokens)
    return re.findall(r"\{.\}|\*\*/?|\*|\?|[^{*?]", text)


def test_an_open_brace_is_named():
    with pytest.raises(UserError, match="a brace is open"):
        Pattern("noisy/{id.png")
    assert Pattern("a?b/{id}.png").match("a{b/1.png") == {"id": "1"}
