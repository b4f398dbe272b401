"""Which manifest a command reads when none is named: the last one of the chain that began with ./manifest."""

from __future__ import annotations

import os
from collections.abc import Mapping

from manifests.errors import UserError
from manifests.table import Manifest, read

NAME = "manifest"


def newest(folder: str = ".", stage: str = "") -> str:
    """The name of the manifest in `folder`, among `manifest` and `manifest-*`, of which no other one there was made.

    stage: the stage that will read it; manifests that it has worked on already are left out, unless all are. What was
    made of what is read from the lineage, so times do not matter; an output that is not finished does not count, nor
    does one that was not made of `manifest` where that is there. Where there is none it is `manifest`. Raises
    UserError where several are left, with their names.
    """
    manifests = _chain(folder)
    before = {name: one for name, one in manifests.items() if stage not in {made["stage"] for made in one.stages}}
    last = _last(before or manifests)
    if len(last) > 1:
        raise UserError(f"several manifests could be meant: {', '.join(last)}; name the one to read", exit_code=2)
    return last[0] if last else NAME


def _chain(folder: str) -> dict[str, Manifest]:
    names = sorted(name for name in os.listdir(folder) if name == NAME or name.startswith(f"{NAME}-"))
    paths = {name: os.path.join(folder, name) for name in names}
    found = {name: read(path) for name, path in paths.items() if os.path.isfile(os.path.join(path, "manifest.json"))}
    if NAME not in found:
        return found
    first = found[NAME].fingerprint
    return {name: one for name, one in found.items() if name == NAME or first in _used(one)}


def _last(manifests: Mapping[str, Manifest]) -> list[str]:
    used = {fingerprint for one in manifests.values() for fingerprint in _used(one)}
    return [name for name, one in manifests.items() if one.fingerprint not in used]


def _used(manifest: Manifest) -> set[str]:
    """Fingerprints of the manifests that it was made of."""
    return {given for stage in manifest.stages for given in stage.get("inputs", ())}
