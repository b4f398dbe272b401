"""From what was measured of a pair to its state, and to the decisions that drop it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.pair_checks import tasks
from manifests import schema

STAGE = "pairs"
RULES = ("scene", "identical", "swapped")
STATES = ("ok", "other_scene", "identical", "swapped", "shifted", "upscaled", "flat", "unknown")
DROPPED = {"other_scene": "scene", "identical": "identical", "swapped": "swapped"}  # state: rule
SHIFTED = 0.6  # GT pixels, along either axis: below it a shift is a matter of how the LQ was made
UPSCALED = 1.4  # times fewer details than its size could show


@dataclass(frozen=True)
class Policy:
    """Probabilities at which pairs are dropped.

    scene: a pair is of one scene when `pair.same_scene` is at least this; 0 drops none.
    swapped: its sides are exchanged when `pair.swapped` is above this; 1 drops none.
    """

    scene: float = 0.5
    swapped: float = 0.8


def state(values: Mapping[str, Any], policy: Policy) -> str | None:
    """One of STATES; None for a pair that was not measured. `values`: the measured columns and `scale`."""
    if values.get("pair.psnr") is None:
        return None
    if values["pair.identical"]:
        return "identical"
    if values["pair.ncc"] is None:
        return "flat"
    same = values["pair.same_scene"]
    if same is None:
        return "unknown"
    if same < policy.scene:
        return "other_scene"
    if values["pair.swapped"] is not None and values["pair.swapped"] > policy.swapped:
        return "swapped"
    if values["pair.shift_y"] is not None and max(abs(values[f"pair.shift_{axis}"]) for axis in "yx") >= SHIFTED:
        return "shifted"
    enlarged = values["scale"] == 1 and (values["pair.scale_found"] or 1) >= UPSCALED
    return "upscaled" if enlarged else "ok"


def decisions(values: Mapping[str, Any], task: str, policy: Policy) -> list[dict[str, Any]]:
    """The drop that the state asks for, with the reason; empty for the states that are only flags."""
    rule = DROPPED.get(state(values, policy) or "")
    if rule is None:
        return []
    text, value, threshold = _reason(rule, values, task, policy)
    return [schema.decision(STAGE, rule, "drop", text, value=value, threshold=threshold)]


def _reason(rule: str, values: Mapping[str, Any], task: str, policy: Policy) -> tuple[str, float, float]:
    if rule == "scene":
        distance = values["pair.distance"]
        bits = "" if distance is None else f", their hashes differ in {distance} of 64 bits"
        text = f"LQ and GT show different scenes: their structure correlates by {values['pair.ncc']:.2f}{bits}"
        return text, values["pair.same_scene"], policy.scene
    if rule == "identical":
        from curate.pair_checks.compare import HIGHEST, SAME_PSNR

        alike = values["pair.psnr"]
        text = "equal" if alike >= HIGHEST else f"alike to {alike:.1f} dB"
        return f"LQ and GT are {text}: there is nothing to restore", alike, SAME_PSNR
    noun = tasks.NOUNS[tasks.known(task)]
    text = f"the GT is the {noun} of the two: LQ and GT look exchanged (P = {values['pair.swapped']:.3f})"
    return text, values["pair.swapped"], policy.swapped
