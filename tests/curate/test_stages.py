"""The stages after ingest, each on real photographs."""

import io
import json
import re
import tarfile
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import display, identifier, scorers
from curate.caption import caption
from curate.captioners import signals
from curate.degrade import degrade
from curate.filter import filter as filter_
from curate.filter import preview
from curate.identify import identify
from curate.ingest import ingest
from curate.report import report
from curate.score import score
from curate.shard import shard
from curate.split import assign, check, split
from manifests import images, schema, table
from manifests.errors import UserError


@pytest.fixture
def clean(hazy, tmp_path):
    """A manifest of six clean photographs with all signals."""
    done = ingest(str(hazy), str(tmp_path / "clean"), gt="clear/{id}.png", task="clean", dataset="p", score=["signals"])
    return done.path


@pytest.fixture
def pairs(clean, tmp_path):
    """Pairs of three tasks, two crops a photograph."""
    return degrade(clean, str(tmp_path / "pairs"), tasks=["denoise", "sr", "deblur:motion"], crop=128, crops=2).path


def column(manifest, name):
    return table.read(str(manifest)).table().column(name).to_pylist()


def test_scores_are_those_of_the_metric_itself(clean, photographs, tmp_path):
    import pyiqa
    import torch

    done = score(clean, str(tmp_path / "s"), iqa=["piqe", "entropy"])
    metric = pyiqa.create_metric("piqe", device=torch.device("cpu"))
    for value, pixels in zip(column(done.path, "iqa.piqe"), photographs.values(), strict=True):
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        assert value == pytest.approx(float(metric(tensor)), abs=1e-3)
    assert done.stages[-1]["params"]["metrics"]["piqe"].startswith("pyiqa-")


def test_a_shared_gt_is_scored_once(hazy, tmp_path, monkeypatch):
    from curate import scorers

    calls = []
    real = scorers.measure
    monkeypatch.setattr(scorers, "measure", lambda *given: calls.append(1) or real(*given))
    made = ingest(str(hazy), str(tmp_path / "m"), lq="hazy/{id}_*.jpg", gt="clear/{id}.png", task="dehaze")
    score(made.path, str(tmp_path / "s"), iqa=["contrast"])
    assert made.rows["rows"] == 12
    assert len(calls) == 6


def test_a_nan_score_and_a_changed_file_are_error_rows(hazy, save, tmp_path):
    save("data/clear/0.png", np.zeros((64, 64, 3), np.uint8))
    made = ingest(str(hazy), str(tmp_path / "m"), gt="clear/{id}.png", task="clean")
    save("data/clear/1.png", np.ones((64, 64, 3), np.uint8))
    done = score(made.path, str(tmp_path / "s"), iqa=["piqe"])
    texts = [" ".join(d["text"] for d in row) for row in column(done.path, "decisions")]
    assert done.rows["error"] == 2
    assert "piqe is nan" in texts[0]
    assert "changed since ingest" in texts[1]


def test_thresholds_drop_and_a_looser_filter_revives(clean, tmp_path):
    values = sorted(column(clean, "iqa.contrast"))
    strict = filter_(clean, str(tmp_path / "a"), minimum={"contrast": values[3]})
    assert strict.rows["dropped"] == 3
    loose = filter_(strict.path, str(tmp_path / "b"), minimum={"contrast": values[1]})
    assert loose.rows["dropped"] == 1
    reason = next(d for row in column(loose.path, "decisions") for d in row)
    assert reason["value"] == values[0]
    assert reason["threshold"] == values[1]


def test_drop_worst_is_per_task_and_over_distinct_gts(hazy, tmp_path):
    made = ingest(str(hazy), str(tmp_path / "m"), lq="hazy/{id}_*.jpg", gt="clear/{id}.png", task="dehaze")
    done = filter_(made.path, str(tmp_path / "f"), iqa=["entropy"], drop_worst={"entropy": 34})
    rows = done.table().to_pylist()
    worst = sorted({row["iqa.entropy"] for row in rows})[:2]
    assert {row["iqa.entropy"] for row in rows if row["status"] == "dropped"} == set(worst)
    assert done.rows["dropped"] == 4


