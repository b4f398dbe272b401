"""Manifest → WebDataset shards: plain tars, one task and one split each, and an index that is itself a manifest."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from urllib.parse import quote

import pyarrow as pa
from PIL import Image as PILImage

from curate import engine
from manifests import files, images, schema
from manifests.ahead import ahead
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

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
    """One pair on its way into a tar: where its files are, what they must hash to, its JSON."""

    pair_id: str
    lq: str
    gt: str
    lq_sha256: str | None
    gt_sha256: str | None
    facts: Mapping[str, Any]


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
    workers: int = 0,
    max_errors: str | None = None,
    dask_address: str | None = None,
) -> Manifest:
    """Write the kept pairs of every split as `output`/<split>/<task>-00000.tar and index them.

    samples_per_shard: pairs in a tar, at most. max_size: bytes of decoded pixels (3 a pixel, LQ and GT) in a tar, at
        most, unless one pair has more; the tar itself is smaller, about half for PNG and a tenth for JPEG. Which pair
        goes where thus depends on the manifest alone; pairs keep its order.
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
    engine.warm_up(0 if dask_address else workers, __name__)
    source = read(manifest)
    engine.require_rows(source)
    table = source.table()
    shards = _plan(source, table, samples_per_shard, max_size)
    params = {"samples_per_shard": samples_per_shard, "max_size": max_size}
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
    done = write(output, indexed, roots=source.roots, stages=[*source.stages, stage], expected_rows=source.rows["rows"])
    engine.clean(engine.work_folder(output))
    return done


def _plan(source: Manifest, table: pa.Table, per_shard: int, max_size: int) -> list[Shard]:
    """Which pair goes into which tar: manifest order within a split and task, decided before any file is read."""
    buckets: dict[tuple[str, str], list[list[Sample]]] = {}
    filled: dict[tuple[str, str], float] = {}
    for row in table.to_pylist():
        if row["status"] != "kept" or row["split"] not in SPLITS or not row["lq_path"] or not row["gt_path"]:
            continue
        key, size = (row["split"], row["task"]), _pixel_bytes(row)
        tars = buckets.setdefault(key, [[]])
        if len(tars[-1]) == per_shard or (tars[-1] and filled[key] + size > max_size):
            tars.append([])
        filled[key] = size + (filled[key] if tars[-1] else 0)
        tars[-1].append(_sample(source, row))
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


def _sample(source: Manifest, row: Mapping[str, Any]) -> Sample:
    lq, gt = (source.locate(row["dataset"], row[name]) for name in ("lq_path", "gt_path"))
    facts = {name: value for name, value in row.items() if name not in NOT_FACTS and _can_be_said(value)}
    return Sample(row["pair_id"], lq, gt, row["lq.sha256"], row["gt_sha256"], facts)


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
            rows.append(_place(tar, end, sample, loaded, one.path))
            end += rows[-1].get("sample_size", 0)
            if end - synced >= SYNC:  # so that little is left for the disk to do at the end
                synced = end
                disk.submit(os.fsync, tar.fileno())
        tar.write(bytes(2 * BLOCK + -(end + 2 * BLOCK) % tarfile.RECORDSIZE))
        tar.flush()
        disk.submit(os.fsync, tar.fileno()).result()
        if any("shard" in row for row in rows):
            _publish(draft if local else tar, files.join(output, one.path))
    kinds = {"pair_id": pa.string(), "shard": pa.string(), "problem": pa.string(), **dict.fromkeys(PLACES, pa.int64())}
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


def _load(sample: Sample) -> Loaded | str:
    found: Loaded = {}
    for side, url, sha256 in (("lq", sample.lq, sample.lq_sha256), ("gt", sample.gt, sample.gt_sha256)):
        try:
            found[side] = _member(files.read(url), sha256)
        except (OSError, images.ImageError) as error:
            reason = getattr(error, "strerror", None) or error
            return f"{sample.facts[f'{side}_path']}: {reason}"
    return found


def _place(tar: IO[bytes], start: int, sample: Sample, loaded: Loaded | str, path: str) -> dict[str, Any]:
    """Append one sample at `start`: LQ, GT and JSON. Nothing is written when one of its images cannot be had."""
    if isinstance(loaded, str):
        return {"pair_id": sample.pair_id, "problem": loaded}
    end, places = start, dict[str, int]()
    for side, (extension, data) in loaded.items():
        places |= {f"{side}_offset": end + BLOCK, f"{side}_size": len(data)}
        end += _append(tar, f"{sample.pair_id}.{side}.{extension}", data)
    text = json.dumps(sample.facts, sort_keys=True, ensure_ascii=False, default=str).encode()
    end += _append(tar, f"{sample.pair_id}.json", text)
    return {"pair_id": sample.pair_id, "shard": path, "sample_offset": start, "sample_size": end - start, **places}


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
    """`table` with the place of every sample, and an error for those that have none."""
    found: dict[str, dict[str, Any]] = {row["pair_id"]: row for row in placed.to_pylist()}
    ids = table.column("pair_id").to_pylist()
    for name in ("shard", *PLACES):
        kind = pa.string() if name == "shard" else pa.int64()
        table = schema.set_column(table, name, [found.get(i, {}).get(name) for i in ids], kind)
    decisions = [
        schema.decide(old, "shard", ["unreadable"], _problems(found[i])) if i in found else old
        for i, old in zip(ids, table.column("decisions").to_pylist(), strict=True)
    ]
    return schema.set_column(table, "decisions", decisions, schema.CORE["decisions"])


def _problems(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [schema.decision("shard", "unreadable", "error", row["problem"])] if row["problem"] else []
