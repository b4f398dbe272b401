"""Which end of a score is better, told from its name; two words for it: "max" and "min".

The names are those of `manifests.metrics`, which the mixer does not import, and of losses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mixer.errors import MixerError

_UP = (
    "psnr psnry ssim ms_ssim msssim vif fsim musiq maniqa clipiqa topiq arniqa qualiclip qalign liqe dbcnn hyperiqa "
    "nima cnniqa paq2piq tres nrqm laion_aes uranker unique metaiqa maclip accuracy acc auroc"
)
_DOWN = (
    "lpips dists piqe niqe ilniqe brisque pi afine mse rmse mae nrmse l1 l2 loss val_loss valid_loss train_loss "
    "perplexity ppl nll bpb fid kid error err wer cer charbonnier cross_entropy"
)
HIGHER, LOWER = frozenset(_UP.split()), frozenset(_DOWN.split())
WORDS = {"max": "higher is better", "min": "lower is better"}


def of(name: str) -> str | None:
    """`max` or `min` for a score called `name`, None where its parts tell nothing or contradict each other.

    >>> of("psnr/denoise"), of("lpips"), of("test_loss"), of("iqa.musiq-spaq"), of("deblur")
    ('max', 'min', 'min', 'max', None)
    """
    text = name.lower()
    parts = {text, *re.split(r"[^a-z0-9_+]+", text), *re.split(r"[^a-z0-9]+", text)}
    found = {way for way, names in (("max", HIGHER), ("min", LOWER)) if parts & names}
    return found.pop() if len(found) == 1 else None


def given(higher: bool, lower: bool) -> str | None:
    """The direction that two flags say; None for neither. Raises MixerError for both."""
    if higher and lower:
        raise MixerError("--higher-is-better and --lower-is-better exclude each other", exit_code=2)
    return "max" if higher else "min" if lower else None


def common(names: Sequence[str], said: str | None, where: str) -> str:
    """The direction of all these scores: `said`, or what their names tell.

    Raises MixerError where a name tells nothing, or where they point both ways, unless it is said.
    """
    if said is not None:
        return said
    ways = {name: of(name) for name in names}
    unknown = [name for name, way in ways.items() if way is None]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise MixerError(
            f"{where}: the name of score {unknown[0]!r}{more} does not tell which end is better: "
            "say --higher-is-better or --lower-is-better",
            exit_code=2,
        )
    if len(set(ways.values())) > 1:
        up, down = (next(name for name, way in ways.items() if way == one) for one in ("max", "min"))
        raise MixerError(
            f"{where}: higher is better for {up!r}, lower for {down!r}: fit a law to each kind, or say "
            "--higher-is-better or --lower-is-better for all of them",
            exit_code=2,
        )
    return next(iter(ways.values())) or "max"
