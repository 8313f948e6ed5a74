"""What a fused score is, to the last bit.

    fused_c = fl(fl(… fl(fl(w_0 s_0c) + fl(w_1 s_1c)) + …) + fl(w_{M-1} s_{M-1,c}))    in float32

results in their order, each product and each sum rounded once: what the plain loop over results does in
numpy. The sums of other routines (matrix products) round differently, and near-ties come out differently;
all of smelt's searches give the hits of this loop, image for image, in the order of `smelt.metrics`.
Two properties carry the proofs:
- monotone: s_mc ≤ s_my in every result m and w ≥ 0 give fused_c ≤ fused_y, whatever was rounded;
- with w ≥ 0 and Σw ≤ 1 + 1e-4, fused_c is off the exact sum by at most `rounding(M) * max_m |s_mc|`, in
  fact by `rounding(M) * Σ w_m |s_mc|` (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
  §4.2), and by half of `UNDERFLOW` a result.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNIT = 2.0**-24  # unit roundoff of float32
HALVES = 4096  # values of float16 from which on it matters how they are widened
UNDERFLOW = 2.0**-148  # what two products lose at most where they are too small for float32's full precision


def single(values: NDArray[Any]) -> NDArray[np.float32]:
    """The same values in float32."""
    if values.dtype != np.float16 or values.size < HALVES or "torch" not in sys.modules:
        return values.astype(np.float32, copy=False)
    return widened(values, np.empty(values.shape, np.float32))


def widened(values: NDArray[Any], out: NDArray[np.float32]) -> NDArray[np.float32]:
    """`single`, into an array that is there already: fresh pages cost more than the work.

    Where torch is loaded anyway it widens float16, six times as fast as numpy; nothing is rounded by either.
    """
    torch = sys.modules.get("torch")
    if torch is None or values.dtype != np.float16 or values.size < HALVES or not values.flags.c_contiguous:
        np.copyto(out, values)
        return out
    held = values if values.flags.writeable else np.array(values)
    torch.from_numpy(out).copy_(torch.from_numpy(held))
    return out


def fused(
    values_MBC: NDArray[Any] | Sequence[NDArray[Any]], weights_M: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Fused scores (B, C) float32 of the values (M, B, C) of M results, by the definition above."""
    scores_BC = np.zeros(values_MBC[0].shape, np.float32)
    for weight, values_BC in zip(np.asarray(weights_M, np.float32), values_MBC, strict=True):
        scores_BC += weight * single(values_BC)
    return scores_BC


def rounding(num_results: int) -> float:
    """How far `fused` may be off the exact sum, in units of the largest absolute value that it adds."""
    return 1.01 * (num_results + 2) * UNIT


def normalised(weights_PM: ArrayLike) -> NDArray[np.float32]:
    """Weights (P, M) or (M,), none negative, as float32 with sum 1 up to rounding.

    Done twice it changes nothing: near-ties hang on the last bit, and a figure is reported for these weights.
    """
    weights = np.asarray(weights_PM, np.float64)
    assert bool((weights >= 0).all()), "weights must not be negative"
    totals = weights.sum(axis=-1, keepdims=True)
    assert bool((totals > 0).all()), "some weight must be positive"
    totals = np.where(np.abs(totals - 1) <= 2 * UNIT, 1.0, totals)
    shares: NDArray[np.float32] = (weights / totals).astype(np.float32)
    return shares


def equal(num_results: int) -> NDArray[np.float32]:
    """The plain average's weights (M,)."""
    return normalised(np.ones(num_results))
