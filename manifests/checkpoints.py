"""Files of weights: named by their hash, and read without running what is in them; and whether the hub can be asked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from manifests.errors import UserError, brief


@lru_cache
def fingerprint(path: str) -> str:
    """The first 16 hex digits of a file's SHA-256. Raises UserError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{path}: weights cannot be read ({error.strerror})") from None


def read(path: str) -> dict[str, Any]:
    """What a .safetensors, .pt or .pth file holds. Raises UserError for one that is damaged or would run code.

    Pickles are read with torch's `weights_only`: tensors and plain containers, nothing that has to be called.
    """
    import torch

    fingerprint(path)  # a missing file is said first
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refused(path, error) from None
    except Exception as error:  # torch and safetensors have many names for a damaged file
        reason = brief(error)
        reason = reason if " " in reason else f"{type(error).__name__} {reason}"  # a KeyError says a number
        raise UserError(f"{path}: not a file of weights that can be read ({reason.strip()})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    return content


def refused(path: str, error: Exception) -> UserError:
    """What to say of a pickle that torch's `weights_only` would not read."""
    reason = " ".join(str(error).split())
    named = reason.split("GLOBAL ")[-1].split(" was not")[0] if "GLOBAL " in reason else "an object of its own"
    return UserError(
        f"{path}: refused: reading it would run code ({named[:80]}); only files of plain tensors are loaded"
    )


@contextlib.contextmanager
def guarded() -> Iterator[list[str]]:
    """While it is open, libraries that load weights by themselves read pickles with `weights_only`, whatever they ask.

    Yields the paths of the files of weights that were read, as they come. A pickle that would run code: UserError.
    Nothing else of this process may load weights meanwhile.
    """
    import safetensors.torch
    import scipy.io
    import torch

    paths: list[str] = []

    def noting(function: Any) -> Any:
        def read(file: Any, *args: Any, **options: Any) -> Any:
            path = str(getattr(file, "name", file))
            paths.append(path)
            if function is not load:
                return function(file, *args, **options)
            try:
                return load(file, *args, **{**options, "weights_only": True})
            except pickle.UnpicklingError as error:
                raise refused(path, error) from None

        return read

    load = torch.load
    readers: list[tuple[Any, str]] = [
        (torch, "load"), (torch.jit, "load"), (safetensors.torch, "load_file"), (scipy.io, "loadmat"),
    ]  # fmt: skip
    before = [getattr(module, name) for module, name in readers]
    try:
        for (module, name), function in zip(readers, before, strict=True):
            setattr(module, name, noting(function))
        yield paths
    finally:
        for (module, name), function in zip(readers, before, strict=True):
            setattr(module, name, function)


def joint(paths: Sequence[str]) -> list[str]:
    """One name for several files of weights: none for none, a single file's own fingerprint, a hash of all of them."""
    prints = sorted({fingerprint(path) for path in paths if os.path.isfile(path)})
    return prints if len(prints) < 2 else [hashlib.sha256(",".join(prints).encode()).hexdigest()[:16]]


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """While it is open, the hub's client looks into its cache alone."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def share_of(path: str, net: Any) -> float:
    """The share of a file's tensors that a torch module holds, whatever their names are there."""
    import torch

    def tensors(content: Any) -> Iterator[Any]:
        for one in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
            if isinstance(one, torch.Tensor):
                yield one
            else:
                yield from tensors(one)

    def mark(one: Any) -> tuple[Any, ...]:
        plain = one.detach().float().cpu()
        return (*one.shape, round(float(plain.sum(dtype=torch.float64)), 3))

    held = {mark(one) for one in net.state_dict().values()}
    found = [mark(one) in held for one in tensors(read(path))]
    return sum(found) / len(found) if found else 0.0


def check_hub_id(given: str, what: str) -> None:
    """Raises UserError for what is no hub id (OWNER/MODEL), and so was meant as a `what` of this machine."""
    if given.count("/") != 1 or given.startswith((".", "/", "~")) or given.endswith((".pt", ".pth", ".safetensors")):
        raise UserError(f"{given}: no such {what}, and no hub id (OWNER/MODEL)")


def unreachable() -> str | None:
    """Why the hub is not to be asked, once: it does not answer, or shall not be; None where it can be.

    The hub's own client would try again for minutes, aloud.
    """
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "not in the hub's cache, and HF_HUB_OFFLINE is set"
    try:
        httpx.head(constants.ENDPOINT, timeout=10.0)
    except httpx.HTTPError as error:
        return f"not in the hub's cache, and {constants.ENDPOINT} does not answer: {error}"
    return None
