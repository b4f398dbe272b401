"""Checkpoints: a folder each, whole or absent, whose damage is noticed before anything of it is used.

checkpoints/step-00001000/
    model.safetensors, ema.safetensors    parameters and their moving average
    optimizer.safetensors                 AdamW's moments, `<parameter>/exp_avg` and so on
    state.json                            all else, and the size and SHA-256 of the three files
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from manifests.errors import UserError

VERSION = 2
EXPORTED = "model.safetensors"  # the one file of weights in an exported folder
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """One that was found whole. `state` is what `save` was given, plus "step"."""

    path: str
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps that led to it."""
        return int(self.state["step"])

    @property
    def weights(self) -> str:
        """The file with the weights to use: the moving average."""
        return "ema.safetensors" if "ema.safetensors" in self.state["files"] else EXPORTED

    @property
    def fingerprint(self) -> str:
        """32 hex digits that name its averaged weights."""
        return str(self.state["files"][self.weights]["sha256"])[:32]


def save(
    folder: str,
    step: int,
    *,
    model: nn.Module,
    ema: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int,
    best: Mapping[str, int] | None = None,
) -> str:
    """Write `folder/step-XXXXXXXX`, then delete all but the newest `keep` and the best. Returns its path.

    best: what a checkpoint is best in → its step; a link `best-<name>` leads to it.

    Everything goes to a hidden folder first, is synced, and appears under its name in one rename.
    """
    final = _path(folder, step)
    temporary = os.path.join(folder, f".step-{step:08d}.{os.getpid()}.tmp")
    os.makedirs(temporary)
    try:
        tensors = {
            "model.safetensors": dict(model.state_dict()),
            "ema.safetensors": dict(ema.state_dict()),
            "optimizer.safetensors": _moments(model, optimizer),
        }
        written = {name: _write(os.path.join(temporary, name), content) for name, content in tensors.items()}
        content = {"version": VERSION, **state, "step": step, "files": written}
        with open(os.path.join(temporary, "state.json"), "w") as file:
            json.dump(content, file, sort_keys=True)
            _sync(file.fileno())
        _sync_folder(temporary)
        if os.path.exists(final):  # a damaged one, from before a resume
            os.replace(final, f"{temporary}.old")
        os.replace(temporary, final)
        _sync_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(
            f"{final}: the checkpoint could not be written ({error.strerror or error}); "
            "earlier ones are intact, make room and go on with --resume"
        ) from error
    best = {name: one for name, one in (best or {}).items() if os.path.isdir(_path(folder, one))}
    for name, one in best.items():
        _link(os.path.join(folder, f"best-{name}"), os.path.basename(_path(folder, one)))
    clean(folder, keep, protect=[_path(folder, one) for one in best.values()])
    return final


def clean(folder: str, keep: int | None = None, protect: Collection[str] = ()) -> None:
    """Remove what a killed run left half-written and, with `keep`, all but the newest `keep` checkpoints.

    protect: paths that stay in any case.
    """
    if not os.path.isdir(folder):
        return
    for name in os.listdir(folder):
        if name.startswith(".step-"):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    if keep is not None:
        for path in _all(folder)[max(keep, 1) :]:
            if path not in protect:
                shutil.rmtree(path, ignore_errors=True)


def check(path: str) -> Checkpoint:
    """The checkpoint in folder `path`. Raises UserError, with the reason, when it is not whole."""
    name = os.path.join(path, "state.json")
    try:
        with open(name) as file:
            state = json.load(file)
        expected = dict(state["files"])
    except FileNotFoundError:
        raise UserError(f"{path}: not a checkpoint (no state.json in it)") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{name}: damaged ({error})") from None
    if state.get("version") != VERSION:
        raise UserError(f"{name}: checkpoint version {state.get('version')}, this Equimix reads {VERSION}")
    for part, facts in expected.items():
        try:
            found = _facts(os.path.join(path, part))
        except OSError as error:
            raise UserError(f"{os.path.join(path, part)}: damaged checkpoint ({error.strerror})") from None
        if found != facts:
            raise UserError(f"{os.path.join(path, part)}: damaged checkpoint (content differs from what was written)")
    return Checkpoint(path, state)


