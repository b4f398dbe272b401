"""A checkpoint for others: weights as safetensors, a graph as ONNX, a folder with a model card for a model hub."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from manifests import files, outputs
from manifests.errors import UserError
from trainer import checkpoint as checkpoint_
from trainer import models

if TYPE_CHECKING:
    from torch import nn

SIDE = 64  # pixels of the image that a graph is traced with
PLACES = ("data.manifest", "data.replay", "data.cache", "mixture.schedule", "model.init")  # concern this machine alone
TOLERANCE = 1e-4  # between a graph's output and the model's


def to_safetensors(checkpoint: str, path: str, *, overwrite: bool = False) -> str:
    """Write the averaged weights as `path`, with the model's name and shape in its metadata. Returns the path."""
    outputs.refuse_existing(path, overwrite=overwrite, option="--safetensors", inputs=[checkpoint])
    found = checkpoint_.find(checkpoint)
    model = checkpoint_.load_model(found, "cpu")
    said = {name: json.dumps(value) for name, value in found.state["model"].items()}
    _make_folder(path)
    checkpoint_.write_tensors(path, model.state_dict(), {"format": "pt", "step": str(found.step), **said})
    return path


def to_onnx(
    checkpoint: str, path: str, *, overwrite: bool = False, say: Callable[[str], None] = lambda text: None
) -> str:
    """Write the model as an ONNX graph, `lq` → `restored`, both (B, 3, H, W) in [0, 1] of any size. Returns the path.

    The graph is run at another size than it was traced with and compared with the model; nothing is left behind when
    they differ. `say` is told what goes on. Raises UserError, also when onnx, onnxscript and onnxruntime are not
    installed.
    """
    outputs.refuse_existing(path, overwrite=overwrite, option="--onnx", inputs=[checkpoint])
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"--onnx needs {error.name}: pip install 'equimix[onnx]'") from None
    import torch

    model = checkpoint_.load_model(checkpoint_.find(checkpoint), "cpu")
    example = torch.rand(2, 3, SIDE, SIDE + 16)
    _make_folder(path)
    draft = f"{path}.tmp"
    try:
        say(f"onnx: tracing the model with {SIDE}x{SIDE + 16} pixels")
        program: Any = torch.onnx.export(
            model, (example,), dynamo=True, input_names=["lq"], output_names=["restored"], verbose=False,
            dynamic_shapes=(dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),),
        )  # fmt: skip
        program.save(draft)
        say("onnx: comparing the graph with the model at another size")
        session = onnxruntime.InferenceSession(draft, providers=["CPUExecutionProvider"])
        other = torch.rand(1, 3, SIDE + 5, SIDE - 3)
        with torch.inference_mode():
            expected = model(other)
        restored = torch.from_numpy(session.run(None, {"lq": other.numpy()})[0])
        if restored.shape != expected.shape or (worst := float((restored - expected).abs().max())) > TOLERANCE:
            raise UserError(f"{path}: the graph's output differs from the model's by {worst}; it was not kept")
        os.replace(draft, path)
    finally:
        if os.path.exists(draft):
            os.unlink(draft)
    return path


def to_hub_folder(checkpoint: str, folder: str, *, overwrite: bool = False) -> str:
    """Write `folder` with model.safetensors, config.json and a model card, ready for a model hub. Returns it.

    `trainer eval`, `restore`, `export` and `finetune` take the folder like a checkpoint.
    """
    folder = folder.rstrip("/") or folder
    if os.path.lexists(folder):
        if not overwrite:
            raise outputs.existing(folder, "--hub-folder")
        outputs.check_folder(folder, outputs.MODEL, [checkpoint])
    found = checkpoint_.find(checkpoint)
    draft = f"{folder}.{os.getpid()}.tmp"
    try:
        to_safetensors(checkpoint, os.path.join(draft, "model.safetensors"))
        model = checkpoint_.load_model(found, "cpu")
        content = {"equimix": {**found.state["model"], "step": found.step}, **models.describe(model)}
        files.write(os.path.join(draft, "config.json"), (json.dumps(content, indent=2) + "\n").encode())
        files.write(os.path.join(draft, "README.md"), _card(found, model).encode())
        outputs.swap(draft, os.path.realpath(folder))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _card(found: checkpoint_.Checkpoint, model: nn.Module) -> str:
    """The model card: what it is, on what it was trained, how good it is, how it is used."""
    said, state = found.state["model"], found.state.get("state", {})
    settings = {name: dict(section) for name, section in found.state.get("config", {}).items()}
    for name in PLACES:
        section, _, setting = name.partition(".")
        settings.get(section, {}).pop(setting, None)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = [row for row in state.get("metrics", []) if row["step"] == _last_step(state)]
    lines = [
        "---", "library_name: equimix", "pipeline_tag: image-to-image",
        "tags: [image-restoration, " + ", ".join(dict.fromkeys([said["name"], *(row["task"] for row in rows)])) + "]",
        "---", "", f"# {said['name']} ({said['preset']}), {found.step} steps", "",
        f"An image-restoration model of {parameters / 1e6:.2f} M parameters: RGB in [0, 1], any size, to the same. "
        "These are the moving-average weights.", "",
        "```sh", "trainer restore THIS_FOLDER photo.jpg", "```", "",
    ]  # fmt: skip
    if rows:
        lines += ["## Scores on the reference split during training", ""]
        lines += [
            "| task | metric | input | restored | ± SE | gain | ± SE | images | groups | share of the batch | epochs |",
            "|---" * 8 + "|",
        ]
        lines += [_scored(row) for row in rows]
    lines += [
        "",
        *_evaluations(found.path, found.step),
        "## Training",
        "",
        "```json",
        json.dumps(settings, indent=1),
        "```",
        "",
    ]
    lines += ["## Limits and licence", "", "Licence: to be filled in; it depends on the training data's.", ""]
    return "\n".join(lines)


def _scored(row: dict[str, Any]) -> str:
    names = ("lq", "value", "se", "gain", "gain_se", "n", "groups", "weight", "epochs")
    cells = ["–" if row.get(name) is None else f"{row[name]:.4g}" for name in names]
    return f"| {row['task']} | {row['metric']} | " + " | ".join(cells) + " |"


def _evaluations(path: str, step: int) -> list[str]:
    """The tables that `trainer eval` wrote of this checkpoint."""
    run = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    folder, out = os.path.join(run, "eval"), list[str]()
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        said = json.loads(files.read(os.path.join(folder, name))) if name.endswith(".json") else {}
        if said.get("step") == step:
            out += [f"## Scores on {said['split']}, step {said['step']}", "", "| task | metric | restored | images |"]
            out += ["|---" * 4 + "|"]
            out += [f"| {row['task']} | {row['metric']} | {row['value']:.4g} | {row['n']} |" for row in said["table"]]
            out += ["", *(f"- {key}: {text}" for key, text in said["conventions"].items()), ""]
    return out


def _last_step(state: dict[str, Any]) -> int:
    return max((row["step"] for row in state.get("metrics", [])), default=0)


def _make_folder(path: str) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
