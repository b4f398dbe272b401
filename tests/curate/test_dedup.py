"""Copies of pairs: the Hamming search against brute force, and what counts as a copy, on real photographs."""

import json
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate import hamming
from curate.clusters import near_pairs
from curate.dedup import dedup
from curate.filter import filter as filter_
from curate.ingest import ingest
from curate.merge import merge
from manifests import schema, table
from manifests.errors import UserError

few_bits = st.lists(st.integers(0, 63), max_size=12).map(lambda bits: sum(1 << bit for bit in set(bits)))
crowds = st.lists(st.one_of(few_bits, st.integers(0, 2**64 - 1), few_bits.map(lambda x: x ^ (2**64 - 1))), max_size=60)


def apart(a, b):
    return (a ^ b).bit_count()


def triples(blocks):
    return [(int(a), int(b), int(bits)) for block in blocks for a, b, bits in zip(*block, strict=True)]


@settings(max_examples=300, deadline=None)
@given(crowds, st.integers(0, 16))
@example([0] * 20 + [1] * 20, 0)
@example([0, 2**64 - 1], 63)
def test_pairs_within_are_those_of_brute_force_each_once(values, distance):
    found = triples(hamming.pairs_within(np.array(values, np.uint64), distance))
    brute = [
        (i, j, bits)
        for i, a in enumerate(values)
        for j, b in enumerate(values[i + 1 :], i + 1)
        if (bits := apart(a, b)) <= distance
    ]
    assert sorted(found) == brute


@settings(max_examples=300, deadline=None)
@given(crowds, crowds, st.integers(0, 16))
def test_pairs_between_are_those_of_brute_force_each_once(left, right, distance):
    found = triples(hamming.pairs_between(np.array(left, np.uint64), np.array(right, np.uint64), distance))
    brute = [(i, j, apart(a, b)) for i, a in enumerate(left) for j, b in enumerate(right) if apart(a, b) <= distance]
    assert sorted(found) == sorted(brute)


