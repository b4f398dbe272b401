"""The stream on real photographs: the same batches for any number of workers, exact shares, clear errors."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from manifests import table
from manifests.errors import UserError
from manifests.table import Member
from trainer.stream import crops, index, loader, plan
from trainer.stream.index import Index, Pair, open_index
from trainer.stream.loader import Batch, Stream
from trainer.stream.reading import Reader

STAGES = [{"stage": "test", "version": 1, "params": {}, "inputs": []}]
THIRDS = {"denoise": 0.5, "low_light": 0.25, "sr": 0.25}


def build_shards(manifest: str, folder: Path, *, per_shard: int = 4, change: Any = None) -> str:
    """The manifest's pairs as WebDataset tars of one task and split each, with the index columns of a shard folder."""
    opened = table.read(manifest)
    folder.mkdir(parents=True)
    rows = opened.table().to_pylist()
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["split"]), []).append(row)
    for (task, split), members in groups.items():
        for number in range(0, len(members), per_shard):
            name = f"{task}-{split}-{number // per_shard:04d}.tar"
            with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
                for row in members[number : number + per_shard]:
                    row["shard"] = name
                    _add(tar, row, opened)
    changed = pa.Table.from_pylist([change(row) if change else row for row in rows])
    table.write(str(folder), changed, roots=opened.roots, stages=STAGES)
    return str(folder)


def _add(tar: tarfile.TarFile, row: dict[str, Any], manifest: table.Manifest) -> None:
    start = tar.offset
    for side in ("lq", "gt"):
        data = Path(manifest.locate(row["dataset"], row[f"{side}_path"])).read_bytes()
        info = tarfile.TarInfo(f"{row['pair_id']}.{side}.png")
        info.size = len(data)
        row[f"{side}_offset"], row[f"{side}_size"] = tar.offset + 512, len(data)
        tar.addfile(info, io.BytesIO(data))
    data = json.dumps({"task": row["task"]}).encode()
    info = tarfile.TarInfo(f"{row['pair_id']}.json")
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    row["sample_offset"], row["sample_size"] = start, tar.offset - start