def test_without_a_threshold_the_worst_are_dropped_and_announced(clean, tmp_path):
    said = []
    done = filter_(clean, str(tmp_path / "f"), iqa=["piqe"], say=said.append)
    assert "worst 5 %" in said[0]
    assert done.stages[-1]["params"]["drop_worst"] == {"piqe": 5.0}


def test_a_manifest_without_any_gt_is_filtered_and_nothing_is_dropped(hazy, tmp_path):
    alone = ingest(str(hazy), str(tmp_path / "lq"), lq="clear/{id}.png", task="dehaze", dataset="p")
    done = filter_(alone.path, str(tmp_path / "f"), max_degradation=0.5)
    assert done.rows == alone.rows and done.rows["kept"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to filter by"),
        ({"iqa": ["exposure"]}, "neither end is better"),
        ({"minimum": {"contrast": float("nan")}}, "finite"),
        ({"drop_worst": {"piqe": 120}}, "between 0 and 100"),
        ({"minimum": {"nonsense": 1}}, "unknown metric"),
        ({"minimum": {"judge.quality": 1}}, "has no column"),
        ({"iqa": ["musiq"], "weights": {"musiq": "/none.pth"}}, "weights cannot be read"),
        ({"iqa": ["piqe"], "weights": {"musiq": "x"}}, "x: weights cannot be read"),
        ({"iqa": ["piqe"], "device": "cuda:9"}, "no CUDA device"),
    ],
)
def test_bad_policies_are_one_line_and_write_nothing(clean, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        filter_(clean, str(tmp_path / "f"), **options)
    assert not (tmp_path / "f" / "manifest.json").exists()


def test_identify_flags_what_was_done_to_a_photograph(photographs, save, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("coffee", "chelsea", "astronaut"):
        pixels = photographs[name]
        noisy = np.clip(pixels + rng.normal(0, 30, pixels.shape), 0, 255).astype(np.uint8)
        dark = (255 * (pixels / 255) * 0.12).astype(np.uint8)
        save(f"d/clean/{name}.png", pixels)
        save(f"d/noise/{name}.png", noisy)
        save(f"d/low_light/{name}.png", dark)
        save(f"d/jpeg/{name}.jpg", pixels, quality=10)
    made = ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="{kind}/{id}.*", task="clean", group="{id}")
    done = identify(made.path, str(tmp_path / "i"))
    for row in done.table().to_pylist():
        kind = row["gt_path"].split("/")[0]
        flagged = {t for t in ("noise", "low_light", "jpeg") if row[f"degradation.{t}"] > 0.5}
        assert flagged == ({kind} - {"clean"}), row["gt_path"]


def test_captions_say_what_was_measured_and_which_captioner_wrote_it(clean, tmp_path):
    done = caption(clean, str(tmp_path / "c"))
    texts = column(done.path, "caption")
    assert all(re.match(r"A landscape-format color photograph of 384x288 pixels, ", text) for text in texts)
    assert set(column(done.path, "caption_model")) == {"signals-2"}
    with pytest.raises(UserError, match="unknown captioner 'blip'"):
        caption(clean, str(tmp_path / "d"), captioner="blip")


def test_caption_measures_the_signals_that_rows_lack(hazy, clean, tmp_path):
    made = ingest(str(hazy), str(tmp_path / "m"), gt="clear/{id}.png", task="clean", dataset="p")
    captions = [column(caption(m, str(tmp_path / f"c{i}")).path, "caption") for i, m in enumerate((made.path, clean))]
    assert captions[0] == captions[1] and None not in captions[0]


def test_captions_name_a_degradation_if_and_only_if_the_identifier_finds_it(photographs, save, tmp_path):
    rng = np.random.default_rng(0)
    for name, pixels in photographs.items():
        save(f"d/{name}.png", pixels)
        save(f"d/{name}_noisy.png", np.clip(pixels + rng.normal(0, 25, pixels.shape), 0, 255).astype(np.uint8))
        save(f"d/{name}_coarse.jpg", pixels, quality=10)
    made = ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="{id}.*", task="clean")  # nothing is measured yet
    rows = caption(made.path, str(tmp_path / "c")).table().to_pylist()
    words = {name: signals.NAMES.get(name, name) for name in identifier.TYPES}
    for row in rows:
        shown = row["caption"].partition(" It shows ")[2]
        likely = [word for name, word in words.items() if row[f"degradation.{name}"] > 0.5]
        assert shown == (signals.listed(likely) + "." if likely else "")
        assert not re.search(r"\bno\b|noise|blur|sharp|haze|rain|artifact", row["caption"].partition(" It shows ")[0])
    assert sum("It shows noise" in row["caption"] for row in rows if "noisy" in row["gt_path"]) >= 5


