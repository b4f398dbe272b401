"""Decoding: every kind of file that datasets hold has a defined fate."""

import io

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PILImage
from PIL import ImageCms

from manifests import images

PHOTO = skimage.data.astronaut()[:96, :128]


def saved(form, image=None, **options):
    buffer = io.BytesIO()
    (image or PILImage.fromarray(PHOTO)).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_formats(form):
    decoded = images.decode(saved(form))
    assert (decoded.pixels == PHOTO).all()
    assert decoded.converted == (form != "PNG")


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_lossy_formats(form):
    decoded = images.decode(saved(form, quality=95))
    assert decoded.pixels.shape == PHOTO.shape
    assert np.abs(decoded.pixels.astype(int) - PHOTO).mean() < 5
    assert not decoded.converted


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16]), st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_png_round_trip_in_8_and_16_bit(pixels):
    decoded = images.decode(images.encode_png(pixels))
    assert decoded.pixels.dtype == pixels.dtype
    assert (decoded.pixels == pixels).all()


def test_16_bit_grey():
    grey = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    decoded = images.decode(saved("PNG", PILImage.fromarray(grey)))
    assert decoded.mode == "L;16"
    assert (decoded.pixels == grey[:, :, None]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [8, 16])
def test_exif_rotation(orientation, depth):
    import PIL.ImageOps

    exif = PILImage.Exif()
    exif[0x0112] = orientation
    if depth == 8:
        source = PILImage.fromarray(PHOTO)
        data = saved("PNG", source, exif=exif)
        expected = np.asarray(PIL.ImageOps.exif_transpose(PILImage.open(io.BytesIO(data))))
    else:
        grey = np.arange(24, dtype=np.uint16).reshape(4, 6) * 999
        data = saved("PNG", PILImage.fromarray(grey), exif=exif)
        shown = np.asarray(PIL.ImageOps.exif_transpose(PILImage.open(io.BytesIO(data)))).astype(np.uint16)
        expected = np.repeat(shown[:, :, None], 3, axis=2)
    decoded = images.decode(data)
    assert (decoded.pixels == expected).all()
    assert decoded.converted == (orientation != 1)


def test_modes_become_rgb():
    rgb = PILImage.fromarray(PHOTO)
    assert (images.decode(saved("PNG", rgb.convert("L"))).pixels[..., 0] == np.asarray(rgb.convert("L"))).all()
    assert images.decode(saved("PNG", rgb.convert("RGBA"))).mode == "RGBA"
    assert images.decode(saved("PNG", rgb.convert("P"))).pixels.shape == PHOTO.shape
    cmyk = images.decode(saved("JPEG", rgb.convert("CMYK")))
    assert cmyk.mode == "CMYK"
    assert cmyk.converted


def test_icc_profile_is_applied():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert not images.decode(saved("PNG", icc_profile=lab)).converted  # sRGB is what we show anyway
    assert not images.decode(saved("PNG", icc_profile=b"nonsense")).converted


def test_animated_webp_gives_its_first_frame():
    frames = [PILImage.fromarray(PHOTO), PILImage.fromarray(255 - PHOTO)]
    data = saved("WEBP", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    assert (images.decode(data).pixels == PHOTO).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (saved("PNG")[:2000], "damaged PNG"),
        (saved("JPEG")[:1500], "damaged JPEG"),
        (images.encode_png(PHOTO.astype(np.uint16) * 257)[:3000], "damaged PNG"),
    ],
)
def test_broken_files_say_why(data, message):
    with pytest.raises(images.ImageError, match=message):
        images.decode(data)


def test_bomb_is_refused_from_its_header():
    flat = PILImage.new("L", (20000, 20000))  # 400 million pixels in 400 kB
    with pytest.raises(images.ImageError, match="20000x20000 is more than"):
        images.decode(saved("PNG", flat))
    assert images.decode(saved("PNG"), max_pixels=96 * 128).width == 128
    with pytest.raises(images.ImageError, match="limit"):
        images.decode(saved("PNG"), max_pixels=96 * 128 - 1)


def test_phash_survives_recompression_and_resizing_and_tells_photos_apart():
    photo, other = skimage.data.astronaut(), skimage.data.coffee()
    original = images.phash(photo)
    again = images.phash(images.decode(images.encode_jpeg(photo, 60)).pixels)
    small = images.phash(np.asarray(PILImage.fromarray(photo).resize((200, 200), PILImage.Resampling.BICUBIC)))
    assert images.hamming(original, again) <= 4
    assert images.hamming(original, small) <= 4
    assert images.hamming(original, images.phash(other)) > 16
    assert images.phash(np.full((50, 50, 3), 77, np.uint8)) is None


def test_16_to_8_bit_is_exact_at_the_codes():
    codes = np.arange(256, dtype=np.uint16)[:, None, None].repeat(3, 2)
    assert (images.to_8_bit(codes * 257) == codes).all()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_decodes_to_pillows_pixels(subsampling, mode):
    buffer = io.BytesIO()
    PILImage.fromarray(PHOTO[:91, :77]).convert(mode).save(buffer, "JPEG", subsampling=subsampling)
    expected = np.asarray(PILImage.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    assert (images.decode(buffer.getvalue()).pixels == expected).all()


def test_a_tiff_is_turned_once():
    pixels = np.ascontiguousarray(PHOTO[:20, :30])
    buffer, exif = io.BytesIO(), PILImage.Exif()
    exif[0x0112] = 6
    PILImage.fromarray(pixels).save(buffer, "TIFF", exif=exif)
    assert (images.decode(buffer.getvalue()).pixels == np.rot90(pixels, -1)).all()


def test_the_upper_rows_of_a_png_are_those_of_the_whole() -> None:
    from skimage import data

    pixels = data.astronaut()
    for encoded in (images.encode_png(pixels), images.encode_jpeg(pixels, 90), _png16(pixels)):
        whole = images.decode(encoded).pixels
        for rows in (1, 100, 511, 512):
            upper, size = images.decode_rows(encoded, rows)
            assert size == (512, 512) and rows <= len(upper) <= 512
            np.testing.assert_array_equal(upper, whole[: len(upper)])
    assert len(images.decode_rows(images.encode_png(pixels), 100)[0]) == 100


def test_rows_of_an_odd_png_are_decoded_as_ever() -> None:
    from PIL import Image as PILImage
    from skimage import data

    pixels = data.chelsea()
    exif = PILImage.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "PNG", exif=exif)
    upper, size = images.decode_rows(buffer.getvalue(), 10)
    np.testing.assert_array_equal(upper, images.decode(buffer.getvalue()).pixels)
    assert size == (pixels.shape[1], pixels.shape[0])  # upright
    plain = images.encode_png(pixels)
    for damaged in (plain[:200], plain[: len(plain) // 2], plain[:2000] + b"\0" * 8 + plain[2008:], plain[:30], b""):
        with pytest.raises(images.ImageError):
            images.decode_rows(damaged, len(pixels))
    with pytest.raises(images.ImageError, match="limit"):
        images.decode_rows(plain, 10, max_pixels=100)


def _png16(pixels: np.ndarray) -> bytes:
    return images.encode_png(pixels.astype(np.uint16) * 257)
