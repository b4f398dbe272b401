"""The image files below a folder, and what is passed over there."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from manifests import files, images
from manifests.errors import UserError

SYSTEM = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")  # folders
UNREAD = (  # suffixes of images that are not read
    *(".jfif", ".jpe", ".avif", ".heic", ".heif", ".gif", ".jxl", ".jp2", ".j2k", ".jpx", ".psd", ".svg", ".ico"),
    *(".ppm", ".pgm", ".pnm", ".pbm", ".pfm", ".exr", ".hdr", ".tga"),
    *(".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"),
)

log = logging.getLogger("curate.ingest")


@dataclass
class Listing:
    """Files below a folder, as paths relative to it.

    images: sorted. passed_over: what was left out -> how many: `.heic`, "hidden files", "hidden or system folders".
    """

    images: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)

    def add(self, path: str) -> None:
        """Enter a file where it belongs."""
        name = path.rpartition("/")[2]
        suffix = os.path.splitext(name)[1].lower()
        if name.startswith("."):
            self.passed_over["hidden files"] += 1
        elif name.lower().endswith(images.SUFFIXES):
            self.images.append(path)
        elif suffix in UNREAD:
            self.passed_over[suffix] += 1

    def announce(self, folder: str) -> None:
        """Say in one line what was passed over, if anything was."""
        if self.passed_over:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.passed_over.items()))
            read = ", ".join(images.SUFFIXES)
            log.warning("%s: passed over: %s (read are %s)", folder, kinds, read)


def list_images(folder: str) -> list[str]:
    """Image files below `folder`, as sorted paths relative to it; hidden and system files are left out."""
    return list_folder(folder).images


def list_folder(folder: str) -> Listing:
    """What lies below `folder`, a local one or any fsspec URL. Raises UserError for a folder that cannot be listed."""
    found = Listing()
    if files.is_url(folder):
        import fsspec

        with files.remote(folder):
            fs, inner = fsspec.core.url_to_fs(folder)
            paths = [path[len(inner.rstrip("/")) + 1 :] for path in fs.find(inner)]
        hidden = set[str]()
        for path in paths:
            levels = path.split("/")[:-1]
            deep = next((n for n, level in enumerate(levels, 1) if is_hidden(level)), 0)
            if deep:
                hidden.add("/".join(levels[:deep]))
            else:
                found.add(path)
        found.passed_over["hidden or system folders"] += len(hidden)
    else:
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: no such folder")
        for path in _walk(folder, found):
            found.add(path)
    found.passed_over = +found.passed_over
    found.images.sort()
    return found


def is_hidden(name: str) -> bool:
    """Whether a folder of that name belongs to the system, or is hidden."""
    return name.startswith(".") or name in SYSTEM


def _walk(folder: str, listing: Listing) -> Iterator[str]:
    """All files below a local folder, through links to folders as well, except those that lead back to a parent."""
    parents: dict[str, tuple[str, ...]] = {folder: (os.path.realpath(folder),)}

    def unlisted(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); allow it, or move it elsewhere")

    for base, folders, names in os.walk(folder, onerror=unlisted, followlinks=True):
        above = parents.pop(base)
        for name in list(folders):
            inner = os.path.join(base, name)
            real = os.path.realpath(inner) if os.path.islink(inner) else os.path.join(above[-1], name)
            if is_hidden(name):
                listing.passed_over["hidden or system folders"] += 1
                folders.remove(name)
            elif real in above:
                folders.remove(name)
            else:
                parents[inner] = (*above, real)
        yield from (os.path.relpath(os.path.join(base, name), folder).replace(os.sep, "/") for name in names)
