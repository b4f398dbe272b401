"""The judges against the loop that everybody writes first, one image at a time: `python -m benchmarks.gpu.judges`.

MUSIQ and DA-CLIP (ViT-B-32) of full size, LLaVA in the shape of 1.5-7b, all with random weights: speed needs no others.
Photographs are JPEG files of three sizes; both ways decode them. Prints images a second of both in turn, and their
ratio; without a GPU the nets but MUSIQ are tiny, and batches bring nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.stream import Figure, _figure, _print

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
COUNT, ROUNDS, TARGET = (512, 5, 3.0) if CUDA else (9, 2, None)
SIZES = ((512, 512), (512, 768), (768, 512)) if CUDA else ((96, 96), (96, 128), (128, 96))
CAPTIONED, TOKENS, BATCH = (48, 64, 16) if CUDA else (6, 8, 3)


def main() -> None:
    """Measure, print a table, and write `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="musiq,daclip,llava", help="names, with commas")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="that decode")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        targets = _photographs(os.path.join(folder, "photographs"))
        for name in options.only.split(","):
            figures += {"musiq": _musiq, "daclip": _daclip, "llava": _llava}[name](folder, targets, options.threads)
    _print(figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


def _photographs(folder: str) -> list[Any]:
    """Crops of real photographs as JPEG files, each another one."""
    from skimage import data

    from curate.score import Target
    from manifests import files, images
    from manifests.table import Member

    whole = [
        np.tile(picture, (3, 3, 1)) for picture in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    ]
    dice, out = np.random.default_rng(0), []
    for k in range(COUNT):
        picture, (height, width) = whole[k % len(whole)], SIZES[k % len(SIZES)]
        top, left = (int(dice.integers(0, 200)) for _ in range(2))
        crop = np.ascontiguousarray(picture[top : top + height, left : left + width])
        path, content = os.path.join(folder, f"{k}.jpg"), images.encode_jpeg(crop, 92)
        files.write(path, content)
        out.append(Target(images.sha256(content), Member(path)))
    return out


def _musiq(folder: str, targets: Sequence[Any], threads: int) -> list[Figure]:
    import pyiqa
    from pyiqa.archs.musiq_arch import MUSIQ

    from curate import scorers

    path = os.path.join(folder, "musiq.pth")
    torch.save(MUSIQ(pretrained=False).state_dict(), path)
    plain = pyiqa.create_metric("musiq", device=torch.device(DEVICE), pretrained_model_path=path)

    def one(picture: Any) -> None:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
        plain(pixels.to(DEVICE)).item()

    full = scorers.Request(("musiq",), {"musiq": path}, DEVICE, threads)
    half = scorers.Request(("musiq",), {"musiq": path}, DEVICE, threads, bf16=("musiq",))
    return _compare("MUSIQ", targets, one, {"curate": full, "curate --bf16": half})


def _daclip(folder: str, targets: Sequence[Any], threads: int) -> list[Figure]:
    import open_clip
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    from curate import daclip, scorers

    layers, width, side = (12, 768, 224) if CUDA else (2, 64, 64)
    net = CLIP(
        512 if CUDA else 32,
        CLIPVisionCfg(layers=layers, width=width, head_width=64, patch_size=32, image_size=side),
        CLIPTextCfg(width=512 if CUDA else 64, heads=8 if CUDA else 1, layers=layers),
    )
    path = os.path.join(folder, "daclip.pt")
    torch.save(net.state_dict(), path)
    plain, transform = net.to(DEVICE).eval(), open_clip.image_transform(side, is_train=False)
    words = open_clip.get_tokenizer("ViT-B-32")(list(daclip.LABELS)).to(DEVICE)
    with torch.inference_mode():
        labels = plain.encode_text(words, normalize=True)

    def one(picture: Any) -> None:
        with torch.inference_mode():
            found = plain.encode_image(transform(picture)[None].to(DEVICE), normalize=True)
            (100.0 * found @ labels.T).softmax(-1).tolist()

    request = scorers.Request((scorers.DACLIP,), {scorers.DACLIP: path}, DEVICE, threads)
    return _compare("DA-CLIP ViT-B-32" if CUDA else "DA-CLIP tiny", targets, one, {"curate": request})


def _compare(name: str, targets: Sequence[Any], one: Callable[[Any], None], ways: dict[str, Any]) -> list[Figure]:
    """Images a second of the plain loop and of each way, in turn, after a first go that nobody counts."""
    from PIL import Image

    from curate import score

    def loop(some: Sequence[Any]) -> None:
        for target in some:
            one(Image.open(target.place.url).convert("RGB"))

    def units(some: Sequence[Any], request: Any) -> None:
        for start in range(0, len(some), score.UNIT_BATCHES):
            score._measure_unit(some[start : start + score.UNIT_BATCHES], request=request)

    all_ways: dict[str, Callable[[Sequence[Any]], None]] = {"one at a time": loop}
    for way, request in ways.items():
        all_ways[way] = lambda some, request=request: units(some, request)  # type: ignore[misc]
    speed = _speeds(all_ways, targets)
    return _figures(
        f"{name}, {len(targets)} photographs of {len(SIZES)} sizes, {_device()}", speed, "one at a time", TARGET
    )


def _llava(folder: str, targets: Sequence[Any], threads: int) -> list[Figure]:
    from curate import vlm
    from curate.score import load_pixels

    path = _save_llava(os.path.join(folder, "llava"))
    pictures = [np.asarray(load_pixels(target)) for target in targets[: CAPTIONED * len(SIZES) : len(SIZES)]]
    settings = [vlm.Settings(path, device=DEVICE, max_tokens=TOKENS, batch=batch) for batch in (1, BATCH)]
    models = [vlm.load(one) for one in settings]

    def way(model: Any) -> Callable[[Sequence[Any]], None]:
        return lambda some: model.ask(some, "Describe this image.", seed=0) and None

    ways = {"one at a time": way(models[0]), f"batch {BATCH}": way(models[1])}
    shape = "LLaVA-1.5-7b's shape" if CUDA else "LLaVA, tiny"
    what = f"{shape}, {len(pictures)} photographs, {TOKENS} tokens each, {_device()}"
    return _figures(what, _speeds(ways, pictures), "one at a time", None)


def _save_llava(folder: str) -> str:
    """LLaVA with random weights, in bf16 on a GPU, with a tokenizer of 300 words; it never ends before it has to."""
    import transformers as t
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    raw.train_from_iterator(["Describe this image."], trainers.BpeTrainer(vocab_size=300, special_tokens=special))
    tokenizer = t.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    side, small = (336, {}) if CUDA else (28, {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2})
    heads = {"num_attention_heads": 2} if small else {}
    clip: dict[str, Any] = small | heads or {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16
    }  # fmt: skip
    config = t.LlavaConfig(
        vision_config=t.CLIPVisionConfig(**clip, image_size=side, patch_size=14),
        text_config=t.LlamaConfig(**small, **heads, vocab_size=32064, pad_token_id=3),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    template = (
        "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image> {% else %}"
        "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
    )
    pictures = t.CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    t.LlavaProcessor(
        pictures, tokenizer, patch_size=14, vision_feature_select_strategy="default", chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if CUDA else torch.float32)
    with torch.device(DEVICE):
        net: Any = t.LlavaForConditionalGeneration(config)
    torch.set_default_dtype(before)
    net.generation_config.eos_token_id = None
    net.save_pretrained(folder)
    return folder


def _speeds(ways: dict[str, Callable[[Sequence[Any]], None]], items: Sequence[Any]) -> dict[str, list[float]]:
    out: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way(items)
            if CUDA:
                torch.cuda.synchronize()
            if number:
                out[name].append(len(items) / (time.perf_counter() - start))
    return out


def _figures(what: str, speed: dict[str, list[float]], base: str, target: float | None) -> list[Figure]:
    figures = [_figure(f"{what}: {name}", statistics.median(some), "images/s") for name, some in speed.items()]
    for name, some in speed.items():
        if name != base:
            ratio = statistics.median(a / b for a, b in zip(some, speed[base], strict=True))
            met = None if target is None else ratio >= target
            figures.append(_figure(f"{what}: {name} / {base}", ratio, "x", target, met))
    return figures


def _device() -> str:
    return torch.cuda.get_device_name() if CUDA else "CPU"


if __name__ == "__main__":
    main()
