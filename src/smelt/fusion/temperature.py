"""One temperature per result, fitted by likelihood: models differ a lot in how sure they are.

Guo et al. 2017, On Calibration of Modern Neural Networks, §4.2. Convex in 1/T, so a bracketed search in
log T finds it; some thousand images are plenty for one number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.sources import LEAST, Source

IMAGES = 2000
LOWEST, HIGHEST = -3.0, 4.0  # of log T
GOLDEN = (5**0.5 - 1) / 2


def fit(source: Source, labels_N: NDArray[np.integer], lines: NDArray[np.int64], seed: int) -> float:
    """The temperature that makes the labels of the images at `lines` (a sample of them) most likely."""
    lines = lines[labels_N[lines] >= 0]
    if len(lines) > IMAGES:
        lines = np.sort(np.random.default_rng(seed).choice(lines, IMAGES, replace=False))
    if not len(lines):
        return 1.0
    logits = source.block(lines, "middle").astype(np.float32)
    if source.kind == "probabilities":
        logits = np.log(np.maximum(logits, np.float32(LEAST)))
    labels = np.asarray(labels_N)[lines]
    return float(np.exp(_minimum(logits - logits.max(axis=1, keepdims=True), labels)))


def _minimum(logits_BC: NDArray[np.float32], labels_B: NDArray[np.integer]) -> float:
    """log T by golden sections."""

    def loss(log_t: float) -> float:
        scaled = logits_BC * np.float32(np.exp(-log_t))
        own = scaled[np.arange(len(labels_B)), labels_B]
        return float((np.log(np.exp(scaled).sum(axis=1)) - own).mean(dtype=np.float64))

    low, high = LOWEST, HIGHEST
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(18):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = loss(right)
    return (low + high) / 2
