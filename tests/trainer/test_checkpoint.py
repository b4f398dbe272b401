"""Checkpoints: exact, atomic, and damage is noticed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from manifests.errors import UserError
from trainer import checkpoint, models
from trainer.ema import EMA


def _parts(seed: int) -> tuple[nn.Module, EMA, torch.optim.AdamW]:
    torch.manual_seed(seed)
    model = models.build("nafnet", "tiny", width=4)
    return model, EMA(model, 0.9), torch.optim.AdamW(model.parameters(), 1e-2, fused=True)


def _train(model: nn.Module, ema: EMA, optimizer: torch.optim.AdamW, steps: range) -> None:
    for step in steps:
        torch.manual_seed(100 + step)
        x = torch.rand(2, 3, 16, 16)
        optimizer.zero_grad()
        (model(x) - x.flip(3)).square().mean().backward()
        optimizer.step()
        ema.update(model, step)


def _save(folder: Path, step: int, parts: tuple[nn.Module, EMA, torch.optim.AdamW], keep: int = 2) -> str:
    model, ema, optimizer = parts
    return checkpoint.save(
        str(folder), step, model=model, ema=ema.average, optimizer=optimizer, state={"x": [1.5]}, keep=keep
    )


def test_training_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    straight = _parts(0)
    _train(*straight, range(8))
    first = _parts(0)
    _train(*first, range(5))
    path = _save(tmp_path, 5, first)
    second = _parts(1)
    found = checkpoint.check(path)
    checkpoint.restore(found, model=second[0], ema=second[1].average, optimizer=second[2])
    _train(*second, range(5, 8))
    assert found.step == 5 and found.state["x"] == [1.5]
    for a, b in ((straight[0], second[0]), (straight[1].average, second[1].average)):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    parts = _parts(0)
    for step in (1, 2, 3):
        _save(tmp_path, step, parts)
    assert sorted(os.listdir(tmp_path)) == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize("harm", ["cut", "flip", "lose", "json"])
def test_damage_is_noticed_and_the_one_before_is_used(tmp_path: Path, harm: str) -> None:
    parts = _parts(0)
    _save(tmp_path, 1, parts)
    victim = Path(_save(tmp_path, 2, parts)) / ("state.json" if harm == "json" else "ema.safetensors")
    data = bytearray(victim.read_bytes())
    if harm == "lose":
        victim.unlink()
    elif harm == "flip":
        data[-5] ^= 1
        victim.write_bytes(data)
    else:
        victim.write_bytes(data[: len(data) // 2])
    found, problems = checkpoint.newest(str(tmp_path))
    assert found is not None and found.step == 1
    assert len(problems) == 1 and "step-00000002" in problems[0]
    assert _save(tmp_path, 2, parts).endswith("step-00000002")  # a resumed run writes it anew
    assert checkpoint.newest(str(tmp_path))[0].step == 2  # type: ignore[union-attr]


def test_left_overs_of_a_killed_run_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / ".step-00000009.77.tmp").mkdir()
    assert checkpoint.newest(str(tmp_path)) == (None, [])
    checkpoint.clean(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_failed_write_says_so_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = _parts(0)
    _save(tmp_path, 1, parts)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_sync", full)
    with pytest.raises(UserError, match="No space left on device"):
        _save(tmp_path, 2, parts)
    assert os.listdir(tmp_path) == ["step-00000001"]
    monkeypatch.undo()

    def hidden(*_: object, **__: object) -> None:  # what safetensors makes of a full disk
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", hidden)
    with pytest.raises(UserError, match="No space left on device"):
        _save(tmp_path, 2, parts)
    assert os.listdir(tmp_path) == ["step-00000001"] and checkpoint.find(str(tmp_path / "step-00000001")).step == 1


def test_find_explains_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.find(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="none yet"):
        checkpoint.find(str(tmp_path))
    path = Path(_save(tmp_path, 1, _parts(0)))
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, "version": 99}))
    with pytest.raises(UserError, match="version 99"):
        checkpoint.find(str(path))
