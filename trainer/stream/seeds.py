"""Random numbers that are a function of what they are for: counter-based Philox under keys hashed from names.

Only the raw 64-bit words of Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) are
used: NumPy keeps those stable between versions, which it does not promise of shuffles and integers.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


def key(*parts: int | str) -> Words:
    """The (2,) key that these parts name."""
    text = json.dumps(parts, separators=(",", ":")).encode()
    return np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), "<u8").astype(np.uint64)


def words(key: Words, count: int, at: int = 0) -> Words:
    """(count,) 64-bit words of stream number `at` under `key`; words 4i to 4i + 3 are the i-th counter value."""
    counter = np.array([0, at, 0, 0], np.uint64)
    return np.asarray(np.random.Philox(key=key, counter=counter).random_raw(count), np.uint64)


def permutation(key: Words, count: int, at: int = 0) -> Ints:
    """(count,) a random order of 0 … count - 1."""
    return np.argsort(words(key, count, at), kind="stable")


def below(words: Words, bound: Ints) -> Ints:
    """Uniform integers in [0, bound), one per word; bound ≤ 2^31. Uses the upper 32 bits."""
    scaled = (words >> np.uint64(32)) * bound.astype(np.uint64)
    return (scaled >> np.uint64(32)).astype(np.int64)
