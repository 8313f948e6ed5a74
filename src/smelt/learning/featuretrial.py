"""Whether nets give features with the weights that they are to have, and how many: as a process of its own.

`python -m smelt.learning.featuretrial`, JSON in and out: who asks need not import torch. Weights that a hub
has are looked for and not fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smelt.errors import SmeltError, short
from smelt.models.replies import reply


def answer(nets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each net (source: an absolute path, a name of timm's, or null where it has still to be trained;
    backbone, size and image_text may be null) `dim`, and `words` on what was loaded, or `error`."""
    return [_tried(net) for net in nets]


def _tried(net: Mapping[str, Any]) -> dict[str, Any]:
    source, backbone, size = net["source"], net["backbone"], net["size"]
    try:
        if net.get("image_text"):
            return _with_words(source, net["image_text"])
        if source is not None and Path(source).is_absolute():
            return _loaded(Path(source), backbone, size)
        return _unloaded(source or backbone, source)
    except SmeltError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever a constructor finds wrong
        return {"error": short(str(error).strip().partition("\n")[0]) or type(error).__name__}


def _loaded(source: Path, backbone: str | None, size: int | None) -> dict[str, Any]:
    import torch

    from smelt.learning.extraction import extractor
    from smelt.learning.featurebatches import dim_of
    from smelt.learning.pixels import Normaliser

    found, inputs, words = extractor(source, backbone, image_size=size)
    dim = dim_of(found, size or inputs.size, Normaliser(torch.device("cpu"), False))
    return {"dim": dim, "words": words}


def _with_words(source: str, architecture: str) -> dict[str, Any]:
    import torch

    from smelt.learning.featurebatches import dim_of
    from smelt.learning.pixels import Normaliser
    from smelt.models.image_text import load

    both = load(architecture, Path(source) if Path(source).is_absolute() else source)
    dim = dim_of(both.features, both.inputs.size, Normaliser(torch.device("cpu"), False))
    return {"dim": dim, "words": both.said}


def _unloaded(backbone: str, source: str | None) -> dict[str, Any]:
    """A net whose weights are not looked at: of a hub, or still to be trained."""
    import torch

    from smelt.models.backbones import build, require_weights
    from smelt.models.pretrained import missing

    if source is not None:
        require_weights(source)
        if why := missing([source]).get(source):
            return {"error": f"the weights {source} cannot be had: {why}"}
    with torch.device("meta"):
        net: Any = build(backbone, 1)
    return {"dim": int(getattr(net, "head_hidden_size", None) or net.num_features), "words": ""}


def main() -> None:
    """Read a question from standard input, write the answer to standard output."""
    reply(answer)


if __name__ == "__main__":
    main()
