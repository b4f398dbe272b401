"""A score depends on the pixels alone: not on the batch, the order, the worker, or the number of threads."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from curate import devices, engine, scorers
from curate import score as stage
from curate.ingest import ingest
from manifests import files, images, metrics, table
from manifests.errors import UserError

OFFLINE = sorted(name for name, metric in metrics.NO_REFERENCE.items() if metric.offline)
TOLERANCE = 1e-4  # of the metric's range


@pytest.fixture
def manifest(photographs, save, tmp_path):
    """A manifest of twelve photographs and crops of odd sizes."""
    for index, pixels in enumerate(photographs.values()):
        save(f"d/{index}.png", pixels)
        save(f"d/{index}-odd.png", np.ascontiguousarray(pixels[7:206, 3:260]))
    return ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="{id}.png", task="clean", dataset="d")


def scored(table, columns):
    return {row["gt_sha256"]: [row[name] for name in columns] for row in table.to_pylist()}


def close(one, other, request):
    known = scorers.signal_metrics() | metrics.NO_REFERENCE
    spans = [known[name].high - known[name].low for name in request.names]
    spans = np.where(np.isfinite(spans), spans, 1.0)
    assert one.keys() == other.keys()
    for sha, values in one.items():
        np.testing.assert_allclose(np.divide(values, spans), np.divide(other[sha], spans), rtol=0, atol=TOLERANCE)


def test_there_are_offline_metrics_to_test():
    assert {"piqe", "entropy"} <= set(OFFLINE)
    assert len(scorers.signal_metrics()) >= 8


@pytest.mark.slow
def test_scores_do_not_depend_on_batch_worker_order_or_threads(manifest, tmp_path, monkeypatch):
    request = scorers.Request(tuple(scorers.expand(["signals", *OFFLINE])))
    first = scored(stage.score(manifest.path, str(tmp_path / "one"), iqa=request.names).table(), request.columns)
    assert not any(value is None for values in first.values() for value in values)

    workers = stage.score(manifest.path, str(tmp_path / "two"), iqa=request.names, workers=2)
    close(first, scored(workers.table(), request.columns), request)

    targets = [stage.Target(row["gt_sha256"], manifest.place(row, "gt")) for row in manifest.table().to_pylist()]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for size, order, decoding in ((1, 1, 1), (5, -1, 1), (12, -1, 3)):
            some = targets[::order]
            batches = [some[i : i + size] for i in range(0, len(some), size)]
            asked = scorers.Request(request.names, threads=decoding)
            found = pa.concat_tables([stage._measure_unit(batch, request=asked) for batch in batches])
            rows = {row["sha256"]: [row[name] for name in request.columns] for row in found.to_pylist()}
            close(first, rows, request)
    finally:
        torch.set_num_threads(threads)


def test_what_one_image_does_stays_with_it(manifest, tmp_path):
    """A GT that cannot be read, in the middle of a batch that is decoded ahead, fails alone."""
    targets = [stage.Target(row["gt_sha256"], manifest.place(row, "gt")) for row in manifest.table().to_pylist()]
    targets[3] = stage.Target(targets[3].sha256, table.Member(str(tmp_path / "gone.png")))
    rows = stage._measure_unit(targets, request=scorers.Request(("entropy",), threads=2)).to_pylist()
    assert [row["sha256"] for row in rows] == [target.sha256 for target in targets]
    assert [row["problem"] for row in rows if row["problem"]] == ["gone.png: No such file or directory"]
    pixels = images.decode(files.read(*targets[4].place)).pixels
    assert rows[4]["iqa.entropy"] == scorers.measure(pixels, scorers.Request(("entropy",)))[0]["iqa.entropy"]


def test_cuda_is_shared_out_among_the_workers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    request = stage.request_for(["entropy"], None, "cuda", workers=8)
    assert request.threads == 8
    assert stage.execution_for(request, 8, None, None).workers == 3
    monkeypatch.setattr(engine, "worker_number", lambda: 4)
    assert devices.mine("cuda") == "cuda:1"
    assert devices.mine("cuda:2") == "cuda:2"
    assert stage.execution_for(stage.request_for(["entropy"], None, "cuda:2"), 8, None, None).workers == 0


def test_a_device_that_is_not_there_is_one_line(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device; leave it out to use the CPU"):
        stage.score(manifest.path, str(tmp_path / "s"), iqa=["entropy"], device="cuda")
