"""Zero-shot agreement: how much nearer an image lies to its class's words than to those of any other class.
 By a net that reads images and words into one space (Radford et al. 2021, "Learning Transferable Visual
Models From Natural Language Supervision", section 3.1): p(k | image) = softmax(scale · cos(image, words of
k)). No label is fitted, so nothing of the noise is in it; classes whose names say little to the net have
little to go by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.mining.scales import whole_numbers

BLOCK = 4096  # images at once: nothing N × C is held


@dataclass(frozen=True)
class Worded:
    """What `zero_shot_score` takes, of the rows to be ranked."""

    features_ND: NDArray[np.floating]
    text_CD: NDArray[np.floating]
    labels_N: NDArray[np.int32]
    scale: float
    known_N: NDArray[np.bool_]
    places_N: NDArray[np.int64]

    def score(self) -> NDArray[np.float64]:
        """(N,)."""
        return zero_shot_score(
            self.features_ND, self.text_CD, self.labels_N, scale=self.scale, known_N=self.known_N,
            places_N=self.places_N,
        )  # fmt: skip


def zero_shot_score(
    features_ND: NDArray[np.floating],
    text_CD: NDArray[np.floating],
    labels_N: ArrayLike,
    *,
    scale: float = 100.0,
    known_N: NDArray[np.bool_] | None = None,
    places_N: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """log p(label) − the largest log p of another class, (N,), higher is cleaner.

    features_ND: of the images, any length, mapped or not. text_CD: of the classes' words. scale: of the
    cosines, as the net says. NaN where a label is −1, known_N is False or the features are all 0. ValueError
    for arrays that do not fit, or a single class.
    """
    labels = whole_numbers("labels", labels_N)
    places = np.arange(len(features_ND)) if places_N is None else places_N
    if features_ND.ndim != 2 or len(places) != len(labels):
        raise ValueError(f"features {features_ND.shape} must be (N, D) of labels ({len(labels)},)")
    if text_CD.ndim != 2 or len(text_CD) < 2 or text_CD.shape[1] != features_ND.shape[1]:
        raise ValueError(f"the classes' words {text_CD.shape} must be (C ≥ 2, {features_ND.shape[1]})")
    if labels.max(initial=-1) >= len(text_CD):
        raise ValueError(f"a label is {labels.max()}, and there are words of {len(text_CD)} classes")
    words_DC = _of_length_1(text_CD).T
    score_N = np.full(len(labels), np.nan)
    for start in range(0, len(labels), BLOCK):
        block = slice(start, start + BLOCK)
        values = features_ND[places[block]].astype(np.float32)
        lengths = np.linalg.norm(values, axis=1)
        usable = (labels[block] >= 0) & (lengths > 0)
        if known_N is not None:
            usable &= known_N[block]
        rows = start + np.flatnonzero(usable)
        cosine_BC = _of_length_1(values[usable]) @ words_DC
        place = np.arange(len(rows)), labels[rows]
        own_B = cosine_BC[place].astype(np.float64)
        cosine_BC[place] = -np.inf
        score_N[rows] = scale * (own_B - cosine_BC.max(axis=1, initial=-np.inf))
    return score_N


def _of_length_1(values_ND: NDArray[np.floating]) -> NDArray[np.float32]:
    values = values_ND.astype(np.float32)
    found: NDArray[np.float32] = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return found
