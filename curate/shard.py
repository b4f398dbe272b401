"""Manifest → WebDataset shards: plain tars, one task and one split each, and an index that is itself a manifest."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from urllib.parse import quote

import pyarrow as pa
from PIL import Image as PILImage

from curate import engine, tiles
from manifests import crops, files, images, schema
from manifests.ahead import ahead
from manifests.errors import UserError
from manifests.table import SHARDS, Manifest, Member, read, refuse_existing, stage_entry, write

VERSION = 1
SPLITS = ("train", "ref", "test")
PLACES = ("sample_offset", "sample_size", "lq_offset", "lq_size", "gt_offset", "gt_size")
BLOCK = tarfile.BLOCKSIZE
THREADS, AHEAD = 2, 6  # read and check samples while others are written
SYNC = 16 << 20  # bytes
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
SHOWN_OTHERWISE = {"icc_profile", "exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
LATE = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # the same where a PNG has it after its pixels
NOT_FACTS = {"status", "decisions", "shard", *PLACES}
UNFINISHED = ".shards.json"  # names of the tars that an unfinished run may have left


@dataclass(frozen=True)
class Sample:
    """One pair on its way into a tar: where its files are, what they must hash to, its JSON, the tiles to make."""

    pair_id: str
    lq: Member
    gt: Member
    lq_sha256: str | None
    gt_sha256: str | None
    facts: Mapping[str, Any]
    tiles: tuple[tiles.Tile, ...] = ()


@dataclass(frozen=True)
class Shard:
    """One tar: its path below the output, and the samples that belong in it, in order."""

    path: str
    samples: tuple[Sample, ...]


def shard(
    manifest: str = "manifest",
    output: str | None = None,
    *,
    samples_per_shard: int = 1000,
    max_size: int = 2 << 30,
    tile: int | None = None,
    overlap: int = 64,
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
) -> Manifest:
    """Write the kept pairs of every split as `output`/<split>/<task>-00000.tar and index them.

    samples_per_shard: pairs in a tar, at most. max_size: bytes of decoded pixels (3 a pixel, LQ and GT) in a tar, at
        most, unless one pair has more; the tar itself is smaller, about half for PNG and a tenth for JPEG. Which pair
        goes where thus depends on the manifest alone; pairs keep its order.
    tile, overlap: cut training pairs whose GT is larger than `tile` pixels a side into tiles that share `overlap`
        pixels with their neighbours. Each is a pair of its own, stored as PNG, with `tile_top` and `tile_left` (GT
        pixels) and its pair's group, scores and caption. Reference and test pairs stay whole.
    workers: processes that write tars; 0 writes in this one.

    JPEG, PNG and WebP bytes are copied as they are; what needs conversion becomes PNG. Tar headers carry no time and no
    owner. The output is a manifest of all rows with `shard` (path below the output; null when not in one),
    `sample_offset`, `sample_size`, `lq_offset`, `lq_size`, `gt_offset`, `gt_size` (bytes in the tar: of the sample with
    its headers and padding, and of the images' contents): a pair is one pread away. A pair whose file has changed or
    gone since ingest becomes an error row and is left out; the run goes on.
    """
    output = output or engine.default_output(manifest, "shard")
    refuse_existing(output)
    if samples_per_shard < 1 or max_size < 1:
        raise UserError(f"samples_per_shard {samples_per_shard}, max_size {max_size}: must be 1 or more", exit_code=2)
    if tile is not None and not 0 <= overlap < tile:
        raise UserError(f"--tile {tile} --overlap {overlap}: the overlap must be less than the tile", exit_code=2)
    engine.warm_up(0 if dask_address else workers, __name__)
    source = read(manifest)
    engine.require_rows(source)
    table = source.table()
    shards = _plan(source, table, samples_per_shard, max_size, (tile, overlap) if tile else None)
    params: dict[str, Any] = {"samples_per_shard": samples_per_shard, "max_size": max_size}
    params |= {"tile": tile, "overlap": overlap} if tile else {}
    begun = _begin(output, shards)
    results = engine.run_units(
        engine.work_folder(output),
        shards,
        partial(_write_shard, output=output),
        fingerprint=files.digest(["shard", VERSION, source.fingerprint, params]),
        label="shard",
        execution=engine.Execution(workers, dask_address, max_errors),
        sizes=[len(one.samples) for one in shards],
    )
    placed = pa.concat_tables(results)
    _forget(output, begun - set(placed.column("shard").to_pylist()))
    indexed = _index(table, placed)
    stage = stage_entry("shard", VERSION, params, [source])
    more = sum(len(sample.tiles) - 1 for one in shards for sample in one.samples if sample.tiles)
    rows = source.rows["rows"] + more - _uncut(shards, placed)
    roots = {name: root for name, root in source.roots.items() if name != SHARDS}
    done = write(output, indexed, roots=roots, stages=[*source.stages, stage], expected_rows=rows)
    engine.clean(engine.work_folder(output))
    return done


def _uncut(shards: Sequence[Shard], placed: pa.Table) -> int:
    """Rows that are fewer because a pair that was to be cut cannot be read."""
    failed = {row["pair_id"] for row in placed.select(["pair_id", "problem"]).to_pylist() if row["problem"]}
    cut = [sample for one in shards for sample in one.samples if sample.tiles and sample.pair_id in failed]
    return sum(len(sample.tiles) - 1 for sample in cut)


def _plan(source: Manifest, table: pa.Table, per_shard: int, max_size: int, cut: tuple[int, int] | None) -> list[Shard]:
    """Which pair goes into which tar: manifest order within a split and task, decided before any file is read."""
    buckets: dict[tuple[str, str], list[list[Sample]]] = {}
    filled: dict[tuple[str, str], int] = {}
    held: dict[tuple[str, str], int] = {}
    for row in table.to_pylist():
        if row["status"] != "kept" or row["split"] not in SPLITS or not row["lq_path"] or not row["gt_path"]:
            continue
        sample = _sample(source, row, tiles.grid(row, *cut) if cut and row["split"] == "train" else ())
        key, size, count = (row["split"], row["task"]), _pixel_bytes(row), max(len(sample.tiles), 1)
        if sample.tiles:
            size = sum(size * one.width * one.height // (row["width"] * row["height"]) for one in sample.tiles)
        tars = buckets.setdefault(key, [[]])
        if tars[-1] and (held[key] + count > per_shard or filled[key] + size > max_size):
            tars.append([])
        filled[key], held[key] = (
            before + now if tars[-1] else now for before, now in ((filled.get(key, 0), size), (held.get(key, 0), count))
        )
        tars[-1].append(sample)
    if not buckets:
        raise UserError(f"{source.path}: no kept pair is in a split; run 'curate split' first")
    return [
        Shard(f"{split}/{quote(task, safe='')}-{number:05d}.tar", tuple(samples))
        for (split, task), tars in sorted(buckets.items())
        for number, samples in enumerate(tars)
    ]


def _pixel_bytes(row: Mapping[str, Any]) -> int:
    gt = (row["width"] or 0) * (row["height"] or 0)
    lq = (row["lq.width"] or 0) * (row["lq.height"] or 0)
    return 3 * (gt + lq)


def _sample(source: Manifest, row: Mapping[str, Any], cut: tuple[tiles.Tile, ...]) -> Sample:
    lq, gt = source.place(row, "lq"), source.place(row, "gt")
    without = {*NOT_FACTS, *crops.COLUMNS} if row.get("shard") else NOT_FACTS  # in a tar it is cropped already
    facts = {name: value for name, value in row.items() if name not in without and _can_be_said(value)}
    return Sample(row["pair_id"], lq, gt, row["lq.sha256"], row["gt_sha256"], facts, cut)


def _can_be_said(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _begin(output: str, shards: Sequence[Shard]) -> set[str]:
    """Note the tars that this run will write; returns them with those that earlier, unfinished runs noted."""
    place = files.join(output, UNFINISHED)
    try:
        before = set(json.loads(files.read(place)))
    except (FileNotFoundError, ValueError):
        before = set()
    begun = before | {one.path for one in shards}
    files.write(place, json.dumps(sorted(begun)).encode())
    return begun


def _forget(output: str, stale: set[str]) -> None:
    """Remove the tars of unfinished runs that this one does not have, and the note about them."""
    for path in [*sorted(stale), UNFINISHED]:
        place = files.join(output, path)
        if files.is_url(place):
            files.remove_tree(place)
        elif os.path.exists(place):
            os.unlink(place)


def _write_shard(one: Shard, *, output: str) -> pa.Table:
    """Write one tar; returns where each of its samples lies, or why it is not there. No sample: no tar."""
    local = not files.is_url(output)
    draft = files.join(engine.work_folder(output), one.path.replace("/", "-"))
    with open(draft, "w+b") if local else tempfile.TemporaryFile() as tar, ThreadPoolExecutor(1) as disk:
        end, synced, rows = 0, 0, []
        for sample, loaded in zip(one.samples, ahead(_load, one.samples, THREADS, AHEAD), strict=True):
            for row in _places(tar, end, sample, loaded, one.path):
                rows.append(row)
                end += row.get("sample_size", 0)
            if end - synced >= SYNC:  # so that little is left for the disk to do at the end
                synced = end
                disk.submit(os.fsync, tar.fileno())
        tar.write(bytes(2 * BLOCK + -(end + 2 * BLOCK) % tarfile.RECORDSIZE))
        tar.flush()
        disk.submit(os.fsync, tar.fileno()).result()
        if any("shard" in row for row in rows):
            _publish(draft if local else tar, files.join(output, one.path))
    kinds = dict.fromkeys(("pair_id", "shard", "problem", "tile"), pa.string()) | dict.fromkeys(PLACES, pa.int64())
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})


def _publish(draft: str | IO[bytes], target: str) -> None:
    """Give a whole tar its name: at once on a local disk, by upload elsewhere."""
    if isinstance(draft, str):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(draft, target)
        return
    import fsspec

    draft.seek(0)
    with fsspec.open(target, "wb") as out:  # object stores publish an object only when it is complete
        shutil.copyfileobj(draft, out, 1 << 20)


Loaded = dict[str, tuple[str, bytes]]  # lq, gt -> extension and bytes


def _load(sample: Sample) -> list[Loaded] | str:
    """The images of a pair, or of each of its tiles; or what is wrong with it."""
    found: Loaded = {}
    for side, place, sha256 in (("lq", sample.lq, sample.lq_sha256), ("gt", sample.gt, sample.gt_sha256)):
        try:
            found[side] = _member(files.read(*place), sha256 if place.size < 0 else None)  # a tar's may be converted
        except (OSError, images.ImageError) as error:
            reason = getattr(error, "strerror", None) or error
            return f"{sample.facts[f'{side}_path']}: {reason}"
    if crops.is_cropped(sample.facts):
        try:
            found = {side: _cropped(one, sample, side) for side, one in found.items()}
        except images.ImageError as error:
            return f"{sample.facts['gt_path']}: {error}"
    if not sample.tiles:
        return [found]
    try:
        cut = tiles.cut(found["lq"][1], found["gt"][1], sample.tiles, sample.facts.get("scale") or 1)
    except images.ImageError as error:
        return f"{sample.facts['gt_path']}: {error}"
    return [{"lq": ("png", lq), "gt": ("png", gt)} for lq, gt in cut]


def _cropped(image: tuple[str, bytes], sample: Sample, side: str) -> tuple[str, bytes]:
    """An image cropped as its row says, as PNG; itself where that takes nothing from it. Raises ImageError."""
    pixels = images.decode(image[1]).pixels
    part = crops.apply(pixels, sample.facts, side)
    return image if part.shape == pixels.shape else ("png", images.encode_png(part))


def _places(
    tar: IO[bytes], start: int, sample: Sample, loaded: list[Loaded] | str, path: str
) -> Iterator[dict[str, Any]]:
    """Append a pair, or its tiles one by one, from `start`. Nothing is written when an image cannot be had."""
    if isinstance(loaded, str):
        yield {"pair_id": sample.pair_id, "problem": loaded}
    elif not sample.tiles:
        yield _place(tar, start, sample.pair_id, loaded[0], sample.facts, path) | {"pair_id": sample.pair_id}
    else:
        for number, (tile, images_) in enumerate(zip(sample.tiles, loaded, strict=True)):
            known = tiles.facts(sample.facts, tile, images_["lq"][1], images_["gt"][1])
            placed = _place(tar, start, f"{sample.pair_id}-{number:03d}", images_, {**sample.facts, **known}, path)
            start += placed["sample_size"]
            yield placed | {"pair_id": sample.pair_id, "tile": json.dumps(known, sort_keys=True)}


def _place(tar: IO[bytes], start: int, key: str, loaded: Loaded, facts: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Append one sample at `start`: LQ, GT and JSON."""
    end, places = start, dict[str, int]()
    for side, (extension, data) in loaded.items():
        places |= {f"{side}_offset": end + BLOCK, f"{side}_size": len(data)}
        end += _append(tar, f"{key}.{side}.{extension}", data)
    facts = {name: value for name, value in facts.items() if name not in crops.COLUMNS}
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, default=str).encode()
    end += _append(tar, f"{key}.json", text)
    return {"shard": path, "sample_offset": start, "sample_size": end - start, **places}


