"""The candidates that pruning left, in memory or mapped, and the reference's word on single ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ArtifactError
from smelt.files.arrays import map_array
from smelt.files.atomic import read_json
from smelt.fusion.exact.prune import PER_IMAGE
from smelt.fusion.scores.reference import single

INDEX = "candidates.json"
FIELDS = ("images_U", "certain_U", "counts_U", "classes_R", "before_R", "values_RM", "own_UM")


@dataclass(frozen=True)
class Store:
    """Candidates of N images, memory-mapped (or held); fields as in `prune.Pruned`, for all blocks together.

    images_U: positions in the fusion's order. ks: what it knows hits for. cap: no weight may be above it.
    """

    ks: tuple[int, ...]
    cap: float
    hits_KN: NDArray[np.int8]
    images_U: NDArray[np.int64]
    certain_U: NDArray[np.int32]
    counts_U: NDArray[np.int64]
    classes_R: NDArray[np.int32]
    before_R: NDArray[np.bool_]
    values_RM: NDArray[Any]
    own_UM: NDArray[Any]
    singles_KMN: NDArray[np.bool_]

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Map a finished store; ArtifactError where it is missing or damaged."""
        index = read_json(folder / INDEX)
        try:
            arrays = {name: map_array(folder / f"{name}.npy") for name in (*FIELDS, *PER_IMAGE)}
            return cls(tuple(map(int, index["ks"])), float(index["cap"]), **arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder} holds a damaged table of candidates: {error}") from error

    @property
    def num_results(self) -> int:
        """M."""
        return int(self.singles_KMN.shape[1])

    def singles(self, k: int) -> NDArray[np.bool_]:
        """Hits (M, N) of each result alone."""
        return np.asarray(self.singles_KMN[self.ks.index(k)])

    @cached_property
    def ends_U(self) -> NDArray[np.int64]:
        """Where each image's candidates end."""
        return np.asarray(np.cumsum(self.counts_U))

    def above(
        self, rows_Q: NDArray[np.int64], which_Q: NDArray[np.int64], weights_PM: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Does candidate `rows_Q[q]` come before its label under `weights_PM[which_Q[q]]`? By `fused`."""
        images_Q = np.searchsorted(self.ends_U, rows_Q, side="right")
        weights_MQ = np.ascontiguousarray(weights_PM[which_Q].T)
        values_MQ = single(np.ascontiguousarray(self.values_RM[rows_Q].T))
        own_MQ = single(np.ascontiguousarray(self.own_UM[images_Q].T))
        theirs, own = np.zeros(len(rows_Q), np.float32), np.zeros(len(rows_Q), np.float32)
        for weight, value, label in zip(weights_MQ, values_MQ, own_MQ):
            theirs += weight * value
            own += weight * label
        before: NDArray[np.bool_] = (theirs > own) | (self.before_R[rows_Q] & (theirs == own))
        return before
