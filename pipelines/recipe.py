"""A recipe: named stages in order, each with its parameters; `@name` stands for what an earlier stage made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from manifests.errors import UserError


class Step(BaseModel):
    """One stage of a recipe: what to run, under which name its output is kept, and with what."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    run: str
    params: dict[str, Any] = Field(default_factory=dict, alias="with")

    def references(self) -> list[str]:
        """Names of the earlier steps that this one reads."""
        values = [one for value in self.params.values() for one in (value if isinstance(value, list) else [value])]
        return [value[1:] for value in values if is_reference(value)]

    def resolved(self, places: Mapping[str, str]) -> dict[str, Any]:
        """The parameters with every reference, also those in lists, replaced by where that step's output is."""

        def place(value: Any) -> Any:
            if isinstance(value, list):
                return [place(one) for one in value]
            return places[value[1:]] if is_reference(value) else value

        return {name: place(value) for name, value in self.params.items()}


def is_reference(value: Any) -> bool:
    """Whether a parameter stands for an earlier step's output."""
    return isinstance(value, str) and value.startswith("@")


class Recipe(BaseModel):
    """A chain of stages."""

    model_config = ConfigDict(extra="forbid")

    name: str
    steps: list[Step] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> Recipe:
        seen: set[str] = set()
        for step in self.steps:
            if step.name in seen:
                raise ValueError(f"two steps are called {step.name!r}")
            if missing := [name for name in step.references() if name not in seen]:
                raise ValueError(f"step {step.name!r} reads @{missing[0]}, which no earlier step makes")
            seen.add(step.name)
        return self


def load(path: str) -> Recipe:
    """Read a recipe from a YAML file, or one that Equimix brings by its bare name (`quickstart`)."""
    source = path
    if not os.path.exists(path) and os.sep not in path and not path.endswith((".yaml", ".yml")):
        source = os.path.join(os.path.dirname(__file__), "recipes", f"{path}.yaml")
    try:
        with open(source, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe; Equimix brings: {', '.join(built_in())}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None


def built_in() -> list[str]:
    """Names of the recipes that Equimix brings."""
    folder = os.path.join(os.path.dirname(__file__), "recipes")
    return sorted(name.removesuffix(".yaml") for name in os.listdir(folder) if name.endswith(".yaml"))
