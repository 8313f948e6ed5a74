"""How likely each label is for each row, out of sample: ridge outputs of one backbone or several, tempered.

softmax(Σ_b τ_b S_b) with S_b the leave-one-out outputs of backbone b. The τ are those that make the
given labels likeliest: no label has to be known to be right, for what a wrong label has to do with other
images is little, and the row itself has no part in its own prediction. With several backbones this is a
logarithmic pool, stacked out of sample (Wolpert 1992).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smelt.mining.labelled_features import BLOCK, Labelled
from smelt.mining.leave_one_out import fitted

Floats = NDArray[np.float64]

NUMBERS = 20_000_000  # outputs at most, of each backbone, that temperatures are fitted on
STEPS = 50
LARGEST = 1e4  # of a temperature: beyond it nothing but the largest output counts


class Posterior:
    """Of the rows that all of `spaces` (one for each backbone, of the same labels) can use."""

    def __init__(self, spaces: Sequence[Labelled]) -> None:
        if not spaces or any(not np.array_equal(one.usable, spaces[0].usable) for one in spaces):
            raise ValueError("a posterior takes one set of features or more, of the same rows")
        self.data = spaces[0]
        self._fits = [fitted(one) for one in spaces]
        # 0 for classes that have images, −∞ for others; the outputs know the shares of the classes already
        self._open = np.where(self.data.counts > 0, 0.0, -np.inf)
        self.temperatures = self._likeliest()

    @property
    def shares(self) -> Floats:
        """(B,) how much each backbone counts: τ times the spread of its outputs, of all together."""
        weights = self.temperatures * self._spread
        total = weights.sum()
        return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))

    def logits(self, start: int) -> Floats:
        """(B, C) logarithms of what is likely for the rows of a block, up to a constant of each row."""
        scores = sum(
            t * fit.scores(start).astype(np.float64) for t, fit in zip(self.temperatures, self._fits)
        )
        return np.asarray(scores) + self._open

    def of(self, start: int) -> Floats:
        """(B, C) probabilities of the labels for the rows of a block."""
        return _softmax(self.logits(start))

    def elsewhere(self, blocks: Sequence[NDArray[np.float32]]) -> Floats:
        """(B, C) probabilities for other rows, of their features (B, D) by each backbone."""
        scores = sum(
            t * fit.outputs(one).astype(np.float64)
            for t, fit, one in zip(self.temperatures, self._fits, blocks)
        )
        return _softmax(np.asarray(scores) + self._open)

    def _likeliest(self) -> Floats:
        """τ ≥ 0 by Newton's method on the sample; the objective is convex."""
        starts = self._fits[0].sample()
        rows = max(1, NUMBERS // (BLOCK * max(self.data.num_classes, 1)))
        starts = starts[:: max(1, len(starts) // rows)] if len(starts) > rows else starts
        outputs = [np.concatenate([fit.scores(at) for at in starts]) for fit in self._fits]
        labels = np.concatenate([self.data.classes[at : at + BLOCK] for at in starts])
        self._spread = np.array([float(one.std()) for one in outputs])
        found = np.full(len(outputs), 1 / max(float(self._spread.max()), 1e-12))
        for _ in range(STEPS):
            slope, bend = self._derivatives(outputs, labels, found)
            step = np.linalg.solve(bend + 1e-9 * np.trace(bend) * np.eye(len(found)) + 1e-12, slope)
            moved = np.clip(found - np.clip(step, -found / 2 - 1, 2 * found + 1), 0, LARGEST)
            if np.abs(moved - found).max() <= 1e-6 * max(1.0, found.max()):
                break
            found = moved
        return found

    def _derivatives(
        self, outputs: Sequence[NDArray[np.float32]], labels: NDArray[np.int64], at: Floats
    ) -> tuple[Floats, Floats]:
        """(gradient (B,), Hessian (B, B)) of the mean of −log p of the labels."""
        logits = sum(t * one.astype(np.float64) for t, one in zip(at, outputs)) + self._open
        likely = _softmax(np.asarray(logits))
        lines = np.arange(len(labels))
        means = [np.einsum("nc,nc->n", likely, one) for one in outputs]
        slope = np.array([float((mean - one[lines, labels]).mean()) for mean, one in zip(means, outputs)])
        bend = np.empty((len(at), len(at)))
        for i, one in enumerate(outputs):
            for j, other in enumerate(outputs[: i + 1]):
                both = np.einsum("nc,nc,nc->n", likely, one, other) - means[i] * means[j]
                bend[i, j] = bend[j, i] = float(both.mean())
        return slope, bend


def _softmax(logits_BC: Floats) -> Floats:
    found = np.exp(logits_BC - logits_BC.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True))
