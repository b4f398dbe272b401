"""The models, one module each, found by looking into this folder and registered by its file name.

A model module holds a frozen dataclass ``Config``, its published shapes as ``PRESETS: dict[str, Config]`` and
``Model(config)``, an ``nn.Module`` that maps (B, 3, H, W) RGB in [0, 1], any H and W, to the same, not clamped; and
``BLOCKS``, the kinds of module that gradient checkpointing computes anew.

    >>> from trainer import models
    >>> models.names()
    ('nafnet',)
    >>> model = models.build("nafnet", "tiny", width=8)
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from manifests.errors import UserError

if TYPE_CHECKING:
    from torch import nn


class ModelModule(Protocol):
    """What a module in this folder offers."""

    BLOCKS: tuple[type[nn.Module], ...]
    PRESETS: dict[str, Any]
    Config: type[Any]
    Model: type[nn.Module]


def names() -> tuple[str, ...]:
    """The models, in alphabetical order. Imports none of them."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def presets(name: str) -> dict[str, Any]:
    """Preset name → config of model `name`."""
    return dict(_module(name).PRESETS)


def blocks(name: str) -> tuple[type[nn.Module], ...]:
    """The kinds of module of model `name` whose activations gradient checkpointing does not keep."""
    return _module(name).BLOCKS


def build(name: str, preset: str, **changes: Any) -> nn.Module:
    """A freshly initialised model; `changes` replace fields of the preset's config. Raises UserError."""
    module = _module(name)
    config = module.PRESETS.get(preset)
    if config is None:
        raise UserError(f"unknown preset {preset!r} of {name}; {_hint(preset, tuple(module.PRESETS))}", exit_code=2)
    known = {field.name for field in dataclasses.fields(config)}
    if foreign := sorted(set(changes) - known):
        raise UserError(f"{name} has no setting {foreign[0]!r}; {_hint(foreign[0], tuple(known))}", exit_code=2)
    fixed = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    try:
        return module.Model(dataclasses.replace(config, **fixed))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} cannot be built from {fixed}: {error}", exit_code=2) from None


def describe(model: nn.Module) -> dict[str, Any]:
    """The model's config as plain JSON values, and its parameter count."""
    return {
        "config": dataclasses.asdict(cast(Any, model).config),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def count_parameters(name: str, preset: str, changes: Mapping[str, Any] | None = None) -> int:
    """Trainable numbers of a preset, without allocating them."""
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in build(name, preset, **(changes or {})).parameters())


def _module(name: str) -> ModelModule:
    if name not in names():
        raise UserError(f"unknown model {name!r}; {_hint(name, names())}", exit_code=2)
    return cast(ModelModule, importlib.import_module(f"{__name__}.{name}"))


def _hint(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(sorted(known))}"
