"""How a file becomes pixels and back, with every guard: bombs, truncation, EXIF rotation, CMYK, ICC, 16 bit."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image as PILImage
from PIL import ImageCms, ImageFile

from manifests.errors import brief

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
PNG = b"\x89PNG\r\n\x1a\n"
PNG_SHOWN_OTHERWISE = {b"iCCP", b"eXIf", b"tRNS", b"iTXt", b"zTXt", b"acTL"}  # chunks: profiles, rotation, transparency
JPEG_FRAMES, JPEG_SHOWN_OTHERWISE = {0xC0, 0xC1, 0xC2}, {0xE1, 0xE2}  # APP1 and 2: EXIF, profiles
MAX_PIXELS = 178_956_970  # Pillow's own limit: a third of 1 GiB at three bytes a pixel

Pixels = npt.NDArray[Any]

cv2.setNumThreads(1)
PILImage.MAX_IMAGE_PIXELS = None  # `decode` checks the header itself, and says so in one line


class ImageError(ValueError):
    """A file that cannot be used as an image; the message says why, without the file's name."""


@dataclass(frozen=True)
class Image:
    """One decoded image.

    pixels: (H, W, 3) RGB, upright, uint8, or uint16 where the file has 16 bits a channel.
    mode: pixel mode as stored (RGB, L, RGBA, P, CMYK, "RGB;16", "L;16").
    format: JPEG, PNG, WEBP, TIFF, BMP.
    converted: True when the file's own bytes are not what a plain decoder would show (EXIF rotation, CMYK,
        foreign ICC profile) or when its format is no WebDataset image (TIFF, BMP): a shard stores it as PNG.
    """

    pixels: Pixels
    mode: str
    format: str
    converted: bool

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file given as bytes.

    Raises ImageError, with the reason, for anything that is not a whole, sane image: empty, truncated, of an unknown
    format, animated beyond its first frame is fine (the first frame is taken), or of more than `max_pixels` pixels
    (checked on the header, before anything is allocated).
    """
    if not data:
        raise ImageError("the file is empty")
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # some libraries switch this on for the whole process
    try:
        opened = PILImage.open(io.BytesIO(data))
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"not an image that can be read ({_reason(error)})") from None
    with opened:
        width, height = opened.size
        if width * height > max_pixels:
            raise ImageError(f"{width}x{height} is more than {max_pixels} pixels (limit for one image)")
        form = opened.format or "?"
        try:
            if _is_16_bit(opened, data):
                return _decode_16(data, opened, form)
            return _decode_8(data, opened, form)
        except ImageError:
            raise
        except (OSError, ValueError, SyntaxError, ArithmeticError, MemoryError, cv2.error) as error:
            raise ImageError(f"damaged {form} ({_reason(error)})") from None


def decode_rows(data: bytes, rows: int, *, max_pixels: int = MAX_PIXELS) -> tuple[Pixels, tuple[int, int]]:
    """The upper `rows` rows of an image at least, as `decode` would show them, and the (height, width) of the whole.

    A PNG as it is common (8-bit RGB, not interlaced) is read no further than that; what follows is then not looked at,
    so damage there goes unnoticed. Others are decoded whole, a plain JPEG without a detour. Raises ImageError.
    """
    if (size := _plain_png(data)) is not None and size[0] * size[1] <= max_pixels:
        try:
            return np.asarray(imagecodecs.spng_decode(_shortened(data, min(rows, size[0])))), size
        except imagecodecs.SpngError:
            pass  # `decode` says what is wrong with it
    if _is_plain_jpeg(data):
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
        plain = _decode_jpeg(data) if height * width <= max_pixels else None
        if plain is not None:
            return plain, (height, width)
    pixels = decode(data, max_pixels=max_pixels).pixels
    return pixels, (int(pixels.shape[0]), int(pixels.shape[1]))


def _plain_png(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a PNG whose pixels are 8-bit RGB, row by row, and are shown as they are; else None."""
    if data[:8] != PNG or data[24:29] != b"\x08\x02\x00\x00\x00":
        return None
    place, end = 33, len(data) - 12
    while place <= end:
        size, kind = struct.unpack_from(">I4s", data, place)
        if kind in PNG_SHOWN_OTHERWISE or (kind == b"tEXt" and data[place + 8 : place + 19] == b"Raw profile"):
            return None
        place += size + 12
    width, height = struct.unpack(">II", data[16:24])
    return (height, width) if width and height else None


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether a file is a JPEG of luma and chroma or of grey that is shown as it is: no EXIF, no profile, no CMYK."""
    if data[:2] != b"\xff\xd8":
        return False
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF:
        kind = data[place + 1]
        if kind in JPEG_FRAMES:
            return data[place + 4] == 8 and data[place + 9] in (1, 3)  # bits, components
        if kind in JPEG_SHOWN_OTHERWISE:
            return False
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def _shortened(data: bytes, rows: int) -> bytes:
    """A PNG whose header says that it has `rows` rows: a decoder stops there."""
    header = data[12:20] + struct.pack(">I", rows) + data[24:29]
    return b"".join([data[:12], header, struct.pack(">I", zlib.crc32(header)), memoryview(data)[33:]])


def _decode_8(data: bytes, opened: PILImage.Image, form: str) -> Image:
    mode, profile = opened.mode, _foreign_profile(opened)
    pixels = _decode_jpeg(data) if form == "JPEG" and mode in ("RGB", "L") and profile is None else None
    if pixels is None:
        opened.load()
        pixels = np.asarray(_to_rgb(opened, profile), dtype=np.uint8)
    turn = _orientation(opened)  # asked after loading, by which Pillow has turned a TIFF already
    converted = form in ("TIFF", "BMP", "MPO") or mode in ("CMYK", "LAB", "YCbCr") or turn != 1 or profile is not None
    return Image(_upright(pixels, turn), mode, "JPEG" if form == "MPO" else form, converted)


def _decode_jpeg(data: bytes) -> Pixels | None:
    """Plain JPEG by libjpeg-turbo without a detour: Pillow's pixels in two thirds of its time. None: ask Pillow."""
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False))
    except ValueError:  # a warning counts as well: Pillow knows which ones matter, and its message is better
        return None


