"""A sentence from measured attributes alone: it claims no content, and no degradation that the identifier does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.identifier import TYPES

MODEL = "signals-2"
THRESHOLD = 0.5  # of P(type | GT); below it nothing is said, since the absence of a degradation is not measured
NAMES = {"jpeg": "JPEG artifacts", "low_light": "low light", "low_resolution": "low resolution"}
NEEDS = (
    *("width", "height", "iqa.exposure", "iqa.contrast", "iqa.colorfulness"),
    *(f"degradation.{name}" for name in TYPES),
)


def describe(row: Mapping[str, Any]) -> str:
    """Sentences about format, exposure, contrast and color of a GT, and the degradations that are likelier than not."""
    width, height = row["width"], row["height"]
    form = "square" if width == height else "landscape-format" if width > height else "portrait-format"
    color = row["iqa.colorfulness"]
    kind = "grayscale" if color < 1 else "color"
    exposure = _step(
        row["iqa.exposure"], (0.15, "very dark"), (0.3, "dark"), (0.65, "evenly exposed"), otherwise="bright"
    )
    parts = [_step(row["iqa.contrast"], (0.1, "low contrast"), (0.2, "moderate contrast"), otherwise="strong contrast")]
    if kind == "color":
        parts.append(_step(color, (15, "muted colors"), (40, "natural colors"), otherwise="vivid colors"))
    text = f"A {form} {kind} photograph of {width}x{height} pixels, {exposure}, with {listed(parts)}."
    shown = [NAMES.get(name, name) for name in TYPES if row[f"degradation.{name}"] > THRESHOLD]
    return f"{text} It shows {listed(shown)}." if shown else text


def _step(value: float, *steps: tuple[float, str], otherwise: str) -> str:
    return next((word for limit, word in steps if value < limit), otherwise)


def listed(words: list[str]) -> str:
    """Words with commas, and "and" before the last one."""
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else words[0]
