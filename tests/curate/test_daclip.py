"""DA-CLIP in stock open_clip: a tiny model in the authors' layout, through the code that loads theirs."""

import json
import os
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from typer.testing import CliRunner

from curate import daclip, scorers
from curate.cli import app
from curate.filter import filter as run_filter
from curate.identify import fit_clean, identify
from manifests import checkpoints
from manifests.errors import UserError
from tests.curate.test_shard import row_of, write


def tiny_clip(seed):
    torch.manual_seed(seed)
    vision = CLIPVisionCfg(layers=2, width=64, head_width=64, patch_size=16, image_size=64)
    return CLIP(32, vision, CLIPTextCfg(context_length=77, vocab_size=49408, width=64, heads=1, layers=2))


def authors_layout(clip, controller):
    """Their training checkpoint: a wrapped state with the frozen CLIP, the controller and its zero modules."""
    state = {f"module.clip.{name}": value for name, value in clip.state_dict().items()}
    state |= {f"module.visual.{name}": value for name, value in clip.visual.state_dict().items()}
    for name, value in controller.visual.state_dict().items():
        inner = name.replace("transformer.", "transformer.transformer.", 1) if name.startswith("transformer.") else name
        state[f"module.visual_control.{inner}"] = value
    state["module.visual_control.transformer.zero_modules.0.weight"] = torch.zeros(64, 64)
    state["module.logit_scale"] = torch.tensor(2.0)
    return {"epoch": 3, "name": "daclip", "state_dict": state}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("daclip") / "daclip_ViT-B-32.pt"
    clip, controller = tiny_clip(0), tiny_clip(1)
    torch.save(authors_layout(clip, controller), path)
    controller.load_state_dict(
        {n: v for n, v in clip.state_dict().items() if not n.startswith("visual.")}, strict=False
    )
    return str(path), controller.eval()


@pytest.fixture
def gts(photographs, save, tmp_path):
    """A manifest of 30 different crops as GTs."""
    rows, dice = [], np.random.default_rng(0)
    pictures = list(photographs.values())
    for k in range(30):
        picture = pictures[k % len(pictures)]
        top, left = dice.integers(0, picture.shape[0] - 90), dice.integers(0, picture.shape[1] - 110)
        gt = save(f"data/{k}.png", np.ascontiguousarray(picture[top : top + 90 + k % 3, left : left + 110]))
        rows.append(row_of(tmp_path / "data", "sr", gt, gt))
    return write(tmp_path / "m", rows, tmp_path / "data")


def test_the_controller_classifies_as_open_clip_would(weights, photographs):
    import open_clip
    from PIL import Image

    path, controller = weights
    model = daclip.Model(path)
    pixels = next(iter(photographs.values()))[:100, :150]
    transform = open_clip.image_transform(64, is_train=False)
    with torch.inference_mode():
        image = controller.encode_image(transform(Image.fromarray(pixels))[None], normalize=True)
        text = controller.encode_text(open_clip.get_tokenizer("ViT-B-32")(list(daclip.LABELS)), normalize=True)
        expected = (100.0 * image @ text.T).softmax(-1)[0].tolist()
    (found,) = model.scores([model.prepare(pixels)])
    assert [found[name] for name in daclip.TYPES] == pytest.approx(expected, abs=1e-5)
    assert sum(found[name] for name in daclip.TYPES) == pytest.approx(1.0) and found["daclip.clean"] is None


def test_a_batch_is_as_one_by_one_and_memory_that_is_short_halves_it(weights, photographs, monkeypatch):
    model = daclip.Model(weights[0])
    prepared = [model.prepare(pixels[k : k + 80]) for k in (0, 9, 30) for pixels in photographs.values()]
    single = np.concatenate([model.similarities([one]) for one in prepared])
    np.testing.assert_allclose(model.similarities(prepared), single, atol=1e-5)
    whole, sizes = model._net.encode_image, []

    def short(batch, **options):
        sizes.append(len(batch))
        if len(batch) > 4:
            raise torch.cuda.OutOfMemoryError
        return whole(batch, **options)

    monkeypatch.setattr(model._net, "encode_image", short)
    np.testing.assert_allclose(model.similarities(prepared), single, atol=1e-5)
    assert sizes[0] == len(prepared) and max(sizes[-3:]) <= 4


def test_clean_is_fitted_once_and_stored_with_the_model(weights, gts, tmp_path):
    path = str(tmp_path / "daclip_ViT-B-32.pt")
    os.link(weights[0], path)
    plain = identify(gts, str(tmp_path / "plain"), model="daclip", weights=path)
    assert set(daclip.TYPES) <= set(plain.column_names) and "daclip.clean" not in plain.column_names
    stored, count = fit_clean(gts, weights=str(tmp_path))  # a folder will do
    assert stored == str(tmp_path / "daclip_ViT-B-32.clean.json") and count == 30
    done = identify(gts, str(tmp_path / "out"), model="daclip", weights=path)
    clean = done.table().column("daclip.clean").to_pylist()
    assert all(0 < one <= 1 for one in clean) and np.mean(clean) > 0.3
    again = identify(gts, str(tmp_path / "again"), model="daclip", weights=path, workers=2)
    assert again.table().column("daclip.clean").to_pylist() == pytest.approx(clean, abs=1e-4)
    assert done.stages[-1]["params"]["metrics"]["daclip"] != plain.stages[-1]["params"]["metrics"]["daclip"]
    kept = run_filter(done.path, str(tmp_path / "kept"), minimum={"daclip.clean": float(np.median(clean))})
    assert 0 < kept.rows["kept"] < 30
    torch.save(authors_layout(tiny_clip(5), tiny_clip(6)), tmp_path / "other.pt")
    os.link(stored, tmp_path / "other.clean.json")
    with pytest.raises(UserError, match="was fitted for other weights"):
        daclip.Model(str(tmp_path / "other.pt"))


