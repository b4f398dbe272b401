"""Files that no dataset should hold and some do: what becomes of each is fixed here, and listed in docs/datasets.md."""

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageCms

from curate.ingest import ingest
from curate.score import score
from curate.shard import shard
from curate.split import split
from manifests.errors import UserError


@pytest.fixture
def outcome(tmp_path, photographs, save):
    """outcome(path, bytes or maker) -> (row, reason) of that file beside one that is well."""

    def run(name, content, workers=0):
        save("d/well.png", photographs["coffee"])
        path = os.path.join(os.fsencode(tmp_path / "d"), name if isinstance(name, bytes) else name.encode())
        if callable(content):
            content(path)
        else:
            with open(path, "wb") as file:
                file.write(content)
        done = ingest(
            str(tmp_path / "d"), str(tmp_path / "m"), gt="**/{id}.*", task="clean", score=["signals"], workers=workers
        )
        rows = done.table().to_pylist()
        assert len(rows) == 2
        odd = next(row for row in rows if row["gt_path"] != "well.png")
        assert next(row for row in rows if row is not odd)["status"] == "kept"
        return odd, " ".join(one["text"] for one in odd["decisions"] or ())

    return run


def _bytes(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _photo(photographs, mode="RGB"):
    picture = Image.fromarray(photographs["chelsea"][:96, :128])
    if mode == "RGBA":
        picture.putalpha(200)
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("mode", "form", "stored"),
    [("CMYK", "JPEG", "CMYK"), ("P", "PNG", "P"), ("L", "PNG", "L"), ("LA", "PNG", "LA"), ("RGBA", "WEBP", "RGBA"),
     ("1", "PNG", "1"), ("I;16", "PNG", "L;16"), ("I;16", "TIFF", "L;16"), ("CMYK", "TIFF", "CMYK")],
)  # fmt: skip
def test_any_pixel_mode_is_kept(outcome, photographs, mode, form, stored):
    picture = _photo(photographs, "L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture, np.uint16) * 257)
    row, _ = outcome(f"odd.{form.lower()}", _bytes(picture, form))
    assert (row["status"], row["mode"], row["width"], row["height"]) == ("kept", stored, 128, 96)
    assert row["iqa.sharpness"] is not None


def test_exif_rotation_counts_before_the_size(outcome, photographs):
    exif = Image.Exif()
    exif[0x0112] = 6
    row, _ = outcome("odd.jpg", _bytes(_photo(photographs), "JPEG", exif=exif))
    assert (row["status"], row["width"], row["height"]) == ("kept", 96, 128)


@pytest.mark.parametrize("profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), b"no profile"])
def test_a_profile_that_does_not_fit_is_passed_over(outcome, photographs, profile):
    row, _ = outcome("odd.jpg", _bytes(_photo(photographs), "JPEG", icc_profile=profile))
    assert row["status"] == "kept"


@pytest.mark.parametrize("form", ["WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(outcome, photographs, form):
    frames = [_photo(photographs), Image.new("RGB", (128, 96))]
    row, _ = outcome(
        f"odd.{form.lower()}", _bytes(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)
    )
    assert (row["status"], row["width"]) == ("kept", 128)
    assert row["iqa.contrast"] > 0.05


def test_a_panorama_of_30_000_pixels_is_kept(outcome, photographs):
    strip = np.tile(photographs["chelsea"][:64, :300], (1, 100, 1))
    row, _ = outcome("odd.png", _bytes(Image.fromarray(strip), "PNG"))
    assert (row["status"], row["width"], row["height"]) == ("kept", 30000, 64)


def _bomb():
    """A PNG whose header promises 60000 x 60000 pixels."""
    data = bytearray(_bytes(Image.new("L", (1, 1)), "PNG"))
    import struct
    import zlib

    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def _pipe(path):
    os.mkfifo(path)


def _link_to_itself(path):
    os.symlink(os.path.basename(path), path)


def _dangling(path):
    os.symlink(b"nowhere.png", path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("odd.png", b"", "the file is empty"),
        ("odd.jpg", b"<html>404</html>", "not an image that can be read"),
        ("odd.png", _bomb(), "60000x60000 is more than 178956970 pixels"),
        ("odd.png", _pipe, "a pipe, not a file"),
        ("odd.png", _link_to_itself, "Too many levels of symbolic links"),
        ("odd.png", _dangling, "No such file or directory"),
    ],
)
def test_what_cannot_be_read_is_an_error_row_with_its_reason(outcome, name, content, reason):
    row, text = outcome(name, content)
    assert row["status"] == "error"
    assert reason in text


def test_a_folder_with_an_images_name_is_no_image(tmp_path, photographs, save):
    save("d/well.png", photographs["coffee"])
    (tmp_path / "d" / "folder.png").mkdir()
    assert ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="{id}.png", task="clean").rows["rows"] == 1


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path, photographs, save):
    save("elsewhere/a.png", photographs["coffee"])
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "up").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "here").symlink_to(".")
    (tmp_path / "d" / "linked").symlink_to(tmp_path / "elsewhere")
    done = ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="**/{id}.png", task="clean")
    assert done.table().column("gt_path").to_pylist() == ["linked/a.png"]


def test_a_folder_that_cannot_be_listed_is_said(tmp_path, photographs, save, monkeypatch):
    save("d/well.png", photographs["coffee"])
    save("d/shut/a.png", photographs["coffee"])
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"shut: cannot be listed \(Permission denied\)"):
        ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="**/{id}.png", task="clean")


@pytest.mark.parametrize(
    "name", ["odd one.png", 'it\'s "odd".png', "odd\nline.png", "odd\ttab.png", "夜景.png", "%20{x}*?.png"]
)
def test_any_name_in_utf8_goes_through_every_stage(photographs, save, tmp_path, name):
    for folder in ("lq", "gt"):
        save(f"d/{folder}/well.png", photographs["coffee"])
        save(f"d/{folder}/{name}", photographs["chelsea"])
    done = ingest(
        str(tmp_path / "d"), str(tmp_path / "m"), lq="lq/{id}.png", gt="gt/{id}.png", task="jpeg", check_pairs=False
    )
    assert f"gt/{name}" in done.table().column("gt_path").to_pylist()
    score(str(tmp_path / "m"), str(tmp_path / "s"), iqa=["entropy"])
    split(str(tmp_path / "s"), str(tmp_path / "p"), ref=1, test=0)
    made = shard(str(tmp_path / "p"), str(tmp_path / "shards"))
    assert made.rows == {"rows": 2, "kept": 2, "dropped": 0, "error": 0}
    assert None not in made.table().column("shard").to_pylist()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_name_that_is_not_utf8_is_an_error_row(outcome, photographs, workers):
    row, text = outcome(b"odd\xff.png", _bytes(_photo(photographs), "PNG"), workers)
    assert (row["status"], row["gt_path"]) == ("error", "odd\\udcff.png")
    assert "not UTF-8: rename it" in text


def test_a_metric_that_gives_nan_is_an_error(tmp_path, photographs, save, monkeypatch):
    from curate import iqa

    save("d/a.png", photographs["coffee"])
    first = ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="{id}.png", task="clean")
    monkeypatch.setattr(iqa.Metric, "score", lambda self, pictures, bf16=False: [float("nan")])
    done = score(first.path, str(tmp_path / "s"), iqa=["entropy"], max_errors="100%")
    (row,) = done.table().to_pylist()
    assert (row["status"], row["iqa.entropy"]) == ("error", None)
    assert row["decisions"][-1]["text"] == "entropy is nan"
