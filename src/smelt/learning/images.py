"""From uint8 pixels to what a model takes."""

from __future__ import annotations

import torch
from torch import Tensor

# Mean and standard deviation of ImageNet's training images, the custom of all backbones here
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Normaliser:
    """uint8 images (B, 3, S, S) on any device to normalised float32 on `device`."""

    def __init__(self, device: torch.device, channels_last: bool) -> None:
        self.device = device
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self._scale = (1.0 / (255.0 * torch.tensor(STD, device=device))).view(1, 3, 1, 1)
        self._shift = (-torch.tensor(MEAN) / torch.tensor(STD)).view(1, 3, 1, 1).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images in the memory format asked for."""
        moved = images.to(self.device, non_blocking=True)  # as bytes, a quarter of what floats would be
        return moved.to(torch.float32, memory_format=self.format).mul_(self._scale).add_(self._shift)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 where `precision` is "bf16"; plain float32 otherwise."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
