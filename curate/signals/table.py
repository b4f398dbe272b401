"""What each signal means. Imports nothing, so that a command can check a name without loading anything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Signal:
    """A signal: its unit, its usual range, and which end is better (None: neither)."""

    description: str
    unit: str
    low: float
    high: float
    higher_is_better: bool | None


SIGNALS: dict[str, Signal] = {
    "noise_sigma": Signal("standard deviation of fine noise in the flattest blocks", "8-bit levels", 0, 50, False),
    "noise_coarse": Signal("the same at half resolution: correlated noise", "8-bit levels", 0, 50, False),
    "noise_quarter": Signal("the same at a quarter of the resolution: blotches", "8-bit levels", 0, 50, False),
    "noise_dark": Signal("fine noise in blocks of a level from 20 to 90", "8-bit levels", 0, 50, False),
    "noise_bright": Signal("fine noise in blocks of a level from 110 to 235", "8-bit levels", 0, 50, False),
    "noise_grain": Signal("curvature over 1 pixel over that over 2 pixels in the flattest blocks", "", 0, 2, None),
    "noise_spread": Signal("fine structure of the median block over that of the flattest", "log10", 0, 3, None),
    "noise_color": Signal("noise of color differences at half resolution", "8-bit levels", 0, 50, False),
    "noise_color_coarse": Signal("the same at a quarter of the resolution", "8-bit levels", 0, 50, False),
    "sharpness": Signal("fine over coarse curvature where it is sharpest, in the softer direction", "", 0, 1, True),
    "sharpness_peak": Signal("the same in the sharpest 0.5 % of the blocks: a small subject in focus", "", 0, 1, True),
    "sharpness_half": Signal("sharpness at half resolution, along rows", "", 0, 1, True),
    "directional_blur": Signal("difference of sharpness between rows and columns: motion", "", 0, 1, False),
    "effective_resolution": Signal("share of Nyquist below which the detail lies", "", 0, 1, True),
    "high_frequency": Signal("detail near Nyquist over detail at a quarter of it", "log10", -6, 2, None),
    "periodicity": Signal("traces of interpolation (Gallagher 2005)", "log10", 0, 3, False),
    "blockiness": Signal("steps on an 8-pixel grid over steps elsewhere, minus 1", "", 0, 2, False),
    "exposure": Signal("mean luma", "of full scale", 0, 1, None),
    "highlight": Signal("95th percentile of luma", "of full scale", 0, 1, None),
    "black_level": Signal("1st percentile of luma", "of full scale", 0, 1, None),
    "clipping": Signal("share of pixels at either end of the scale", "", 0, 1, False),
    "contrast": Signal("standard deviation of luma", "of full scale", 0, 0.5, None),
    "colorfulness": Signal("Hasler and Suesstrunk 2003", "", 0, 150, None),
    "haze": Signal("mean dark channel (He et al. 2009)", "of full scale", 0, 1, False),
    "haze_floor": Signal("5th percentile of the dark channel", "of full scale", 0, 1, False),
    "saturation": Signal("mean of 1 - min/max over the color channels", "", 0, 1, None),
    "local_contrast": Signal("standard deviation in the median patch of a thumbnail", "of full scale", 0, 0.5, None),
    "streaks": Signal("bright over dark thin lines near the vertical (skewness): rain", "", -3, 3, False),
    "streak_direction": Signal("how much one direction near the vertical stands out", "log10", 0, 1, None),
}
