"""Split: disjoint whatever the collisions, equal over tasks, independent of row order, loud when it cannot be done."""

import random
from collections import Counter, defaultdict

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.split import assign, check, split
from manifests import images, schema, table
from manifests.errors import UserError

TASKS = ("deblur", "dehaze", "sr")
STAGE = {"stage": "test", "version": 1, "params": {}, "inputs": []}


def pair(number, task, **facts):
    """One row; every content is its own unless `facts` say otherwise."""
    base = {
        "pair_id": schema.pair_id("d", task or "", "", f"lq/{number}", f"gt/{number}"),
        "dataset": "d",
        "task": task,
        "lq_path": f"lq/{number}.png",
        "gt_path": f"gt/{number}.png",
        "gt_sha256": f"gt{number}",
        "lq.sha256": f"lq{number}",
    }
    return {**base, **facts}


def rows_of(rows):
    kinds = {name: kind for name, kind in schema.CORE.items() if name != "status"}
    return schema.conform(
        pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})
    )


def grid(groups, tasks=TASKS, crops=4):
    """`groups` photographs, `crops` pairs of every task cut from each."""
    return [
        pair(f"{g}-{t}-{c}", task, group=f"d/{g}", gt_sha256=f"{g}-{c}")
        for g in range(groups)
        for t, task in enumerate(tasks)
        for c in range(crops)
    ]


def write(path, rows):
    return table.write(str(path), rows_of(rows), roots={"d": str(path.parent)}, stages=[STAGE])


def splits_of(rows, **options):
    found = assign(rows_of(rows), **options)
    return {row["pair_id"]: name for row, name in zip(rows, found, strict=True)}


def test_ref_is_equal_per_task_and_groups_are_whole(tmp_path):
    write(tmp_path / "m", grid(12))
    done = split(str(tmp_path / "m"), str(tmp_path / "s"), ref=10, test=0.25)
    found = done.table(["split", "task", "group"]).to_pylist()
    per_split = Counter((row["split"], row["task"]) for row in found)
    assert {per_split["ref", task] for task in TASKS} == {10}
    groups = defaultdict(set)
    for row in found:
        groups[row["split"]].add(row["group"])
    assert len(groups["ref"]) == 3  # a quarter of twelve: train keeps half
    assert len(groups["test"]) == 3  # a quarter of twelve
    assert len(groups["train"]) == 6
    assert groups[None] <= groups["ref"], "the surplus of reference groups is in no split"
    assert per_split[None, "sr"] == 2
    assert done.stages[-1]["params"] == {"ref": 10, "test": 0.25, "seed": 0, "phash_distance": 4, "prescribed": True}
    assert table.read(done.path).rows["rows"] == len(found)


def test_default_output_and_refusal(tmp_path):
    write(tmp_path / "m", grid(5))
    done = split(str(tmp_path / "m"), ref=2)
    assert done.path == f"{tmp_path}/m-split"
    with pytest.raises(UserError, match="exists already"):
        split(str(tmp_path / "m"), ref=2)


def test_the_seed_draws_the_groups():
    rows = grid(30)
    drawn = [frozenset(i for i, s in splits_of(rows, ref=4, seed=seed).items() if s == "ref") for seed in range(6)]
    assert len(set(drawn)) > 1
    assert splits_of(rows, ref=4, seed=3) == splits_of(rows, ref=4, seed=3)


def test_reference_pairs_come_from_distinct_gts_first():
    rows = [pair(f"{g}-{k}", "dehaze", group=f"d/{g}", gt_sha256=f"{g}-{k // 5}") for g in range(4) for k in range(20)]
    found = splits_of(rows, ref=4, test=0.1)
    chosen = [row["gt_sha256"] for row in rows if found[row["pair_id"]] == "ref"]
    assert len(set(chosen)) == 4  # one group has four GTs of five hazy versions each


def test_rows_that_are_not_kept_pass_through_untouched():
    dropped = schema.decision("filter", "min:x", "drop", "bad")
    rows = [*grid(6), pair("x", "sr", group="d/0", split="train", decisions=[dropped])]
    assert assign(rows_of(rows), ref=2)[-1] == "train"


