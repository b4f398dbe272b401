"""Pairs that are not what they say: other scenes, identical, exchanged, shifted and enlarged ones, on photographs."""

import cv2
import numpy as np
import pytest
import skimage.data

from curate import degradations, pair_checks
from curate.ingest import ingest
from curate.pair_checks import align, judge, shift, tasks
from curate.pair_summary import lines
from curate.pairs import pairs
from curate.shard import shard
from manifests import files, images, schema, table

COLUMNS = [*pair_checks.KINDS, "pair.state"]


def state(lq, gt, task="denoise", **options):
    values = measure(lq, gt, task, **options)
    return judge.state(values, judge.Policy())


def measure(lq, gt, task="denoise", **options):
    scale = round(gt.shape[1] / lq.shape[1])
    hashes = {"lq_phash": images.phash(lq), "gt_phash": images.phash(gt)}
    views = (pair_checks.view(np.ascontiguousarray(pixels)) for pixels in (lq, gt))
    return pair_checks.measure(*views, task=task, scale=scale, **hashes, **options) | {"scale": scale}


def moved(lq, gt, y, x, scale=1):
    """LQ and GT, cropped so that the LQ's content lies (y, x) GT pixels below and right of the GT's."""
    height, width = gt.shape[:2]
    gt = gt[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)]
    y, x, (height, width) = y // scale, x // scale, lq.shape[:2]
    return lq[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)], gt


def rows_of(done):
    return done.table().to_pylist()


