"""Unit vectors and their cosines: in numpy, or in torch where they are so many that half the bytes count.

Loading torch takes longer than fusing twenty results of ten classes, so what is small never asks for it. The
kind of arithmetic changes no result: what it leaves unclear is decided by the reference (see `table`).
"""

from __future__ import annotations

import sys
import time
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.scores.reference import rounding

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Units = NDArray[np.float32] | Tensor  # (R, M), of length one

MANY = 1 << 23  # numbers in all unit vectors of a table from which on torch is worth loading for them
LOADED = 1 << 20  # the same where it is loaded anyway
ROUGH = 1e-3  # candidates whose rounding in the reference may exceed this cosine are always re-examined


def halved(numbers: int) -> bool:
    """Whether so many numbers are held in half precision."""
    return numbers > (LOADED if "torch" in sys.modules else MANY)


def exact(values_RM: NDArray[np.float32], own_RM: NDArray[np.float32]) -> NDArray[np.float32]:
    """Differences scaled to length one, (R, M); zeros where they are too small to trust."""
    num_results = values_RM.shape[1]
    largest = np.abs(values_RM).max(axis=1) + np.abs(own_RM).max(axis=1)
    units = values_RM - own_RM
    lengths = np.sqrt(np.einsum("rm,rm->r", units, units))
    # a weight vector that sums to 1 is at least 1/√M long: the reference's error as a cosine
    rough = rounding(num_results) * num_results**0.5 * largest > ROUGH * lengths
    units *= np.where(rough, 0.0, 1 / np.maximum(lengths, 1e-30)).astype(np.float32)[:, None]
    return units


def rounded(units_RM: NDArray[np.float32], many: bool) -> tuple[Units, float]:
    """Unit vectors as they are held, and how far that moved any of them."""
    if not many:
        return units_RM, 0.0
    import torch

    half = torch.bfloat16 if working_type() == torch.bfloat16 else torch.float16
    held = torch.from_numpy(units_RM).to(half)
    moved = float((held.float() - torch.from_numpy(units_RM)).norm(dim=1).max()) if len(held) else 0.0
    return held, moved


def picked(units: Units, rows: NDArray[np.int64]) -> Units:
    """Some of the rows; −1 is padding, which points away from all weights."""
    if isinstance(units, np.ndarray):
        found = units[np.maximum(rows, 0)]
        found[rows < 0] = -1
        return found
    import torch

    chosen = units[torch.from_numpy(np.maximum(rows, 0))]
    chosen[torch.from_numpy(rows < 0)] = -1
    return chosen


class Directions:
    """P weight vectors (P, M) as unit vectors, in either arithmetic. error: how far half precision moves
    them at most."""

    def __init__(self, weights_PM: NDArray[np.floating]) -> None:
        lengths = np.linalg.norm(weights_PM.astype(np.float64), axis=1, keepdims=True)
        self.exact_MP = np.ascontiguousarray((weights_PM / lengths).astype(np.float32).T)
        self._low: Tensor | None = None

    def low(self) -> Tensor:
        """In the type that this machine multiplies quickest."""
        import torch

        if self._low is None:
            self._low = torch.from_numpy(self.exact_MP).to(working_type())
        return self._low

    def error(self, many: bool) -> float:
        """How far the arithmetic of many unit vectors (or few) moves a direction at most."""
        if not many or not self.exact_MP.size:
            return 0.0
        import torch

        return float((self.low().double() - torch.from_numpy(self.exact_MP).double()).norm(dim=0).max())

    def cosines(self, units: Units) -> NDArray[np.float32] | Tensor:
        """(R, P); sums are in float32."""
        if isinstance(units, np.ndarray):
            return np.asarray(units @ self.exact_MP)
        return units.to(self.low().dtype) @ self.low()


def beyond(
    cosines: NDArray[np.float32] | Tensor, slack: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which cosines are above `slack`, and which are not below −`slack`."""
    if isinstance(cosines, np.ndarray):
        return cosines > np.float32(slack), cosines >= np.float32(-slack)
    import torch

    if cosines.dtype != torch.bfloat16:
        return beyond(cosines.numpy(), slack)
    # numpy knows no bfloat16, but bits compare as numbers do: above a positive one as signed integers,
    # below a negative one as unsigned ones
    bits = cosines.view(torch.int16).numpy()
    limit = torch.tensor([slack, -slack], dtype=torch.bfloat16).view(torch.int16).numpy()
    return bits > limit[0], bits.view(np.uint16) <= limit[1:].view(np.uint16)[0]


@cache
def working_type() -> torch.dtype:
    """bfloat16 where this machine multiplies matrices in it faster than in float32, else float32."""
    import torch

    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(2048, 128, dtype=dtype), torch.ones(128, 64, dtype=dtype)
        best = np.inf
        for _ in range(12):
            begun = time.perf_counter()
            left @ right
            best = min(best, time.perf_counter() - begun)
        seconds[dtype] = best
    return min(seconds, key=lambda dtype: seconds[dtype])
