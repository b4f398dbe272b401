"""Ingest: folders become manifests, and what is wrong with a file stands in its row."""

import hashlib
import os
import sys

import numpy as np
import pytest

from curate import layouts
from curate.filter import filter as filter_
from curate.ingest import ingest
from curate.merge import merge
from curate.report import report
from curate.retry import retry
from manifests import images, table
from manifests.errors import UserError

PATTERNS = {"lq": "hazy/{id}_*.jpg", "gt": "clear/{id}.png", "task": "dehaze"}


def rows_of(manifest):
    return manifest.table().to_pylist()


def test_pairs_with_a_shared_gt(hazy, tmp_path):
    done = ingest(str(hazy), str(tmp_path / "m"), dataset="mine", **PATTERNS)
    rows = rows_of(done)
    assert done.rows == {"rows": 12, "kept": 12, "dropped": 0, "error": 0}
    assert {row["group"] for row in rows} == {f"mine/clear/{i}.png" for i in range(6)}
    first = rows[0]
    data = (hazy / first["gt_path"]).read_bytes()
    assert first["gt_sha256"] == hashlib.sha256(data).hexdigest()
    assert (first["width"], first["height"], first["scale"], first["mode"]) == (384, 288, 1, "RGB")


def test_gt_only_folder(hazy, tmp_path):
    done = ingest(str(hazy), str(tmp_path / "m"), gt="clear/{id}.png", task="clean", dataset="mine")
    assert done.rows["kept"] == 6
    assert {row["lq_path"] for row in rows_of(done)} == {None}


def test_photographs_to_be_restored_without_gt_pass_through_the_stages(photographs, save, tmp_path):
    for index, pixels in enumerate(photographs.values()):
        save(f"d/{index}.png", pixels)
    first = ingest(str(tmp_path / "d"), str(tmp_path / "m"), layout="RealPhoto60", score=["entropy"])
    assert first.rows == {"rows": 6, "kept": 6, "dropped": 0, "error": 0}
    filtered = filter_(first.path, str(tmp_path / "f"), minimum={"entropy": 99}, iqa=["entropy"])
    assert filtered.rows == first.rows  # there is no GT to be judged
    assert {row["gt_path"] for row in rows_of(filtered)} == {None}
    assert all(row["lq.width"] == 384 and row["group"] for row in rows_of(filtered))
    assert os.path.getsize(report(filtered.path)) > 1000


def test_same_bytes_for_any_worker_count_and_place(hazy, tmp_path):
    here = tmp_path / "one" / "m"
    there = tmp_path / "two" / "m"
    ingest(str(hazy), str(here), **PATTERNS)
    ingest(str(hazy), str(there), workers=2, **PATTERNS)
    for name in ("manifest.json", "part-00000.parquet"):
        assert (here / name).read_bytes() == (there / name).read_bytes()


@pytest.mark.parametrize("kept", ["all", "first", "last"])
def test_a_run_that_goes_on_ends_in_the_same_bytes(hazy, tmp_path, monkeypatch, kept):
    module = sys.modules["curate.ingest"]
    monkeypatch.setattr(module, "UNIT_ROWS", 4)
    ingest(str(hazy), str(tmp_path / "one" / "m"), score=["entropy"], **PATTERNS)

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(module, "write", stop)
        ingest(str(hazy), str(tmp_path / "two" / "m"), score=["entropy"], **PATTERNS)
    units = sorted((tmp_path / "two" / "m" / ".work").glob("unit-*.parquet"))
    assert len(units) == 3
    for unit in {"all": [], "first": units[1:], "last": units[:-1]}[kept]:
        unit.unlink()
    ingest(str(hazy), str(tmp_path / "two" / "m"), score=["entropy"], **PATTERNS)
    for name in ("manifest.json", "part-00000.parquet"):
        assert (tmp_path / "one" / "m" / name).read_bytes() == (tmp_path / "two" / "m" / name).read_bytes()


