"""Training pairs that are test images: resized and recompressed photographs, and what must not match."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.decontaminate import decontaminate
from curate.ingest import ingest
from curate.merge import merge
from manifests import table
from manifests.errors import UserError


def rows(manifest):
    return table.read(str(manifest)).table().to_pylist()


@pytest.fixture
def benchmark(photographs, save, tmp_path):
    """Test pairs of three photographs (split test) beside a training pair of a fourth."""
    for index, name in enumerate(("astronaut", "chelsea", "china")):
        save(f"t/gt/{index}.png", photographs[name])
        save(f"t/lq/{index}.png", (photographs[name] * 0.7 + 60).astype(np.uint8))
    path = str(tmp_path / "t")
    return ingest(path, str(tmp_path / "mt"), lq="lq/{id}.png", gt="gt/{id}.png", task="dehaze", split="test").path


@pytest.fixture
def clean(photographs, save, tmp_path):
    """All six photographs as they are, to train on."""
    for name, pixels in photographs.items():
        save(f"train/{name}.png", pixels)
    return ingest(str(tmp_path / "train"), str(tmp_path / "m"), gt="{id}.png", task="clean").path


def test_the_same_file_goes_and_says_which_it_is(clean, benchmark, tmp_path):
    done = decontaminate(clean, str(tmp_path / "d"), against=[benchmark])
    assert done.rows == {"rows": 6, "kept": 3, "dropped": 3, "error": 0}
    for row in rows(done.path):
        if row["status"] == "dropped":
            (decision,) = row["decisions"]
            assert decision["stage"] == "decontaminate"
            assert decision["text"].startswith(("its GT is a test image: GT t/gt/", "its GT looks like a test image"))
    assert done.stages[-1]["inputs"] == [table.read(clean).fingerprint, table.read(benchmark).fingerprint]


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.71, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("form", [("jpg", {"quality": 40}), ("jpg", {"quality": 85}), ("webp", {"quality": 60})])
def test_resized_and_recompressed_copies_go_and_other_photographs_stay(
    photographs, save, benchmark, tmp_path, factor, form
):
    suffix, options = form
    for name, pixels in photographs.items():
        size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
        for side, method in (("gt", Image.Resampling.BICUBIC), ("lq", Image.Resampling.LANCZOS)):
            save(f"x/{side}/{name}.{suffix}", np.asarray(Image.fromarray(pixels).resize(size, method)), **options)
    found = ingest(str(tmp_path / "x"), str(tmp_path / "m"), gt=f"{{s}}/{{id}}.{suffix}", task="clean")
    done = decontaminate(found.path, str(tmp_path / "d"), against=benchmark)
    dropped = {row["gt_path"].split("/")[1].split(".")[0] for row in rows(done.path) if row["status"] == "dropped"}
    assert dropped == {"astronaut", "chelsea", "china"}
    assert done.rows["dropped"] == 6


def test_any_role_matches_any_role(photographs, save, benchmark, tmp_path):
    """The test set's LQ as a training GT, and its GT, recompressed, as a training LQ."""
    with open(tmp_path / "t" / "lq" / "0.png", "rb") as file:
        veiled = np.asarray(Image.open(io.BytesIO(file.read())))
    save("y/gt/0.png", veiled)
    save("y/lq/0.png", photographs["coffee"])
    save("y/gt/1.png", photographs["rocket"])
    save("y/lq/1.jpg", photographs["chelsea"], quality=50)
    save("y/gt/2.png", photographs["coffee"])
    save("y/lq/2.png", photographs["flower"])
    made = ingest(
        str(tmp_path / "y"), str(tmp_path / "m"), lq="lq/{id}.*", gt="gt/{id}.png", task="x", check_pairs=False
    ).path
    found = {row["gt_path"]: row for row in rows(decontaminate(made, str(tmp_path / "d"), against=benchmark).path)}
    assert [found[f"gt/{i}.png"]["status"] for i in range(3)] == ["dropped", "dropped", "kept"]
    assert found["gt/0.png"]["decisions"][0]["rule"] in ("exact", "perceptual")
    assert "its LQ looks like a test image" in found["gt/1.png"]["decisions"][0]["text"]


