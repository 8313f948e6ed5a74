"""Thresholds of pseudo-labels, one for each class, that follow what the nets say of unlabelled images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from smelt.learning.semisupervised import class_thresholds


class Thresholds:
    """Running means of shares (FreeMatch, Wang et al. 2023), 1 / C at first; an observer of training.

    A step's pseudo-labels go by the means before it, so that ranks need no word from one another within a
    step; as it ends all ranks add the same sums. least: no threshold is below it.
    """

    def __init__(self, num_outputs: int, momentum: float, least: float, device: torch.device) -> None:
        self.momentum, self.least = momentum, least
        self.level = torch.full((), 1.0 / num_outputs, dtype=torch.float64, device=device)
        self.means_C = torch.full((num_outputs,), 1.0 / num_outputs, dtype=torch.float64, device=device)

    def passed(self, guesses_BC: Tensor) -> Tensor:
        """Which lines (B,) say their best class as surely as that class asks for."""
        highest_B, best_B = guesses_BC.max(dim=1)
        limits_C = class_thresholds(self.level, self.means_C).clamp_min(self.least)
        return highest_B.double() >= limits_C[best_B]

    @staticmethod
    def sums(guesses_BC: Tensor) -> Tensor:
        """(2 + C,) float64: number of lines, sum of their highest shares, sum of the shares of each class."""
        guesses_BC = guesses_BC.double()
        highest = guesses_BC.amax(dim=1).sum()
        count = torch.full_like(highest, len(guesses_BC))
        return torch.cat([torch.stack([count, highest]), guesses_BC.sum(dim=0)])

    def move(self, sums: Tensor) -> None:
        """Take up a step's `sums` over all ranks; nothing where it has no line, or none that is finite."""
        if not (float(sums[0]) > 0 and bool(sums.isfinite().all())):
            return
        self.level.lerp_(sums[1] / sums[0], 1.0 - self.momentum)
        self.means_C.lerp_(sums[2:] / sums[0], 1.0 - self.momentum)

    def begin_epoch(self, epoch: int) -> None:
        """Epochs are all alike."""

    def update(self, rows_B: Tensor, logits_BC: Tensor, labels_B: Tensor) -> None:
        """Labelled rows have no part in it."""

    def exchange(self) -> None:
        """Done in every step."""

    def reduce(self) -> None:
        """Every rank has all of it."""

    def state_dict(self) -> dict[str, Tensor]:
        """Both running means, for a checkpoint."""
        return {"level": self.level, "means": self.means_C}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.level.copy_(state["level"])
        self.means_C.copy_(state["means"])