def test_signals_of_another_version_are_measured_anew_and_never_mixed(photographs, save, tmp_path, monkeypatch):
    for name, pixels in photographs.items():
        save(f"d/{name}.png", pixels)
    monkeypatch.setattr(scorers, "SIGNALS_VERSION", scorers.SIGNALS_VERSION - 1)
    made = ingest(
        str(tmp_path / "d"), str(tmp_path / "m"), gt="{id}.png", task="clean", score=["signals"], identify=True
    )
    monkeypatch.undo()
    old = made.table().drop_columns(["iqa.streaks", "degradation.rain"])  # as a version wrote it that had no rain
    old = old.set_column(old.column_names.index("iqa.noise_sigma"), "iqa.noise_sigma", pa.array([-1.0] * len(old)))
    old = old.set_column(old.column_names.index("degradation.noise"), "degradation.noise", pa.array([-1.0] * len(old)))
    stages = [{**one, "params": {k: v for k, v in one["params"].items() if k != "identifier"}} for one in made.stages]
    table.write(str(tmp_path / "old"), old, roots=made.roots, stages=stages)
    for number, stage in enumerate((identify, caption, partial(filter_, max_degradation=0.999))):
        done = stage(str(tmp_path / "old"), str(tmp_path / f"new{number}"))
        for name in ("iqa.noise_sigma", "iqa.streaks", "degradation.noise", "degradation.rain"):
            assert all(value is not None and value != -1 for value in column(done.path, name)), name
        again = stage(done.path, str(tmp_path / f"again{number}"))
        assert not again.stages[-1]["params"].get("metrics")  # nothing was left to measure


def test_degrade_makes_pairs_that_are_what_their_rows_say(pairs):
    source = table.read(pairs)
    rows = [row for row in source.table().to_pylist() if row["lq_path"]]
    assert len(rows) == 6 * 3 * 2
    for row in rows:
        with open(source.locate(row["dataset"], row["lq_path"]), "rb") as file:
            data = file.read()
        assert images.sha256(data) == row["lq.sha256"]
        assert images.decode(data).width == row["lq.width"]
        assert row["lq.width"] * row["scale"] == row["width"] == 128
        assert row["group"].startswith("p/")
        assert json.loads(row["degrade.params"])["severity"] >= 0
    assert {row["subtask"] for row in rows if row["task"] == "deblur"} == {"motion"}


def test_degrade_gives_the_same_bytes_for_any_worker_count(clean, tmp_path):
    for workers in (0, 2):
        degrade(clean, str(tmp_path / f"w{workers}" / "d"), crop=64, crops=1, workers=workers)
    first, second = ((tmp_path / f"w{n}" / "d") for n in (0, 2))
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file() and p.name != "run.jsonl")
    assert len(names) > 6 * 9
    assert names == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file() and p.name != "run.jsonl")
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_split_moves_whole_groups_across_tasks(pairs, tmp_path):
    done = split(pairs, str(tmp_path / "s"), ref=4, test=0.2)
    rows = [row for row in done.table().to_pylist() if row["split"]]
    for task in ("deblur", "denoise", "sr"):
        assert sum(row["task"] == task and row["split"] == "ref" for row in rows) == 4
    by_group = {}
    for row in rows:
        by_group.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_group.values())
    assert {row["split"] for row in rows} == {"ref", "test", "train"}


