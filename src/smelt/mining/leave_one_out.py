"""Ridge regression on the labels, each row judged by the fit without it, in closed form.

With H = 11ᵀ/n + X(XᵀX + λI)⁻¹Xᵀ, X centred, the prediction for row i of the fit to all other rows is
(fᵢ − hᵢᵢ yᵢ)/(1 − hᵢᵢ): Allen 1974, "The relationship between variable selection and data augmentation and a
method for prediction" (PRESS); Golub, Heath, Wahba 1979, section 2, for the ridge. One D×D sum, one (C, D)
sum, and a second pass; nothing has the size N×C.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smelt.mining.labelled_features import BLOCK, Floats, Labelled

# λ as a multiple of the mean eigenvalue of XᵀX; the one with the least squared error left out is taken
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
JUDGED = 20_000  # rows at most that the penalty and the temperature are chosen on


class LeaveOneOut:
    """The fit to all labelled rows of `data`. `penalty`: λ over the mean eigenvalue; chosen unless given."""

    def __init__(self, data: Labelled, penalty: float | None = None) -> None:
        self.data = data
        self.priors: Floats = data.counts / max(data.num_rows, 1)
        self._given = penalty
        self._fits: dict[float, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    @cached_property
    def penalty(self) -> float:
        """λ as a multiple of the mean eigenvalue."""
        if self._given is not None:
            return self._given
        return PENALTIES[int(np.argmin(self._errors()))]

    def scores(self, start: int) -> NDArray[np.float32]:
        """(B, C) what the fit without each row of a block says of it: near the share of each label there."""
        self.penalty  # noqa: B018
        return self._left_out(self._rotated(start), start, self.penalty)

    def outputs(self, features_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, C) what the fit to all rows says of others, by their features (B, D)."""
        centred = features_BD - self.data.mean.astype(np.float32)
        weights, _ = self._fit(self.penalty)
        return np.asarray((centred @ self._vectors) @ weights + self.priors.astype(np.float32))

    def _rotated(self, start: int) -> NDArray[np.float32]:
        return self.data.centred(start) @ self._vectors

    def _left_out(self, rotated: NDArray[np.float32], start: int, penalty: float) -> NDArray[np.float32]:
        weights, shrink = self._fit(penalty)
        labels = self.data.classes[start : start + len(rotated)]
        leverage = (rotated**2) @ shrink + np.float32(1 / self.data.num_rows)
        fitted = rotated @ weights + self.priors.astype(np.float32)
        at = np.arange(len(labels))
        # h = 1: the row alone decides its own prediction, and nothing is known without it
        left = np.maximum(1 - leverage, np.float32(1e-6))
        found = fitted / left[:, None]
        found[at, labels] -= leverage / left
        return np.asarray(found, np.float32)

    def sample(self) -> list[int]:
        """Starts of blocks spread over all rows, of `JUDGED` rows at most."""
        starts = list(self.data.starts())
        step = max(1, -(-len(starts) * BLOCK // JUDGED))
        return starts[::step]

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        return np.asarray(self.data.spectrum[1], np.float32)

    @cached_property
    def _targets(self) -> Floats:
        """(D, C) VᵀXᵀY / n; the priors drop out, since X is centred."""
        sums = self.data.by_class(self.data.centred)
        return np.asarray(self.data.spectrum[1].T @ (sums.T / max(self.data.num_rows, 1)))

    def _fit(self, penalty: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(weights (D, C), what squares are multiplied by in hᵢᵢ (D,)), both for rotated rows."""
        if penalty not in self._fits:
            values = self.data.spectrum[0]
            scale = 1 / (values + max(penalty * float(values.mean()), 1e-12))
            weights = np.asarray(self._targets * scale[:, None], np.float32)
            self._fits[penalty] = weights, np.asarray(scale / max(self.data.num_rows, 1), np.float32)
        return self._fits[penalty]

    def _errors(self) -> Floats:
        """Sum of squared errors of the rows of the sample, each left out, by penalty."""
        self.data.spectrum, self._targets, self._vectors  # noqa: B018  (before threads ask for them)
        for penalty in PENALTIES:
            self._fit(penalty)

        def squares(start: int) -> Floats:
            rotated = self._rotated(start)
            at, labels = np.arange(len(rotated)), self.data.classes[start : start + len(rotated)]
            found = np.zeros(len(PENALTIES))
            for i, penalty in enumerate(PENALTIES):
                scores = self._left_out(rotated, start, penalty)
                scores[at, labels] -= 1
                found[i] = np.square(scores, dtype=np.float64).sum()
            return found

        return np.asarray(sum(self.data.each(squares, self.sample()), np.zeros(len(PENALTIES))))


def fitted(data: Labelled) -> LeaveOneOut:
    """The fit with the chosen penalty, made once for all that goes by it."""
    if "leave_one_out" not in data.kept:
        fit = LeaveOneOut(data)
        fit.penalty  # noqa: B018  (before threads ask for it)
        data.kept["leave_one_out"] = fit
    found: LeaveOneOut = data.kept["leave_one_out"]
    return found
