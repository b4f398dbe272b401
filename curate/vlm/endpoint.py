"""A model behind an OpenAI-compatible endpoint: requests side by side, tried again, no more of them than is allowed."""

from __future__ import annotations

import base64
import os
import random
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from curate.vlm import Refused, Settings
from manifests import images
from manifests.errors import UserError

PAUSE, LONGEST = 1.0, 60.0  # seconds before a request is tried again, doubled each time up to the other
AWAY = 3  # pictures in a row without an answer: it is not they, the server is away
TRIES, PATIENCE = 3, 8  # of a request that is lost while nothing has been answered yet; later, and where it is busy
ITS_OWN = {400, 413, 415, 422}  # about this one request: a picture too large, for instance
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}


class Endpoint:
    """The chat endpoint of vLLM, SGLang, llama.cpp and the like."""

    def __init__(self, settings: Settings) -> None:
        import httpx

        url, key = (settings.endpoint or "").rstrip("/"), os.environ.get(settings.key)
        if not url.startswith(("http://", "https://")):
            raise UserError(f"--endpoint {url}: write it as http://HOST:PORT/v1", exit_code=2)
        if key and not (key.isascii() and key.isprintable()):
            raise UserError(f"${settings.key}: holds what no key can (a line break, or letters that are not ASCII)")
        self.settings, self._url = settings, f"{url}/chat/completions"
        self._limit, self._lock = _Limit(settings.per_minute), threading.Lock()
        self._works: bool | None = None  # whether a plain picture is answered; None: not asked yet
        self._answered, self._silent = False, 0  # whether there was any answer; pictures in a row that got none
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(timeout=settings.timeout, headers=headers)

    def ask(
        self, pictures: Sequence[images.Pixels], prompt: str, *, seed: int, temperature: float | None = None
    ) -> list[str | Refused]:
        """See `vlm.Model`. Raises UserError when the endpoint refuses whatever it is asked, or is away."""
        heat = self.settings.temperature if temperature is None else temperature
        with ThreadPoolExecutor(self.settings.parallel) as pool:
            return list(pool.map(lambda one: self._one(one, prompt, seed, heat), pictures))

    def _one(self, picture: images.Pixels, prompt: str, seed: int, heat: float) -> str | Refused:
        found = self._post(self._body(picture, prompt, seed, heat))
        if isinstance(found, Refused) and not isinstance(found, _Late) and not self._answers_plain():
            raise UserError(f"{self._url}: refuses a plain picture as well ({found.reason})")
        return found

    def _answers_plain(self) -> bool:
        """Whether the endpoint answers at all, asked once: then what it refuses has itself to blame."""
        with self._lock:
            if self._works is None:
                grey = np.full((64, 64, 3), 128, np.uint8)
                self._works = not isinstance(self._post(self._body(grey, "Describe this image.", 0, 0.0)), Refused)
            return self._works

    def _body(self, picture: images.Pixels, prompt: str, seed: int, heat: float) -> dict[str, Any]:
        data = base64.b64encode(images.encode_png(images.to_8_bit(picture))).decode()
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
            {"type": "text", "text": prompt},
        ]
        return {
            "model": self.settings.model, "messages": [{"role": "user", "content": content}],
            "max_tokens": self.settings.max_tokens, "temperature": heat, "seed": seed,
        }  # fmt: skip

    def _post(self, body: dict[str, Any]) -> str | Refused:
        import httpx

        reason, pause, late = "", 0.0, 0
        for attempt in range(PATIENCE):
            if attempt:
                time.sleep(max(pause, min(PAUSE * 2 ** (attempt - 1), LONGEST) * (1 + random.random() / 4)))
            self._limit.wait()
            try:
                answer = self._client.post(self._url, json=body)
            except httpx.TimeoutException:
                late, reason, pause = late + 1, f"no answer within {self.settings.timeout:g} s", 0.0
                if late < TRIES:
                    continue
                self._silent += 1
                if self._silent < AWAY and self._answered:
                    return _Late(f"{reason}, {TRIES} times")
                break
            except httpx.HTTPError as error:
                reason, pause = str(error) or type(error).__name__, 0.0
                if attempt + 1 >= TRIES and not self._answered:
                    break
                continue
            self._answered, self._silent = True, 0
            if answer.status_code == 200:
                return self._text(answer)
            reason = f"{answer.status_code} {' '.join(answer.text.split())[:120]}"
            if answer.status_code in ITS_OWN:
                return Refused(f"the endpoint refuses it: {reason}")
            if answer.status_code not in AGAIN:
                break
            pause = _seconds(answer.headers.get("Retry-After"))
        raise UserError(
            f"{self._url}: does not answer as it should ({reason}); what is finished is kept, run the command again"
        )

    def _text(self, answer: Any) -> str:
        """The text of an answer, whole or in parts."""
        try:
            content = answer.json()["choices"][0]["message"]["content"]
            if isinstance(content, list):
                content = "".join(part["text"] for part in content if part.get("type", "text") == "text")
            if content is not None and not isinstance(content, str):
                raise TypeError
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise UserError(f"{self._url}: its answer is none of a chat endpoint ({answer.text[:120]!r})") from None
        return (content or "").strip()


class _Late(Refused):
    """A picture that got no answer in time, while others did."""


def _seconds(said: str | None) -> float:
    """How long a busy server asks to wait: its seconds, no more than `LONGEST`; 0 where it says nothing of the kind."""
    return min(float(said), LONGEST) if said and re.fullmatch(r"\d+(\.\d+)?", said) else 0.0


class _Limit:
    """At most so many requests a minute, evenly spread, over all threads; 0: as many as there are."""

    def __init__(self, per_minute: int) -> None:
        self._apart = 60.0 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when the next request may go."""
        if not self._apart:
            return
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._apart
        time.sleep(max(start - time.monotonic(), 0.0))