def test_split_says_which_task_has_too_little(pairs, clean, tmp_path):
    with pytest.raises(UserError, match=r"task '\w+': has 12 pairs, too few for 99 in D_ref"):
        split(pairs, str(tmp_path / "s"), ref=99)
    with pytest.raises(UserError, match="no kept row has an LQ"):
        split(clean, str(tmp_path / "s"))


worlds = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 11), st.integers(0, 30), st.integers(0, 30)),
    min_size=1,
    max_size=50,
)


@settings(max_examples=60, deadline=None)
@given(worlds, st.integers(1, 3), st.integers(0, 5), st.randoms(use_true_random=False))
def test_split_is_disjoint_equal_and_independent_of_row_order(rows, ref, seed, shuffle):
    rng = np.random.default_rng(0)
    hashes = [f"{int(h):016x}" for h in rng.integers(0, 2**63, 31)]
    made = []
    for i, (task, group, content, look) in enumerate(rows):
        row = {"pair_id": f"{i:032x}", "task": task, "group": f"g{group}", "dataset": "d", "lq_path": f"{i}.png"}
        made.append(row | {"gt_sha256": f"s{content}", "lq.sha256": f"l{i}", "phash": hashes[look]})
    mixed = made.copy()
    shuffle.shuffle(mixed)
    results = []
    for ordered in (made, mixed):
        rows_table = schema.conform(pa.Table.from_pylist(ordered))
        try:
            splits = assign(rows_table, ref=ref, test=0.2, seed=seed)
        except UserError as error:
            results.append(str(error))
            continue
        done = schema.set_column(rows_table, "split", splits, pa.string())
        check(done, ref)
        results.append(dict(zip(done.column("pair_id").to_pylist(), splits, strict=True)))
    assert results[0] == results[1]


def test_check_fails_loudly_on_leaks():
    row = {"task": "a", "dataset": "d", "lq_path": "x.png"}
    one = row | {"pair_id": "1" * 32, "split": "train", "group": "x", "gt_sha256": "1", "phash": "00000000000000ff"}
    two = row | {"pair_id": "2" * 32, "split": "test", "group": "y", "gt_sha256": "2", "phash": "00000000000000fe"}
    with pytest.raises(UserError, match="near-equal"):
        check(schema.conform(pa.Table.from_pylist([one, two])), 0)
    with pytest.raises(UserError, match="group x is in two splits"):
        check(schema.conform(pa.Table.from_pylist([one, two | {"group": "x"}])), 0)


@pytest.fixture
def shards(pairs, tmp_path):
    """A shard folder with five pairs a shard."""
    done = split(pairs, str(tmp_path / "split"), ref=4, test=0.2)
    return shard(done.path, str(tmp_path / "shards"), samples_per_shard=5).path


def test_shards_open_in_webdataset_and_a_pair_is_one_read_away(shards, tmp_path):
    source = table.read(shards)
    rows = {row["pair_id"]: row for row in source.table().to_pylist() if row["shard"]}
    seen = 0
    for tar in sorted((tmp_path / "shards").rglob("*.tar")):
        for sample in webdataset.WebDataset(str(tar), shardshuffle=False).decode("pil"):
            row = rows[sample["__key__"]]
            assert {"lq.png", "gt.png", "json"} <= set(sample)
            assert sample["json"]["task"] == row["task"]
            assert f"{row['split']}/{row['task']}-" in row["shard"]
            data = tar.read_bytes()
            gt = data[row["gt_offset"] : row["gt_offset"] + row["gt_size"]]
            assert images.sha256(gt) == row["gt_sha256"]
            lq = data[row["lq_offset"] : row["lq_offset"] + row["lq_size"]]
            assert images.sha256(lq) == row["lq.sha256"]
            span = data[row["sample_offset"] : row["sample_offset"] + row["sample_size"]]
            with tarfile.open(fileobj=io.BytesIO(span)) as part:
                members = part.getmembers()
            assert [m.name.partition(".")[2] for m in members] == ["lq.png", "gt.png", "json"]
            assert {(m.mtime, m.uid, m.gid, m.uname) for m in members} == {(0, 0, 0, "")}
            seen += 1
    assert seen == len(rows) > 20


