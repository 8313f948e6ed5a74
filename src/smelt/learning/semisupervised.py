"""Semi-supervised learning's formulas: labels refined by what the nets say, guesses, thresholds, losses.

DivideMix is Li et al. 2020, MixMatch Berthelot et al. 2019, FixMatch Sohn et al. 2020, FreeMatch Wang et al.
2023. Distributions are (B, C) float32 lines that sum to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-12  # keeps logarithms finite


def sharpened(shares_BC: Tensor, temperature: float) -> Tensor:
    """p^(1/T) of each class over their sum (MixMatch eq. 7). T below 1 sharpens, 1 leaves it as it is."""
    if temperature == 1.0:
        return shares_BC
    return torch.softmax(shares_BC.clamp_min(TINY).log() / temperature, dim=1)


def refined(labels_BC: Tensor, trust_B: Tensor, said_BC: Tensor, temperature: float) -> Tensor:
    """Labels mixed with what the nets say, by how far each is trusted, and sharpened (DivideMix eq. 3, 4)."""
    trust_B1 = trust_B[:, None]
    return sharpened(trust_B1 * labels_BC + (1.0 - trust_B1) * said_BC, temperature)


def guessed(said_KBC: Tensor, temperature: float) -> Tensor:
    """The mean of what K nets say of images without a label, sharpened (DivideMix eq. 5, 6)."""
    return sharpened(said_KBC.mean(dim=0), temperature)


def class_thresholds(level: Tensor, means_C: Tensor) -> Tensor:
    """Thresholds (C,) of pseudo-labels: `level`, the running mean of the highest share, times each class's
    running mean share over the largest such (FreeMatch, self-adaptive thresholding)."""
    return level * means_C / means_C.max()


def squared_loss(logits_BC: Tensor, targets_BC: Tensor) -> Tensor:
    """Squared distance of probabilities over C, (B,) (MixMatch eq. 4): bounded, where a guess is wrong."""
    return (torch.softmax(logits_BC, dim=1) - targets_BC).square().mean(dim=1)


def spread_loss(logits_BC: Tensor) -> Tensor:
    """Σ π log(π / p̄) with π = 1 / C and p̄ the mean of what the net says, (): against a net that gives all
    images to one class (DivideMix eq. 11)."""
    mean_C = torch.softmax(logits_BC, dim=1).mean(dim=0)
    uniform = 1.0 / len(mean_C)
    return (uniform * (uniform / mean_C.clamp_min(TINY)).log()).sum()


def ramped(done: float, length: float) -> float:
    """The factor of a loss that grows linearly from 0 to 1 over `length` (DivideMix, the authors' code)."""
    return 1.0 if length <= 0 else min(max(done / length, 0.0), 1.0)