def _append(tar: IO[bytes], name: str, data: bytes) -> int:
    """One member: a header (one block) without time or owner, content, padding. Returns its bytes in all."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(data), 0o644
    padding = -len(data) % BLOCK
    tar.write(header.tobuf(tarfile.USTAR_FORMAT))
    tar.write(data)
    tar.write(bytes(padding))
    return BLOCK + len(data) + padding


def _member(data: bytes, sha256: str | None) -> tuple[str, bytes]:
    """Extension and bytes of an image as it goes into the tar. Raises ImageError when it is not what was ingested."""
    if sha256 is not None and images.sha256(data) != sha256:
        raise images.ImageError("has changed since ingest")
    if sha256 is not None and (extension := _extension(data)):
        return extension, data  # ingest decoded these very bytes
    image = images.decode(data)
    if image.converted or image.format not in EXTENSIONS:
        return "png", images.encode_png(image.pixels)
    return EXTENSIONS[image.format], data


def _extension(data: bytes) -> str | None:
    """The extension of a file that every decoder shows alike, by its header; None where only decoding can tell."""
    try:
        with PILImage.open(io.BytesIO(data)) as opened:
            plain = opened.mode not in ("CMYK", "LAB", "YCbCr") and not SHOWN_OTHERWISE & set(opened.info)
            plain = plain and not (opened.format == "PNG" and any(mark in data for mark in LATE))
            return EXTENSIONS.get(opened.format or "") if plain else None
    except (OSError, ValueError, SyntaxError):
        return None


def _index(table: pa.Table, placed: pa.Table) -> pa.Table:
    """`table` with the place of every sample, a row for each tile, and an error for what has no place."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in placed.to_pylist():
        found.setdefault(row["pair_id"], []).append(row)
    each = [found.get(pair_id, [None]) for pair_id in table.column("pair_id").to_pylist()]
    rows = [row for one in each for row in one]
    if len(rows) > len(table):
        table = table.take([number for number, one in enumerate(each) for _ in one])
    for name in ("shard", *PLACES):
        kind = pa.string() if name == "shard" else pa.int64()
        table = schema.set_column(table, name, [row and row[name] for row in rows], kind)
    decisions = [
        old if row is None else schema.decide(old, "shard", ["unreadable"], _problems(row))
        for row, old in zip(rows, table.column("decisions").to_pylist(), strict=True)
    ]
    table = schema.set_column(table, "decisions", decisions, schema.CORE["decisions"])
    return tiles.enter(table, [json.loads(row["tile"]) if row and row["tile"] else None for row in rows])


def _problems(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [schema.decision("shard", "unreadable", "error", row["problem"])] if row["problem"] else []
