"""A model in this process: LLaVA 1.5, 1.6, OneVision, and what else transformers knows as image-text-to-text."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Sequence
from typing import Any

from curate.vlm import Settings
from manifests import checkpoints, images, metrics
from manifests.errors import UserError


class Local:
    """Greedy answers are made in batches of pictures of one size; drawn ones one by one, each from its own seed."""

    def __init__(self, settings: Settings) -> None:
        if metrics.PATCHES in sys.modules:
            raise UserError(
                f"{settings.model}: pyiqa's qalign or compare2score ran in this process and changed transformers' "
                "Llama; run the captions or the judge in a command of its own"
            )
        self.settings = settings
        folder = os.path.isdir(settings.model)
        if not folder:
            checkpoints.check_hub_id(settings.model, "folder of a model")
        alone = None if folder else checkpoints.unreachable()
        try:
            import torch
            from transformers import AutoModelForImageTextToText, AutoProcessor

            kind = torch.bfloat16 if settings.device.startswith("cuda") else torch.float32
            processors: Any = AutoProcessor  # it has no annotations
            # the first is said, or transformers asks whether it may
            plain = {"trust_remote_code": False, "local_files_only": folder or bool(alone)}
            self._processor: Any = processors.from_pretrained(settings.model, **plain)
            self._net: Any = AutoModelForImageTextToText.from_pretrained(settings.model, dtype=kind, **plain)
        except pickle.UnpicklingError as error:
            raise checkpoints.refused(settings.model, error) from None
        except Exception as error:  # no such folder, no network, no weights, an architecture that it does not know
            reason = alone or " ".join(str(error).split())[:160] or type(error).__name__
            raise UserError(
                f"{settings.model}: the model could not be loaded ({reason}); give a folder or hub id such as "
                "llava-hf/llava-1.5-7b-hf, an --endpoint, or take --captioner signals, which needs no model"
            ) from None
        if not getattr(self._processor, "chat_template", None):
            raise UserError(f"{settings.model}: its processor has no chat template; take a '-hf' version of the model")
        self._processor.tokenizer.padding_side = "left"
        net: Any = self._net
        net.to(settings.device).eval()
        self.name = _name(settings.model, getattr(net.config, "_commit_hash", None))

    def ask(
        self, pictures: Sequence[images.Pixels], prompt: str, *, seed: int, temperature: float | None = None
    ) -> list[str]:
        """See `vlm.Model`."""
        heat = self.settings.temperature if temperature is None else temperature
        answers: dict[int, str] = {}
        for places in _batches(pictures, 1 if heat > 0 else self.settings.batch):
            answers |= self._answer(pictures, places, prompt, seed, heat)
        return [answers[place] for place in range(len(pictures))]

    def _answer(
        self, pictures: Sequence[images.Pixels], places: list[int], prompt: str, seed: int, heat: float
    ) -> dict[int, str]:
        """The answers of one batch, which is halved when memory is short."""
        import torch

        try:
            texts = self._generate([pictures[place] for place in places], prompt, seed, heat)
        except torch.cuda.OutOfMemoryError:
            if len(places) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(places) // 2
            return self._answer(pictures, places[:half], prompt, seed, heat) | self._answer(
                pictures, places[half:], prompt, seed, heat
            )
        return dict(zip(places, texts, strict=True))

    def _generate(self, pictures: Sequence[images.Pixels], prompt: str, seed: int, heat: float) -> list[str]:
        import torch
        from PIL import Image

        talks = [
            [{"role": "user", "content": [{"type": "image", "image": Image.fromarray(images.to_8_bit(one))},
                                          {"type": "text", "text": prompt}]}]
            for one in pictures
        ]  # fmt: skip
        inputs = self._processor.apply_chat_template(
            talks,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        ).to(self._net.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self._net.dtype)
        options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if heat > 0:
            torch.manual_seed(_seed(seed, pictures[0]))
            options = {"do_sample": True, "temperature": heat}
        with torch.inference_mode():
            out = self._net.generate(**inputs, max_new_tokens=self.settings.max_tokens, **options)
        new = out[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._processor.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in texts]


def _name(model: str, commit: str | None) -> str:
    """What an answer depends on: the folder and the hash of its weights, or the hub id and its commit."""
    if not os.path.isdir(model):
        return f"{model}@{commit[:16]}" if commit else model
    weights = [os.path.join(model, name) for name in os.listdir(model) if name.endswith((".safetensors", ".bin"))]
    return "@".join([os.path.basename(os.path.abspath(model)), *checkpoints.joint(weights)])


def _batches(pictures: Sequence[images.Pixels], size: int) -> list[list[int]]:
    """Places of the pictures, by sizes: models that cut a picture into patches take as many for each of a batch."""
    of_size: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(pictures):
        of_size.setdefault(one.shape[:2], []).append(place)
    return [places[k : k + size] for places in of_size.values() for k in range(0, len(places), size)]


def _seed(seed: int, picture: images.Pixels) -> int:
    """A seed for one picture, whatever stands beside it."""
    digest = hashlib.sha256(f"{seed},{picture.shape}".encode() + picture.tobytes()).digest()
    return int.from_bytes(digest[:7], "big")