def test_gt_only_rows_follow_their_group_and_are_no_task():
    clean = [
        pair(f"clean{g}", "clean", group=f"d/{g}", lq_path=None, **{"lq.sha256": None}, gt_sha256=f"whole{g}")
        for g in range(10)
    ]
    rows = [*grid(8), *clean]
    found = splits_of(rows, ref=4, test=2)
    by_group = {row["group"]: found[row["pair_id"]] for row in rows if found[row["pair_id"]]}
    for row in clean[:8]:
        expected = by_group[row["group"]]
        assert found[row["pair_id"]] == (None if expected == "ref" else expected)
    assert {found[row["pair_id"]] for row in clean[8:]} == {"train"}  # photographs without pairs


def test_equal_content_across_tasks_moves_together():
    rows = [pair(f"{t}{k}", task) for t, task in enumerate(TASKS) for k in range(8)]
    for row in rows:
        if row["task"] != "deblur":  # one photograph, three tasks, no group said
            row["gt_sha256"] = "gt0" + row["gt_sha256"][3:]
    found = splits_of(rows, ref=2)
    by_content = defaultdict(set)
    for row in rows:
        by_content[row["gt_sha256"]].add(found[row["pair_id"]])
    assert all(len(names) == 1 for names in by_content.values())


def test_a_gt_that_is_the_lq_of_another_pair_moves_with_it():
    rows = [pair(k, "sr", **{"lq.sha256": f"gt{k + 10}"}) for k in range(10)]
    rows += [pair(k + 10, "deblur") for k in range(10)]
    found = splits_of(rows, ref=2)
    assert all(found[rows[k]["pair_id"]] == found[rows[k + 10]["pair_id"]] for k in range(10))


def test_near_equal_photographs_move_together_and_the_distance_counts():
    def photographs(bits):
        base = [random.Random(k).getrandbits(64) for k in range(8)]
        other = [value ^ ((1 << bits) - 1) for value in base]  # the same photograph, stored again
        return [pair(f"{s}-{k}", "sr", phash=f"{v:016x}") for s in (0, 1) for k, v in enumerate((base, other)[s])]

    for bits in (1, 4):
        rows = photographs(bits)
        for seed in range(4):
            found = assign(rows_of(rows), ref=4, seed=seed)
            assert found[:8] == found[8:]
    torn = [assign(rows_of(photographs(5)), ref=4, seed=seed) for seed in range(8)]
    assert any(found[:8] != found[8:] for found in torn), "five bits apart is another photograph"
    wide = assign(rows_of(photographs(5)), ref=4, phash_distance=5)
    assert wide[:8] == wide[8:]


def test_real_photographs_saved_again_stay_in_one_split(photographs, save, tmp_path):
    rows = []
    for index, (name, pixels) in enumerate(sorted(photographs.items())):
        for suffix, options in (("png", {}), ("jpg", {"quality": 70})):
            path = save(f"{name}.{suffix}", pixels, **options)
            decoded = images.decode(path.read_bytes()).pixels
            rows.append(pair(f"{index}{suffix}", "denoise", phash=images.phash(decoded), gt_sha256=f"{name}{suffix}"))
    for seed in range(5):
        found = assign(rows_of(rows), ref=4, test=2, seed=seed)
        assert found[::2] == found[1::2]
        assert Counter(found) == {"ref": 4, "test": 2, "train": 6}


def test_prescribed_test_pairs_stay_and_their_task_gets_no_more():
    official = [pair(f"o{k}", "deblur", split="test", group=f"d/o{k // 2}") for k in range(6)]
    rows = [*official, *grid(10, tasks=("deblur", "sr"))]
    for seed in range(4):
        found = splits_of(rows, ref=4, test=0.2, seed=seed)
        assert {found[row["pair_id"]] for row in official} == {"test"}
        counts = Counter((row["task"], found[row["pair_id"]]) for row in rows[6:])
        assert counts["sr", "test"] == 8  # two of ten groups, whole, so deblur's pairs in them come along