@settings(max_examples=60, deadline=None)
@given(crowds, st.integers(0, 12), st.integers(1, 40), st.integers(0, 12))
def test_the_search_does_not_depend_on_its_tuning(values, distance, block, more):
    expected = sorted(triples(hamming.pairs_within(np.array(values, np.uint64), distance)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "BLOCK", block)
        patch.setattr(hamming, "_count", lambda n, m, d: min(64, d + 1 + more % 4))
        assert sorted(triples(hamming.pairs_within(np.array(values, np.uint64), distance))) == expected


def test_a_search_of_many_finds_what_was_planted():
    from benchmarks.dedup import hashes

    for distance in (4, 6):
        values, planted = hashes(50_000, distance)
        found = {(a, b) for a, b, _ in triples(hamming.pairs_within(values, distance))}
        assert found >= set(map(tuple, planted.tolist()))
        assert len(found) < len(planted) + 50
    assert set(near_pairs([f"{int(v):016x}" for v in values], 4)) <= found


def test_the_benchmark_measures_recall_and_time(tmp_path, monkeypatch, capsys):
    from benchmarks import dedup as benchmark

    monkeypatch.setattr(benchmark, "ROWS", 20_000)
    monkeypatch.setattr(benchmark, "SAMPLE", 500)
    monkeypatch.setattr(benchmark, "_apart", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(sys, "argv", ["dedup", "--quick", "--json", str(tmp_path / "f.json")])
    benchmark.main()
    assert "planted" in capsys.readouterr().out
    figures = json.loads((tmp_path / "f.json").read_text())
    assert {"what", "value", "unit", "target", "met"} == set(figures[0])
    assert all(one["met"] for one in figures if one["met"] is not None and one["unit"] != "GiB")
    assert figures[-1]["value"] == 200


@pytest.fixture
def make(tmp_path):
    """make(rows) -> path of a manifest of these rows; what is not given is filled in, every GT a scene of its own."""
    made = iter(range(1000))

    def write(rows):
        whole = []
        for i, row in enumerate(rows):
            gt = {"dataset": "d", "task": "clean", "gt_path": f"{i}.png", "gt_sha256": f"g{i}", "pair_id": f"{i:032x}"}
            row = gt | {"width": 64, "height": 64} | row
            whole.append({"group": f"{row['dataset']}/{row['gt_path']}"} | row)
        roots = {row["dataset"]: str(tmp_path) for row in whole}
        path = tmp_path / f"made{next(made)}"
        names = {name for row in whole for name in row}
        tables = schema.conform(pa.Table.from_pylist([dict.fromkeys(names) | row for row in whole]))
        return table.write(str(path), tables, roots=roots, stages=[{"stage": "made"}]).path

    return write


def rows(manifest):
    return table.read(str(manifest)).table().to_pylist()


def statuses(manifest):
    return [row["status"] for row in rows(manifest)]


def reasons(manifest):
    return [[(d["stage"], d["rule"]) for d in row["decisions"]] for row in rows(manifest)]


@pytest.fixture
def copies(photographs, save, tmp_path):
    """Clean photographs, and another dataset with half of them enlarged and the others smaller, all recompressed."""
    from PIL import Image

    for index, pixels in enumerate(photographs.values()):
        save(f"a/{index}.png", pixels)
        height, width = pixels.shape[:2]
        factor = 1.5 if index % 2 else 0.6
        other = Image.fromarray(pixels).resize((int(width * factor), int(height * factor)), Image.Resampling.LANCZOS)
        save(f"b/{index}.jpg", np.asarray(other), quality=70)
    made = [
        ingest(
            str(tmp_path / name), str(tmp_path / f"m{name}"), gt="{id}.*", task="clean", score=["sharpness", "contrast"]
        ).path
        for name in "ab"
    ]
    return merge(made, str(tmp_path / "both")).path


def test_the_larger_copy_of_a_photograph_stays(copies, tmp_path):
    done = dedup(copies, str(tmp_path / "d"))
    assert done.rows == {"rows": 12, "kept": 6, "dropped": 6, "error": 0}
    by_id = {row["pair_id"]: row for row in rows(done.path)}
    for row in by_id.values():
        number = int(row["gt_path"].split(".")[0])
        kept = by_id[row["cluster"]]
        assert kept["status"] == "kept"
        assert kept["gt_path"] == (f"{number}.jpg" if number % 2 else f"{number}.png")
        if row is not kept:
            (decision,) = row["decisions"]
            assert (decision["stage"], decision["rule"], decision["threshold"]) == ("dedup", "perceptual", 4)
            assert decision["value"] <= 4
            assert kept["pair_id"] in decision["text"]


@pytest.mark.parametrize("by", ["sharpness", "iqa.sharpness"])
def test_the_best_scored_copy_stays(copies, tmp_path, by):
    done = dedup(copies, str(tmp_path / "d"), by=by)
    members = {}
    for row in rows(done.path):
        members.setdefault(row["cluster"], []).append((row["iqa.sharpness"], row["status"]))
    assert len(members) == 6
    for found in members.values():
        assert [status for _, status in sorted(found)] == ["dropped", "kept"]


def test_lower_is_better_and_a_missing_score_is_the_worst(make, tmp_path):
    look = {"phash": "0" * 16}
    manifest = make([look | {"degradation.noise": value} for value in (None, 0.5, 0.1)])
    assert statuses(dedup(manifest, str(tmp_path / "d"), by="degradation.noise").path) == ["dropped", "dropped", "kept"]


def test_one_gt_with_many_lqs_is_no_copy_but_the_same_pair_twice_is(hazy, tmp_path):
    options = {"lq": "hazy/{id}_*.jpg", "gt": "clear/{id}.png", "task": "dehaze"}
    one = ingest(str(hazy), str(tmp_path / "one"), dataset="one", **options)
    assert set(statuses(dedup(one.path, str(tmp_path / "d1")).path)) == {"kept"}
    two = ingest(str(hazy), str(tmp_path / "two"), dataset="two", **options)
    done = dedup(merge([one.path, two.path], str(tmp_path / "m")).path, str(tmp_path / "d2"))
    assert done.rows == {"rows": 24, "kept": 12, "dropped": 12, "error": 0}
    assert [r for row in reasons(done.path) for r in row] == [("dedup", "exact")] * 12


def test_recompressed_pairs_are_copies_for_their_own_task_alone(hazy, save, photographs, tmp_path):
    """A dataset that recompressed GT and LQ: its pairs go, unless they train something else."""
    from PIL import Image

    for folder in ("clear", "hazy"):
        for path in (hazy / folder).iterdir():
            save(f"again/{folder}/{path.stem}.jpg", np.asarray(Image.open(path)), quality=80)
    one = ingest(
        str(hazy), str(tmp_path / "one"), dataset="one", lq="hazy/{id}_*.jpg", gt="clear/{id}.png", task="dehaze"
    )
    for task, dropped in (("dehaze", 12), ("derain", 0)):
        again = ingest(
            str(tmp_path / "again"), str(tmp_path / task), lq="hazy/{id}_*.jpg", gt="clear/{id}.jpg", task=task
        )
        both = merge([one.path, again.path], str(tmp_path / f"{task}-both"))
        done = dedup(both.path, str(tmp_path / f"{task}-d"))
        assert done.rows["dropped"] == dropped
        # the pairs of one GT file win or lose together
        winners = {}
        for row in rows(done.path):
            winners.setdefault((row["task"], row["gt_path"].split(".")[0]), set()).add((row["status"], row["dataset"]))
        assert all(len(found) == (2 if dropped else 1) for found in winners.values())


def test_subtasks_scales_and_flat_images_are_kept_apart(make, tmp_path):
    look = {"phash": "0" * 16, "task": "sr", "lq_path": "x.png", "lq.phash": "1" * 16}
    manifest = make(
        [
            look | {"lq.sha256": "l0", "scale": 2},
            look | {"lq.sha256": "l1", "scale": 4},
            look | {"lq.sha256": "l2", "scale": 2, "subtask": "x2"},
            look | {"lq.sha256": "l3", "scale": 2, "lq.phash": None},
            look | {"lq.sha256": "l4", "scale": 2, "phash": None},
            look | {"lq.sha256": "l5", "scale": 2, "lq.phash": "e" * 16},
            look | {"lq.sha256": "l6", "scale": 2, "subtask": ""},
        ]
    )
    assert statuses(dedup(manifest, str(tmp_path / "d")).path) == ["kept"] * 6 + ["dropped"]


def test_shots_of_one_scene_are_no_copies(make, tmp_path):
    look = {"phash": "0" * 16}
    clip = [look | {"group": "GOPR0372"}, look | {"group": "GOPR0372"}]
    other = [look | {"dataset": "reds", "group": "GOPR0372"}, look]
    done = dedup(make(clip + other), str(tmp_path / "d"))
    assert statuses(done.path) == ["kept", "kept", "dropped", "dropped"]
    assert {row["cluster"] for row in rows(done.path)} == {f"{0:032x}", None}


def test_clusters_do_not_chain(make, tmp_path):
    """a and c are both near b, but not near each other: with a kept, c stays."""
    manifest = make([{"phash": f"{value:016x}"} for value in (0b0, 0b1111, 0b11111111)])
    assert statuses(dedup(manifest, str(tmp_path / "d")).path) == ["kept", "dropped", "kept"]


def test_test_and_ref_pairs_stay_before_larger_training_pairs(make, tmp_path):
    look = {"phash": "0" * 16}
    manifest = make([look | {"split": "train", "width": 99}, look | {"split": "test"}, look | {"split": None}])
    assert statuses(dedup(manifest, str(tmp_path / "d")).path) == ["dropped", "kept", "dropped"]


def test_a_copy_of_a_copy_names_the_pair_that_is_kept(make, tmp_path):
    manifest = make(
        [{"phash": "0" * 16, "width": 99}, {"phash": "1" + "0" * 15}, {"gt_sha256": "g1", "phash": "f" * 16}]
    )
    found = rows(dedup(manifest, str(tmp_path / "d")).path)
    assert [row["cluster"] for row in found] == [f"{0:032x}"] * 3
    assert found[2]["decisions"][0]["rule"] == "exact"
    assert f"{1:032x}" in found[2]["decisions"][0]["text"]
    assert f"{0:032x}" in found[2]["decisions"][0]["text"]


def test_looser_revives_and_what_others_dropped_is_left_alone(copies, tmp_path):
    first = dedup(copies, str(tmp_path / "d"))
    again = dedup(first.path, str(tmp_path / "again"))
    assert [r["decisions"] for r in rows(again.path)] == [r["decisions"] for r in rows(first.path)]
    loose = dedup(first.path, str(tmp_path / "loose"), exact=True)
    assert set(statuses(loose.path)) == {"kept"}
    assert {row["cluster"] for row in rows(loose.path)} == {None}
    kept = [row["iqa.contrast"] for row in rows(first.path) if row["status"] == "kept"]
    strict = filter_(first.path, str(tmp_path / "strict"), minimum={"contrast": sorted(kept)[1]})
    # the copies that dedup dropped are not filtered; the filter drops a kept one, so that its copy comes back
    back = dedup(strict.path, str(tmp_path / "back"))
    lost = next(row for row in rows(strict.path) if row["decisions"] and row["decisions"][0]["stage"] == "filter")
    revived = [row for row in rows(back.path) if row["status"] == "kept"]
    assert len(revived) == 6
    assert {row["gt_path"].split(".")[0] for row in revived} == set("012345")
    assert next(row for row in rows(back.path) if row["pair_id"] == lost["pair_id"])["decisions"] == lost["decisions"]


worlds = st.lists(
    st.tuples(
        st.sampled_from("ab"),  # task
        st.integers(0, 6),  # GT file
        st.integers(0, 3),  # LQ file
        st.sampled_from([None, "d", "e"]),  # scene
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(worlds, st.integers(0, 6), st.randoms(use_true_random=False))
def test_what_is_kept_holds_no_copies_and_all_that_is_dropped_is_one(tmp_path_factory, world, distance, shuffle):
    folder = tmp_path_factory.mktemp("w")
    looks = [0b0, 0b1, 0b11, 0b1111, 0b111111, 0xFF00, 0xFF01]
    made = []
    for i, (task, gt, lq, scene) in enumerate(world):
        row = {"pair_id": f"{i:032x}", "task": task, "dataset": scene or "x", "gt_path": f"{gt}.png", "width": gt % 3}
        row |= {"height": 5, "gt_sha256": f"g{gt}", "phash": f"{looks[gt]:016x}", "lq_path": f"{lq}.png"}
        row |= {"lq.sha256": f"l{lq}", "lq.phash": f"{looks[lq]:016x}", "group": scene or f"x/{gt}.png"}
        made.append(row)
    if not made:
        return
    mixed = made.copy()
    shuffle.shuffle(mixed)
    results = []
    for name, ordered in (("a", made), ("b", mixed)):
        whole = schema.conform(pa.Table.from_pylist(ordered))
        roots = dict.fromkeys("xde", str(folder))
        source = table.write(str(folder / name), whole, roots=roots, stages=[{"stage": "made"}])
        results.append(
            {row["pair_id"]: row for row in rows(dedup(source.path, str(folder / f"{name}d"), distance=distance).path)}
        )
    assert results[0] == results[1]
    by_id = results[0]
    kept = [row for row in by_id.values() if row["status"] == "kept"]
    for i, one in enumerate(kept):
        for other in kept[i + 1 :]:
            assert is_copy(one, other, distance) is None
    for row in by_id.values():
        if row["status"] == "dropped":
            root = by_id[row["cluster"]]
            assert root["status"] == "kept"
            if row["decisions"][0]["rule"] == "perceptual":
                assert is_copy(row, root, distance) == "perceptual"


def is_copy(a, b, distance):
    """The rule by which two rows are copies, said as plainly as the docstring says it."""
    if a["gt_sha256"] == b["gt_sha256"]:
        return "exact" if a["lq.sha256"] == b["lq.sha256"] else None
    same_scene = a["dataset"] == b["dataset"] and a["group"] == b["group"] and "/" not in a["group"]
    near = all(apart(int(a[n], 16), int(b[n], 16)) <= distance for n in ("phash", "lq.phash"))
    return "perceptual" if near and not same_scene and a["task"] == b["task"] else None


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        ({"distance": 17}, "--distance 17: 0 to 16", 2),
        ({"distance": -1}, "--distance -1", 2),
        ({"by": "musik"}, "did you mean musiq", 2),
        ({"by": "musiq"}, "has no column 'iqa.musiq'", 1),
        ({"by": "contrast"}, "neither end of it is better", 2),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(copies, tmp_path, options, message, code):
    with pytest.raises(UserError, match=message) as caught:
        dedup(copies, str(tmp_path / "d"), **options)
    assert caught.value.exit_code == code
    assert not (tmp_path / "d").exists()


def test_the_command_says_what_it_dropped(command, copies, tmp_path):
    code, out, err = command("curate", "dedup", copies, "-o", tmp_path / "d", "--distance", "2", "--by", "sharpness")
    assert code == 0, err
    assert "drop by dedup/perceptual" in out
    code, _, err = command("curate", "dedup", copies, "-o", tmp_path / "d")
    assert (code, err.count("\n")) == (1, 1)
    code, out, _ = command("curate", "dedup", copies, "-o", tmp_path / "e", "--exact")
    assert (code, "dedup/" in out) == (0, False)
