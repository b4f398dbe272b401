"""GTs whose size is no multiple of the scale: offered, cropped by whatever reads them, and scales that are odd."""

import cv2
import numpy as np
import pytest

from curate.ingest import ingest
from curate.merge import merge
from curate.retry import retry
from curate.shard import shard
from manifests import crops, images, schema, table
from trainer.stream.index import open_index
from trainer.stream.reading import Reader

PATTERNS = {"lq": "lq/{id}x4.png", "gt": "gt/{id}.png", "task": "sr", "subtask": "x4"}
DOWN, UP, WHOLE = (253, 190), (254, 191), (256, 192)  # width, height of the GT


@pytest.fixture
def modcrop(photographs, save, tmp_path):
    """A ×4 set: LR rounded down, LR rounded up, and a GT that is a multiple of 4. Its folder."""
    pictures = list(photographs.values())
    for index, (name, (width, height)) in enumerate({"down": DOWN, "up": UP, "whole": WHOLE}.items()):
        gt = pictures[index][:height, :width]
        save(f"d/gt/{name}.png", np.ascontiguousarray(gt))
        up = name == "up"
        size = (-(-width // 4), -(-height // 4)) if up else (width // 4, height // 4)
        save(f"d/lq/{name}x4.png", cv2.resize(gt[: height // 4 * 4 or None], size, interpolation=cv2.INTER_AREA))
    return str(tmp_path / "d")


def rows_of(manifest):
    return {row["gt_path"][3:-4]: row for row in manifest.table().to_pylist()}


@pytest.mark.parametrize(
    ("gt", "lq", "crop"),
    [
        ((199, 158), (49, 39), (4, 196, 156, 49, 39)),
        ((199, 158), (50, 40), (4, 196, 156, 49, 39)),
        ((200, 158), (50, 40), (4, 200, 156, 50, 39)),
        ((255, 255), (127, 127), (2, 254, 254, 127, 127)),
        ((255, 255), (60, 60), None),
        ((384, 288), (100, 100), None),
        ((5, 5), (1, 1), None),  # x4 or x5
        ((5, 5), (2, 2), None),  # x2 or x3
        ((5, 5), (5, 4), None),
    ],
)
def test_the_crop_of_two_sizes(gt, lq, crop):
    assert crops.to_scale(gt, lq) == (crop and crops.Crop(*crop))


def test_an_error_offers_the_crop(modcrop, tmp_path):
    rows = rows_of(ingest(modcrop, str(tmp_path / "m"), max_errors="100%", **PATTERNS))
    assert [rows[name]["status"] for name in ("down", "up", "whole")] == ["error", "error", "kept"]
    assert not set(crops.COLUMNS) & set(rows["whole"])
    assert rows["down"]["decisions"][0]["text"] == (
        "no whole scale explains the sizes: GT 253x190, LQ 63x47; --crop-to-scale crops the GT to 252x188 (x4)"
    )
    assert rows["up"]["decisions"][0]["text"].endswith(
        "GT 254x191, LQ 64x48; --crop-to-scale crops the GT to 252x188 and the LQ to 63x47 (x4)"
    )


def test_rows_have_the_sizes_that_fit(modcrop, tmp_path):
    rows = rows_of(ingest(modcrop, str(tmp_path / "m"), crop_to_scale=True, **PATTERNS))
    assert {row["status"] for row in rows.values()} == {"kept"}
    for row in rows.values():
        assert (row["scale"], row["width"], row["height"]) == (4, 4 * row["lq.width"], 4 * row["lq.height"])
    assert [rows["down"][name] for name in crops.COLUMNS] == [1, 2, 0, 0]
    assert [rows["up"][name] for name in crops.COLUMNS] == [2, 3, 1, 1]
    assert [rows["whole"][name] for name in crops.COLUMNS] == [None] * 4


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("sharded", [False, True])
def test_the_trainer_sees_gt_as_scale_times_lq(modcrop, tmp_path, sharded, tile):
    done = ingest(modcrop, str(tmp_path / "m"), crop_to_scale=True, split="train", **PATTERNS)
    kept = rows_of(done)
    if sharded:
        done = shard(done.path, str(tmp_path / "s"), tile=tile, overlap=0)
        again = shard(done.path, str(tmp_path / "s2"))
        assert again.rows == done.rows and not again.rows["error"]
    index = open_index(done.path)
    assert len(index.rows) == (3 if tile is None or not sharded else 36)
    for number, row in enumerate(index.rows):
        pair = index.load(number)
        assert pair.gt.shape == (row.height, row.width, 3)
        assert (4 * pair.lq.shape[0], 4 * pair.lq.shape[1]) == pair.gt.shape[:2]
        part = Reader().pair(row, bottom=40)
        assert part.gt.shape[1] == row.width and 4 * part.lq.shape[1] == row.width
        np.testing.assert_array_equal(part.gt[:40], pair.gt[:40])
        if tile is None or not sharded:
            name = next(name for name, one in kept.items() if one["pair_id"] == row.pair_id)
            whole = images.decode((tmp_path / "d" / "gt" / f"{name}.png").read_bytes()).pixels
            np.testing.assert_array_equal(pair.gt, whole[: row.height, : row.width])


def test_a_file_that_has_changed_is_no_crop(modcrop, save, photographs, tmp_path):
    done = ingest(modcrop, str(tmp_path / "m"), crop_to_scale=True, split="train", **PATTERNS)
    save("d/gt/down.png", photographs["coffee"])
    index = open_index(done.path)
    number = next(n for n, row in enumerate(index.rows) if row.gt.url.endswith("down.png"))
    with pytest.raises(Exception, match="is 384x288 where the manifest says 252x188"):
        index.load(number)
    assert shard(done.path, str(tmp_path / "s"), max_errors="100%").rows["error"] == 1


def test_crops_outlive_merge_reuse_and_retry(modcrop, save, photographs, tmp_path):
    done = ingest(modcrop, str(tmp_path / "m"), crop_to_scale=True, **PATTERNS)
    again = ingest(modcrop, str(tmp_path / "r"), crop_to_scale=True, reuse=[done.path], **PATTERNS)
    assert again.table().equals(done.table())
    plain = ingest(modcrop, str(tmp_path / "p"), gt="gt/{id}.png", task="clean", dataset="other", reuse=[done.path])
    assert (rows_of(plain)["down"]["width"], rows_of(plain)["down"]["height"]) == DOWN
    both = merge([done.path, plain.path], str(tmp_path / "b"))
    assert {row["status"] for row in both.table().to_pylist()} == {"kept"}
    failed = done.table()
    problem = [schema.decision("ingest", "unreadable", "error", "gone")]
    failed = schema.set_column(failed, "decisions", [problem] * 3, schema.CORE["decisions"])
    table.write(str(tmp_path / "f"), failed, roots=done.roots, stages=done.stages)
    assert retry(str(tmp_path / "f"), str(tmp_path / "t")).table().equals(done.table())


def test_the_review_page_shows_what_belongs_to_the_pair(modcrop, tmp_path):
    from curate.review.rows import Rows

    rows = Rows(ingest(modcrop, str(tmp_path / "m"), crop_to_scale=True, **PATTERNS).path)
    sizes = [images.decode(rows.image(row, side)[0]).pixels.shape[:2] for row in (0, 1) for side in ("gt", "lq")]
    assert sizes == [(188, 252), (47, 63)] * 2


@pytest.mark.parametrize(
    ("task", "subtask", "text"),
    [
        ("sr", "x4", "sr:x4 (its name says x4): 2 pairs have GT and LQ of equal size: lq/0.png, lq/1.png; right for"),
        ("super_resolution", "", "super_resolution: 2 pairs have GT and LQ of equal size"),
        ("sr_x2", "", "sr_x2 (its name says x2): 2 pairs have GT and LQ of equal size"),
        ("derain", "", None),
        ("desnow", "real", None),
    ],
)
def test_equal_sizes_in_super_resolution_are_said(task, subtask, text, photographs, save, tmp_path, caplog):
    for number, pixels in enumerate(list(photographs.values())[:2]):
        save(f"d/lq/{number}.png", pixels)
        save(f"d/gt/{number}.png", pixels)
    options = {"lq": "lq/{id}.png", "gt": "gt/{id}.png", "task": task, "subtask": subtask}
    ingest(str(tmp_path / "d"), str(tmp_path / "m"), **options)
    said = [one.getMessage() for one in caplog.records if "pairs have" in one.getMessage()]
    assert [one[: len(text)] for one in said] == ([text] if text else [])


def test_another_scale_than_the_name_tells_is_said(photographs, save, tmp_path, caplog):
    pixels = photographs["coffee"]
    save("d/gt/a.png", pixels)
    save("d/lq/a.png", np.ascontiguousarray(pixels[::2, ::2]))
    ingest(str(tmp_path / "d"), str(tmp_path / "m"), lq="lq/{id}.png", gt="gt/{id}.png", task="sr", subtask="x4")
    assert "sr:x4 (its name says x4): 1 pairs have scale 2: lq/a.png" in caplog.text
