"""What leaves the house: weights, graphs and folders that others open, and runs that begin from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from manifests.errors import UserError
from tests.trainer.conftest import build_manifest
from trainer import checkpoint, config, evaluate, export, finetune, loop
from trainer.restore import restore_bytes

TINY: dict[str, Any] = {
    "data": {"batch": 4, "crop": 24, "workers": 0},
    "optimiser": {"steps": 6, "warmup": 2},
    "evaluation": {"interval": 3},
    "run": {"device": "cpu", "threads": 1},
}


@pytest.fixture(scope="module")
def trained(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("export") / "run")
    loop.run(config.build(TINY, {"data": {"manifest": manifest}, "model": {"options": {"width": 4}}}), out)
    return out


def _model(path: str) -> torch.nn.Module:
    return checkpoint.load_model(checkpoint.find(path), "cpu")


def test_weights_as_safetensors(trained: str, tmp_path: Path) -> None:
    path = export.to_safetensors(trained, str(tmp_path / "deep" / "weights.safetensors"))
    state = _model(trained).state_dict()
    (tmp_path / "plain").touch()
    assert Path(path).stat().st_mode == (tmp_path / "plain").stat().st_mode
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(state)
        assert all(torch.equal(file.get_tensor(name), state[name]) for name in state)
        assert json.loads(file.metadata()["options"]) == {"width": 4} and file.metadata()["step"] == "6"
    with pytest.raises(UserError, match="exists already"):
        export.to_safetensors(trained, path)


@pytest.mark.slow
def test_the_graph_gives_what_the_model_gives_at_any_size(trained: str, tmp_path: Path) -> None:
    import onnxruntime

    path = export.to_onnx(trained, str(tmp_path / "model.onnx"))
    session, model = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]), _model(trained)
    for shape in ((1, 3, 40, 56), (3, 3, 33, 65)):
        lq = torch.rand(*shape)
        with torch.inference_mode():
            expected = model(lq).numpy()
        np.testing.assert_allclose(session.run(None, {"lq": lq.numpy()})[0], expected, atol=1e-4)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_a_hub_folder_is_a_checkpoint(trained: str, manifest: str, tmp_path: Path) -> None:
    evaluate.evaluate(trained, manifest, device="cpu")
    folder = export.to_hub_folder(trained, str(tmp_path / "mine"))
    names = sorted(entry.name for entry in Path(folder).iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    card = (tmp_path / "mine" / "README.md").read_text()
    assert card.startswith("---\n") and "image-to-image" in card and "| denoise | psnr |" in card
    assert "Scores on test, step 6" in card and "fingerprint" in card and "/" + manifest.split("/")[1] not in card
    from manifests import images

    photo = images.encode_png(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
    assert restore_bytes(_model(folder), photo) == restore_bytes(_model(trained), photo)
    (tmp_path / "mine" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="not one that 'trainer export"):
        checkpoint.find(folder)
    (tmp_path / "mine" / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no config\.json"):
        checkpoint.find(folder)


def test_a_new_task_is_learnt_from_old_weights_with_replay(
    trained: str, manifest: str, tmp_path: Path, photographs: Any
) -> None:
    new = build_manifest(tmp_path / "new", photographs, tasks=("dim",))
    folder = export.to_hub_folder(trained, str(tmp_path / "mine"))
    for start, share in ((trained, 0.4), (folder, 0.25)):
        out = str(tmp_path / f"tuned-{share}")
        settings = {**TINY, "mixture": {"rule": "static"}}
        result = finetune.finetune(start, new, replay=manifest, replay_share=share, output=out, settings=settings)
        assert sorted(result.scores) == ["denoise", "dim", "low_light", "sr"]
        assert result.weights["dim"] == pytest.approx(1 - share) and sum(result.weights.values()) == pytest.approx(1)
        said = json.loads(Path(out, "config.json").read_text())
        assert said["fingerprints"]["first weights"] == checkpoint.find(start).fingerprint
        assert said["config"]["optimiser"]["lr"] == finetune.LR
    old = {row["task"]: row["value"] for row in checkpoint.find(trained).state["state"]["metrics"][-3:]}
    first = {row["task"]: row["value"] for row in checkpoint.find(out).state["state"]["metrics"][:4]}
    assert {task: first[task] for task in old} == pytest.approx(old, abs=1e-6)  # it begins with what it knew
    alone = finetune.finetune(trained, new, output=str(tmp_path / "alone"), settings=TINY)
    assert list(alone.scores) == ["dim"]
    again = finetune.finetune(trained, new, output=str(tmp_path / "alone"), settings=TINY, resume=True)
    assert again.scores == alone.scores
    with pytest.raises(UserError, match="must lie between 0 and 1"):
        finetune.finetune(trained, new, replay=manifest, replay_share=1.0, output=str(tmp_path / "x"))
    with pytest.raises(UserError, match="has no task that"):
        finetune.finetune(trained, manifest, replay=manifest, output=str(tmp_path / "x"))
