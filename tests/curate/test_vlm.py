"""Local vision-language models: tiny LLaVAs of all three architectures, through the code that loads real ones."""

import os
import pickle
import shutil
import socket

import pytest
import torch

from curate import caption, devices, engine, pictures, vlm
from curate.caption import PROMPT
from manifests import checkpoints
from manifests.errors import UserError
from tests.curate import tiny_vlm
from tests.curate.test_shard import row_of, write

KINDS = ("llava", "llava_next", "llava_onevision")


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    return tiny_vlm.save(request.param, str(tmp_path_factory.mktemp("vlm") / f"tiny-{request.param}"))


def test_a_local_model_answers_in_batches_as_one_by_one(folder, photographs, capfd, monkeypatch):
    settings = vlm.Settings(folder, max_tokens=12, batch=8)
    model, sizes_of = vlm.load(settings), []
    whole = model._generate
    monkeypatch.setattr(model, "_generate", lambda some, *rest: sizes_of.append(len(some)) or whole(some, *rest))
    sizes = [(64, 64), (64, 96), (96, 64)]  # other numbers of patches in 1.6 and OneVision
    pictures = [pixels[: sizes[k % 3][0], : sizes[k % 3][1]] for k, pixels in enumerate(list(photographs.values()) * 2)]
    together = model.ask(pictures, PROMPT, seed=0)
    square = os.path.basename(folder) == "tiny-llava"  # 1.5 sees all of them alike
    assert sizes_of == ([8, 4] if square else [4, 4, 4])
    assert together == [model.ask([one], PROMPT, seed=0)[0] for one in pictures]
    assert any(together)
    drawn = model.ask(pictures, PROMPT, seed=3, temperature=1.0)
    assert drawn == model.ask(pictures[::-1], PROMPT, seed=3, temperature=1.0)[::-1]  # whatever stands beside it
    assert drawn != model.ask(pictures, PROMPT, seed=4, temperature=1.0)
    weights = os.path.join(folder, "model.safetensors")
    assert vlm.name_of(settings) == f"{os.path.basename(folder)}@{checkpoints.fingerprint(weights)}"
    assert "Kwargs passed" not in capfd.readouterr().err


@pytest.fixture
def llava(tmp_path):
    return tiny_vlm.save("llava", str(tmp_path / "tiny-llava"))


def test_memory_that_is_short_halves_the_batch(llava, photographs, monkeypatch):
    model = vlm.load(vlm.Settings(llava, max_tokens=5, batch=8))
    pictures = [pixels[:64, :64] for pixels in list(photographs.values())[:3] * 2]
    expected, whole = model.ask(pictures, "Say it.", seed=0), model._generate

    def short(some, *rest):
        if len(some) > 2:
            raise torch.cuda.OutOfMemoryError
        return whole(some, *rest)

    monkeypatch.setattr(model, "_generate", short)
    assert model.ask(pictures, "Say it.", seed=0) == expected


def test_a_local_folder_touches_no_network(llava, photographs, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    model = vlm.load(vlm.Settings(llava, max_tokens=3))
    assert len(model.ask([next(iter(photographs.values()))[:64, :64]], "Say it.", seed=0)) == 1


def test_a_model_that_cannot_be_had_is_one_line(llava, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"could not be loaded .* --captioner signals"):
        vlm.load(vlm.Settings(str(tmp_path / "empty")))
    os.unlink(os.path.join(llava, "chat_template.jinja"))
    with pytest.raises(UserError, match="no chat template; take a '-hf' version"):
        vlm.load(vlm.Settings(llava))


class Runs:
    def __reduce__(self):
        return print, ("this ran",)


def test_weights_that_would_run_code_are_refused(llava, tmp_path, capfd):
    os.unlink(os.path.join(llava, "model.safetensors"))
    torch.save({"weight": Runs()}, os.path.join(llava, "pytorch_model.bin"))
    with pytest.raises(UserError, match="refused: reading it would run code"):
        vlm.load(vlm.Settings(llava))
    other = shutil.copytree(llava, tmp_path / "other")
    (other / "pytorch_model.bin").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(UserError, match=r"refused|could not be loaded"):
        vlm.load(vlm.Settings(str(other)))
    assert "this ran" not in capfd.readouterr().out


def test_several_devices_have_a_process_each(llava, photographs, save, tmp_path, monkeypatch):
    rows = [row_of(tmp_path, "sr", *[save(f"{k}.png", pixels[:64, : 64 + k])] * 2) for k, pixels in
            enumerate(list(photographs.values()) * 5)]  # fmt: skip
    manifest = write(tmp_path / "m", rows, tmp_path)
    task = caption.Task(vlm.Settings(llava, max_tokens=4), opening=0)
    one = caption.caption(manifest, str(tmp_path / "one"), captioner="llava", task=task)
    monkeypatch.setattr(devices, "count", lambda device: 2)
    started = []
    cluster = engine._in_cluster
    monkeypatch.setattr(engine, "_in_cluster", lambda *rest: started.append(rest[-1].workers) or cluster(*rest))
    monkeypatch.setattr(pictures, "UNIT_FAST", 8)
    two = caption.caption(manifest, str(tmp_path / "two"), captioner="llava", task=task)
    assert started == [2] and two.table().equals(one.table())


def test_a_model_of_the_hub_without_a_network_is_one_line(monkeypatch):
    import httpx

    def away(*_, **__):
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(httpx, "head", away)
    for asked in (vlm.name_of, vlm.load):
        with pytest.raises(UserError, match=r"org/none: .*not in the hub's cache, and https://.* does not answer"):
            asked(vlm.Settings("org/none"))
    with pytest.raises(UserError, match="no such folder of a model, and no hub id"):
        vlm.name_of(vlm.Settings("/none"))


def test_weights_that_lack_a_part_are_refused(llava):
    from safetensors.torch import load_file, save_file

    path = os.path.join(llava, "model.safetensors")
    state = load_file(path)
    gone = next(name for name in sorted(state) if name.endswith("q_proj.weight"))
    save_file({name: one for name, one in state.items() if name != gone}, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="lack 1 of the model's weights"):
        vlm.load(vlm.Settings(llava))


def test_devices_that_cannot_be(llava, monkeypatch):
    for name in ("banana", "cuda:x", "cuda:"):
        with pytest.raises(UserError, match="choose cpu, cuda, or one device"):
            devices.count(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="there are 2 CUDA devices"):
        devices.count("cuda:2")
