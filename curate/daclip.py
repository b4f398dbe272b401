"""DA-CLIP's degradation classifier (Luo et al., "Controlling Vision-Language Models for Multi-Task Image Restoration",
ICLR 2024, arXiv 2310.01018), in stock open_clip.

The image controller alone classifies: its embedding is compared with those of ten labels, softmax(100 · d · tᵀ). It has
no label for an image that is clean, so the softmax always names something. `Clean` says how much a GT looks like those
that are known to be clean: fitted once on such GTs, and stored beside the weights.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from manifests import checkpoints, files, images
from manifests.errors import UserError, brief

if TYPE_CHECKING:
    from torch import Tensor

HUB, FILE = "weblzw/daclip-uir-ViT-B-32-irsde", "daclip_ViT-B-32.pt"
LABELS = (
    "motion-blurry", "hazy", "jpeg-compressed", "low-light", "noisy", "raindrop", "rainy", "shadowed", "snowy",
    "uncompleted",
)  # fmt: skip
TYPES = [f"daclip.{label.replace('-', '_')}" for label in LABELS]
CLEAN = "daclip.clean"
COLUMNS = [*TYPES, CLEAN]
SCALE = 100.0  # of the softmax
BATCH = 64  # images that go through the model together, at most
LEAST = 20  # known-clean GTs that `Clean` is fitted on, at least

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Clean:
    """How clean known-clean GTs look to a model: their ten similarities as a normal distribution, and how far they lie.

    A GT's `daclip.clean` is the share of held-out known-clean GTs that lie at least as far from the middle as it does
    (a conformal p-value): of clean GTs 5 % are below 0.05, whatever the distribution.
    """

    weights: str  # fingerprint of the model
    mean: Vector
    precision: npt.NDArray[np.float64]
    distances: Vector  # of the held-out ones, sorted

    def score(self, similarity: Vector) -> float:
        """From 0 (unlike any clean GT) to 1, of ten similarities."""
        far = self._distance(similarity[None])[0]
        beyond = len(self.distances) - int(np.searchsorted(self.distances, far, side="left"))
        return (1 + beyond) / (1 + len(self.distances))

    def _distance(self, similarity_Nx10: npt.NDArray[np.float64]) -> Vector:
        away = similarity_Nx10 - self.mean
        distances: Vector = np.einsum("ni,ij,nj->n", away, self.precision, away)
        return distances

    def write(self, path: str) -> None:
        """Store as JSON."""
        content = {
            "model": "daclip", "weights": self.weights, "labels": LABELS, "mean": self.mean.tolist(),
            "precision": self.precision.tolist(), "distances": self.distances.tolist(),
        }  # fmt: skip
        files.write(path, (json.dumps(content) + "\n").encode())


def fit(similarity_Nx10: npt.NDArray[np.float64], weights: str) -> Clean:
    """`Clean` from the similarities of known-clean GTs: every other one gives the distribution, the rest the distances.

    Raises UserError for fewer than 20.
    """
    from sklearn.covariance import LedoitWolf

    if len(similarity_Nx10) < LEAST:
        raise UserError(
            f"{len(similarity_Nx10)} known-clean GTs are too few to fit {CLEAN}: {LEAST} or more are needed"
        )
    shape = LedoitWolf().fit(similarity_Nx10[::2])
    fitted = Clean(weights, shape.location_, shape.get_precision(), np.empty(0))
    return Clean(weights, fitted.mean, fitted.precision, np.sort(fitted._distance(similarity_Nx10[1::2])))


def read_clean(path: str, weights: str) -> Clean:
    """What `Clean.write` stored. Raises UserError when it is of other weights or not readable."""
    try:
        said = json.loads(files.read(path))
        found = Clean(said["weights"], *(np.array(said[name]) for name in ("mean", "precision", "distances")))
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not readable ({error}); fit it again with 'curate identify --fit-clean'") from None
    if [found.mean.shape, found.precision.shape, found.distances.ndim] != [(10,), (10, 10), 1]:
        raise UserError(f"{path}: not what was fitted; fit it again with 'curate identify --fit-clean'")
    if found.weights != weights:
        raise UserError(f"{path}: was fitted for other weights ({found.weights}, these are {weights}); fit it again")
    return found


class Model:
    """One checkpoint on one device. clean: None where it has not been fitted."""

    def __init__(self, path: str, device: str = "cpu") -> None:
        import open_clip
        import torch

        self.path, self.device = path, device
        try:
            state = remap(checkpoints.read(path), path)
            self._net = _build(state, path).to(device)
            self._transform: Any = open_clip.image_transform(_side(state), is_train=False)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not a DA-CLIP checkpoint ({type(error).__name__}: {brief(error)})") from None
        tokens = open_clip.get_tokenizer("ViT-B-32", context_length=len(state["positional_embedding"]))(list(LABELS))
        with torch.inference_mode():
            self._labels = self._net.encode_text(tokens.to(device), normalize=True).float()
        try:
            self.clean: Clean | None = read_clean(clean_path(path), self.fingerprint)
        except FileNotFoundError:
            self.clean = None

    @property
    def fingerprint(self) -> str:
        """Names the weights."""
        return checkpoints.fingerprint(self.path)

    def prepare(self, pixels: images.Pixels) -> Tensor:
        """(H, W, 3) pixels → (3, S, S): shorter side to S by bicubic, centre crop, CLIP's normalisation."""
        from PIL import Image

        tensor: Tensor = self._transform(Image.fromarray(images.to_8_bit(pixels)))
        return tensor

    def similarities(self, prepared: Sequence[Tensor]) -> npt.NDArray[np.float64]:
        """(N, 10) cosines of images and labels; batches are halved when memory is short.

        A row depends on its image alone, but for rounding.
        """
        import torch

        out: list[Tensor] = []
        start, size = 0, BATCH
        while start < len(prepared):
            try:
                with torch.inference_mode():
                    batch = torch.stack(list(prepared[start : start + size])).to(self.device)
                    features = self._net.encode_image(batch, normalize=True).float()
                    out.append((features @ self._labels.T).double().cpu())
                start += size
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise
                size //= 2
                torch.cuda.empty_cache()
        cosines: npt.NDArray[np.float64] = torch.cat(out).numpy() if out else np.empty((0, len(LABELS)))
        return cosines

    def scores(self, prepared: Sequence[Tensor]) -> list[dict[str, float | None]]:
        """`daclip.<type>` (they sum to 1) and `daclip.clean` (None where it is not fitted) of prepared images."""
        out: list[dict[str, float | None]] = []
        for row in self.similarities(prepared):
            raised = np.exp(SCALE * (row - row.max()))
            share = raised / raised.sum()
            out.append(dict(zip(TYPES, share.tolist(), strict=True)))
            out[-1][CLEAN] = None if self.clean is None else self.clean.score(row)
        return out


