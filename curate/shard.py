"""Manifest → WebDataset shards: plain tars, one task and one split each, and an index that is itself a manifest."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from curate import engine
from manifests import files, images, schema
from manifests.errors import UserError
from manifests.table import Manifest, read, refuse_existing, stage_entry, write

VERSION = 1
SPLITS = ("train", "ref", "test")
PLACES = ("sample_offset", "sample_size", "lq_offset", "lq_size", "gt_offset", "gt_size")
BLOCK = 512
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
FACTS = ("task", "subtask", "dataset", "group", "scale", "width", "height", "caption", "caption_model", "instruction")


@dataclass(frozen=True)
class Sample:
    """One pair on its way into a tar."""

    pair_id: str
    lq: str
    gt: str
    lq_sha256: str
    gt_sha256: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Shard:
    """One tar: its path below the output, and the samples that belong in it."""

    path: str
    samples: tuple[Sample, ...]


def shard(
    manifest: str = "manifest", output: str | None = None, *, samples_per_shard: int = 1000, workers: int = 0
) -> Manifest:
    """Write the kept pairs of every split as `output`/<split>/<task>-00000.tar and index them.

    JPEG, PNG and WebP bytes are copied as they are; what needs conversion becomes PNG. Tar headers carry no time and no
    owner. The output is a manifest with `shard`, `sample_offset`, `sample_size`, `lq_offset`, `lq_size`, `gt_offset`,
    `gt_size` (bytes): a pair is one pread away. A pair whose file has changed or gone becomes an error row.
    """
    output = output or engine.default_output(manifest, "shard")
    refuse_existing(output)
    source = read(manifest)
    engine.require_rows(source)
    table = source.table()
    shards = _plan(source, table, samples_per_shard)
    params = {"samples_per_shard": samples_per_shard}
    results = engine.run_units(
        engine.work_folder(output),
        shards,
        partial(_write_shard, output=output),
        fingerprint=files.digest(["shard", VERSION, source.fingerprint, params]),
        label="shard",
        workers=workers,
        sizes=[len(one.samples) for one in shards],
    )
    indexed = _index(table, pa.concat_tables(results))
    stage = stage_entry("shard", VERSION, params, [source])
    done = write(output, indexed, roots=source.roots, stages=[*source.stages, stage], expected_rows=table.num_rows)
    engine.clean(engine.work_folder(output))
    return done


def _plan(source: Manifest, table: pa.Table, per_shard: int) -> list[Shard]:
    """Which pair goes into which tar: manifest order within a split and task, decided before anything is read."""
    buckets: dict[tuple[str, str], list[Sample]] = {}
    scores = [name for name in table.column_names if name.startswith(("iqa.", "degradation.", "daclip.", "judge."))]
    for row in table.to_pylist():
        if row["status"] == "kept" and row["split"] in SPLITS and row["lq_path"]:
            facts = {name: row[name] for name in (*FACTS, *scores) if row.get(name) is not None}
            urls = (source.locate(row["dataset"], row["lq_path"]), source.locate(row["dataset"], row["gt_path"]))
            sample = Sample(row["pair_id"], *urls, row["lq.sha256"], row["gt_sha256"], facts)
            buckets.setdefault((row["split"], row["task"]), []).append(sample)
    if not buckets:
        raise UserError(f"{source.path}: no kept pair has a split; run 'curate split' first")
    out = []
    for (split, task), samples in sorted(buckets.items()):
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", task)
        for number, start in enumerate(range(0, len(samples), per_shard)):
            out.append(Shard(f"{split}/{name}-{number:05d}.tar", tuple(samples[start : start + per_shard])))
    return out


def _write_shard(one: Shard, *, output: str) -> pa.Table:
    """Write one tar atomically; returns where each of its samples lies, or why it is not there."""
    buffer = io.BytesIO()
    rows: list[dict[str, Any]] = []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in one.samples:
            try:
                lq, gt = _member(sample.lq, sample.lq_sha256), _member(sample.gt, sample.gt_sha256)
            except (OSError, images.ImageError) as error:
                rows.append({"pair_id": sample.pair_id, "problem": f"{getattr(error, 'strerror', None) or error}"})
                continue
            rows.append({"pair_id": sample.pair_id, "shard": one.path, **_add(tar, buffer, sample, lq, gt)})
    files.write(files.join(output, one.path), buffer.getvalue())
    kinds = {"pair_id": pa.string(), "shard": pa.string(), "problem": pa.string(), **dict.fromkeys(PLACES, pa.int64())}
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})


def _member(url: str, sha256: str) -> tuple[str, bytes]:
    """Extension and bytes of an image as it goes into the tar."""
    data = files.read(url)
    if images.sha256(data) != sha256:
        raise images.ImageError(f"{os.path.basename(url)} has changed since ingest")
    image = images.decode(data)
    if image.converted or image.format not in EXTENSIONS:
        return "png", images.encode_png(image.pixels)
    return EXTENSIONS[image.format], data


def _add(
    tar: tarfile.TarFile, buffer: io.BytesIO, sample: Sample, lq: tuple[str, bytes], gt: tuple[str, bytes]
) -> dict[str, int]:
    """Append the three members; returns the byte ranges of the sample and of the contents of its images."""
    text = json.dumps(sample.facts, sort_keys=True, ensure_ascii=False).encode()
    start = buffer.tell()
    places = {"sample_offset": start}
    for name, extension, data in (("lq", f"lq.{lq[0]}", lq[1]), ("gt", f"gt.{gt[0]}", gt[1]), ("", "json", text)):
        info = tarfile.TarInfo(f"{sample.pair_id}.{extension}")
        info.size, info.mode = len(data), 0o644
        if name:
            places |= {f"{name}_offset": buffer.tell() + BLOCK, f"{name}_size": len(data)}
        tar.addfile(info, io.BytesIO(data))
    return {**places, "sample_size": buffer.tell() - start}


def _index(table: pa.Table, placed: pa.Table) -> pa.Table:
    found = {row["pair_id"]: row for row in placed.to_pylist()}
    ids = table.column("pair_id").to_pylist()
    for name in ("shard", *PLACES):
        kind = pa.string() if name == "shard" else pa.int64()
        table = schema.set_column(table, name, [found.get(i, {}).get(name) for i in ids], kind)
    decisions = [
        schema.decide(old, "shard", ["unreadable"], _problem(found.get(i))) if i in found else old
        for i, old in zip(ids, table.column("decisions").to_pylist(), strict=True)
    ]
    return schema.set_column(table, "decisions", decisions, schema.CORE["decisions"])


def _problem(row: Mapping[str, Any] | None) -> Sequence[dict[str, Any]]:
    if not row or not row["problem"]:
        return []
    return [schema.decision("shard", "unreadable", "error", row["problem"])]