@pytest.fixture(scope="module")
def photographs():
    found = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    found["motorcycle"] = skimage.data.stereo_motorcycle()[0]
    return {name: np.ascontiguousarray(pixels[: pixels.shape[0] // 8 * 8, :448]) for name, pixels in found.items()}


@pytest.fixture(scope="module")
def degraded(photographs):
    """(photograph's name, task, subtask) -> LQ, the subtasks taking turns."""
    return {
        (name, task, subtask): degradations.degrade(gt, task, subtask, 7 + number)
        for number, (name, gt) in enumerate(photographs.items())
        for task in degradations.names()
        for subtask in [degradations.subtasks(task)[number % len(degradations.subtasks(task))]]
    }


def test_right_pairs_of_every_task_stay(photographs, degraded):
    states = {key: state(lq, photographs[key[0]], key[1]) for key, lq in degraded.items()}
    assert {key: found for key, found in states.items() if found != "ok"} == {}


def test_wrong_scenes_of_every_task_are_found(photographs, degraded):
    names = list(photographs)
    states = {}
    for (name, task, subtask), lq in degraded.items():
        other = photographs[names[(names.index(name) + 1) % len(names)]]
        height, width = photographs[name].shape[:2]
        gt = cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)
        states[name, task, subtask] = state(lq, gt, task)
    assert set(states.values()) == {"other_scene"}


def test_neighboring_crops_of_one_photograph_are_other_scenes(photographs):
    for name in ("astronaut", "coffee", "motorcycle"):
        gt = photographs[name]
        noisy = degradations.degrade(gt, "denoise", "gaussian", 3)
        assert state(noisy[:, :224], gt[:, 224:]) == "other_scene"


@pytest.mark.parametrize("task", ["dehaze", "denoise", "derain", "low_light", "jpeg"])
def test_exchanged_sides_are_found(task, photographs, degraded):
    for (name, of, _), lq in degraded.items():
        if of == task:
            values = measure(photographs[name], lq, task)
            assert judge.state(values, judge.Policy()) == "swapped"
            (verdict,) = judge.decisions(values, task, judge.Policy())
            assert (verdict["rule"], verdict["verdict"]) == ("swapped", "drop")
            assert tasks.NOUNS[task] in verdict["text"]


def test_exchange_turns_the_probability_around(photographs, degraded):
    for (name, task, _), lq in degraded.items():
        if task in ("derain", "desnow", "deblur"):
            here, back = measure(lq, photographs[name], task), measure(photographs[name], lq, task)
            assert here["pair.swapped"] == pytest.approx(1 - back["pair.swapped"], abs=1e-6)
            assert here["pair.swapped"] < 0.5


def test_what_a_task_degrades_is_not_guessed_from_an_unknown_name(photographs, degraded):
    lq = next(lq for (name, task, _), lq in degraded.items() if (name, task) == ("coffee", "dehaze"))
    assert measure(photographs["coffee"], lq, "restore")["pair.swapped"] is None
    assert state(photographs["coffee"], lq, "restore") == "ok"
    assert measure(photographs["coffee"], lq, "restore", subtask="haze")["pair.swapped"] > 0.9


@pytest.mark.parametrize("y,x", [(1, 0), (0, -1), (-1, 1), (2, 2), (4, 0), (-8, 5), (12, 7), (-12, -12), (0, 40)])
def test_shifts_are_found_to_the_pixel(y, x, photographs, degraded):
    for (name, task, _), lq in degraded.items():
        if (name, task) in (("astronaut", "denoise"), ("coffee", "dehaze"), ("motorcycle", "derain")):
            values = measure(*moved(lq, photographs[name], y, x), task)
            assert judge.state(values, judge.Policy()) == "shifted"
            assert round(values["pair.shift_y"]) == y and round(values["pair.shift_x"]) == x
            assert values["pair.shift_confidence"] > 0.5


def test_shifts_between_scales_are_in_pixels_of_the_gt(photographs):
    gt = photographs["astronaut"]
    lq = degradations.degrade(gt, "sr", "x2", 1)
    values = measure(*moved(lq, gt, 4, -2, scale=2), "sr")
    assert (round(values["pair.shift_y"]), round(values["pair.shift_x"])) == (4, -2)
    assert judge.state(values, judge.Policy()) == "shifted"


def test_motion_blur_is_no_shift(photographs):
    for name, gt in photographs.items():
        for seed in range(3):
            lq = degradations.degrade(gt, "deblur", "motion", seed)
            values = measure(lq, gt, "deblur")
            assert values["pair.shift_y"] is None and judge.state(values, judge.Policy()) == "ok", name


def test_identical_pairs(photographs):
    gt = photographs["coffee"]
    assert state(gt, gt.copy()) == "identical"
    almost = gt.copy()
    almost[::9, ::9] ^= 1
    assert state(almost, gt) == "identical"
    spot = gt.copy()
    spot[100:104, 100:104] = 255 - spot[100:104, 100:104]  # hardly any error in all, but something to restore
    assert measure(spot, gt)["pair.psnr"] > 40 and state(spot, gt) != "identical"
    assert state(degradations.degrade(gt, "sr", "x2", 0), gt, "sr") == "ok"  # the GT made smaller is a right pair


def test_an_enlarged_image_is_marked(photographs):
    gt = photographs["motorcycle"]
    small = cv2.resize(gt, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    lq = cv2.resize(small, gt.shape[1::-1], interpolation=cv2.INTER_LANCZOS4)
    values = measure(lq, gt, "restore")
    assert judge.state(values, judge.Policy()) == "upscaled"
    assert 2.5 < values["pair.scale_found"] < 5


def test_flat_and_tiny_pairs_are_not_judged():
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert state(flat, flat + 10) == "flat"
    rng = np.random.default_rng(0)
    tiny = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    assert state(tiny, 255 - tiny) == "unknown"


def test_every_size_can_be_measured(photographs):
    gt = photographs["chelsea"]
    for height, width in ((16, 16), (17, 40), (33, 300), (280, 24), (64, 65), (130, 97)):
        values = measure(gt[:height, :width], gt[-height:, -width:], "denoise")
        assert all(np.isfinite(value) for value in values.values() if isinstance(value, float))


@pytest.fixture
def broken(photographs, degraded, save, tmp_path):
    """A folder of hazy pairs: six right ones, and one each of a wrong scene, shifted, exchanged, identical twice."""
    names = list(photographs)
    hazy = {name: lq for (name, task, _), lq in degraded.items() if task == "dehaze"}
    for name in names:
        save(f"d/clear/{name}.png", photographs[name])
        save(f"d/hazy/{name}_1.png", hazy[name])
    save("d/hazy/astronaut_2.png", degradations.degrade(photographs["astronaut"], "dehaze", "uniform", 99))
    save("d/hazy/astronaut_3.png", np.ascontiguousarray(hazy["coffee"][:, :448][: photographs["astronaut"].shape[0]]))
    lq, gt = moved(hazy["motorcycle"], photographs["motorcycle"], 4, -3)
    save("d/hazy/shifted_1.png", np.ascontiguousarray(lq))
    save("d/clear/shifted.png", np.ascontiguousarray(gt))
    save("d/hazy/swapped_1.png", photographs["rocket"][:, ::-1].copy())
    save("d/clear/swapped.png", hazy["rocket"][:, ::-1].copy())
    for name in ("same", "again"):
        save(f"d/clear/{name}.png", photographs["chelsea"][::-1].copy())
        save(f"d/hazy/{name}_1.png", photographs["chelsea"][::-1].copy(), compress_level=1 if name == "again" else 6)
    height = photographs["astronaut"].shape[0]
    if hazy["coffee"].shape[0] < height:
        save("d/hazy/astronaut_3.png", cv2.resize(hazy["coffee"], (448, height)))
    return tmp_path / "d"


def ingested(folder, output, **options):
    return ingest(str(folder), str(output), lq="hazy/{id}_*.png", gt="clear/{id}.png", task="dehaze", **options)


def test_ingest_drops_what_is_broken_and_says_so(broken, tmp_path):
    done = ingested(broken, tmp_path / "m")
    rows = {row["lq_path"]: row for row in rows_of(done)}
    found = {path[5:-4]: row["pair.state"] for path, row in rows.items() if row["pair.state"] != "ok"}
    assert found == {
        "astronaut_3": "other_scene",
        "shifted_1": "shifted",
        "swapped_1": "swapped",
        "same_1": "identical",
        "again_1": "identical",
    }
    dropped = {path[5:-4]: row["decisions"][0]["rule"] for path, row in rows.items() if row["status"] == "dropped"}
    assert dropped == {"astronaut_3": "scene", "swapped_1": "swapped", "same_1": "identical", "again_1": "identical"}
    text = "\n".join(lines(done))
    assert "1 other_scene" in text and "hazy/astronaut_3.png" in text and "--align" in text


def test_the_separate_stage_gives_the_same(broken, tmp_path):
    fused = ingested(broken, tmp_path / "fused")
    plain = ingested(broken, tmp_path / "plain", check_pairs=False)
    assert "pair.state" not in plain.column_names
    apart = pairs(str(tmp_path / "plain"), str(tmp_path / "apart"))
    assert apart.column_names == fused.column_names
    assert table.parquet_bytes(apart.table()) == table.parquet_bytes(fused.table())
    again = ingested(broken, tmp_path / "again", reuse=[str(tmp_path / "fused")])
    assert again.table().equals(fused.table())
    half = ingested(broken, tmp_path / "half", reuse=[str(tmp_path / "plain")])  # facts are known, pairs are not
    assert half.table().equals(fused.table())


def test_a_looser_run_revives(broken, tmp_path):
    ingested(broken, tmp_path / "m")
    loose = pairs(str(tmp_path / "m"), str(tmp_path / "loose"), scene=0, swapped=1)
    assert {row["decisions"][0]["rule"] for row in rows_of(loose) if row["status"] == "dropped"} == {"identical"}
    strict = pairs(str(tmp_path / "loose"), str(tmp_path / "strict"))
    assert [row["decisions"] for row in rows_of(strict)] == [
        row["decisions"] for row in rows_of(table.read(str(tmp_path / "m")))
    ]


def test_align_crops_shifted_pairs_to_their_overlap(broken, tmp_path):
    before = {row["pair_id"]: row for row in rows_of(ingested(broken, tmp_path / "m"))}
    done = pairs(str(tmp_path / "m"), str(tmp_path / "aligned"), align=True)
    rows = [row for row in rows_of(done) if row["pair.aligned_from"]]
    (row,) = rows
    old = before[row["pair.aligned_from"]]
    assert (old["height"] - row["height"], old["width"] - row["width"]) == (4, 3)
    assert row["dataset"] == f"{old['dataset']}-aligned" and row["pair.state"] == "ok" and row["status"] == "kept"
    lq, gt = (images.decode(files.read(*done.place(row, side))).pixels for side in ("lq", "gt"))
    assert lq.shape == gt.shape == (row["height"], row["width"], 3)
    whole = images.decode((broken / "clear" / "shifted.png").read_bytes()).pixels
    assert (gt == whole[:-4, 3:]).all()  # the LQ's content lies 4 pixels below and 3 to the left
    assert done.rows["rows"] == len(before) and row["gt_sha256"] != old["gt_sha256"]


def test_shards_can_be_measured(broken, tmp_path):
    plain = ingested(broken, tmp_path / "plain", check_pairs=False)
    split = schema.set_column(plain.table(), "split", ["train"] * plain.rows["rows"])
    table.write(str(tmp_path / "split"), split, roots=plain.roots, stages=plain.stages)
    shard(str(tmp_path / "split"), str(tmp_path / "shards"))
    done = pairs(str(tmp_path / "shards"), str(tmp_path / "checked"))
    fused = {row["pair_id"]: row for row in rows_of(ingested(broken, tmp_path / "fused"))}
    for row in rows_of(done):
        assert {name: row[name] for name in COLUMNS} == {name: fused[row["pair_id"]][name] for name in COLUMNS}


def test_rows_without_two_good_images_have_no_state(photographs, save, tmp_path):
    save("d/clear/a.png", photographs["coffee"])
    save("d/clear/b.png", photographs["chelsea"])
    save("d/hazy/b_1.png", photographs["chelsea"][:100])
    done = ingested(tmp_path / "d", tmp_path / "m", max_errors="100%")
    assert done.rows["error"] == 2
    before = rows_of(done)
    assert all(row[name] is None for row in before for name in COLUMNS)
    assert [row["decisions"] for row in rows_of(pairs(str(tmp_path / "m"), str(tmp_path / "p")))] == [
        row["decisions"] for row in before
    ]
    alone = ingest(str(tmp_path / "d"), str(tmp_path / "alone"), gt="clear/{id}.png", task="clean")
    assert {row["pair.state"] for row in rows_of(alone)} == {None} and alone.rows["kept"] == 2


def test_a_file_that_is_gone_is_an_error_row(broken, tmp_path):
    ingested(broken, tmp_path / "m", check_pairs=False)
    (broken / "hazy" / "coffee_1.png").unlink()
    done = pairs(str(tmp_path / "m"), str(tmp_path / "p"))
    (row,) = [row for row in rows_of(done) if row["status"] == "error"]
    assert "coffee_1.png" in row["decisions"][0]["text"] and row["pair.state"] is None


def test_folders_that_are_exchanged_are_said(photographs, save, tmp_path):
    for number, (name, gt) in enumerate(photographs.items()):
        save(f"d/clear/{name}.png", degradations.degrade(gt, "dehaze", "uniform", number))
        save(f"d/hazy/{name}_1.png", gt)
    text = "\n".join(lines(ingested(tmp_path / "d", tmp_path / "m")))
    assert "5 of 5 pairs look exchanged" in text and "--lq and --gt exchanged" in text


def test_command(broken, tmp_path, command):
    ingested(broken, tmp_path / "m", check_pairs=False)
    code, out, _ = command("curate", "pairs", tmp_path / "m", "-o", tmp_path / "p")
    assert code == 0 and "1 other_scene" in out and "2 identical" in out
    code, _, err = command("curate", "pairs", tmp_path / "m", "-o", tmp_path / "q", "--scene", "2")
    assert code == 2 and "--scene" in err


@pytest.mark.parametrize(
    "task,known",
    [
        *[("dehazing", "dehaze"), ("Haze4K", "dehaze"), ("low-light", "low_light"), ("LOLv2", "generic")],
        *[("lol", "low_light"), ("real_noise", "denoise"), ("sr", "sr"), ("x4", "sr"), ("raindrop", "generic")],
        *[("motion_deblurring", "deblur"), ("underwater", "generic"), ("noise_blur", "generic"), ("desnow", "desnow")],
    ],
)
def test_names_of_tasks(task, known):
    assert tasks.known(task) == known


def test_the_quick_look_takes_no_more_than_few_tiles(photographs):
    found = shift.tiles(*(pair_checks.view(photographs["coffee"]) for _ in range(2)), 1)
    assert found[0].shape == (shift.QUICK[1], shift.QUICK[0], shift.QUICK[0])


def test_pairs_of_two_scenes_are_never_aligned():
    row = {"pair.state": "shifted", "pair.shift_y": 4.0, "pair.shift_x": 0.0, "scale": 1, "height": 96, "width": 96}
    assert align.whole_shift(row | {"pair.same_scene": 0.9}) == (4, 0)
    assert align.whole_shift(row | {"pair.same_scene": 0.1}) is None
