"""Whether weights fit the nets that are to start from them.

A process of its own (`python -m smelt.models.wouldfit`, JSON in and out): who asks need not import torch. A
file is read as training reads it. Of timm's weights the net of their name is compared, and nothing fetched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smelt.errors import SmeltError, short
from smelt.models.replies import reply


def judge(asked: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """For each {backbone, outputs, image_size, small_stem, weights}: `why` they do not fit, "" where they do,
    and in words what would be loaded."""
    return [_one(**net) for net in asked]


def _one(backbone: str, outputs: int, image_size: int, small_stem: Any, weights: str) -> dict[str, str]:
    from smelt.models.backbones import build
    from smelt.models.weights import load

    try:
        model = build(backbone, outputs, small_stem=small_stem, image_size=image_size)
        if not os.path.isabs(weights):
            return {"why": _of_timm(model, backbone, weights), "words": ""}
        return {"why": "", "words": load(model, backbone, Path(weights)).words()}
    except SmeltError as error:
        return {"why": str(error), "words": ""}
    except Exception as error:  # whatever a constructor finds wrong
        return {"why": short(str(error).partition("\n")[0]) or type(error).__name__, "words": ""}


def _of_timm(model: Any, backbone: str, name: str) -> str:
    """Why the weights that timm has under `name` do not fit, as far as that can be known without them."""
    import torch

    from smelt.models.backbones import build, head_names, require_weights, stem_names
    from smelt.models.matching import match

    config = require_weights(name)
    with torch.device("meta"):
        other = build(name, config.num_classes, small_stem=False)
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in other.state_dict().items()}
    resized = {key for key in own if "pos_embed" in key}  # which timm interpolates
    problem = match(found, own, head_names(model), stem_names(model) | resized).problem
    return f"timm's {name} does not fit {backbone}: {problem}" if problem else ""


def main() -> None:
    """Read a question from standard input, write the answer to standard output."""
    reply(judge)


if __name__ == "__main__":
    main()
