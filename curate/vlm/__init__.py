"""Vision-language models: an image and a prompt in, a text out; here, or behind an OpenAI-compatible endpoint.

>>> from curate import vlm
>>> model = vlm.load(vlm.Settings("llava-hf/llava-1.5-7b-hf"))  # doctest: +SKIP
>>> model.ask([pixels], "Describe this image.", seed=0)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from manifests import images


@dataclass(frozen=True)
class Settings:
    """Which model, and how it writes. Picklable and hashable, so that every worker loads its own.

    model: hub id or local folder; the name that the endpoint knows it by. endpoint: such as http://localhost:8000/v1
    (vLLM, SGLang, llama.cpp); None: transformers, here. key: name of the environment variable with the endpoint's key.
    max_tokens: of an answer. temperature: 0 is greedy. batch: images that go through a local model together.
    parallel: requests that are under way at once. per_minute: requests, at most; 0: no limit. timeout: seconds.
    """

    model: str
    endpoint: str | None = None
    key: str = "OPENAI_API_KEY"
    device: str = "cpu"
    max_tokens: int = 256
    temperature: float = 0.0
    batch: int = 8
    parallel: int = 8
    per_minute: int = 0
    timeout: float = 120.0


@dataclass(frozen=True)
class Refused:
    """In place of an answer: why this one picture has none, while others have."""

    reason: str


class Model(Protocol):
    """What answers."""

    def ask(
        self, pictures: Sequence[images.Pixels], prompt: str, *, seed: int, temperature: float | None = None
    ) -> Sequence[str | Refused]:
        """An answer for each picture, which depends on the others in nothing but rounding."""
        ...


def name_of(settings: Settings) -> str:
    """What made an answer: the model, and where it runs here the hash of its weights or its commit on the hub.

    Loads nothing. Raises UserError for a model that is not there.
    """
    if settings.endpoint is not None:
        return settings.model
    from curate.vlm.local import name_of as local

    return local(settings.model)


@lru_cache(maxsize=2)
def load(settings: Settings) -> Model:
    """The model. Raises UserError, in one line with what would do instead, when it cannot be had."""
    if settings.endpoint is not None:
        from curate.vlm.endpoint import Endpoint

        return Endpoint(settings)
    from curate.vlm.local import Local

    return Local(settings)