def groups_of(rows, found):
    """(split, task) -> groups."""
    groups = defaultdict(set)
    for row in rows:
        groups[found[row["pair_id"]], row["task"]].add(row["group"])
    return groups


@pytest.mark.parametrize(
    ("photographs", "crops", "in_ref", "in_test", "unused"),
    [
        (3, 20, 1, 1, 0.17),
        (8, 6, 2, 2, 0.05),
        (12, 6, 3, 3, 0.12),
        (20, 2, 5, 5, 0.0),
        (40, 6, 5, 5, 0.09),
        (100, 1, 10, 10, 0),
    ],
)
def test_splits_are_spread_over_groups_and_train_keeps_half(photographs, crops, in_ref, in_test, unused):
    rows = grid(photographs, crops=crops)
    for seed in range(3):
        found = splits_of(rows, ref=10, seed=seed)
        groups = groups_of(rows, found)
        for task in TASKS:
            assert (len(groups["ref", task]), len(groups["test", task])) == (in_ref, in_test)
            assert len(groups["train", task]) >= min(photographs // 2, photographs - in_ref - in_test)
        assert sum(name is None for name in found.values()) <= unused * len(rows)


def test_small_groups_make_up_the_reference_so_that_few_rows_are_left_over():
    rows = [
        pair(f"{g}-{t}-{c}", task, group=f"d/{g}", gt_sha256=f"{g}-{c}")
        for g in range(12)
        for task in TASKS
        for t in [TASKS.index(task)]
        for c in range(2 if g < 2 else 12 if g == 2 else 6)
    ]
    drawn = set()
    for seed in range(6):
        found = splits_of(rows, ref=10, test=0.2, seed=seed)
        groups = groups_of(rows, found)
        assert {len(groups["ref", task]) for task in TASKS} == {3}
        assert sum(name is None for name in found.values()) <= 0.06 * len(rows)
        counts = Counter(row["group"] for row in rows if found[row["pair_id"]] == "ref" and row["task"] == "sr")
        assert max(counts.values()) <= 4, "the groups take turns"
        drawn.add(frozenset(groups["ref", "sr"]))
    assert len(drawn) > 3, "other seeds draw other groups"


def test_long_clips_cost_fewer_groups_rather_than_a_fifth_of_the_pairs():
    rows = grid(22, tasks=("deblur",), crops=100)
    found = splits_of(rows, ref=10)
    assert len(groups_of(rows, found)["ref", "deblur"]) == 4
    assert sum(name is None for name in found.values()) < 0.2 * len(rows)


def test_a_number_of_test_pairs_is_spread_as_well():
    rows = grid(40, crops=6)
    groups = groups_of(rows, splits_of(rows, ref=10, test=12))
    assert {len(groups["test", task]) for task in TASKS} == {5}


def test_prescribed_train_never_becomes_test():
    official = [pair(f"o{k}", "deblur", split="train", group=f"d/o{k}") for k in range(30)]
    rows = [*official, *grid(12, tasks=("deblur", "sr"))]
    for seed in range(4):
        found = splits_of(rows, ref=4, test=0.3, seed=seed)
        assert "test" not in {found[row["pair_id"]] for row in official}
        assert {"ref", "train"} >= {found[row["pair_id"]] for row in official}
        assert any(found[row["pair_id"]] == "test" for row in rows if row["task"] == "deblur")


def test_a_task_that_is_all_prescribed_train_has_no_test_and_says_so(caplog):
    rows = [*(pair(k, "dehaze", split="train") for k in range(20)), *grid(10, tasks=("sr",))]
    found = splits_of(rows, ref=3)
    assert Counter(found[row["pair_id"]] for row in rows[:20]) == {"ref": 3, "train": 17}
    assert "dehaze: its dataset prescribes train for every group" in caplog.text
    anew = splits_of(rows, ref=3, prescribed=False)
    assert Counter(anew[row["pair_id"]] for row in rows[:20])["test"] == 5


def test_prescribed_train_in_a_group_of_prescribed_test_is_in_no_split(caplog):
    leaking = [pair("lt", "sr", split="test", group="d/x"), pair("ll", "sr", split="train", group="d/x")]
    rows = [*leaking, *grid(6, tasks=("sr",))]
    found = splits_of(rows, ref=2)
    assert [found[row["pair_id"]] for row in leaking] == ["test", None]
    assert "1 rows prescribed train share a group with prescribed test rows" in caplog.text


@pytest.mark.parametrize("name", ["val", "Train", "TEST", ""])
def test_unknown_split_names_are_refused(name):
    rows = [*grid(6), pair("v", "sr", split=name)]
    with pytest.raises(UserError, match=rf"split '{name}' \(1 kept rows\) is not known"):
        assign(rows_of(rows), ref=2)
    assert None not in assign(rows_of(rows), ref=8, prescribed=False)


def test_splitting_again_never_moves_test_to_train():
    rows = grid(10)
    first = assign(rows_of(rows), ref=4, seed=0)
    again = assign(rows_of([{**row, "split": name} for row, name in zip(rows, first, strict=True)]), ref=4, seed=1)
    assert all(b == "test" for a, b in zip(first, again, strict=True) if a == "test")


def test_a_task_that_is_all_prescribed_test_is_drawn_from_and_says_so(caplog):
    rows = [pair(k, "dehaze", split="test") for k in range(20)]
    found = Counter(assign(rows_of(rows), ref=3, test=0.1))
    assert found == {"ref": 3, "test": 5, "train": 12}
    assert "dehaze: its dataset prescribes test for every pair" in caplog.text


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([*grid(6), *grid(2, tasks=("derain",))], {}, r"task 'derain': has 2 group\(s\) of photographs \(8 pairs\)"),
        ([*grid(6), *[pair(k, "jpeg") for k in range(5)]], {"ref": 10}, "task 'jpeg': has 5 pairs, too few for 10"),
        (grid(4), {"ref": 12}, r"task '\w+': D_ref needs 12 pairs, 4 could not be found among its 4 groups"),
        (grid(6), {"ref": 4, "test": 20}, "the test split needs 20 pairs"),
        ([pair(1, "clean", lq_path=None)], {}, "no kept row has an LQ: run 'curate degrade'"),
        ([*grid(6), pair("x", None)], {}, "a pair without a task"),
    ],
)
def test_impossible_wishes_are_said(rows, options, message):
    with pytest.raises(UserError, match=message):
        assign(rows_of(rows), **{"ref": 2, **options})