@pytest.fixture(scope="module")
def shards(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_shards(manifest, tmp_path_factory.mktemp("stream") / "shards")


def _batches(data: Index, weights: dict[str, float], start: int, stop: int, **other: Any) -> list[Batch]:
    options: dict[str, Any] = {"batch": 6, "crop": 32, "seed": 1} | other
    with Stream(data, **options) as stream:
        return list(stream.batches(weights, {}, start, stop, interval_start=0))


def test_an_index_lists_the_kept_pairs_of_a_split(manifest: str, shards: str) -> None:
    for path in (manifest, shards):
        data = open_index(path)
        assert data.tasks == data.strata == ("denoise", "low_light", "sr")
        assert data.sizes == {"denoise": 8, "low_light": 8, "sr": 8}
        assert len(data.rows) == 24 == len(list(data.rows)) == len(data.rows[:])
        assert data.rows[-1] == data.rows[23]
        assert {row.scale for row in data.rows if row.task == "sr"} == {2}
        assert {(row.width, row.height) for row in data.rows} == {(64, 64)}
        assert len(open_index(path, None).rows) == 72
        with pytest.raises(IndexError):
            data.rows[24]
    assert data.rows[0].shard == "denoise-train-0000.tar"
    assert data.rows[0].lq == Member(os.path.join(shards, "denoise-train-0000.tar"), 512, data.rows[0].lq.size)
    by_shard = open_index(shards, strata="shard")
    assert by_shard.strata == tuple(f"{task}-train-000{k}.tar" for task in THIRDS for k in range(2))
    assert by_shard.rows[0].stratum == "denoise-train-0000.tar"


def test_unsharded_and_sharded_give_the_same_pixels(manifest: str, shards: str) -> None:
    files, tars = open_index(manifest, "ref"), open_index(shards, "ref")
    assert [row.pair_id for row in files.rows] == [row.pair_id for row in tars.rows]
    for i in range(len(files.rows)):
        one, other = files.load(i), tars.load(i)
        np.testing.assert_array_equal(one.lq, other.lq)
        np.testing.assert_array_equal(one.gt, other.gt)
        assert one.gt.shape == (64, 64, 3)
        assert one.lq.shape == ((32, 32, 3) if files.rows[i].task == "sr" else (64, 64, 3))
    for a, b in zip(_batches(files, THIRDS, 0, 3), _batches(tars, THIRDS, 0, 3), strict=True):
        assert torch.equal(a.lq, b.lq) and torch.equal(a.gt, b.gt)


def test_one_read_serves_a_pair_of_a_local_tar(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *args: calls.append(args) or real(*args))
    data = open_index(shards)
    for i in range(6):
        data.load(i)
    assert len(calls) == 6


def test_an_unsharded_manifest_says_once_that_it_is_slower(manifest: str, caplog: pytest.LogCaptureFixture) -> None:
    index._say_unsharded.cache_clear()
    with caplog.at_level(logging.WARNING, "trainer.stream"):
        open_index(manifest)
        open_index(manifest, "ref")
    assert [record.message.count("slower on network disks") for record in caplog.records] == [1]


def test_the_fingerprint_follows_what_the_plan_depends_on(manifest: str, shards: str, tmp_path: Path) -> None:
    seen = {open_index(manifest).fingerprint, open_index(shards).fingerprint}
    assert open_index(manifest).fingerprint in seen and len(seen) == 2
    seen |= {open_index(shards, "ref").fingerprint, open_index(shards, strata="shard").fingerprint}
    whole = table.read(shards)
    rows = whole.table().to_pylist()

    def write(name: str, changed: list[dict[str, Any]], **options: Any) -> str:
        path = tmp_path / name
        table.write(str(path), pa.Table.from_pylist(changed), roots=whole.roots, stages=STAGES, **options)
        return open_index(str(path)).fingerprint

    assert write("same", rows, part_rows=7) in seen
    for column, value in (("gt_sha256", "0" * 64), ("lq.sha256", None), ("width", 63), ("shard", "x.tar"), ("scale", 4),
                          ("status", "dropped"), ("task", "sr"), ("pair_id", "0" * 32)):  # fmt: skip
        first = {**rows[0], column: value}
        if column == "status":
            first["decisions"] = [{"stage": "s", "rule": "r", "verdict": "drop", "value": None, "threshold": None,
                                   "text": "t"}]  # fmt: skip
        seen.add(write(column.replace(".", "-"), [first, *rows[1:]]))
    seen.add(write("order", [rows[3], *rows[1:3], rows[0], *rows[4:]]))
    assert len(seen) == 4 + 9


def test_manifests_that_cannot_be_trained_on_are_refused(manifest: str, tmp_path: Path) -> None:
    whole = table.read(manifest)
    rows = whole.table().to_pylist()

    def write(name: str, changed: list[dict[str, Any]]) -> str:
        kept = pa.Table.from_pylist(changed, schema=whole.table().schema)
        table.write(str(tmp_path / name), kept, roots=whole.roots, stages=STAGES)
        return str(tmp_path / name)

    with pytest.raises(UserError, match="run 'curate split'"):
        open_index(write("unsplit", [{**row, "split": None} for row in rows]))
    with pytest.raises(UserError, match="no kept rows"):
        open_index(write("empty", []))
    with pytest.raises(UserError, match="no kept rows in the split 'val', only in ref, test, train"):
        open_index(manifest, "val")
    with pytest.raises(UserError, match="run 'curate degrade'"):
        open_index(write("gt-only", [{**row, "lq_path": None} for row in rows]))
    with pytest.raises(UserError, match="without width, height or scale"):
        open_index(write("sizeless", [{**row, "width": None} for row in rows]))
    with pytest.raises(UserError, match="run 'curate shard'"):
        open_index(manifest, strata="shard")
    with pytest.raises(UserError, match="no such manifest"):
        open_index(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="strata"):
        open_index(manifest, strata="dataset")


def test_shards_and_single_files_are_read_side_by_side(manifest: str, tmp_path: Path) -> None:
    whole = table.read(manifest)
    rows = whole.table()
    parts = [rows.filter(pc.equal(rows["task"], task)) for task in ("denoise", "sr")]
    for name, part in zip("ab", parts, strict=True):
        table.write(str(tmp_path / name), part, roots=whole.roots, stages=STAGES)
    shards = build_shards(str(tmp_path / "a"), tmp_path / "s")
    for order in ([shards, str(tmp_path / "b")], [str(tmp_path / "b"), shards]):
        both = open_index(order)
        assert both.tasks == ("denoise", "sr") and sum(both.sizes.values()) == 16
        for row in both.rows:
            assert (row.lq.size >= 0) == (row.task == "denoise") and Reader().pair(row).gt.shape[:2] == (64, 64)


def test_gt_images_among_the_pairs_are_left_out(manifest: str, tmp_path: Path, caplog: Any) -> None:
    whole = table.read(manifest)
    rows = whole.table().to_pylist()
    table.write(
        str(tmp_path / "m"), pa.Table.from_pylist([{**rows[0], "lq_path": None}, *rows[1:]]),
        roots=whole.roots, stages=STAGES,
    )  # fmt: skip
    assert len(open_index(str(tmp_path / "m")).rows) == 23
    assert "1 GT images without LQ" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("crop", [32, 80])
def test_any_number_of_workers_gives_the_same_bytes(shards: str, crop: int) -> None:
    data = open_index(shards)
    alone = _batches(data, THIRDS, 0, 7, crop=crop)
    assert [batch.step for batch in alone] == list(range(7))
    for workers in (1, 2):
        for one, other in zip(alone, _batches(data, THIRDS, 0, 7, crop=crop, workers=workers), strict=True):
            assert one.slots == other.slots and one.pair_id == other.pair_id and one.task == other.task
            assert torch.equal(one.lq, other.lq) and torch.equal(one.gt, other.gt)
    for batch in alone:
        assert batch.lq.shape == batch.gt.shape == (6, 3, crop, crop)
        assert batch.lq.dtype == torch.float32 and float(batch.lq.min()) >= 0 and float(batch.lq.max()) <= 1
        assert batch.task == [data.rows[slot.row].task for slot in batch.slots]
        counts = Counter(batch.task)
        assert all(abs(counts[task] - 6 * weight) <= 1 for task, weight in THIRDS.items())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_stops_goes_on_as_if_it_had_not(shards: str, workers: int) -> None:
    data = open_index(shards)
    whole = _batches(data, THIRDS, 0, 6)
    with Stream(data, batch=6, crop=32, seed=1, workers=workers) as stream:
        state = torch.get_rng_state()
        first = stream.batches(THIRDS, {}, 0, 6, interval_start=0)
        assert torch.equal(next(first).lq, whole[0].lq)
        assert torch.equal(next(first).lq, whole[1].lq)
        again = stream.batches(THIRDS, {}, 2, 6, interval_start=0)
        for batch, expected in zip(again, whole[2:], strict=True):
            assert batch.slots == expected.slots and torch.equal(batch.gt, expected.gt)
        with pytest.raises(RuntimeError, match="ended"):
            next(first)
        cursors = plan.advance(data, THIRDS, {}, 0, 6, interval_start=0, batch=6, seed=1)
        following = list(stream.batches({"sr": 1.0}, cursors, 6, 9, interval_start=6))
        assert [batch.step for batch in following] == [6, 7, 8]
        assert {task for batch in following for task in batch.task} == {"sr"}
        assert torch.equal(torch.get_rng_state(), state)
        pids = stream.pids
        assert len(pids) == workers and all(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


KILLED = """
import os, signal, sys
from trainer.stream.index import open_index
from trainer.stream.loader import Stream

if __name__ == "__main__":
    stream = Stream(open_index(sys.argv[1]), batch=4, crop=32, seed=0, workers=2)
    batches = stream.batches({"denoise": 1.0}, {}, 0, 1000, interval_start=0)
    next(batches)
    print(*stream.pids, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_end_when_the_run_is_killed(shards: str, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    ended = subprocess.run(
        [sys.executable, str(script), shards], stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in ended.stdout.split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while (alive := [pid for pid in workers if os.path.exists(f"/proc/{pid}")]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive


def test_weights_of_shards_are_honoured_exactly(shards: str) -> None:
    data = open_index(shards, strata="shard")
    weights = dict(zip(data.strata, [0.5, 0.125, 0.0, 0.25, 0.125, 0.0], strict=True))
    batches = _batches(data, weights, 0, 8, batch=8)
    for batch in batches:
        drawn = Counter(slot.stratum for slot in batch.slots)
        assert drawn == {name: round(8 * weight) for name, weight in weights.items() if weight}
        assert [data.rows[slot.row].shard for slot in batch.slots] == [slot.stratum for slot in batch.slots]


@pytest.mark.parametrize("upsampling", ["random", "nearest", "bilinear", "bicubic"])
def test_super_resolution_inputs_are_enlarged_to_the_crop(shards: str, upsampling: str) -> None:
    data = open_index(shards)
    for batch in _batches(data, {"sr": 1.0}, 0, 4, upsampling=upsampling):
        for place, slot in enumerate(batch.slots):
            pair = data.load(slot.row)
            method = slot.upsampling if upsampling == "random" else upsampling
            whole = cv2.resize(pair.lq, (64, 64), interpolation=crops.UPSAMPLING[method])
            for side, tensor in ((whole, batch.lq), (pair.gt, batch.gt)):
                expected = side[slot.top : slot.top + 32, slot.left : slot.left + 32]
                expected = expected[:, ::-1] if slot.flip_h else expected
                expected = expected[::-1] if slot.flip_v else expected
                expected = expected.transpose(1, 0, 2) if slot.rot90 else expected
                found = tensor[place].permute(1, 2, 0).numpy() * 255
                assert (
                    np.abs(found - expected).max() < 1.01 if side is whole else np.array_equal(found.round(), expected)
                )


def test_small_images_are_continued_by_reflection() -> None:
    rng = np.random.default_rng(0)
    pair = Pair(rng.integers(0, 256, (20, 12, 3), np.uint8), rng.integers(0, 65536, (40, 24, 3), np.uint16))
    slot = plan.Slot(0, 0, "sr", 0, 0, 8, 0, False, False, False, "bicubic")
    lq, gt = crops.cut(pair, 2, slot, 32)
    assert lq.shape == gt.shape == (32, 32, 3) and lq.dtype == np.uint8 and gt.dtype == np.uint16
    np.testing.assert_array_equal(gt[:, :24], pair.gt[8:40])
    np.testing.assert_array_equal(gt[:, 24:], pair.gt[8:40, 22:14:-1])
    np.testing.assert_array_equal(lq[:, 24:], lq[:, 22:14:-1])


def test_16_bit_files_keep_their_depth() -> None:
    samples = [np.full((4, 4, 3), 255, np.uint8), np.full((4, 4, 3), 257, np.uint16)]
    assert crops.collate(samples[:1]).dtype == np.uint8
    out = crops.collate(samples)
    assert out.dtype == np.float32 and out.shape == (2, 4, 4, 3)
    assert out[0].max() == 1.0 and out[1].max() == np.float32(257 / 65535)


def _damage(row: dict[str, Any], at: str, **values: Any) -> dict[str, Any]:
    return {**row, **values} if row["shard"] == at else row


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lq_offset": 0}, "the LQ of pair .* cannot be decoded"),
        ({"gt_size": 40}, "the GT of pair .* cannot be decoded"),
        ({"gt_size": 10_000_000}, "the GT of pair .* is cut off: the shard ends before it"),
        ({"shard": "gone.tar"}, r"gone.tar: the .* of pair .* cannot be read \(No such file"),
        ({"width": 66}, "the LQ of pair .* is 64x64 where the manifest says 66x64"),
        ({"scale": 2}, "the LQ of pair .* is 64x64 where the manifest says 32x32"),
    ],
)
def test_damaged_members_are_named(manifest: str, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    bad = "denoise-train-0000.tar"
    data = open_index(build_shards(manifest, tmp_path / "s", change=lambda row: _damage(row, bad, **change)))
    with pytest.raises(UserError, match=said) as caught:
        data.load(0)
    assert data.rows[0].pair_id in str(caught.value) and ".tar" in str(caught.value)
    assert data.load(23).gt.shape == (64, 64, 3)


@pytest.mark.slow
def test_pairs_that_cannot_be_read_are_replaced_and_nothing_else_changes(manifest: str, tmp_path: Path) -> None:
    bad = "denoise-train-0000.tar"
    whole = open_index(build_shards(manifest, tmp_path / "w"))
    data = open_index(build_shards(manifest, tmp_path / "s", change=lambda row: _damage(row, bad, lq_offset=0)))
    weights = {"denoise": 0.5, "sr": 0.5}
    good = _batches(whole, weights, 0, 6, workers=0)
    one, other = (_batches(data, weights, 0, 6, workers=workers) for workers in (0, 1))
    damaged = {row.pair_id for row in data.rows if row.shard and row.shard.endswith(bad)}
    gone = [pair for batch in one for pair, _ in batch.replaced]
    assert gone and set(gone) <= damaged
    assert "cannot be decoded" in next(batch.replaced[0][1] for batch in one if batch.replaced)
    for mine, theirs, expected in zip(one, other, good, strict=True):
        assert (mine.slots, mine.pair_id, mine.replaced) == (theirs.slots, theirs.pair_id, theirs.replaced)
        assert torch.equal(mine.lq, theirs.lq) and torch.equal(mine.gt, theirs.gt)
        assert mine.task == expected.task and not damaged & set(mine.pair_id)
        for place, pair in enumerate(expected.pair_id):
            if pair not in damaged:
                assert mine.slots[place] == expected.slots[place] and mine.pair_id[place] == pair


def test_a_task_of_which_nothing_can_be_read_is_an_error(manifest: str, tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "lq_offset": 0} if row["shard"] and row["task"] == "denoise" else row

    data = open_index(build_shards(manifest, tmp_path / "s", change=change))
    with pytest.raises(UserError, match=r"cannot be decoded.*8 other pairs of 'denoise' could not be read either"):
        _batches(data, {"denoise": 1.0}, 0, 4, workers=0)


def test_a_missing_file_of_an_unsharded_manifest_is_named(manifest: str, tmp_path: Path) -> None:
    whole = table.read(manifest)
    table.write(str(tmp_path / "m"), whole.table(), roots={"photos": str(tmp_path / "moved")}, stages=STAGES)
    with pytest.raises(UserError, match=r"moved/astronaut-0.denoise.png: the LQ of pair .* \(No such file"):
        open_index(str(tmp_path / "m")).load(0)


def test_shards_at_a_url_are_read_and_shuffled_in_blocks(manifest: str, shards: str) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.rm("/stream", recursive=True) if memory.exists("/stream") else None
    memory.put(shards + "/", "/stream/", recursive=True)
    near, far = open_index(shards), open_index("memory://stream")
    assert near.block is None and far.block == index.BLOCK
    assert far.rows[0].lq.url == "memory://stream/denoise-train-0000.tar"
    np.testing.assert_array_equal(near.load(5).lq, far.load(5).lq)
    assert near.fingerprint != far.fingerprint


def test_a_reader_keeps_few_tars_open(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.stream.reading.OPEN_FILES", 2)
    data, reader = open_index(shards, None), Reader()
    for row in data.rows:
        reader.pair(row)
        assert len(reader._open) <= 2
    reader.close()
    assert not reader._open


def test_a_crop_that_no_scale_divides_is_refused(shards: str) -> None:
    with pytest.raises(UserError, match="crop 33"):
        Stream(open_index(shards), batch=4, crop=33, seed=0)


def test_batches_move_between_devices(shards: str) -> None:
    batch = _batches(open_index(shards), THIRDS, 0, 1)[0]
    moved = batch.to("cpu")
    assert torch.equal(moved.lq, batch.lq) and moved.slots == batch.slots
    assert loader._unit(torch.full((2,), 0.5)).tolist() == [0.5, 0.5]


@pytest.mark.slow
def test_a_loader_process_that_dies_is_named(shards: str) -> None:
    with Stream(open_index(shards), batch=4, crop=32, seed=0, workers=1, prefetch=1) as stream:
        batches = stream.batches(THIRDS, {}, 0, 1000, interval_start=0)
        next(batches)
        os.kill(stream.pids[0], signal.SIGKILL)
        with pytest.raises(UserError, match="a loader process was killed by signal 9"):
            for _ in batches:
                pass


@pytest.mark.slow
def test_a_defect_in_a_loader_process_is_shown(shards: str) -> None:
    stream = Stream(open_index(shards), batch=4, crop=32, seed=0, workers=1, upsampling="oddly")
    with stream, pytest.raises(RuntimeError, match="KeyError: 'oddly'"):
        next(stream.batches({"sr": 1.0}, {}, 0, 9, interval_start=0))


@pytest.mark.slow
def test_deep_and_damaged_pairs_come_through_loader_processes(manifest: str, tmp_path: Path) -> None:
    from manifests import images

    shards = build_shards(manifest, tmp_path / "shards")
    whole = table.read(manifest)
    deep = tmp_path / "deep"
    deep.mkdir()
    rows = [row for row in whole.table().to_pylist() if row["split"] == "train"]
    for number, row in enumerate(rows):
        for side in ("lq", "gt"):
            data = Path(whole.locate(row["dataset"], row[f"{side}_path"])).read_bytes()
            (deep / row[f"{side}_path"]).parent.mkdir(exist_ok=True)
            pixels = images.decode(data).pixels
            (deep / row[f"{side}_path"]).write_bytes(images.encode_png(pixels.astype(np.uint16) * 257))
        if number % 5 == 0 and row["task"] != "sr":
            (deep / row["lq_path"]).write_bytes(b"damaged")
    table.write(str(tmp_path / "m"), pa.Table.from_pylist(rows), roots={"photos": str(deep)}, stages=STAGES)
    assert shards
    data = open_index(str(tmp_path / "m"))
    here, there = (_batches(data, THIRDS, 0, 6, workers=workers) for workers in (0, 2))
    assert any(batch.replaced for batch in here)
    for one, other in zip(here, there, strict=True):
        assert one.replaced == other.replaced and one.pair_id == other.pair_id
        assert one.lq_pixels.dtype == torch.float32 and torch.equal(one.lq, other.lq) and torch.equal(one.gt, other.gt)
