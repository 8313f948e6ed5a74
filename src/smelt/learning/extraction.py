"""Features of images: what a net has of them before its last layer, from any weights that fit a backbone.

features = extractor(Path("lite0.pth"))                  # or a train artefact's folder, or a name of timm's
values_BD = features(normalise(images_B3SS))             # float32
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from smelt.errors import DataError
from smelt.files.atomic import read_json
from smelt.learning.setup import saved_model
from smelt.models.backbones import build
from smelt.models.preprocessing import Inputs, said
from smelt.models.weightfile import MODEL
from smelt.models.weights import guessed, inputs_of, load


class Features(nn.Module):
    """A net without its last layer: normalised images (B, 3, S, S) to pooled features (B, D)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        if not callable(getattr(net, "forward_features", None)) or not callable(
            getattr(net, "forward_head", None)
        ):
            raise DataError(f"{type(net).__name__} does not give what it has before its last layer")
        self.net: Any = net

    def forward(self, images: Tensor) -> Tensor:
        """Features as timm's classifiers have them, pooled and flattened, without drop-out in `eval` mode."""
        values: Tensor = self.net.forward_head(self.net.forward_features(images), pre_logits=True)
        return values.flatten(1)


def extractor(
    source: Path | str,
    backbone: str | None = None,
    *,
    weights: Literal["default", "raw", "ema"] = "default",
    image_size: int | None = None,
) -> tuple[Features, Inputs, str]:
    """A net for features in `eval` mode, what it wants to be shown, and in words what was loaded.

    source: a file of weights, the folder of a train artefact (then `weights` says which), or, as a str, a
    name of timm's. backbone: the net; None: the artefact's, the name itself, or of a file the first of a
    shortlist that it fits. image_size: what a net of fixed size is built for; None: as the weights say.
    DataError where nothing fits, ArtifactError where the artefact is damaged.
    """
    if isinstance(source, Path) and source.is_dir():
        net: nn.Module = saved_model(source, weights)
        info = read_json(source / MODEL)
        inputs = Inputs().with_said({"size": info["image_size"], **said(info)})
        return Features(net).eval(), inputs, f"{info['name']}, trained here"
    backbone = backbone or (guessed(source) if isinstance(source, Path) else source)
    if not backbone:
        raise DataError(f"{source}: which net these weights are of could not be told: name its `backbone`")
    size = image_size or inputs_of(backbone).size
    torch.manual_seed(0)  # what is not loaded is the head, which is not read
    net = build(backbone, 1, small_stem=False, image_size=size)
    loaded = load(net, backbone, source)
    return Features(net).eval(), loaded.inputs, f"{backbone}: {loaded.words()}"
