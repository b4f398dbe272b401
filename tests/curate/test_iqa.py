"""pyiqa's metrics with random weights, through the loading code that users run: files, batches, memory, no network."""

import socket

import numpy as np
import pytest
import torch

from curate import iqa, scorers
from curate import score as stage
from curate.filter import filter as run_filter
from curate.ingest import ingest
from manifests import metrics, table
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
    sizes, whole = [], iqa.Metric.score

    def counted(self, pictures, **options):
        sizes.append((self.name, len(pictures)))
        return whole(self, pictures, **options)

    monkeypatch.setattr(scorers, "takes_batches", lambda device: True)
    monkeypatch.setattr(iqa.Metric, "score", counted)
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
    sizes, whole = [], iqa.Metric.score

    def limited(self, some, **options):
        sizes.append(len(some))
        if len(some) > 2 or some[0].shape[0] == 200:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate much")
        return whole(self, some, **options)

    monkeypatch.setattr(scorers, "takes_batches", lambda device: True)
    monkeypatch.setattr(iqa.Metric, "score", limited)
    ready = [scorers.Ready(pixels) for pixels in pictures]
    found = scorers.measure_all([*ready[:2], "3.png: is gone", *ready[2:]], request)
    assert found.pop(2) == "3.png: is gone" and sizes[0] == len(pictures) - 1
    for (values, problems), value in zip(found[:-1], expected[:-1], strict=True):
        assert values["iqa.musiq"] == pytest.approx(value, abs=1e-3) and not problems
    values, problems = found[-1]
    assert values["iqa.musiq"] is None and "does not fit into memory at 200x200" in problems[0]
    monkeypatch.setattr(iqa, "ATTENTION", 4)
    sizes.clear()
    scorers.measure_all(ready[:3], request)
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


def test_weights_of_the_cache_have_their_fingerprint_and_are_not_run(weights, photographs, tmp_path, monkeypatch):
    """pyiqa reads its cache itself, and would run what a pickle asks for."""
    import pickle
    import shutil

    from pyiqa.archs import musiq_arch
    from pyiqa.utils import download_util

    from manifests import checkpoints

    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(tmp_path))
    iqa.load.cache_clear()
    url = musiq_arch.default_model_urls["koniq10k"]
    cached = tmp_path / url.rsplit("/", 1)[-1]
    shutil.copy(weights, cached)
    given, found = (scorers.Request(("musiq",), one) for one in ({"musiq": weights}, {}))
    assert found.fingerprints() == given.fingerprints() == {
        "musiq": f"{scorers.Request(('piqe',)).fingerprints()['piqe']}:{checkpoints.fingerprint(weights)}"
    }  # fmt: skip
    pixels = next(iter(photographs.values()))[:96, :96]
    assert scorers.measure(pixels, found) == scorers.measure(pixels, given)

    class Runs:
        def __reduce__(self):
            return print, ("this ran",)

    cached.write_bytes(pickle.dumps(Runs()))
    iqa.load.cache_clear()
    with pytest.raises(UserError, match=rf"{cached.name}: refused: reading it would run code"):
        scorers.load(found)
    assert torch.load is not None and not hasattr(torch.load, "__wrapped__")
    iqa.load.cache_clear()


def test_bf16_is_used_only_where_it_changes_little(weights, gts, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(iqa, "PROBES", iqa.FEWEST)
    state = torch.load(weights)
    head = [name for name in state if name.startswith("head")]
    mild, wild = str(tmp_path / "mild.pth"), str(tmp_path / "wild.pth")
    for path, factor in ((mild, 0.1), (wild, 300.0)):
        torch.save({name: value * factor if name in head else value for name, value in state.items()}, path)
    for path, used in ((mild, True), (wild, False)):
        full, half = (
            stage.score(gts, str(tmp_path / f"{used}{flag}"), iqa=["musiq"], weights={"musiq": path}, bf16=flag)
            for flag in (False, True)
        )
        a, b = (one.table().column("iqa.musiq").to_numpy() for one in (full, half))
        assert np.abs(a - b).max() <= 0.001 * 100 and (np.abs(a - b).max() > 0) == used
        assert half.stages[-1]["params"]["metrics"]["musiq"].endswith(":bf16") == used
    said = capfd.readouterr().err
    assert "musiq: bf16 changes" in said and "musiq: stays in fp32" in said


def test_nothing_is_loaded_where_nothing_is_missing(weights, gts, tmp_path):
    scored = stage.score(gts, str(tmp_path / "a"), iqa=["musiq"], weights={"musiq": weights})
    done = run_filter(scored.path, str(tmp_path / "b"), iqa=["musiq"])  # no weights at hand
    assert done.rows == scored.rows and done.stages[-1]["params"]["metrics"] == {}


@pytest.fixture
def untrained(monkeypatch):
    """pyiqa builds its nets, with random weights, and loads nothing."""
    import sys

    import pyiqa
    import timm
    from torchvision.models._api import WeightsEnum

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **options: create(name, **options))
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, *_, **__: None)
    fill = torch.nn.Module.load_state_dict

    def filled(self, state, *args, **options):
        return None if state is None else fill(self, state, *args, **options)

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", filled)
    for name, module in list(sys.modules.items()):
        if name.startswith(pyiqa.__name__) and hasattr(module, "load_pretrained_network"):
            monkeypatch.setattr(module, "load_pretrained_network", lambda *_, **__: None)
    iqa.load.cache_clear()
    yield
    iqa.load.cache_clear()


