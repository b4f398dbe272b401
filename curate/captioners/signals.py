"""An honest sentence from measured attributes alone: it never claims content that it cannot know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL = "signals-1"
NEEDS = ("width", "height", "iqa.exposure", "iqa.contrast", "iqa.colorfulness", "iqa.noise_sigma", "iqa.sharpness")


def describe(row: Mapping[str, Any]) -> str:
    """One sentence about format, exposure, contrast, colour, sharpness and noise of a GT."""
    width, height = row["width"], row["height"]
    form = "square" if width == height else "landscape-format" if width > height else "portrait-format"
    colour = row["iqa.colorfulness"]
    kind = "greyscale" if colour < 1 else "colour"
    parts = [
        _step(row["iqa.exposure"], (0.15, "very dark"), (0.3, "dark"), (0.65, "evenly exposed"), otherwise="bright"),
        _step(row["iqa.contrast"], (0.1, "low contrast"), (0.2, "moderate contrast"), otherwise="strong contrast"),
    ]
    if kind == "colour":
        parts.append(_step(colour, (15, "muted colours"), (40, "natural colours"), otherwise="vivid colours"))
    noise = row["iqa.noise_sigma"]
    parts.append(_step(noise, (2.5, "no visible noise"), (6, "slight noise"), otherwise="clearly visible noise"))
    return f"A {form} {kind} photograph of {width}x{height} pixels, {parts[0]}, with {_listed(parts[1:])}."


def _step(value: float, *steps: tuple[float, str], otherwise: str) -> str:
    return next((word for limit, word in steps if value < limit), otherwise)


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}"
