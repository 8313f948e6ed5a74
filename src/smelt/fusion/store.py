"""The store: what pruning left, on disk, and the reference's word on single candidates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.files import read_json
from smelt.errors import ArtifactError
from smelt.fusion.reference import rounding, single
from smelt.fusion.table import Table
from smelt.fusion.tiles import Part, repack, working_store

INDEX = "candidates.json"
ROUGH = 1e-3  # candidates whose rounding in the reference may exceed this cosine are always re-examined
FIELDS = ("hits_N", "images_U", "need_U", "counts_U", "classes_R", "values_RM", "own_UM", "singles_MN")


@dataclass(frozen=True)
class Store:
    """Candidates of N images, memory-mapped (or held); fields as in `prune.Pruned`, for all blocks together.

    images_U: positions in the fusion's order. k: of the metric. cap: no weight may be above it.
    """

    k: int
    cap: float
    hits_N: NDArray[np.int8]
    images_U: NDArray[np.int64]
    need_U: NDArray[np.int32]
    counts_U: NDArray[np.int64]
    classes_R: NDArray[np.int32]
    values_RM: NDArray[Any]
    own_UM: NDArray[Any]
    singles_MN: NDArray[np.bool_]

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Map a finished store; ArtifactError where it is missing or damaged."""
        index = read_json(folder / INDEX)
        try:
            arrays = {name: _mapped(folder / f"{name}.npy") for name in FIELDS}
            return cls(int(index["k"]), float(index["cap"]), **arrays)
        except (KeyError, ValueError, OSError, EOFError) as error:
            raise ArtifactError(f"{folder} holds a damaged table of candidates: {error}") from error

    @property
    def num_results(self) -> int:
        """M."""
        return len(self.singles_MN)

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        ends: NDArray[np.int64] = np.cumsum(self.counts_U)
        return ends

    def above(
        self, rows_Q: NDArray[np.int64], persons_Q: NDArray[np.int64], weights_PM: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Is candidate `rows_Q[q]` above its label under `weights_PM[persons_Q[q]]`? By the reference."""
        images_Q = np.searchsorted(self._offsets, rows_Q, side="right")
        weights_MQ = np.ascontiguousarray(weights_PM[persons_Q].T)
        values_MQ = single(np.ascontiguousarray(self.values_RM[rows_Q].T))
        own_MQ = single(np.ascontiguousarray(self.own_UM[images_Q].T))
        theirs, own = np.zeros(len(rows_Q), np.float32), np.zeros(len(rows_Q), np.float32)
        for weight, value, label in zip(weights_MQ, values_MQ, own_MQ):
            theirs += weight * value
            own += weight * label
        return theirs > own

    def table(self, labels_N: NDArray[np.integer], threads: int = 0) -> Table:
        """The table of all candidates in memory."""
        parts, slacks = [], [0.0]
        for part, slack in self._parts():
            parts.append(part)
            slacks.append(slack)
        tiles = list(repack(parts, self.num_results))
        # on top: the sums of the product, and what rounding its bfloat16 output can hide
        slack = 1.02 * (max(slacks) + ROUGH + 2 * rounding(self.num_results))
        labels = np.asarray(labels_N, np.int32)
        return Table(labels, np.array(self.hits_N), tiles, self, self.cap, slack, threads=threads)

    def _parts(self, images: int = 1 << 11) -> Iterator[tuple[Part, float]]:
        """Unit vectors of blocks of images, with how far low precision moved them at most."""
        import torch

        for start in range(0, len(self.images_U), images):
            block = slice(start, start + images)
            counts = np.array(self.counts_U[block])
            first = int(self._offsets[start] - self.counts_U[start])
            rows = np.arange(first, first + int(counts.sum()))
            values = single(self.values_RM[rows[0] : rows[-1] + 1])
            own = np.repeat(self.own_UM[block].astype(np.float32), counts, axis=0)
            units, spread = _units(values, own)
            exact = torch.from_numpy(units)
            low = exact.to(working_store())
            moved = float((low.float() - exact).norm(dim=1).max())
            yield (
                Part(np.array(self.images_U[block]), np.array(self.need_U[block]), counts, low, rows, spread),
                moved,
            )


def _units(
    values_RM: NDArray[np.float32], own_RM: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Differences scaled to length one, zeros where they are too small to trust, and |units − mean|."""
    num_results = values_RM.shape[1]
    largest = np.abs(values_RM).max(axis=1) + np.abs(own_RM).max(axis=1)
    units = values_RM - own_RM
    lengths = np.sqrt(np.einsum("rm,rm->r", units, units, dtype=np.float64))
    # a weight vector that sums to 1 is at least 1/√M long: the reference's error as a cosine
    rough = rounding(num_results) * largest * np.sqrt(num_results) > ROUGH * lengths
    scale = np.where(rough, 0.0, 1.0 / np.maximum(lengths, 1e-30)).astype(np.float32)
    units *= scale[:, None]
    mean = units.mean(axis=1, dtype=np.float64)
    square = np.einsum("rm,rm->r", units, units, dtype=np.float64) - num_results * mean**2
    return units, (np.sqrt(np.maximum(square, 0.0)) * 1.001 + 1e-5).astype(np.float32)


def _mapped(path: Path) -> NDArray[Any]:
    """A .npy file, mapped unless it is empty."""
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        mapped = np.load(path, allow_pickle=False)
    return mapped