def test_clean_holds_what_it_says():
    rng = np.random.default_rng(0)
    mixing = rng.normal(0, 1, (10, 10))
    fitted = daclip.fit(rng.normal(0, 1, (4000, 10)) @ mixing, "w")
    clean = np.array([fitted.score(one) for one in rng.normal(0, 1, (4000, 10)) @ mixing])
    for share in (0.05, 0.2, 0.5):
        assert np.mean(clean <= share) == pytest.approx(share, abs=0.025)
    away = np.array([fitted.score(one) for one in (rng.normal(0, 1, (200, 10)) + 4) @ mixing])
    assert np.mean(away <= 0.05) > 0.99
    with pytest.raises(UserError, match="5 known-clean GTs are too few"):
        daclip.fit(np.zeros((5, 10)), "w")


def test_foreign_and_dangerous_files_are_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harmed"),)

    for name, content in (("raw.pt", pickle.dumps({"a": Harm()})), ("text.pt", b"nothing"), ("x.safetensors", b"no")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"refused|not a file of weights"):
            checkpoints.read(str(tmp_path / name))
    torch.save({"state_dict": Harm()}, tmp_path / "harm.pt")
    with pytest.raises(UserError, match="reading it would run code"):
        daclip.Model(str(tmp_path / "harm.pt"))
    with pytest.raises(UserError, match="reading it would run code"):  # pyiqa's own loader would have run it
        scorers.load(scorers.Request(("musiq",), {"musiq": str(tmp_path / "harm.pt")}))
    assert not (tmp_path / "harmed").exists()
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="not a DA-CLIP checkpoint"):
        daclip.Model(str(tmp_path / "other.pt"))
    broken = authors_layout(tiny_clip(0), tiny_clip(1))
    del broken["state_dict"]["module.visual_control.proj"]
    torch.save(broken, tmp_path / "broken.pt")
    with pytest.raises(UserError, match="does not fit CLIP: 1 weights are missing"):
        daclip.Model(str(tmp_path / "broken.pt"))


def test_no_network_is_touched_for_a_file(weights, gts, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    daclip.load.cache_clear()
    assert identify(gts, str(tmp_path / "out"), model="daclip", weights=weights[0]).rows["error"] == 0


def test_a_missing_model_is_one_line(gts, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def away(*what, **__):
        asked.append(what)
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", away)
    monkeypatch.setattr(checkpoints, "unreachable", lambda: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"daclip_ViT-B-32.pt could not be fetched .* use the built-in identifier"):
        identify(gts, model="daclip")
    with pytest.raises(UserError, match=r"wild-daclip_ViT-L-14.pt could not be fetched"):
        identify(gts, model="daclip", weights=f"{daclip.HUB}/wild-daclip_ViT-L-14.pt")
    assert asked == [(daclip.HUB, daclip.FILE), (daclip.HUB, "wild-daclip_ViT-L-14.pt")]
    for given, said in (("./absent.pt", "no such file"), (str(tmp_path), "has no daclip_ViT-B-32.pt")):
        with pytest.raises(UserError, match=said):
            identify(gts, model="daclip", weights=given)
    with pytest.raises(UserError, match="there are signals, daclip"):
        identify(gts, model="dinov2")
    shown = CliRunner().invoke(app, ["identify", gts, "--fit-clean"])
    assert isinstance(shown.exception, UserError)


@pytest.mark.parametrize("spoil", ["positions", "shape", "list", "numbers"])
def test_a_damaged_checkpoint_is_one_line(weights, tmp_path, spoil):
    state = dict(torch.load(weights[0])["state_dict"])
    if spoil == "positions":
        del state["module.visual_control.positional_embedding"]
    elif spoil == "shape":
        state["module.clip.ln_final.weight"] = torch.zeros(3)
    elif spoil == "list":
        state = [1, 2]
    else:
        state = dict.fromkeys(state, 1)
    path = str(tmp_path / "bad.pt")
    torch.save({"state_dict": state}, path)
    with pytest.raises(UserError, match=r"bad.pt: not a DA-CLIP"):
        daclip.Model(path)


def test_fit_clean_leaves_out_what_cannot_be_read(weights, gts, tmp_path, capsys):
    import shutil

    path = shutil.copy(weights[0], tmp_path / "w.pt")
    (tmp_path / "data" / "3.png").write_bytes(b"changed")
    place, count = fit_clean(gts, weights=str(path))
    assert count == 29 and "left out: 3.png: has changed since ingest" in capsys.readouterr().err
    said = json.loads(Path(place).read_text()) | {"mean": [1, 2]}
    Path(place).write_text(json.dumps(said))
    daclip.load.cache_clear()
    with pytest.raises(UserError, match="not what was fitted"):
        daclip.load(str(path))
