"""MUSIQ with random weights, through the loading code that users run: files, batches, memory, no network."""

import socket

import numpy as np
import pytest
import torch

from curate import score as stage
from curate import scorers
from curate.filter import filter as run_filter
from curate.ingest import ingest
from manifests.errors import UserError


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from pyiqa.archs.musiq_arch import MUSIQ

    torch.manual_seed(0)
    path = str(tmp_path_factory.mktemp("musiq") / "musiq.pth")
    torch.save(MUSIQ(pretrained=False).state_dict(), path)
    return path


@pytest.fixture
def gts(photographs, save, tmp_path):
    for k, pixels in enumerate(photographs.values()):
        for name, part in (("a", pixels[:96, :128]), ("b", pixels[50:146, 60:188]), ("c", pixels[:90, : 100 + k])):
            save(f"d/{k}{name}.png", np.ascontiguousarray(part))
    return ingest(str(tmp_path / "d"), str(tmp_path / "m"), gt="{id}.png", task="clean", dataset="d").path


def test_weights_from_a_file_and_no_network(weights, gts, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    done = run_filter(gts, str(tmp_path / "out"), iqa=["musiq"], weights={"musiq": weights})
    values = done.table().column("iqa.musiq").to_pylist()
    assert len(set(values)) > 10 and done.rows["dropped"] == 0  # 5 % of fewer than twenty are none
    import hashlib
    from pathlib import Path

    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    assert done.stages[-1]["params"]["metrics"]["musiq"].endswith(digest[:16])
    with pytest.raises(UserError, match=r"--weights musiq=FILE, .* piqe, entropy, signals"):
        scorers.load(scorers.Request(("musiq",)))


def test_a_batch_scores_as_one_by_one(weights, gts, tmp_path, monkeypatch):
    single = stage.score(gts, str(tmp_path / "one"), iqa=["musiq", "piqe"], weights={"musiq": weights}).table()
    sizes, whole = [], scorers._pyiqa

    def seen(name, request):
        score = whole(name, request)

        def counted(pictures):
            sizes.append((name, len(pictures)))
            return score(pictures)

        return counted

    monkeypatch.setattr(scorers, "takes_batches", lambda device: True)
    monkeypatch.setattr(scorers, "_pyiqa", seen)
    many = stage.score(gts, str(tmp_path / "many"), iqa=["musiq", "piqe"], weights={"musiq": weights}).table()
    assert max(size for name, size in sizes if name == "musiq") > 4
    assert {size for name, size in sizes if name == "piqe"} == {1}  # nobody has shown that its scores keep apart
    for column, span in (("iqa.musiq", 100), ("iqa.piqe", 100)):
        one, other = (table.column(column).to_numpy() for table in (single, many))
        np.testing.assert_allclose(other / span, one / span, atol=1e-4)


def test_memory_that_is_short_halves_the_batch_and_one_that_never_fits_is_named(weights, photographs, monkeypatch):
    request = scorers.Request(("musiq",), {"musiq": weights})
    pictures = [pixels[:64, :96] for pixels in photographs.values()] + [next(iter(photographs.values()))[:200, :200]]
    expected = [scorers.measure(one, request)[0]["iqa.musiq"] for one in pictures]
    sizes, whole = [], scorers._pyiqa

    def short(name, request):
        score = whole(name, request)

        def limited(some):
            sizes.append(len(some))
            if len(some) > 2 or some[0].shape[0] == 200:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate much")
            return score(some)

        return limited

    monkeypatch.setattr(scorers, "takes_batches", lambda device: True)
    monkeypatch.setattr(scorers, "_pyiqa", short)
    found = scorers.measure_all([*pictures[:2], "3.png: is gone", *pictures[2:]], request)
    assert found.pop(2) == "3.png: is gone" and sizes[0] == len(pictures) - 1
    for (values, problems), value in zip(found[:-1], expected[:-1], strict=True):
        assert values["iqa.musiq"] == pytest.approx(value, abs=1e-3) and not problems
    values, problems = found[-1]
    assert values["iqa.musiq"] is None and "does not fit into memory at 200x200" in problems[0]
    monkeypatch.setattr(scorers, "ATTENTION", 4)
    sizes.clear()
    scorers.measure_all(pictures[:3], request)
    assert sizes == [1, 1, 1]  # so many patches are all that there is room for


def test_calibration_compares_with_the_published_scores(photographs, save, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from curate import calibrate
    from curate.cli import app

    for stem, pixels in zip(("I03", "I04", "other"), photographs.values(), strict=False):
        save(f"c/{stem}.bmp", np.ascontiguousarray(pixels[:200, :200]))
    shown = CliRunner().invoke(app, ["calibrate", str(tmp_path / "c")])
    assert shown.exit_code == 1 and shown.output.count("DIFFERS") == 2 and "published 21.6242" in shown.output
    scores = {one.name: one.value for one in calibrate.calibrate(str(tmp_path / "c"))}
    monkeypatch.setattr(calibrate, "PUBLISHED", scores)
    assert CliRunner().invoke(app, ["calibrate", str(tmp_path / "c")]).exit_code == 0
    with pytest.raises(UserError, match="has none of"):
        calibrate.calibrate(str(tmp_path))
