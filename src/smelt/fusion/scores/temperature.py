"""One temperature per result, fitted by likelihood: models differ a lot in how sure they are.

Guo et al. 2017, On Calibration of Modern Neural Networks, §4.2. The loss is convex in 1/T and smooth in log
T: its sums over each fold are taken once on a grid, and whatever folds are left out, the lowest point of
what remains is found between grid points by a quartic. Some thousand images are plenty for one number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.scores.sources import LEAST, Source

IMAGES = 1500
ELEMENTS = 1 << 20  # scores of one result that are looked at; of many classes fewer images
STEP = 0.04  # of log T that is told apart: data say no more, and alike fits share what they make of a result
GRID = np.linspace(-3.0, 4.0, 22)  # of log T
BETWEEN = np.linspace(-2, 2, 801)  # places between five neighbours on the grid
# the quartic through the values at five neighbours, at those places, from the values: (801, 5)
QUARTIC = np.vander(BETWEEN, 5) @ np.linalg.inv(np.vander(np.arange(-2.0, 3.0), 5))


def sampled(folds_N: NDArray[np.int8], num_classes: int, seed: int) -> NDArray[np.int64]:
    """Labelled images that temperatures are fitted on, evenly over the folds whatever the labels."""
    lines = np.flatnonzero(folds_N >= 0)
    most = min(IMAGES, max(64, ELEMENTS // num_classes))
    return np.sort(np.random.default_rng([seed, 4]).permutation(lines)[:most])


def fit(source: Source, labels_N: NDArray[np.integer], lines: NDArray[np.int64], seed: int) -> float:
    """The temperature that makes the labels of the images at `lines` (a sample of them) most likely."""
    lines = lines[np.asarray(labels_N)[lines] >= 0]
    if len(lines) > IMAGES:
        lines = np.sort(np.random.default_rng(seed).choice(lines, IMAGES, replace=False))
    if not len(lines):
        return 1.0
    return fits(source, labels_N, lines, np.zeros(len(labels_N), np.int8), [()])[0]


def fits(
    source: Source,
    labels_N: NDArray[np.integer],
    lines: NDArray[np.int64],
    folds_N: NDArray[np.int8],
    lefts: Sequence[Collection[int]],
) -> list[float]:
    """The temperature for each set of folds that are left out, from the images at `lines` in no such fold."""
    logits = source.block(lines, "middle").astype(np.float32)
    if source.kind == "probabilities":
        logits = np.log(np.maximum(logits, np.float32(LEAST)))
    logits -= logits.max(axis=1, keepdims=True)
    labels, folds = np.asarray(labels_N)[lines], folds_N[lines]
    losses_GB = np.stack([_losses(logits, labels, log_t) for log_t in GRID])
    images_F = np.bincount(folds)
    losses_GF = losses_GB @ (folds[:, None] == np.arange(len(images_F))).astype(np.float64)
    seen_LF = np.array([[fold not in left for fold in range(len(images_F))] for left in lefts], np.float64)
    images_L = seen_LF @ images_F
    lowest_L = _lowest(losses_GF @ seen_LF.T / np.maximum(images_L, 1))
    return [float(np.exp(low)) if images else 1.0 for low, images in zip(lowest_L, images_L)]


def _losses(
    logits_BC: NDArray[np.float32], labels_B: NDArray[np.integer], log_t: float
) -> NDArray[np.float64]:
    """Log loss (B,) of each image at a temperature; the largest logit of each is 0."""
    scaled = logits_BC * np.float32(np.exp(-log_t))
    own = scaled[np.arange(len(labels_B)), labels_B]
    total = np.exp(scaled, out=scaled) @ np.ones(scaled.shape[1], np.float32)
    return np.asarray(np.log(total, dtype=np.float64) - own)


def _lowest(losses_GL: NDArray[np.float64]) -> NDArray[np.float64]:
    """log T (L,) of the lowest of each column of losses, by the quartic through the lowest point of the grid
    and four neighbours, to the nearest step."""
    place_L = np.clip(np.argmin(losses_GL, axis=0), 2, len(GRID) - 3)
    around_5L = np.take_along_axis(losses_GL, place_L + np.arange(-2, 3)[:, None], axis=0)
    lowest_L = GRID[place_L] + (GRID[1] - GRID[0]) * BETWEEN[np.argmin(QUARTIC @ around_5L, axis=0)]
    return np.asarray(STEP * np.round(lowest_L / STEP))
