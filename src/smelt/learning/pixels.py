"""From uint8 pixels to what a model takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from smelt.models.preprocessing import MEAN, STD


class Normaliser:
    """uint8 images (B, 3, H, W) on any device to normalised float32 on `device`: (x / 255 - mean) / std.

    Computed as x · scale + shift, two roundings: no value is further than 5e-7 from the exact one (the values
    lie within ±2.7), as with the three roundings of the plain formula, whose bits may differ from ours.
    """

    def __init__(
        self,
        device: torch.device,
        channels_last: bool,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        self.device = device
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self._scale = (1.0 / (255.0 * torch.tensor(std))).to(device)
        self._shift = (-torch.tensor(mean) / torch.tensor(std)).to(device)
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}  # width → scale and shift of a whole row

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images in the memory format asked for; the bits do not depend on it."""
        moved = images.to(self.device, non_blocking=True)  # as bytes, a quarter of what floats would be
        if self.format == torch.channels_last and moved.is_contiguous(memory_format=torch.channels_last):
            return self._by_rows(moved)
        scale, shift = self._scale.view(1, 3, 1, 1), self._shift.view(1, 3, 1, 1)
        return moved.to(torch.float32, memory_format=self.format).mul_(scale).add_(shift)

    def _by_rows(self, images: Tensor) -> Tensor:
        """Channels innermost, before and after: a row is 3·W numbers in one piece.

        A CPU's vector loops run along the innermost axis, which would be the three channels: half the time.
        """
        count, _, height, width = images.shape
        scale, shift = self._row(width)
        rows = images.permute(0, 2, 3, 1).reshape(count, height, 3 * width)
        normalised = rows.to(torch.float32).mul_(scale).add_(shift)
        return normalised.view(count, height, width, 3).permute(0, 3, 1, 2)

    def _row(self, width: int) -> tuple[Tensor, Tensor]:
        """scale and shift, each (3·width)."""
        if width not in self._rows:
            self._rows[width] = (self._scale.repeat(width), self._shift.repeat(width))
        return self._rows[width]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 where `precision` is "bf16"; plain float32 otherwise."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