def test_every_format_and_any_case_of_the_suffix(photographs, save, tmp_path):
    pixels = photographs["coffee"]
    for name in ("a.PNG", "b.jpg", "c.JPEG", "d.webp", "e.TIF", "f.bmp"):
        save(f"d/{name}", pixels)
    import cv2

    cv2.imwrite(str(tmp_path / "d" / "g.png"), pixels.astype(np.uint16) * 257)
    (tmp_path / "d" / "notes.txt").write_text("no image")
    done = ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="{id}.*", task="clean")
    rows = rows_of(done)
    assert done.rows == {"rows": 7, "kept": 7, "dropped": 0, "error": 0}
    assert rows[-1]["mode"] == "RGB;16"
    assert len({row["group"] for row in rows}) == 1  # one photograph, seven encodings


def test_broken_and_mismatched_pairs_become_error_rows(photographs, save, tmp_path):
    pixels = photographs["chelsea"]
    for name in ("ok", "cut", "empty", "size", "small", "lonely"):
        save(f"d/gt/{name}.png", pixels)
    save("d/lq/ok.jpg", pixels)
    save("d/lq/small.jpg", np.ascontiguousarray(pixels[::2, ::2]))
    save("d/lq/size.jpg", np.ascontiguousarray(pixels[:100, :100]))
    save("d/lq/orphan.jpg", pixels)
    target = save("d/lq/cut.jpg", pixels)
    target.write_bytes(target.read_bytes()[:3000])
    (tmp_path / "d" / "lq" / "empty.jpg").write_bytes(b"")
    done = ingest(
        str(tmp_path / "d"), str(tmp_path / "m"), lq="lq/{id}.jpg", gt="gt/{id}.png", task="sr", max_errors="100%"
    )
    reasons = {
        (row["lq_path"] or row["gt_path"]): " ".join(d["text"] for d in row["decisions"]) for row in rows_of(done)
    }
    assert done.rows == {"rows": 7, "kept": 2, "dropped": 0, "error": 5}
    assert "damaged JPEG" in reasons["lq/cut.jpg"]
    assert "empty" in reasons["lq/empty.jpg"]
    assert "no whole scale" in reasons["lq/size.jpg"]
    assert "no GT file" in reasons["lq/orphan.jpg"]
    assert "no LQ file" in reasons["gt/lonely.png"]
    assert reasons["lq/ok.jpg"] == ""
    scales = {row["lq_path"]: row["scale"] for row in rows_of(done)}
    assert scales["lq/small.jpg"] == 2


def test_a_bomb_costs_one_row(photographs, save, tmp_path):
    save("d/a.png", photographs["coffee"])
    save("d/bomb.png", np.zeros((15000, 15000), np.uint8))
    done = ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="{id}.png", task="clean")
    assert done.rows == {"rows": 2, "kept": 1, "dropped": 0, "error": 1}
    assert "15000x15000 is more than" in rows_of(done)[1]["decisions"][0]["text"]


@pytest.mark.parametrize(
    ("layout", "files"),
    [
        ("SOTS", {"indoor/hazy/1400_1.png": 0, "indoor/gt/1400.png": 0, "outdoor/hazy/0001_0.8_0.2.jpg": 1,
                  "outdoor/gt/0001.png": 1}),
        ("Rain100L", {"rainy/rain-001.png": 0, "norain-001.png": 0}),
        ("rain100l", {"input/1.png": 0, "target/1.png": 0, "input/2.png": 1, "target/2.png": 1}),
        ("GoPro", {"train/GOPR0372_07_00/blur/000047.png": 0, "train/GOPR0372_07_00/sharp/000047.png": 0,
                   "test/GOPR0384_11_00/blur/000001.png": 1, "test/GOPR0384_11_00/sharp/000001.png": 1}),
    ],
)  # fmt: skip
def test_known_layouts(layout, files, photographs, save, tmp_path):
    pictures = list(photographs.values())
    for path, which in files.items():
        save(f"d/{path}", pictures[which])
    done = ingest(str(tmp_path / "d"), str(tmp_path / "m"), layout=layout, check_pairs=False)
    rows = rows_of(done)
    assert done.rows["kept"] == len(rows) == len(files) // 2
    assert {row["task"] for row in rows} == {layouts.load(layout).task}
    assert all(row["split"] in ("train", "test") and row["group"] and row["subtask"] for row in rows)