@pytest.mark.parametrize("name", ["musiq", "topiq_nr", "cnniqa", "nima-koniq", "unique", "uranker"])
def test_metrics_that_take_batches_score_each_image_alone(name, untrained, photographs):
    assert name in iqa.BATCHED
    torch.manual_seed(0)
    metric = iqa.load(name)
    pictures = {k: pixels[64:288, 64:288] for k, pixels in enumerate(photographs.values())}
    pictures |= {len(pictures): pictures[0].astype(np.uint16) * 257}  # the same, 16 bits deep
    alone = {k: iqa.one(metric, pixels) for k, pixels in pictures.items()}
    together = iqa.many(metric, pictures)
    values = list(alone.values())
    spread = max(values) - min(values)
    assert spread > 0
    for k, value in alone.items():
        assert together[k] == pytest.approx(value, abs=1e-3 * spread + 1e-6)
    assert alone[len(pictures) - 1] == pytest.approx(alone[0], abs=1e-3 * spread + 1e-6)


def test_a_metric_leaves_transformers_as_it_is(untrained, tmp_path):
    """pyiqa imports all its metrics to find topiq_nr; one of them replaces parts of Llama, which LLaVA is made of."""
    import sys

    from curate import vlm
    from tests.curate import tiny_vlm

    iqa.load("topiq_nr")
    assert metrics.PATCHES not in sys.modules
    folder = tiny_vlm.save("llava", str(tmp_path / "llava"))
    model = vlm.load(vlm.Settings(folder, max_tokens=2))
    assert len(model.ask([np.zeros((40, 40, 3), np.uint8)], "Say it.", seed=0)) == 1


def test_an_image_that_the_memory_has_no_room_for_is_an_error_of_its_own(weights, photographs, monkeypatch):
    import psutil

    request = scorers.Request(("musiq",), {"musiq": weights})
    pixels = next(iter(photographs.values()))[:96, :96]
    monkeypatch.setattr(psutil, "virtual_memory", type("Memory", (), {"available": 1000}))
    values, problems = scorers.measure(pixels, request)
    assert values == {"iqa.musiq": None} and problems[0].startswith("musiq does not fit into memory at 96x96: needs")


def test_weights_of_something_else_are_refused(weights, tmp_path, photographs):
    """pyiqa itself loads some of them and goes on with random weights."""
    other = str(tmp_path / "other.pth")
    torch.save({"linear.weight": torch.ones(3, 3)}, other)
    for name in ("metaiqa", "musiq", "entropy"):
        with pytest.raises(UserError, match=r"could not be loaded|are not the weights of|takes no file of weights"):
            iqa.load(name, other)
    with pytest.raises(UserError, match="are not the weights of metaiqa"):
        metrics.create("metaiqa", weights=other)
    with pytest.raises(UserError, match="piqe: pyiqa takes no file of weights for it"):
        iqa.load("piqe", weights)


def test_other_weights_measure_anew(weights, gts, tmp_path, capsys):
    state = torch.load(weights)
    other = str(tmp_path / "other.pth")
    torch.save({name: value * (2 if name.startswith("head") else 1) for name, value in state.items()}, other)
    first = stage.score(gts, str(tmp_path / "a"), iqa=["musiq"], weights={"musiq": weights})
    again = stage.score(first.path, str(tmp_path / "b"), iqa=["musiq"], weights={"musiq": weights})
    assert again.table().equals(first.table()) and "measured anew" not in capsys.readouterr().err
    second = stage.score(first.path, str(tmp_path / "c"), iqa=["musiq"], weights={"musiq": other})
    assert "musiq: its scores are of other weights" in capsys.readouterr().err
    a, b = (one.table().column("iqa.musiq").to_numpy() for one in (first, second))
    assert (a != b).all()
    third = stage.score(second.path, str(tmp_path / "third"), iqa=["musiq"], weights={"musiq": other})
    assert third.table().equals(second.table()) and "measured anew" not in capsys.readouterr().err
    back = run_filter(second.path, str(tmp_path / "e"), iqa=["musiq"], weights={"musiq": weights})
    assert (back.table().column("iqa.musiq").to_numpy() == a).all()


def test_bf16_again_and_scores_that_nobody_says_who_made_are_left(weights, gts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(iqa, "PROBES", iqa.FEWEST)
    monkeypatch.setattr(iqa, "TOLERANCE", 1.0)
    given = {"iqa": ["musiq"], "weights": {"musiq": weights}}
    first = stage.score(gts, str(tmp_path / "a"), **given, bf16=True)
    assert first.stages[-1]["params"]["metrics"]["musiq"].endswith(scorers.BF16)
    for number, bf16 in enumerate((True, False)):
        again = stage.score(first.path, str(tmp_path / f"b{number}"), **given, bf16=bf16)
        assert again.table().equals(first.table()) and again.stages[-1]["params"] == {"metrics": {}}
    unknown = table.write(str(tmp_path / "c"), first.table(), roots=first.roots, stages=[{"stage": "x", "params": {}}])
    kept = stage.score(unknown.path, str(tmp_path / "known"), **given)
    assert kept.table().equals(first.table()) and "measured anew" not in capsys.readouterr().err