def test_flat_images_match_exactly_only(save, tmp_path):
    for name, value in (("a", 10), ("b", 200)):
        save(f"flat/{name}.png", np.full((64, 64, 3), value, np.uint8))
    save("test/b.png", np.full((64, 64, 3), 200, np.uint8))
    made = ingest(str(tmp_path / "flat"), str(tmp_path / "m"), gt="{id}.png", task="clean").path
    test = ingest(str(tmp_path / "test"), str(tmp_path / "t"), gt="{id}.png", task="clean").path
    found = rows(decontaminate(made, str(tmp_path / "d"), against=test).path)
    assert [(row["gt_path"], row["status"]) for row in found] == [("a.png", "kept"), ("b.png", "dropped")]
    assert found[1]["decisions"][0]["rule"] == "exact"


def test_of_a_manifest_with_test_rows_only_these_count_and_they_stay(benchmark, clean, tmp_path):
    both = merge([benchmark, clean], str(tmp_path / "both")).path
    done = decontaminate(both, str(tmp_path / "d"), against=both)
    found = rows(done.path)
    assert all(row["status"] == "kept" for row in found if row["split"] == "test")
    assert sorted(row["gt_path"] for row in found if row["status"] == "dropped") == [
        "astronaut.png", "chelsea.png", "china.png",
    ]  # fmt: skip


def test_a_looser_run_revives_and_foreign_decisions_stay(clean, benchmark, save, photographs, tmp_path):
    save("other/coffee.jpg", photographs["coffee"], quality=30)
    other = ingest(str(tmp_path / "other"), str(tmp_path / "o"), gt="{id}.jpg", task="clean").path
    first = decontaminate(clean, str(tmp_path / "d"), against=[benchmark, other])
    assert first.rows["dropped"] == 4
    again = decontaminate(first.path, str(tmp_path / "again"), against=[other], distance=8)
    assert again.rows["dropped"] == 1
    assert [row["status"] for row in rows(again.path) if row["gt_path"] == "coffee.png"] == ["dropped"]


def test_strict_fails_and_writes_nothing(command, clean, benchmark, photographs, save, tmp_path):
    arguments = ["curate", "decontaminate", clean, "--against", benchmark, "-o", tmp_path / "d", "--strict"]
    code, out, err = command(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "3 of 6 pairs match a test image, for example pair " in err
    assert not (tmp_path / "d").exists()
    save("fine/rocket.png", photographs["rocket"])
    fine = ingest(str(tmp_path / "fine"), str(tmp_path / "f"), gt="{id}.png", task="clean").path
    code, out, err = command("curate", "decontaminate", fine, "--against", benchmark, "--strict")
    assert (code, "f-decontaminate" in out) == (0, True), err


def test_the_command_takes_several_test_manifests(command, clean, benchmark, tmp_path):
    code, _, err = command("curate", "decontaminate", clean, "--against", benchmark, "--against", tmp_path / "none")
    assert (code, err.count("\n")) == (1, 1)
    assert "no such manifest" in err
    code, out, err = command(
        "curate", "decontaminate", clean, "--against", benchmark, "--against", benchmark, "-o", tmp_path / "d"
    )
    assert (code, "by decontaminate/" in out) == (0, True), err
    assert command("curate", "decontaminate", clean)[0] == 2


def test_bad_input_is_one_line(clean, tmp_path):
    unread = pa.table({"pair_id": ["0" * 32], "dataset": ["d"], "gt_path": ["x.png"]})
    bad = table.write(str(tmp_path / "b"), unread, roots={"d": str(tmp_path)}, stages=[{"stage": "made"}]).path
    for options, message in (
        ({"against": []}, "--against TEST_MANIFEST"),
        ({"against": clean, "distance": 20}, "0 to 16"),
        ({"against": bad}, "none of its 1 rows has an image"),
    ):
        with pytest.raises(UserError, match=message):
            decontaminate(clean, str(tmp_path / "d"), **options)
        assert not (tmp_path / "d").exists()