def test_fused_scores_equal_the_separate_runs(hazy, tmp_path):
    from curate.identify import identify

    fused = ingest(str(hazy), str(tmp_path / "f"), score=["signals", "piqe"], identify=True, **PATTERNS)
    plain = ingest(str(hazy), str(tmp_path / "p"), **PATTERNS)
    from curate.score import score

    scored = score(plain.path, str(tmp_path / "s"), iqa=["piqe"])
    separate = identify(scored.path, str(tmp_path / "i"))
    assert fused.table().equals(separate.table())


def test_merge_unites_rows_columns_and_roots(hazy, tmp_path):
    one = ingest(str(hazy), str(tmp_path / "a"), dataset="one", **PATTERNS)
    two = ingest(str(hazy), str(tmp_path / "b"), dataset="two", gt="clear/{id}.png", task="clean", score=["contrast"])
    done = merge([one.path, two.path, one.path], str(tmp_path / "m"))
    assert done.rows["rows"] == 18
    assert set(done.roots) == {"one", "two"}
    contrast = done.table().column("iqa.contrast").to_pylist()
    assert contrast[:12] == [None] * 12 and None not in contrast[12:]


def test_merge_refuses_one_name_for_two_places(hazy, photographs, save, tmp_path):
    save("other/clear/0.png", photographs["coffee"])
    one = ingest(str(hazy), str(tmp_path / "a"), dataset="same", gt="clear/{id}.png", task="clean")
    two = ingest(str(tmp_path / "other"), str(tmp_path / "b"), dataset="same", gt="clear/{id}.png", task="clean")
    with pytest.raises(UserError, match="dataset 'same' lies at"):
        merge([one.path, two.path], str(tmp_path / "m"))


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        ({}, "--gt", 2),
        ({"gt": "clear/{id}.png"}, "--task", 2),
        ({"layout": "SOTZ"}, "did you mean SOTS", 2),
        (
            {**PATTERNS, "split": "val"},
            "--split 'val': no such split; there are train, test, ref.*take ref.*or test",
            2,
        ),
        ({**PATTERNS, "split": "validation"}, "no such split", 2),
        ({**PATTERNS, "split": "training"}, "no such split", 2),
        ({**PATTERNS, "split": "{part}"}, "no capture 'part'", 2),
        (
            {**PATTERNS, "lq": "{split}/{id}_*.jpg", "split": "{split}"},
            "hazy/0_1.jpg: --split .* 'hazy': no such split",
            2,
        ),
        (
            {**PATTERNS, "lq": "hazy/{id}.jpg"},
            "12 image files fit hazy/{id}.jpg and 6 fit clear/{id}.png, but no two .*"
            "'hazy/0_1.jpg' gives id='0_1', 'clear/0.png' gives id='0'",
            1,
        ),
        (
            {**PATTERNS, "lq": "fog/{id}.jpg"},
            "6 of its 18 image files fit clear/{id}.png, but none fits fog/{id}.jpg",
            1,
        ),
        ({"layout": "GoPro"}, "none of its 18 image files", 1),
        ({"gt": "nothing/{id}.png", "task": "clean"}, "none of its 18 image files", 1),
        ({"gt": "clear/{id}.png", "task": "clean", "group": "{scene}"}, "no capture 'scene'", 2),
        ({"gt": "clear/{id}.png", "task": "clean", "score": ["musik"]}, "did you mean musiq", 2),
    ],
)
def test_bad_usage_is_one_line_and_writes_nothing(hazy, tmp_path, options, message, code):
    with pytest.raises(UserError, match=message) as error:
        ingest(str(hazy), str(tmp_path / "m"), **options)
    assert error.value.exit_code == code
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("split", ["Train", "train", "TEST", "Ref"])
def test_a_split_is_named_in_any_case(hazy, tmp_path, split):
    done = ingest(str(hazy), str(tmp_path / "m"), split=split, **PATTERNS)
    assert {row["split"] for row in rows_of(done)} == {split.lower()}


