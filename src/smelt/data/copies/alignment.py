"""The finer comparison: lay one picture on the other and see whether what is fine in them agrees.

Two thumbnails are aligned by an affine map (Gauss-Newton on the difference of pictures normalised for
brightness and contrast, coarse to fine, after Lucas and Kanade 1981), then correlated where both show
something, with their coarse structure taken out first: many pictures are bright in the middle, few share
their detail. Copies that were cropped, framed, scaled, turned a little or written over keep it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

LEVELS = ((16, 12), (32, 8), (64, 6))  # side in pixels, steps of Gauss-Newton
DETAIL = 7  # side of the box whose mean is the coarse structure
PLAIN = 0.95  # correlation that alignment need not better
BATCH = 256


@dataclass(frozen=True)
class Agreement:
    """How far P pairs agree, as the correlation −1..1 of their detail where both show something.

    unmoved_P: laid on each other as they are. aligned_P: after alignment, which can make look-alikes, one
    object before other backgrounds, agree somewhat; so more is to be asked of it. overlap_P: the smaller
    share of a picture that the other shows, aligned. A pair that plainly agrees unmoved is not aligned.
    """

    unmoved_P: NDArray[np.float32]
    aligned_P: NDArray[np.float32]
    overlap_P: NDArray[np.float32]


def compare(first_PSS: NDArray[np.uint8], second_PSS: NDArray[np.uint8]) -> Agreement:
    """Agreement of P pairs of thumbnails of 64 × 64 luma."""
    parts = [torch.zeros(3, 0)]
    with torch.inference_mode():
        for begin in range(0, len(first_PSS), BATCH):
            pair = (side[begin : begin + BATCH] for side in (first_PSS, second_PSS))
            first, second = (torch.from_numpy(np.array(side)).float()[:, None] for side in pair)
            unmoved, overlap = _agreement(first, second, torch.eye(2, 3).expand(len(first), 2, 3))
            result = torch.stack([unmoved, unmoved, overlap])
            unclear = torch.nonzero(unmoved < PLAIN)[:, 0]
            if len(unclear):
                first, second = first[unclear], second[unclear]
                result[1:, unclear] = torch.stack(_agreement(first, second, _align(first, second)))
            parts.append(result)
    return Agreement(*torch.cat(parts, dim=1).numpy())


def _align(first: Tensor, second: Tensor) -> Tensor:
    """The affine maps from places of `first` to places of `second`, (P, 2, 3), in units of half a side."""
    maps = torch.eye(2, 3).repeat(len(first), 1, 1)
    for size, steps in LEVELS:
        a, b = (functional.adaptive_avg_pool2d(side, size) for side in (first, second))
        padded = functional.pad(b, (1, 1, 1, 1), mode="replicate")
        slope_x = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) * size / 4
        slope_y = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) * size / 4
        channels = torch.cat([b, slope_x, slope_y, torch.ones_like(b)], dim=1)
        places = functional.affine_grid(torch.eye(2, 3)[None], [1, 1, size, size], align_corners=False)
        x, y = places.reshape(-1, 2).T
        for _ in range(steps):
            maps = maps + _step(a.flatten(1), channels, maps, x, y)
    return maps


def _step(a_PQ: Tensor, channels: Tensor, maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """One step of Gauss-Newton, (P, 2, 3), bounded so that a bad pair wanders off rather than blows up."""
    size = channels.shape[-1]
    grid = functional.affine_grid(maps, [len(maps), 1, size, size], align_corners=False)
    seen = functional.grid_sample(channels, grid, align_corners=False).flatten(2)
    b_PQ, slope_x, slope_y = seen[:, 0], seen[:, 1], seen[:, 2]
    shown = (seen[:, 3] > 0.99).float()
    a_PQ, _ = _normalised(a_PQ, shown)
    b_PQ, spread = _normalised(b_PQ, shown)
    slope_x, slope_y = slope_x / spread, slope_y / spread
    jacobian = torch.stack([slope_x * x, slope_x * y, slope_x, slope_y * x, slope_y * y, slope_y], dim=2)
    weighted = jacobian * shown[:, :, None]
    normal = weighted.transpose(1, 2) @ jacobian
    damping = 1e-3 * normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + 1e-3
    towards = weighted.transpose(1, 2) @ (a_PQ - b_PQ)[:, :, None]
    step: Tensor = torch.linalg.solve(normal + damping * torch.eye(6), towards)
    return step.reshape(-1, 2, 3).clamp(-0.1, 0.1)


def _normalised(values_PQ: Tensor, shown_PQ: Tensor) -> tuple[Tensor, Tensor]:
    """Values less their mean over their spread where shown, and that spread (P, 1)."""
    count = shown_PQ.sum(1, keepdim=True) + 1e-6
    centred = (values_PQ - (values_PQ * shown_PQ).sum(1, keepdim=True) / count) * shown_PQ
    spread = (centred.square().sum(1, keepdim=True) / count).sqrt() + 1e-3
    return centred / spread, spread


def _agreement(first: Tensor, second: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """(correlation, overlap) of the detail of `first` and of `second` moved onto it."""
    grid = functional.affine_grid(maps, list(first.shape), align_corners=False)
    channels = torch.cat([second, torch.ones_like(second)], dim=1)
    seen = functional.grid_sample(channels, grid, align_corners=False)
    moved, shown = seen[:, :1], (seen[:, 1:] > 0.99).float()
    a, _ = _normalised(_detail(first, shown), shown.flatten(1))
    b, _ = _normalised(_detail(moved, shown), shown.flatten(1))
    share = shown.flatten(1).mean(1)
    overlap = torch.minimum(share, share * torch.linalg.det(maps[:, :, :2]).abs())
    return (a * b).sum(1) / (shown.flatten(1).sum(1) + 1e-6), overlap


def _detail(picture: Tensor, shown: Tensor) -> Tensor:
    """The picture less the mean of what is shown around each place, flat (P, Q)."""
    around = [functional.avg_pool2d(part, DETAIL, 1, DETAIL // 2) for part in (picture * shown, shown)]
    return ((picture - around[0] / (around[1] + 1e-6)) * shown).flatten(1)
