"""What is measured of a pair of images, from pixels that are decoded already, and what is concluded from it.

    view = views.view(pixels)                                   once per image
    values = measure(view_of_lq, view_of_gt, task="dehaze", scale=1)
    judge.state(values | {"scale": 1}, judge.Policy())          'ok', 'other_scene', 'shifted', ...

See docs/pairs.md for what is measured, how the thresholds were fitted, and how often they are wrong.
"""

from curate.pair_checks.evidence import KINDS, fingerprint, measure
from curate.pair_checks.views import View, view

__all__ = ["KINDS", "View", "fingerprint", "measure", "view"]
