"""Groups from names and looks: scenes stay whole, flat series and classes are not merged, and it is said."""

import random
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest

from curate import groups, scene_names
from curate.dedup import dedup
from curate.ingest import ingest
from curate.split import split
from manifests import table


def scenes_of(paths, phash=None):
    """The scenes that names tell of, as sorted lists of files."""
    found = scene_names.find({path: (phash or {}).get(path) for path in paths})
    by_key = defaultdict(list)
    for path, key in found.key.items():
        by_key[key].append(path)
    return sorted(map(sorted, by_key.values())), list(found.patterns)


@pytest.mark.parametrize(
    ("paths", "scenes", "form"),
    [
        ([f"Canon5D2_5_160_{iso}_{what}_{n}_mean.JPG" for iso in (3200, 6400) for what in ("chair", "desk", "toy")
          for n in (1, 5, 14)], 6, "{scene}_{n}_mean"),
        ([f"chair-{n}.png" for n in (3, 8)] + [f"plug{n}.png" for n in (1, 2)] + ["a.png", "b.png"], 2, "{scene}-{n}"),
        ([f"{i:04d}_crop{n}.png" for i in range(5) for n in range(3)], 5, "{scene}_crop{n}"),
        ([f"{i:04d}_s{n:03d}.png" for i in range(5) for n in range(30)], 5, "{scene}_s{n}"),
        ([f"{i:04d}_x{x}_y{y}.png" for i in range(5) for x in (0, 128) for y in (0, 64)], 5, "{scene}_y{n}"),
        ([f"img_{i:03d}_{n}.png" for i in range(6) for n in range(1, 4)], 6, "{scene}_{n}"),
        ([f"{i:02d}_{n}.png" for i in range(6) for n in range(4)], 6, "{scene}_{n}"),
        ([f"gt/clip_{i}/frame{n:03d}.png" for i in range(6) for n in range(4)], 6, "{scene}/{n}"),
        ([f"a/{i:03d}_frame{n}.png" for i in range(4) for n in range(3)] + ["b/one.png"], 4, "{scene}_frame{n}"),
    ],
)  # fmt: skip
def test_numbered_names_are_scenes(paths, scenes, form):
    found, forms = scenes_of(paths)
    assert len(found) == scenes and all(len(members) > 1 for members in found)
    assert forms[0] == form


@pytest.mark.parametrize(
    "paths",
    [
        [f"{i:04d}.png" for i in range(900)],
        [f"img_s{i:03d}.png" for i in range(40)],
        [f"kodim{i:02d}.png" for i in range(1, 25)],
        [f"IMG_{i:04d}.jpg" for i in range(50)] + [f"DSC_{i:04d}.jpg" for i in range(40)] + ["a.jpg", "b.jpg"],
        [f"IMG_2021081{i}_1422{s}.jpg" for i in range(9) for s in (11, 23 + i, 35 + i)],
        [f"{name}/{i:04d}.png" for name in ("indoor", "outdoor", "cars", "cats") for i in range(20)],
        [f"{name}_{i:03d}.png" for name in ("indoor", "outdoor", "cars", "cats") for i in range(100)],
        [f"{name}_{i}.png" for name in ("indoor", "outdoor") for i in range(9)],
        [f"{camera}_{i:03d}_HR.png" for camera in ("Canon", "Nikon", "Sony") for i in range(9)],
        [f"{i * 7919 % 100000}.png" for i in range(99)],
        [f"a{i:04d}-jmac_DSC{1459 + i}.tif" for i in range(60)],
        [f"beach_{i * 977 + 100000}.jpg" for i in range(9)] + [f"tree_{i + 123456}.jpg" for i in range(9)] + ["c.jpg"],
        ["1.png"], [], ["x/1.png", "y/1.png", "z/1.png"],
    ],
)  # fmt: skip
def test_flat_series_cameras_dates_and_classes_are_no_scenes(paths):
    assert scenes_of(paths)[0] == []


def test_folders_of_numbers_are_scenes_where_neighbors_look_alike():
    chance = random.Random(0)
    paths = [f"{folder}/{n:05d}.png" for folder in ("aa", "bb", "cc", "dd") for n in range(6)]
    apart = {path: f"{chance.getrandbits(64):016x}" for path in paths}
    assert scenes_of(paths, apart)[0] == []
    base = {folder: chance.getrandbits(64) for folder in ("aa", "bb", "cc", "dd")}
    alike = {path: f"{base[path[:2]] ^ sum(1 << chance.randrange(64) for _ in range(9)):016x}" for path in paths}
    assert len(scenes_of(paths, alike)[0]) == 4


@pytest.fixture
def crops(photographs, save, tmp_path):
    """Twelve scenes, two or three shots of each that do not overlap, named as PolyU names them. Their folder."""
    for index, (name, pixels) in enumerate(photographs.items()):
        for half in (0, 1):
            for n in range(2 + index % 2):
                top, left = 96 * n, 192 * half
                clean = pixels[top : top + 96, left : left + 96]
                stem = f"pairs/Canon5D2_5_160_3200_{name}{'ab'[half]}_{n + 3}"
                save(f"{stem}_mean.png", clean)
                noise = np.random.default_rng(n).normal(0, 12, clean.shape)
                save(f"{stem}_real.png", np.clip(clean + noise, 0, 255).astype(np.uint8))
    return tmp_path / "pairs"


