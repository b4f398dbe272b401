"""The photographs that scikit-image and scikit-learn install: real data for the demo, without any download."""

from __future__ import annotations

import os
from importlib import resources

from manifests import files
from manifests.errors import UserError

# scene/name -> package and file. Drawings, text, charts, microscopy and astronomy are left out. The two
# motorcycle views are one scene, so that no split can tear them apart.
PHOTOGRAPHS: dict[str, tuple[str, str]] = {
    "astronaut/astronaut.png": ("skimage.data", "astronaut.png"),
    "brick/brick.png": ("skimage.data", "brick.png"),
    "camera/camera.png": ("skimage.data", "camera.png"),
    "chelsea/chelsea.png": ("skimage.data", "chelsea.png"),
    "china/china.jpg": ("sklearn.datasets.images", "china.jpg"),
    "clock/clock_motion.png": ("skimage.data", "clock_motion.png"),
    "coffee/coffee.png": ("skimage.data", "coffee.png"),
    "coins/coins.png": ("skimage.data", "coins.png"),
    "flower/flower.jpg": ("sklearn.datasets.images", "flower.jpg"),
    "grass/grass.png": ("skimage.data", "grass.png"),
    "gravel/gravel.png": ("skimage.data", "gravel.png"),
    "motorcycle/left.png": ("skimage.data", "motorcycle_left.png"),
    "motorcycle/right.png": ("skimage.data", "motorcycle_right.png"),
    "rocket/rocket.jpg": ("skimage.data", "rocket.jpg"),
}


def photos(output: str = "photos") -> str:
    """Copy the photographs to `output`/<scene>/<file>; returns `output`. Raises UserError when one is not installed."""
    for name, (package, file) in PHOTOGRAPHS.items():
        source = resources.files(package) / file
        if not source.is_file():
            raise UserError(f"{package}/{file}: not installed; 'pip install scikit-image scikit-learn' brings it")
        target = os.path.join(output, name)
        if not os.path.exists(target):
            files.write(target, source.read_bytes())
    return output
