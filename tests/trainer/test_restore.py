"""Restoring files: any size, 16 bit, transparency, bad inputs."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from manifests import images
from manifests.errors import UserError
from trainer import checkpoint, models
from trainer.ema import EMA
from trainer.restore import restore, restore_bytes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run whose model is the identity."""
    model = models.build("nafnet", "tiny", width=4)
    with torch.no_grad():
        model.ending.weight.zero_()  # type: ignore[union-attr, operator]
        model.ending.bias.zero_()  # type: ignore[union-attr, operator]
    said = {"model": {"name": "nafnet", "preset": "tiny", "options": {"width": 4}}}
    folder = tmp_path_factory.mktemp("identity")
    checkpoint.save(
        str(folder / "checkpoints"), 1, model=model, ema=EMA(model, 0.9).average,
        optimizer=torch.optim.AdamW(model.parameters()), state=said, keep=1,
    )  # fmt: skip
    return str(folder)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (70, 65), (131, 97)])
def test_any_size_comes_back_whole(run: str, tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    (tmp_path / "x.PNG").write_bytes(images.encode_png(pixels))
    done = restore(run, [str(tmp_path / "x.PNG")], output=str(tmp_path / "out"), tile=64, overlap=16)
    target = done.written[str(tmp_path / "x.PNG")]
    assert np.array_equal(images.decode(Path(target).read_bytes()).pixels, pixels)


def test_16_bit_and_transparency_are_kept(run: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (20, 30, 3), np.uint16)
    clear = rng.integers(0, 256, (20, 30, 4), np.uint8)
    both = rng.integers(0, 65536, (20, 30, 4), np.uint16)
    (tmp_path / "in").mkdir()
    for name, pixels in (("deep", deep), ("clear", clear), ("both", both)):
        cv2.imwrite(str(tmp_path / "in" / f"{name}.png"), pixels)
    restore(run, [str(tmp_path / "in")], output=str(tmp_path / "out"))
    for name, pixels in (("deep", deep), ("clear", clear), ("both", both)):
        found = cv2.imread(str(tmp_path / "out" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert found.dtype == pixels.dtype and np.array_equal(found, pixels)


def test_scale_enlarges_first(run: str, tmp_path: Path, photographs: dict[str, np.ndarray]) -> None:
    Image.fromarray(photographs["coffee"][:30, :40]).save(tmp_path / "small.jpg")
    restore(run, [str(tmp_path / "small.jpg")], output=str(tmp_path / "out"), scale=4)
    assert Image.open(tmp_path / "out" / "small.png").size == (160, 120)


def test_a_bad_image_is_reported_and_the_others_are_done(run: str, tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(whole, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:-40])
    (tmp_path / "good.jpg").write_bytes(whole.getvalue())
    inputs = [str(tmp_path / name) for name in ("cut.jpg", "absent.jpg", "good.jpg")]
    done = restore(run, inputs, output=str(tmp_path / "out"))
    assert list(done.failed) == inputs[:2] and list(done.written) == inputs[2:]
    assert os.listdir(tmp_path / "out") == ["good.png"]


def test_nothing_is_overwritten(run: str, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / name)
    with pytest.raises(UserError, match="both become"):
        restore(run, [str(tmp_path)], output=str(tmp_path / "out"))
    restore(run, [str(tmp_path / "a.jpg")], output=str(tmp_path / "out"))
    with pytest.raises(UserError, match="exists already"):
        restore(run, [str(tmp_path / "a.jpg")], output=str(tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no image"):
        restore(run, [str(tmp_path / "empty")], output=str(tmp_path / "out"))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_comes_along_and_the_picture_stands_upright(form: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9003] = 6, "Maker", "2026:01:02 03:04:05"
    exif.get_ifd(0x8769)[0x829A] = IFDRational(1, 250)  # exposure time
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, exif=exif)
    restored = restore_bytes(models.build("nafnet", "tiny", width=4).eval(), buffer.getvalue())
    opened = Image.open(io.BytesIO(restored))
    opened.load()
    assert opened.size == (20, 30)
    found = opened.getexif()
    assert found[0x0112] == 1 and found[0x010F] == "Maker"
    if form != "TIFF":  # Pillow does not write such blocks there
        assert float(found.get_ifd(0x8769)[0x829A]) == pytest.approx(0.004)
    assert 273 not in found  # strip offsets are no EXIF
    plain = io.BytesIO()
    Image.fromarray(pixels).save(plain, "PNG")
    again = restore_bytes(models.build("nafnet", "tiny", width=4).eval(), plain.getvalue())
    assert not len(Image.open(io.BytesIO(again)).getexif())
