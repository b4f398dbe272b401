"""Restore image files with a trained model: any size, 8 or 16 bit; transparency and EXIF are kept."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from manifests import files, images
from manifests.errors import UserError
from manifests.outputs import refuse_existing
from trainer import tiling
from trainer.evaluate import quantise

if TYPE_CHECKING:
    from torch import nn


ORIENTATION = 0x0112  # EXIF's tag
PIXELS = {*range(254, 260), 262, 266, 273, *range(277, 280), 284, 317, 320, *range(322, 326), 338, 339, 34675}
# tags of a TIFF about how its pixels are stored, among which its EXIF stands


@dataclass(frozen=True)
class Restored:
    """What `restore` did: input → output, and input → what is wrong with it."""

    written: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def restore(
    checkpoint: str,
    inputs: Sequence[str],
    *,
    output: str = "restored",
    scale: int = 1,
    tile: int = 512,
    overlap: int = 64,
    device: str = "auto",
    overwrite: bool = False,
) -> Restored:
    """Restore files, and all images in folders, into the folder `output`, each as NAME.png.

    checkpoint: a checkpoint folder, or a run folder (its newest). scale: enlarge by bicubic first, for
    super-resolution. tile, overlap: pixels; images of more than tile² pixels go through in blended tiles. An input
    that cannot be read is reported in `failed` while the others are done. overwrite: replace PNGs that are there.
    Raises UserError, before anything is written, when an output exists, two inputs share a name, or there is nothing to
    do.
    """
    from manifests.progress import counted
    from trainer import checkpoint as checkpoint_
    from trainer import devices

    where = devices.resolve(device)
    plan = _plan(inputs, output, overwrite)
    model = checkpoint_.load_model(checkpoint_.find(checkpoint), where)
    bf16 = devices.uses_bf16("auto", where)
    done = Restored()
    tiles = {source: _tiles(source, scale, tile, overlap) for source in plan}
    with counted("restore", sum(tiles.values()), "tiles") as tick:
        for source, target in plan.items():
            try:
                data = files.read(source)
                png = restore_bytes(model, data, scale=scale, tile=tile, overlap=overlap, bf16=bf16, seen=tick)
                files.write(target, png)
                done.written[source] = target
            except images.ImageError as error:
                done.failed[source] = str(error)
            except OSError as error:
                done.failed[source] = error.strerror or str(error)
            if source in done.failed:
                tick(tiles[source], len(done.failed))
    return done


def _tiles(source: str, scale: int, tile: int, overlap: int) -> int:
    """How many tiles the file's image is cut into, by its header; 1 where that cannot be read."""
    if not os.path.isfile(source):
        return 1
    try:
        with PILImage.open(source) as opened:
            width, height = opened.size
    except (OSError, ValueError, SyntaxError, PILImage.DecompressionBombError):
        return 1
    return tiling.count(height * scale, width * scale, tile=tile, overlap=overlap)


def restore_bytes(
    model: nn.Module,
    data: bytes,
    *,
    scale: int = 1,
    tile: int = 512,
    overlap: int = 64,
    bf16: bool = False,
    seen: Callable[[], object] = lambda: None,
) -> bytes:
    """An image file as bytes → the restored one as PNG, of 16 bit where the input has them. Raises ImageError.

    Its EXIF comes along; the pixels stand upright, so the orientation in it is then 1. `seen` is called after each
    tile.
    """
    return _with_exif(_restored(model, data, scale, tile, overlap, bf16=bf16, seen=seen), data)


def _restored(
    model: nn.Module, data: bytes, scale: int, tile: int, overlap: int, *, bf16: bool, seen: Callable[[], object]
) -> bytes:
    image = images.decode(data)
    lq = images.to_float(image.pixels)
    if scale != 1:
        lq = np.clip(_enlarge(lq, scale), 0.0, 1.0)
    output = tiling.restore(model, lq, tile=tile, overlap=overlap, bf16=bf16, seen=seen)
    if not np.isfinite(output).all():
        raise images.ImageError("the model's output is not finite")
    pixels = quantise(output, 65535 if image.pixels.dtype == np.uint16 else 255)
    alpha = _alpha(data, image)
    if alpha is None:
        return images.encode_png(pixels)
    if scale != 1:
        alpha = _enlarge(alpha, scale)
    done, encoded = cv2.imencode(".png", np.dstack([pixels[:, :, ::-1], alpha]), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise images.ImageError("could not be encoded as PNG")
    return bytes(encoded)


def _with_exif(png: bytes, source: bytes) -> bytes:
    """The PNG with the EXIF block of `source`, where that has one, as the chunk eXIf."""
    with PILImage.open(io.BytesIO(source)) as opened:
        try:
            exif = opened.getexif()
            for tag in PIXELS & set(exif):
                del exif[tag]
            if not len(exif):
                return png
            exif[ORIENTATION] = 1
            block = exif.tobytes().removeprefix(b"Exif\0\0")
        except (ValueError, TypeError, SyntaxError, OSError, struct.error):
            return png  # broken EXIF is no reason to keep a picture back
    chunk = b"eXIf" + block
    return b"".join([png[:33], struct.pack(">I", len(block)), chunk, struct.pack(">I", zlib.crc32(chunk)), png[33:]])


def _alpha(data: bytes, image: images.Image) -> npt.NDArray[Any] | None:
    """The (H, W) transparency of a PNG, of the pixels' own type, or None where the file has none."""
    if image.format != "PNG" or image.converted:
        return None
    raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.ndim != 3 or raw.shape[2] != 4 or raw.shape[:2] != image.pixels.shape[:2]:
        return None
    return raw[:, :, 3] if raw.dtype == image.pixels.dtype else None


def _enlarge(image: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    size = image.shape[1] * scale, image.shape[0] * scale
    larger: npt.NDArray[Any] = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return larger


def _plan(inputs: Sequence[str], output: str, overwrite: bool) -> dict[str, str]:
    """Input file → output file. Raises UserError as `restore` says."""
    sources: list[str] = []
    for one in inputs:
        if os.path.isdir(one):
            names = sorted(name for name in os.listdir(one) if name.lower().endswith(images.SUFFIXES))
            if not names:
                raise UserError(f"{one}: has no image in it ({', '.join(images.SUFFIXES)})")
            sources += [os.path.join(one, name) for name in names]
        else:
            sources.append(one)
    plan: dict[str, str] = {}
    taken: dict[str, str] = {}
    for source in dict.fromkeys(sources):
        target = os.path.join(output, os.path.splitext(os.path.basename(source))[0] + ".png")
        if target in taken:
            raise UserError(f"{source} and {taken[target]} would both become {target}; restore them separately")
        refuse_existing(target, overwrite=overwrite, inputs=sources)
        taken[target] = source
        plan[source] = target
    if not plan:
        raise UserError("name at least one image or folder", exit_code=2)
    return plan
