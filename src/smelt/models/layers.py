"""Layers and stages of a net, in the order in which an image passes them, by timm's account of it."""

from __future__ import annotations

from typing import Any

from timm.models._manipulate import group_with_matcher
from torch import nn

from smelt.errors import RecipeError
from smelt.models.backbones import head_names


def layers(model: nn.Module, *, stages: bool = False) -> dict[str, int]:
    """Number of the layer (or stage, the coarser parts) of each tensor of the state dict; 0 is the stem.

    The head is in the last, with what belongs to none. RecipeError for a net that says nothing of its layers.
    """
    matcher: Any = getattr(model, "group_matcher", None)
    if not callable(matcher):
        raise RecipeError(
            f"{type(model).__name__} does not say which its layers are: without layer_decay and frozen_stages"
        )
    found: dict[str, int] = group_with_matcher(
        ((name, name) for name in model.state_dict()), matcher(coarse=stages), reverse=True
    )
    return found


def first_stages(model: nn.Module, count: int) -> set[str]:
    """Names of the tensors of the first `count` stages, of which the stem is the first.

    RecipeError where no stage but the head would be left.
    """
    if not count:
        return set()
    of, heads = layers(model, stages=True), head_names(model)
    trunk = sorted({stage for name, stage in of.items() if name not in heads})
    if count > len(trunk):
        raise RecipeError(
            f"frozen_stages is {count}, and {type(model).__name__} has {len(trunk)} (the stem is the first)"
        )
    return {name for name, stage in of.items() if stage in trunk[:count] and name not in heads}


def rate_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Factor of the learning rate of each parameter: decay ** (layers above it), 1 for the head.

    Layer-wise rates of Clark et al. 2020 (ELECTRA) and Bao et al. 2022 (BEiT), as timm has them.
    """
    of = layers(model)
    last = max(of[name] for name, _ in model.named_parameters())
    heads = head_names(model)
    return {
        name: 1.0 if name in heads else decay ** (last - of[name]) for name, _ in model.named_parameters()
    }


def still(model: nn.Module, names: set[str]) -> list[nn.Module]:
    """The outermost modules all of whose tensors are in `names`: those that are to stay as they are."""
    found: list[nn.Module] = []

    def look(module: nn.Module, prefix: str) -> None:
        own = [f"{prefix}{name}" for name in module.state_dict()]
        if own and names.issuperset(own):
            found.append(module)
            return
        for name, child in module.named_children():
            look(child, f"{prefix}{name}.")

    look(model, "")
    return found