def test_a_split_can_be_a_capture(photographs, save, tmp_path):
    for part in ("Train", "test"):
        for side in ("lq", "gt"):
            save(f"d/{part}/{side}/1.png", photographs["coffee"])
    patterns = {"lq": "{part}/lq/{id}.png", "gt": "{part}/gt/{id}.png", "task": "derain", "split": "{part}"}
    assert [row["split"] for row in rows_of(ingest(str(tmp_path / "d"), str(tmp_path / "m"), **patterns))] == [
        "train",
        "test",
    ]


def test_every_file_of_an_ambiguous_case_is_an_error_row(photographs, save, tmp_path):
    for path in ("lq/1.jpg", "lq/2.jpg", "gt/1.png", "gt/2.png", "gt/2.webp"):
        save(f"d/{path}", photographs["coffee"])
    done = ingest(
        str(tmp_path / "d"),
        str(tmp_path / "m"),
        lq="lq/{id}.jpg",
        gt="gt/{id}.*",
        task="derain",
        max_errors="100%",
        check_pairs=False,
    )
    problems = {row["lq_path"] or row["gt_path"]: [d["text"] for d in row["decisions"]] for row in rows_of(done)}
    assert problems == {
        "lq/1.jpg": [],
        "lq/2.jpg": ["several GT files fit it equally: gt/2.png, gt/2.webp"],
        "gt/2.png": ["several GT files fit lq/2.jpg equally: gt/2.png, gt/2.webp"],
        "gt/2.webp": ["several GT files fit lq/2.jpg equally: gt/2.png, gt/2.webp"],
    }


def test_photographs_of_ones_own_without_gt(photographs, save, tmp_path):
    for name in ("a", "b"):
        save(f"d/{name}.png", photographs["coffee"])
    done = ingest(str(tmp_path / "d"), str(tmp_path / "m"), lq="{id}.png", task="restore")
    assert done.rows == {"rows": 2, "kept": 2, "dropped": 0, "error": 0}
    assert {(row["gt_path"], row["task"], row["lq.width"]) for row in rows_of(done)} == {(None, "restore", 384)}


def test_hidden_system_and_unread_files_are_passed_over_and_said(photographs, save, tmp_path, caplog):
    picture = photographs["coffee"]
    for path in ("a.png", "._a.png", ".git/b.png", "x/__MACOSX/c.png", "x/@eaDir/d.png", "x/.ipynb_checkpoints/e.png"):
        save(f"d/{path}", picture)
    for name in ("f.HEIC", "g.jfif", "x/h.avif", "Thumbs.db", "notes.txt"):
        (tmp_path / "d" / name).write_bytes(b"x")
    done = ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="**/{id}.png", task="clean")
    assert [row["gt_path"] for row in rows_of(done)] == ["a.png"]
    (line,) = [one.getMessage() for one in caplog.records if "passed over" in one.getMessage()]
    assert "passed over: 1 .avif, 1 .heic, 1 .jfif, 1 hidden files, 4 hidden or system folders" in line


