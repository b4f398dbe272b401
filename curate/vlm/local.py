"""A model in this process: LLaVA 1.5, 1.6, OneVision, and what else transformers knows as image-text-to-text."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from curate import devices
from curate.vlm import Settings
from manifests import checkpoints, images, metrics
from manifests.ahead import ahead
from manifests.errors import UserError, brief

Inputs = Mapping[str, Any]  # of one picture and its prompt: tensors whose first axis counts pictures, or their patches


class Local:
    """Greedy answers are made in batches, drawn ones one by one, each from its own seed.

    Pictures stand together when the model sees them alike: LLaVA 1.5 looks at a square of each; 1.6 and OneVision cut
    them into as many patches as their shape asks for. So nothing is padded, and no answer depends on its neighbours.
    """

    def __init__(self, settings: Settings) -> None:
        if metrics.PATCHES in sys.modules:
            raise UserError(
                f"{settings.model}: pyiqa's qalign or compare2score ran in this process and changed transformers' "
                "Llama; run the captions or the judge in a command of its own"
            )
        self.settings = settings
        plain = _source(settings.model)
        try:
            import torch
            from transformers import AutoModelForImageTextToText, AutoProcessor

            place = devices.mine(settings.device)
            kind = torch.bfloat16 if place.startswith("cuda") else torch.float32
            processors: Any = AutoProcessor  # it has no annotations
            self._processor: Any = processors.from_pretrained(settings.model, **plain)
            nets: Any = AutoModelForImageTextToText
            net, said = nets.from_pretrained(settings.model, dtype=kind, output_loading_info=True, **plain)
            if absent := sorted(said["missing_keys"]):
                raise UserError(
                    f"{settings.model}: its files lack {len(absent)} of the model's weights ({absent[0]}, ...)"
                )
            self._net: Any = net.to(place).eval()
        except UserError:
            raise
        except Exception as error:  # no weights, damaged ones, an architecture that it does not know
            _cannot(settings.model, error)
        if not getattr(self._processor, "chat_template", None):
            raise UserError(f"{settings.model}: its processor has no chat template; take a '-hf' version of the model")

    def ask(
        self, pictures: Sequence[images.Pixels], prompt: str, *, seed: int, temperature: float | None = None
    ) -> list[str]:
        """See `vlm.Model`. The next pictures are made ready while the model answers."""
        heat = self.settings.temperature if temperature is None else temperature
        size = 1 if heat > 0 else self.settings.batch
        ready = ahead(lambda one: self._inputs(one, prompt), pictures, window=size)
        answers: dict[int, str] = {}
        for places, some in _batches(ready, size):
            texts = self._answer(some, heat, _seed(seed, pictures[places[0]]) if heat > 0 else 0)
            answers |= dict(zip(places, texts, strict=True))
        return [answers[place] for place in range(len(pictures))]

    def _inputs(self, picture: images.Pixels, prompt: str) -> Inputs:
        from PIL import Image

        shown = {"type": "image", "image": Image.fromarray(images.to_8_bit(picture))}
        talk = [{"role": "user", "content": [shown, {"type": "text", "text": prompt}]}]
        inputs: Inputs = self._processor.apply_chat_template(
            [talk], tokenize=True, return_dict=True, add_generation_prompt=True,
            processor_kwargs={"return_tensors": "pt"},
        )  # fmt: skip
        return dict(inputs)

    def _answer(self, some: Sequence[Inputs], heat: float, seed: int) -> list[str]:
        """The answers of one batch, which is halved when memory is short."""
        import torch

        try:
            return self._generate(some, heat, seed)
        except torch.cuda.OutOfMemoryError:
            if len(some) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(some) // 2
            return self._answer(some[:half], heat, seed) + self._answer(some[half:], heat, seed)

    def _generate(self, some: Sequence[Inputs], heat: float, seed: int) -> list[str]:
        import torch

        inputs = {name: torch.cat([one[name] for one in some]).to(self._net.device) for name in some[0]}
        inputs = {n: one.to(self._net.dtype) if one.is_floating_point() else one for n, one in inputs.items()}
        options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if heat > 0:
            torch.manual_seed(seed)
            options = {"do_sample": True, "temperature": heat}
        with torch.inference_mode():
            out = self._net.generate(**inputs, max_new_tokens=self.settings.max_tokens, **options)
        new = out[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._processor.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in texts]


@lru_cache
def name_of(model: str) -> str:
    """See `vlm.name_of`: a folder and the hash of its weights, or a hub id and its commit."""
    plain = _source(model)
    if os.path.isdir(model):
        weights = [os.path.join(model, name) for name in os.listdir(model) if name.endswith((".safetensors", ".bin"))]
        return "@".join([os.path.basename(os.path.abspath(model)), *checkpoints.joint(weights)])
    try:
        from transformers import AutoConfig

        commit = getattr(AutoConfig.from_pretrained(model, **plain), "_commit_hash", None)
    except Exception as error:  # no such repository, a configuration that it does not know
        _cannot(model, error)
    return f"{model}@{commit[:16]}" if commit else model


def _source(model: str) -> dict[str, Any]:
    """How transformers is to look for a model. Raises UserError for a folder that is not there."""
    folder = os.path.isdir(model)
    if not folder:
        checkpoints.check_hub_id(model, "folder of a model")
    # the first is said, or transformers asks whether it may
    return {"trust_remote_code": False, "local_files_only": folder or checkpoints.unreachable() is not None}


def _cannot(model: str, error: Exception) -> NoReturn:
    if isinstance(error, pickle.UnpicklingError):
        raise checkpoints.refused(model, error) from None
    alone = None if os.path.isdir(model) else checkpoints.unreachable()
    reason = alone or brief(error, 160)
    raise UserError(
        f"{model}: the model could not be loaded ({reason}); give a folder or hub id such as "
        "llava-hf/llava-1.5-7b-hf, an --endpoint, or take --captioner signals, which needs no model"
    ) from None


def _batches(ready: Iterator[Inputs], size: int) -> Iterator[tuple[list[int], list[Inputs]]]:
    """Up to `size` pictures of the same shapes, with their places."""
    waiting: dict[Any, tuple[list[int], list[Inputs]]] = {}
    for place, inputs in enumerate(ready):
        alike = tuple(sorted((name, tuple(one.shape)) for name, one in inputs.items()))
        places, some = waiting.setdefault(alike, ([], []))
        places.append(place)
        some.append(inputs)
        if len(some) == size:
            yield waiting.pop(alike)
    yield from waiting.values()


def _seed(seed: int, picture: images.Pixels) -> int:
    """A seed for one picture, whatever stands beside it."""
    digest = hashlib.sha256(f"{seed},{picture.shape}".encode() + picture.tobytes()).digest()
    return int.from_bytes(digest[:7], "big")