def taken(manifest, *columns):
    return table.read(str(manifest)).table(list(columns)).to_pylist()


def test_the_shots_of_a_scene_stay_in_one_split_and_it_is_said(crops, command, tmp_path):
    code, out, _ = command(
        "curate", "ingest", crops, "--gt", "{id}_mean.png", "--lq", "{id}_real.png", "--task", "denoise", "-o",
        tmp_path / "m",
    )  # fmt: skip
    assert code == 0 and "groups: 12 from file names ({scene}_{n}_mean); --group '{...}' names them yourself" in out
    code, out, err = command("curate", "split", tmp_path / "m", "--ref", 6, "-o", tmp_path / "s")
    assert code == 0 and "pairs: groups: 12 from file names" in out, (out, err)
    splits = defaultdict(set)
    for row in taken(tmp_path / "s", "gt_path", "split"):
        splits[row["gt_path"].rsplit("_", 2)[0]].add(row["split"])
    assert len(splits) == 12 and all(len(names - {None}) == 1 for names in splits.values())


def test_none_leaves_every_gt_alone(crops, command, tmp_path):
    done = ingest(str(crops), str(tmp_path / "m"), gt="{id}_mean.png", lq="{id}_real.png", task="denoise", group="none")
    rows = done.table(["group", "gt_path"]).to_pylist()
    assert len({row["group"] for row in rows}) == len(rows) == 30
    said = done.stages[-1]["params"]["groups"]
    assert said == {"given": 0, "names": 0, "looks": 0, "alone": 30, "patterns": []}
    assert groups.describe(said) == "groups: 30 of one image; --group '{...}' names them yourself"


def test_a_template_goes_before_names(crops, tmp_path):
    done = ingest(
        str(crops), str(tmp_path / "m"), gt="{camera}_5_{id}_mean.png", lq="{camera}_5_{id}_real.png", task="denoise",
        group="{camera}",
    )  # fmt: skip
    assert {row["group"] for row in done.table(["group"]).to_pylist()} == {"pairs/Canon5D2"}
    assert groups.describe(done.stages[-1]["params"]["groups"]) == "groups: 1 named by the pattern"


def test_appended_shots_join_the_scenes_that_are_there(crops, tmp_path):
    patterns = {"gt": "{id}_mean.png", "lq": "{id}_real.png", "task": "denoise"}
    later = sorted(crops.glob("*a_4_*.png"))
    (tmp_path / "aside").mkdir()
    for path in later:
        path.rename(tmp_path / "aside" / path.name)
    first = ingest(str(crops), str(tmp_path / "first"), **patterns)
    for path in later:
        (tmp_path / "aside" / path.name).rename(path)
    both = ingest(str(crops), str(tmp_path / "both"), append=first.path, **patterns)
    whole = ingest(str(crops), str(tmp_path / "whole"), **patterns)

    def partition(manifest):
        by_group = defaultdict(set)
        for row in taken(manifest.path, "group", "gt_path"):
            by_group[row["group"]].add(row["gt_path"])
        return sorted(map(sorted, by_group.values()))

    assert partition(both) == partition(whole) and len(partition(whole)) == 12


def test_guessed_scenes_do_not_keep_copies(photographs, save, tmp_path):
    for name, pixels in photographs.items():
        save(f"data/{name}_1.png", pixels)
        save(f"data/{name}_2.jpg", pixels, quality=90)
    done = ingest(str(tmp_path / "data"), str(tmp_path / "m"), gt="{id}.*", task="clean")
    assert done.stages[-1]["params"]["groups"]["names"] == 6
    assert dedup(done.path, str(tmp_path / "d")).rows["dropped"] == 6


def test_error_rows_and_one_file_are_no_obstacle():
    rows = {name: [None] for name in ("group", "gt_sha256", "phash", "gt_path")}
    one = pa.table({**rows, "dataset": ["d"], "lq_path": ["a.png"]})
    filled, grouping = groups.assign_groups(one)
    assert filled.column("group").to_pylist() == ["d/a.png"] and grouping.alone == 1


def test_polyu_like_names_give_every_test_crop_a_scene_of_its_own(crops, tmp_path):
    done = ingest(str(crops), str(tmp_path / "m"), gt="{id}_mean.png", lq="{id}_real.png", task="denoise")
    for seed in range(5):
        made = split(done.path, str(tmp_path / f"s{seed}"), ref=6, seed=seed)
        by_split = defaultdict(set)
        for row in taken(made.path, "gt_path", "split"):
            by_split[row["split"]].add(row["gt_path"].rsplit("_", 2)[0])
        assert not by_split["test"] & by_split["train"] and not by_split["ref"] & by_split["train"]
        assert (len(by_split["ref"]), len(by_split["test"]), len(by_split["train"])) == (3, 3, 6)