def find(given: str | None) -> str:
    """The weights that `given` means: a file, a folder with `FILE` in it, or a hub id that is fetched; None: `HUB`.

    Hub ids are OWNER/MODEL, or OWNER/MODEL/FILE for another file of it. Raises UserError with what was looked for.
    """
    given, name = given or HUB, FILE
    if os.path.isfile(given):
        return given
    if os.path.isdir(given):
        path = os.path.join(given, name)
        if not os.path.isfile(path):
            raise UserError(f"{given}: has no {name} in it; name the file itself")
        return path
    if given.count("/") == 2 and not given.startswith((".", "/", "~")):
        given, name = given.rsplit("/", 1)
    checkpoints.check_hub_id(given, "file of weights")
    from huggingface_hub import hf_hub_download

    alone = checkpoints.unreachable()
    try:
        return str(hf_hub_download(given, name, local_files_only=bool(alone)))
    except Exception as error:  # no network, no such repository, no such file
        reason = alone or brief(error)
        raise UserError(
            f"{given}: {name} could not be fetched from the hub ({reason}); fetch it elsewhere and give the file with "
            "--weights, or use the built-in identifier (--model signals), which needs none"
        ) from None


@lru_cache(maxsize=4)
def load(given: str | None, device: str = "cpu") -> Model:
    """The model of a file, a folder, or a hub id (the authors' by default). Raises UserError."""
    return Model(find(given), device)


def clean_path(weights: str) -> str:
    """Where `Clean` of a checkpoint is stored."""
    return f"{os.path.splitext(weights)[0]}.clean.json"


def remap(content: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A checkpoint of the authors as the state of a stock CLIP: the controller in place of the image encoder.

    One that is a stock CLIP already is taken as it is. Raises UserError for anything else.
    """
    state = content.get("state_dict", content)
    plain = {name.removeprefix("module."): value for name, value in state.items()}
    out = {}
    for name, value in plain.items():
        if "zero_modules" in name or name.startswith(("clip.visual.", "visual.")) or name == "logit_scale":
            continue
        if name.startswith("visual_control."):
            inner = name.removeprefix("visual_control.")
            out["visual." + re.sub(r"^transformer\.transformer\.", "transformer.", inner)] = value
        elif name.startswith("clip."):
            out[name.removeprefix("clip.")] = value
    if not any(name.startswith("visual.") for name in out) and "visual.conv1.weight" in plain:
        out = plain
    if lacking := {"visual.conv1.weight", "text_projection", "token_embedding.weight"} - set(out):
        raise UserError(f"{path}: not a DA-CLIP checkpoint: it has no {min(lacking)}")
    return out


def _build(state: Mapping[str, Any], path: str) -> Any:
    """The CLIP whose shapes these weights have."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    def layers(prefix: str) -> int:
        found = {re.match(rf"{prefix}transformer\.resblocks\.(\d+)\.", name) for name in state}
        return len({one.group(1) for one in found if one})

    width, patch = state["visual.conv1.weight"].shape[0], state["visual.conv1.weight"].shape[-1]
    words, text_width = state["token_embedding.weight"].shape
    vision = CLIPVisionCfg(
        layers=layers(r"visual\."), width=width, head_width=64, patch_size=patch, image_size=_side(state)
    )
    text = CLIPTextCfg(
        context_length=len(state["positional_embedding"]), vocab_size=words, width=text_width, heads=text_width // 64,
        layers=layers(""),
    )  # fmt: skip
    net = CLIP(state["text_projection"].shape[1], vision, text)
    buffers = {"attn_mask"}
    found = {name: value for name, value in state.items() if name not in buffers}
    missing, unexpected = net.load_state_dict(found, strict=False)
    if missing or unexpected:
        raise UserError(
            f"{path}: does not fit CLIP: {len(missing)} weights are missing, {len(unexpected)} unknown "
            f"({(list(missing) + list(unexpected))[0]})"
        )
    return net.float().eval()


def _side(state: Mapping[str, Any]) -> int:
    """Pixels of the square that the image encoder looks at."""
    patches = len(state["visual.positional_embedding"]) - 1
    return math.isqrt(patches) * int(state["visual.conv1.weight"].shape[-1])
