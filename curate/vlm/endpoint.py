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

from curate.vlm import Refused, Settings
from manifests import images
from manifests.errors import UserError

PAUSE, LONGEST = 1.0, 60.0  # seconds before a request is tried again, doubled each time up to the other
TRIES, PATIENCE = 3, 8  # of a request that is lost while nothing has been answered yet; later, and where it is busy
ITS_OWN = {400, 413, 415, 422}  # about this one request: a picture too large, for instance
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}


class Endpoint:
    """The chat endpoint of vLLM, SGLang, llama.cpp and the like."""

    def __init__(self, settings: Settings) -> None:
        import httpx

        self.settings = settings
        self._limit = _Limit(settings.per_minute)
        self._answered = self._satisfied = False  # whether there was any answer; whether one was no refusal
        key = os.environ.get(settings.key)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(timeout=settings.timeout, headers=headers)
        self._url = f"{(settings.endpoint or '').rstrip('/')}/chat/completions"

    def ask(
        self, pictures: Sequence[images.Pixels], prompt: str, *, seed: int, temperature: float | None = None
    ) -> list[str | Refused]:
        """See `vlm.Model`. Raises UserError when the endpoint refuses all, or does not answer for two minutes or so."""
        heat = self.settings.temperature if temperature is None else temperature
        with ThreadPoolExecutor(self.settings.parallel) as pool:
            found = list(pool.map(lambda one: self._one(one, prompt, seed, heat), pictures))
        refused = [one for one in found if isinstance(one, Refused)]
        if refused and len(refused) == len(found) and not self._satisfied:
            raise UserError(f"{self._url}: refuses every picture so far ({refused[0].reason})")
        self._satisfied |= len(refused) < len(found)
        return found

    def _one(self, picture: images.Pixels, prompt: str, seed: int, heat: float) -> str | Refused:
        data = base64.b64encode(images.encode_png(images.to_8_bit(picture))).decode()
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
            {"type": "text", "text": prompt},
        ]
        body = {
            "model": self.settings.model, "messages": [{"role": "user", "content": content}],
            "max_tokens": self.settings.max_tokens, "temperature": heat, "seed": seed,
        }  # fmt: skip
        answer = self._post(body)
        if isinstance(answer, Refused):
            return answer
        try:
            return str(answer["choices"][0]["message"]["content"] or "").strip()
        except (KeyError, IndexError, TypeError):
            raise UserError(f"{self._url}: its answer is none of a chat endpoint ({str(answer)[:120]})") from None

    def _post(self, body: dict[str, Any]) -> Any:
        import httpx

        reason, pause, late = "", 0.0, 0
        for attempt in range(PATIENCE):
            if attempt:
                time.sleep(max(pause, min(PAUSE * 2 ** (attempt - 1), LONGEST) * (1 + random.random() / 4)))
            self._limit.wait()
            try:
                answer = self._client.post(self._url, json=body)
            except httpx.TimeoutException:
                late += 1
                if late >= TRIES:
                    return Refused(f"no answer within {self.settings.timeout:g} s, {TRIES} times")
                continue
            except httpx.HTTPError as error:
                reason, pause = str(error) or type(error).__name__, 0.0
                if attempt + 1 >= TRIES and not self._answered:
                    break
                continue
            self._answered = True
            if answer.status_code == 200:
                try:
                    return answer.json()
                except ValueError:
                    raise UserError(f"{self._url}: its answer is not JSON ({answer.text[:120]!r})") from None
            reason = f"{answer.status_code} {' '.join(answer.text.split())[:120]}"
            if answer.status_code in ITS_OWN:
                return Refused(f"the endpoint refuses it: {reason}")
            if answer.status_code not in AGAIN:
                break
            pause = _seconds(answer.headers.get("Retry-After"))
        raise UserError(
            f"{self._url}: does not answer as it should ({reason}); what is finished is kept, run the command again"
        )


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
