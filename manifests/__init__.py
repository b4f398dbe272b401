"""The ground floor: what a training pair is, how tables of pairs are stored, and how image files become pixels.

`manifests.read(path)` opens a manifest, `manifests.write(path, table, ...)` makes one; both work on any fsspec URL.
"""

from manifests.errors import UserError

__all__ = ["UserError"]
