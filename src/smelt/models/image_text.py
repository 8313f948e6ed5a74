"""Nets that read images and words into one space (CLIP and its kin), by open_clip's architectures.

    both = load("ViT-B-32", Path("open_clip_model.safetensors"))
    both.features(images_B3SS)                # (B, D), as any net's
    both.words(["siamese cat", "tench"])      # (C, D), each of length 1

open_clip is the extra `smelt[clip]`. Weights come from a file and from nowhere else: architectures whose
words are split by what a hub has are refused.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smelt.errors import DataError, RecipeError
from smelt.models.preprocessing import Inputs, said_beside
from smelt.models.weightfile import read

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's own
# Sentences that a class's words are put into; their mean is steadier than any (Radford et al. 2021, 3.1.4)
TEMPLATES = (
    "{}", "a photo of a {}.", "a photo of the {}.", "a photo of {}.", "a close-up photo of a {}.",
    "a photo of many {}.", "a bad photo of a {}.", "a picture of a {}.",
)  # fmt: skip
SYNONYMS = 4  # of a class, parted by commas: "tench, Tinca tinca"
AT_ONCE = 256  # sentences of a batch
SHOWN = 3  # names in a message


class ImageSide(nn.Module):
    """The part that reads images: normalised (B, 3, S, S) to features (B, D), of any length."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, images: Tensor) -> Tensor:
        """As it is trained to be compared with words, but not scaled to length 1."""
        values: Tensor = self.net.encode_image(images)
        return values


@dataclass(frozen=True)
class ImageText:
    """features: the net's images' side, in `eval` mode. inputs: what it wants to be shown. scale: what
    cosines are multiplied by before a softmax, as the net was trained. said: in words, what was
    loaded."""

    features: ImageSide
    inputs: Inputs
    scale: float
    said: str
    tokenise: Any

    def words(self, classes: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
        """(C, D) float32 of length 1: of each class the mean over its names and the templates."""
        sentences = [[t.format(name) for name in names_of(one) for t in templates] for one in classes]
        flat = [sentence for many in sentences for sentence in many]
        parts = []
        with torch.inference_mode():
            for start in range(0, len(flat), AT_ONCE):
                tokens = self.tokenise(flat[start : start + AT_ONCE])
                found = self.features.net.encode_text(tokens.to(next(self.features.parameters()).device))
                parts.append(nn.functional.normalize(found.float(), dim=1).cpu())
        means = [
            part.mean(dim=0) for part in torch.split(torch.cat(parts), [len(many) for many in sentences])
        ]
        return nn.functional.normalize(torch.stack(means), dim=1)


def names_of(words: str) -> list[str]:
    """What a class is called, from its name: underlines are spaces, commas part synonyms; itself if
    nothing is left."""
    clean = re.sub(
        r"[\s_]+", " ", "".join(c for c in words if unicodedata.category(c)[0] != "C" or c.isspace())
    )
    found = [part.strip() for part in clean.split(",") if part.strip()]
    return list(dict.fromkeys(found))[:SYNONYMS] or [clean.strip() or words]


def load(architecture: str, weights: Path | str) -> ImageText:
    """The net of that name with the weights in the file.

    RecipeError for a name that open_clip does not have, one that needs a hub, or where open_clip is missing;
    DataError where the file does not hold just this net's weights.
    """
    if not isinstance(weights, Path):
        raise RecipeError(f"image_text: weights must be a file, and {weights!r} is none: nothing is fetched")
    clip = _open_clip()
    config = _config(clip, architecture)
    logging.disable(logging.WARNING)  # it warns that the weights, which come next, are random
    try:
        net: Any = clip.create_model(architecture, load_weights=False, pretrained_text=False)
    finally:
        logging.disable(logging.NOTSET)
    names = _fill(net, architecture, weights)
    size = net.visual.image_size
    mean, std = _colours(clip, architecture)
    inputs = Inputs(mean, std, int(size[0] if isinstance(size, list | tuple) else size), "bicubic")
    told = {name: value for name, value in said_beside(weights).items() if name in ("mean", "std")}
    length = int(config.get("text_cfg", {}).get("context_length", 77))
    return ImageText(
        ImageSide(net).eval(), inputs.with_said(told), float(net.logit_scale.detach().exp()),
        f"{architecture}: all {names:,} tensors", clip.get_tokenizer(architecture, context_length=length),
    )  # fmt: skip


def _open_clip() -> Any:
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        raise RecipeError(
            "features of an image_text net need the package open_clip_torch: pip install 'smelt[clip]'"
        ) from error


def _config(clip: Any, architecture: str) -> Mapping[str, Any]:
    names = [str(name) for name in clip.list_models()]
    if architecture not in names:
        near = difflib.get_close_matches(architecture, names, SHOWN, 0.3)
        raise RecipeError(
            f"image_text: open_clip has no {architecture!r}; near it: {', '.join(near) or 'none'}"
        )
    config: Mapping[str, Any] = clip.get_model_config(architecture)
    text = config.get("text_cfg", {})
    if "hf_model_name" in text or "hf_tokenizer_name" in text:
        raise RecipeError(
            f"image_text: {architecture} splits words by what a hub has, and nothing is fetched: take one "
            "whose words open_clip splits itself, such as ViT-B-32 or ViT-L-14"
        )
    return config


def _colours(clip: Any, architecture: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation that all published weights of it have in common; CLIP's own where they
    differ."""
    found = set()
    for tag in clip.list_pretrained_tags_by_model(architecture):
        one = clip.get_pretrained_cfg(architecture, tag)
        found.add((tuple(one.get("mean") or MEAN), tuple(one.get("std") or STD)))
    return found.pop() if len(found) == 1 else (MEAN, STD)


def _fill(net: nn.Module, architecture: str, path: Path) -> int:
    """Load the first group of tensors in the file that is just this net's; how many there are."""
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    first = ""
    for held in read(path):
        tensors = {name.removeprefix("module."): value for name, value in held.tensors.items()}
        missing = [name for name in wanted if name not in tensors]
        other = [name for name in wanted if name in tensors and tuple(tensors[name].shape) != wanted[name]]
        extra = [name for name in tensors if name not in wanted and not name.endswith("position_ids")]
        if not missing and not other and not extra:
            net.load_state_dict({name: tensors[name] for name in wanted})
            return len(wanted)
        said = [
            f"{len(names)} {what} ({', '.join(sorted(names)[:SHOWN])})"
            for names, what in (
                (missing, "missing"),
                (other, "of another shape"),
                (extra, "it has no place for"),
            )
            if names
        ]
        first = first or "; ".join(said)
    raise DataError(
        f"{path} does not hold the weights of {architecture}: of its {len(wanted)} tensors {first}. Name the "
        "architecture that they are of (weights of OpenAI are of those that end in -quickgelu)"
    )