def test_the_end_of_ingest_names_failed_rows(command, photographs, save, tmp_path):
    save("d/gt/0.png", photographs["coffee"])
    for number in range(5):
        save(f"d/lq/{number}.png", photographs["coffee"])
    _, out, _ = command(
        *("curate", "ingest", tmp_path / "d", "--lq", "lq/{id}.png", "--gt", "gt/{id}.png", "--task", "derain"),
        *("-o", tmp_path / "m", "--max-errors", "100%", "--no-pairs"),
    )
    assert "4 error by ingest/pair: lq/1.png, lq/2.png, lq/3.png, …" in out


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        ingest(str(tmp_path / "none"), str(tmp_path / "m"), **PATTERNS)


def test_reads_from_and_writes_to_urls(hazy):
    import fsspec

    fs = fsspec.filesystem("memory")
    for path in hazy.rglob("*.*"):
        fs.pipe(f"/set/{path.relative_to(hazy).as_posix()}", path.read_bytes())
    done = ingest("memory://set", "memory://out/m", dataset="mine", **PATTERNS)
    assert done.rows["kept"] == 12
    assert table.read("memory://out/m").roots == {"mine": "memory://set"}
    assert not fs.exists("/out/m/.work")


def test_append_looks_at_what_is_new_only(hazy, tmp_path, monkeypatch):
    whole = ingest(str(hazy), str(tmp_path / "whole"), score=["contrast"], **PATTERNS)
    late = sorted((hazy / "clear").iterdir())[-1]
    aside = tmp_path / late.name
    late.rename(aside)
    first = ingest(str(hazy), str(tmp_path / "first"), **PATTERNS)
    aside.rename(late)
    seen, real = [], images.decode
    monkeypatch.setattr(images, "decode", lambda *a, **k: seen.append(1) or real(*a, **k))
    both = ingest(str(hazy), str(tmp_path / "both"), append=first.path, score=["contrast"], **PATTERNS)
    assert len(seen) < 6
    assert {r["pair_id"] for r in whole.table().to_pylist()} <= {r["pair_id"] for r in both.table().to_pylist()}
    assert both.rows["rows"] == first.rows["rows"] + 2
    scored = [row for row in both.table().to_pylist() if row["iqa.contrast"] is not None]
    assert len(scored) == 2
    assert [stage["stage"] for stage in both.stages] == ["ingest", "ingest"]
    with pytest.raises(UserError, match="another name with --dataset"):
        ingest(
            str(hazy / "clear"), str(tmp_path / "no"), gt="{id}.png", task="clean", append=first.path, dataset="data"
        )


def test_reuse_decodes_nothing_that_is_known(hazy, tmp_path, monkeypatch):
    options = {**PATTERNS, "score": ["signals"], "identify": True}
    first = ingest(str(hazy), str(tmp_path / "first"), **options)
    seen, real = [], images.decode
    monkeypatch.setattr(images, "decode", lambda *a, **k: seen.append(1) or real(*a, **k))
    again = ingest(str(hazy), str(tmp_path / "again"), reuse=[first.path], **options)
    assert again.table().equals(first.table())
    assert not seen
    ingest(str(hazy), str(tmp_path / "more"), reuse=[first.path], **{**options, "score": ["signals", "entropy"]})
    assert len(seen) == 6  # the GTs alone: a metric is new


def test_retry_mends_what_has_been_mended(hazy, tmp_path):
    good = sorted((hazy / "hazy").iterdir())
    kept = [good[i].read_bytes() for i in (0, 1)]
    for i in (0, 1):
        good[i].write_bytes(b"broken")
    first = ingest(str(hazy), str(tmp_path / "m"), score=["contrast"], **PATTERNS)
    assert first.rows["error"] == 2
    good[0].write_bytes(kept[0])
    second = retry(first.path, str(tmp_path / "r"))
    assert second.rows == {"rows": 12, "kept": 11, "dropped": 0, "error": 1}
    good[1].write_bytes(kept[1])
    whole = ingest(str(hazy), str(tmp_path / "w"), score=["contrast"], **PATTERNS)
    assert retry(second.path, str(tmp_path / "r2")).table().equals(whole.table())
    with pytest.raises(UserError, match="nothing to retry"):
        retry(whole.path)