@pytest.mark.parametrize("options", [{"ref": 0}, {"test": -0.1}, {"test": 1.5}, {"test": float("nan")}])
def test_bad_options(tmp_path, options):
    write(tmp_path / "m", grid(4))
    with pytest.raises(UserError) as caught:
        split(str(tmp_path / "m"), str(tmp_path / "s"), **options)
    assert caught.value.exit_code == 2


def test_no_test_split_and_a_number_of_test_pairs():
    rows = grid(10)
    assert "test" not in assign(rows_of(rows), ref=4, test=0)
    found = splits_of(rows, ref=4, test=6)
    assert Counter(row["task"] for row in rows if found[row["pair_id"]] == "test") == dict.fromkeys(TASKS, 8)


def test_a_greedy_dead_end_is_left():
    # Group a holds both tasks and most of what is needed; taking it first leaves `sr` without train.
    rows = [pair(f"a{k}", "deblur", group="d/a") for k in range(3)] + [pair("as", "sr", group="d/a")]
    rows += [pair(f"b{k}", "deblur", group=f"d/b{k}") for k in range(6)]
    rows += [pair(f"c{k}", "sr", group=f"d/c{k // 2}") for k in range(4)]
    found = assign(rows_of(rows), ref=2, test=0.1)
    check(schema.set_column(rows_of(rows), "split", found, pa.string()), 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "train"}, "is in two splits"),
        ({"split": None}, "D_ref has 1 pairs where 2 are wanted"),
    ],
)
def test_the_check_finds_a_tampered_split(change, message):
    rows = [{**row, "split": name} for row in grid(6) for name in [None]]
    for row, name in zip(rows, assign(rows_of(rows), ref=2), strict=True):
        row["split"] = name
    check(rows_of(rows), 2)
    victim = next(row for row in rows if row["split"] == "ref")
    victim.update(change)
    with pytest.raises(UserError, match=message):
        check(rows_of(rows), 2)


