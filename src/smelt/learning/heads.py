"""The classifier in float32, whatever the rest of a net computes in.

bfloat16 keeps eight bits: logits near 8 come in steps of 1/16, and the first two of a few per cent of images
are equal. What is compared with one another must not be rounded so; the trunk may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from smelt.learning.pixels import autocast
from smelt.models.backbones import heads


@contextmanager
def mixed(model: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """Autocast as `precision` says, but for the model's last layers and all that follows them.

    A net whose last layers are not known computes in float32 throughout.
    """
    last = heads(model)
    with ExitStack() as stack:
        stack.enter_context(autocast(device, precision if last else "fp32"))
        for head in last:
            # on the instance, where a call looks first; taken back when the context ends
            head.forward = _in_float32(head.forward, device)
            stack.callback(head.__dict__.pop, "forward")
        yield


def _in_float32(forward: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    def widened(*values: Any, **named: Any) -> Any:
        with torch.autocast(device.type, enabled=False):
            return forward(*(one.float() if isinstance(one, Tensor) else one for one in values), **named)

    return widened