def _foreign_profile(opened: PILImage.Image) -> ImageCms.ImageCmsProfile | None:
    """The ICC profile, where one other than sRGB has to be applied."""
    data = opened.info.get("icc_profile")
    if not data or opened.mode not in ("RGB", "CMYK"):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        name = ImageCms.getProfileDescription(profile)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None  # a broken profile: the pixels count as sRGB, which is what every viewer does
    return profile if opened.mode == "CMYK" or "srgb" not in name.lower() else None


def _to_rgb(image: PILImage.Image, profile: ImageCms.ImageCmsProfile | None) -> PILImage.Image:
    if profile is not None:
        try:
            shown = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            shown = None  # the profile does not fit the pixels
        if shown is not None:
            return shown
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_16_bit(opened: PILImage.Image, data: bytes) -> bool:
    if opened.format == "PNG":
        return len(data) > 24 and data[24] == 16
    if opened.format == "TIFF":
        bits = opened.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
        return bool(max(bits if isinstance(bits, tuple) else (bits,)) == 16)
    return False


def _decode_16(data: bytes, opened: PILImage.Image, form: str) -> Image:
    if form == "PNG":
        opened.load()  # Pillow notices truncation, where OpenCV returns the half that is there
    raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16:
        raise ImageError(f"damaged 16-bit {form}")
    mode = "L;16" if raw.ndim == 2 or raw.shape[2] < 3 else "RGB;16"
    if raw.ndim == 2:
        pixels = np.repeat(raw[:, :, None], 3, axis=2)
    else:
        pixels = np.ascontiguousarray(raw[:, :, 2::-1]) if raw.shape[2] >= 3 else np.repeat(raw[:, :, :1], 3, axis=2)
    turn = _orientation(opened)
    return Image(_upright(pixels, turn), mode, form, form != "PNG" or turn != 1)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation (1-8) to (H, W, 3) pixels."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _orientation(opened: PILImage.Image) -> int:
    try:
        return int(opened.getexif().get(0x0112, 1))
    except (ValueError, TypeError, SyntaxError, OSError):
        return 1


def _reason(error: BaseException) -> str:
    text = brief(error, 1000)
    return text.replace("cannot identify image file", "unknown format").split("<_io")[0].strip()


def to_8_bit(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 from uint8 or uint16 pixels, rounded to nearest."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def to_float(pixels: Pixels) -> npt.NDArray[np.float32]:
    """(H, W, 3) float32 in [0, 1] from uint8 or uint16 pixels."""
    return pixels.astype(np.float32) / (65535.0 if pixels.dtype == np.uint16 else 255.0)


def encode_png(pixels: Pixels) -> bytes:
    """(H, W, 3) RGB uint8 or uint16 as PNG; the same pixels give the same bytes."""
    swapped = np.ascontiguousarray(pixels[:, :, ::-1])
    done, data = cv2.imencode(".png", swapped, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise ImageError("could not be encoded as PNG")
    return bytes(data)


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """(H, W, 3) RGB uint8 as baseline 4:2:0 JPEG of `quality` 1-100; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    PILImage.fromarray(to_8_bit(pixels)).save(buffer, "JPEG", quality=quality, subsampling=2)
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    """Hex SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def luma(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 luma (BT.601) of (H, W, 3) RGB pixels."""
    return np.asarray(cv2.cvtColor(to_8_bit(pixels), cv2.COLOR_RGB2GRAY), np.uint8)


def phash(pixels: Pixels, gray: npt.NDArray[np.uint8] | None = None) -> str | None:
    """The 64-bit perceptual hash of (H, W, 3) pixels as 16 hex digits, or None for an image without structure.

    Sign of the lowest 8x8 DCT coefficients (the constant one excluded from the median) of the 32x32 luma, as in
    Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010. Large images are halved first,
    which takes a tenth of the time of one reduction. `gray`: `luma(pixels)`, or `reduced` of it, where
    the caller has it.
    """
    gray = reduced(luma(pixels) if gray is None else gray)
    small = cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    if np.abs(low[1:]).max() < 8.0:  # flat to within a fraction of a grey level: its signs are noise
        return None
    bits = low > np.median(low[1:])
    bits[0] = False
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def reduced(gray: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W) luma halved, by means of 2 x 2 pixels, until its shorter side is below 256."""
    while min(gray.shape) >= 256:
        height, width = gray.shape[0] // 2, gray.shape[1] // 2
        half = cv2.resize(gray[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        gray = np.asarray(half, np.uint8)
    return gray


def hamming(a: str, b: str) -> int:
    """Number of differing bits of two perceptual hashes."""
    return (int(a, 16) ^ int(b, 16)).bit_count()