def test_what_needs_conversion_becomes_png_and_jpeg_is_copied(photographs, save, tmp_path):
    pixels = photographs["coffee"]
    for index, (name, other) in enumerate(photographs.items()):
        save(f"d/gt/{index}.bmp", other)
        save(f"d/lq/{index}.jpg", other, quality=40)
        assert name
    made = ingest(str(tmp_path / "d"), str(tmp_path / "m"), lq="lq/{id}.jpg", gt="gt/{id}.bmp", task="jpeg")
    done = shard(split(made.path, str(tmp_path / "s"), ref=1).path, str(tmp_path / "shards"))
    tar = tmp_path / "shards" / next(row["shard"] for row in done.table().to_pylist() if row["gt_path"] == "gt/2.bmp")
    sample = next(s for s in webdataset.WebDataset(str(tar), shardshuffle=False).decode("rgb8") if s)
    assert {"lq.jpg", "gt.png"} <= set(sample)
    assert any((p == sample["gt.png"]).all() for p in photographs.values() if p.shape == sample["gt.png"].shape)
    assert pixels.shape == sample["gt.png"].shape


def test_a_file_that_changed_is_left_out_of_the_shard(pairs, tmp_path):
    done = split(pairs, str(tmp_path / "split"), ref=4, test=0.2)
    row = next(r for r in done.table().to_pylist() if r["split"] == "train" and r["lq_path"])
    with open(done.locate(row["dataset"], row["lq_path"]), "wb") as file:
        file.write(b"gone")
    sharded = shard(done.path, str(tmp_path / "shards"))
    assert sharded.rows["error"] == 1
    after = {r["pair_id"]: r for r in sharded.table().to_pylist()}[row["pair_id"]]
    assert (after["status"], after["shard"]) == ("error", None)


def test_the_report_opens_offline_and_shows_what_was_decided(shards, clean, tmp_path):
    strict = filter_(clean, str(tmp_path / "f"), minimum={"contrast": sorted(column(clean, "iqa.contrast"))[2]})
    for manifest in (shards, strict.path):
        page = report(manifest, str(tmp_path / f"{len(manifest)}.html"))
        with open(page, encoding="utf-8") as file:
            text = file.read()
        assert not re.search(r"""<(script|link|img|iframe)[^>]*(src|href)=["']?https?:""", text)
        assert "data:image/jpeg;base64," in text
    assert "min:contrast" in text
    with pytest.raises(UserError, match="exists already"):
        report(strict.path, page)


def test_a_dry_run_says_what_the_filter_does_on_any_number_of_parts(clean, tmp_path):
    whole = table.read(clean)
    parts = tmp_path / "clean2"  # beside the first, so that its relative roots hold
    table.write(str(parts), whole.table(), roots=whole.roots, stages=whole.stages, part_rows=2)
    policy = {"maximum": {"contrast": 0.25}, "drop_worst": {"sharpness": 34.0}}
    one, two = (filter_(m, str(tmp_path / f"f{i}"), **policy) for i, m in enumerate((clean, str(parts))))
    assert len(two.info["parts"]) == 3
    assert one.table().equals(two.table())
    assert preview(str(parts), **policy) == {row.pop("task"): row for row in display.summary(one)}
    assert 1 < one.rows["dropped"] < 6
    with pytest.raises(UserError, match=r"has no column 'iqa\.musiq'"):
        preview(clean, minimum={"musiq": 40}, measure=False)