def newest(folder: str) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint in `folder`, or None, and what is wrong with each later one."""
    problems: list[str] = []
    for path in _all(folder):
        try:
            return check(path), problems
        except UserError as error:
            problems.append(str(error))
    return None, problems


def find(path: str) -> Checkpoint:
    """What `path` means: a checkpoint folder, a run folder's newest whole one, or an exported folder. UserError."""
    if os.path.isfile(os.path.join(path, "state.json")):
        return check(path)
    if os.path.isfile(os.path.join(path, EXPORTED)):
        return _exported(path)
    if not os.path.isdir(path):
        raise UserError(f"{path}: no such checkpoint or run folder")
    found, problems = newest(os.path.join(path, "checkpoints"))
    if found is None:
        reason = problems[0] if problems else "it has none yet; train it first with 'trainer run'"
        raise UserError(f"{path}: no checkpoint that can be used: {reason}")
    return found


def _exported(folder: str) -> Checkpoint:
    """A folder that `trainer export --hub-folder` wrote: weights and shape, and no more."""
    name = os.path.join(folder, "config.json")
    try:
        with open(name) as file:
            said = json.load(file)["equimix"]
        state = {"model": {key: said[key] for key in ("name", "preset", "options")}, "step": int(said["step"])}
    except FileNotFoundError:
        raise UserError(
            f"{folder}: has no config.json beside {EXPORTED}; it says which model the weights are of"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{name}: not one that 'trainer export --hub-folder' wrote ({error})") from None
    return Checkpoint(folder, {**state, "files": {EXPORTED: _facts(os.path.join(folder, EXPORTED))}})


def restore(
    checkpoint: Checkpoint, *, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Load parameters, average and optimizer moments, in place."""
    device = str(next(model.parameters()).device)
    model.load_state_dict(load_file(os.path.join(checkpoint.path, "model.safetensors"), device=device))
    ema.load_state_dict(load_file(os.path.join(checkpoint.path, "ema.safetensors"), device=device))
    if optimizer is not None:
        moments = load_file(os.path.join(checkpoint.path, "optimizer.safetensors"), device=device)
        for name, parameter in model.named_parameters():
            mine = {key.rsplit("/", 1)[1]: value for key, value in moments.items() if key.rsplit("/", 1)[0] == name}
            if mine:
                optimizer.state[parameter] = mine


def load_model(checkpoint: Checkpoint, device: str) -> nn.Module:
    """The model of a checkpoint with its moving average, the weights to use, in evaluation mode."""
    from trainer import models

    said = checkpoint.state["model"]
    model = models.build(said["name"], said["preset"], **said["options"])
    try:
        model.load_state_dict(load_file(os.path.join(checkpoint.path, checkpoint.weights)))
    except RuntimeError as error:
        raise UserError(f"{checkpoint.path}: does not fit its model ({' '.join(str(error).split())[:200]})") from None
    return model.to(device).eval()


def _path(folder: str, step: int) -> str:
    return os.path.join(folder, f"step-{step:08d}")


def _link(path: str, target: str) -> None:
    """Let `path` lead to `target`; where links cannot be made there is none."""
    if os.path.islink(path) and os.readlink(path) == target:
        return
    with contextlib.suppress(OSError):
        draft = f"{path}.{os.getpid()}.tmp"
        os.symlink(target, draft)
        os.replace(draft, path)


def _all(folder: str) -> list[str]:
    names = sorted((n for n in os.listdir(folder) if _NAME.fullmatch(n)), reverse=True) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names]


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def write_tensors(path: str, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file that others may read as any new file (the library makes it its owner's alone).

    Raises OSError.
    """
    with open(path, "wb") as file:
        mode = os.fstat(file.fileno()).st_mode
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)
    except SafetensorError as error:  # it hides the system's own error
        code = int(found.group(1)) if (found := re.search(r"os error (\d+)", str(error))) else errno.EIO
        raise OSError(code, os.strerror(code), path) from None
    os.chmod(path, mode)


def _write(path: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    write_tensors(path, tensors)
    with open(path, "rb") as file:
        _sync(file.fileno())
    return _facts(path)


def _facts(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _sync_folder(path: str) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