def test_the_check_finds_near_equal_photographs():
    rows = [{**row, "split": "train"} for row in grid(3)]
    rows += [{**pair(f"r{t}", task, phash=f"{t:016x}"), "split": "ref"} for t, task in enumerate(TASKS)]
    check(rows_of(rows), 1)
    rows[0]["phash"] = f"{0b111:016x}"
    with pytest.raises(UserError, match="near-equal GTs"):
        check(rows_of(rows), 1)


@st.composite
def manifests(draw):
    """Random groups, tasks, contents and hashes that collide now and then; some GT-only, dropped, prescribed rows."""
    chance, count = random.Random(draw(st.integers(0, 2**32))), draw(st.integers(20, 90))
    collide = draw(st.sampled_from([0.0, 0.05, 0.2]))

    def own_or_shared(own, pool):
        return pool[chance.randrange(len(pool))] if chance.random() < collide else own

    rows = []
    for number in range(count):
        facts = {
            "group": chance.choice([None, f"d/{chance.randrange(count // 3)}"]),
            "gt_sha256": own_or_shared(f"gt{number}", [f"c{k}" for k in range(count)]),
            "lq.sha256": own_or_shared(f"lq{number}", [f"c{k}" for k in range(count)]),
            "phash": own_or_shared(f"{chance.getrandbits(64):016x}", [None, f"{3:016x}", f"{7:016x}", f"{255:016x}"]),
            "split": chance.choice([None] * 30 + ["test", "train"]),
        }
        if chance.random() < 0.1:
            facts |= {"lq_path": None, "lq.sha256": None}
        if chance.random() < 0.1:
            facts["decisions"] = [schema.decision("filter", "min:x", "drop", "bad")]
        rows.append(pair(number, chance.choice(TASKS), **facts))
    return rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(manifests(), st.integers(1, 3), st.sampled_from([0, 0.1, 0.4, 2]), st.randoms(use_true_random=False))
def test_split_invariants(rows, ref, test, chance):
    try:
        found = splits_of(rows, ref=ref, test=test, seed=7)
    except UserError as error:
        found = str(error)
    shuffled = list(rows)
    chance.shuffle(shuffled)
    try:
        again = splits_of(shuffled, ref=ref, test=test, seed=7)
    except UserError as error:
        again = str(error)
    if isinstance(found, str):
        assert isinstance(again, str)
        return
    assert again == found, "the order of the rows must not matter"
    kept = [row for row in rows if not row.get("decisions")]
    for a in kept:
        for b in kept:
            one, other = found[a["pair_id"]], found[b["pair_id"]]
            if one != other and None not in (one, other):
                assert not related(a, b), (one, other)
    paired = [row for row in kept if row["lq_path"]]
    counts = Counter((found[row["pair_id"]], row["task"]) for row in paired)
    for task in {row["task"] for row in paired}:
        assert counts["ref", task] == ref
        assert counts["train", task] > 0
        assert counts["test", task] > 0 or test == 0 or any(row.get("split") == "train" for row in paired)
    assert not any(found[row["pair_id"]] == "test" for row in kept if row.get("split") == "train")
    assert not any(found[row["pair_id"]] == "ref" for row in kept if not row["lq_path"])


def related(a, b):
    """Why two rows may not be torn apart, spelt out plainly."""
    contents = [{row["gt_sha256"], row["lq.sha256"]} - {None} for row in (a, b)]
    near = a["phash"] and b["phash"] and images.hamming(a["phash"], b["phash"]) <= 4
    return (a["group"] and a["group"] == b["group"]) or contents[0] & contents[1] or near
