"""The stream: which pair, crop and flip is in which slot of which step, and how its pixels get there.

`index` opens a manifest, `plan` says what every step holds (pure, no files), `loader` brings it as tensors.
"""
