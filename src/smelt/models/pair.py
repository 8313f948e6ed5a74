"""Two nets as one model, which says the mean of what they say: for nets that teach one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from smelt.models.backbones import heads


class Pair(nn.Module):
    """Nets of one kind, each images (B, 3, S, S) to logits (B, C); together the logarithm of the mean of
    their probabilities, which is a logit as any other."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities (B, C) float32 of the mean."""
        return mean_said([net(images) for net in self.nets])

    def get_classifier(self) -> list[nn.Module]:
        """The last layers of all nets, as timm's nets name theirs."""
        return [head for net in self.nets for head in heads(net)]

    def forward_features(self, images: Tensor) -> list[Any]:
        """What each net has before its head."""
        return [_part(net, "forward_features")(images) for net in self.nets]

    def forward_head(self, features: list[Any], pre_logits: bool = False) -> Tensor:
        """Features of all nets side by side, (B, D · nets); without `pre_logits` the mean's logits."""
        found = [
            _part(net, "forward_head")(one, pre_logits=pre_logits)
            for net, one in zip(self.nets, features, strict=True)
        ]
        return torch.cat([one.flatten(1) for one in found], dim=1) if pre_logits else mean_said(found)


def mean_said(logits: Sequence[Tensor]) -> Tensor:
    """log of the mean of softmax(logits), (B, C) float32, of several nets' logits."""
    said_KBC = torch.log_softmax(torch.stack([one.float() for one in logits]), dim=2)
    return said_KBC.logsumexp(dim=0) - math.log(len(logits))


def _part(net: nn.Module, name: str) -> Any:
    return getattr(net, name)
