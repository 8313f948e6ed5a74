"""The store: what pruning left, on disk, and the reference's word on single candidates."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.files import read_json
from smelt.errors import ArtifactError
from smelt.fusion.reference import rounding, single
from smelt.fusion.table import Table
from smelt.fusion.tiles import Tile, layout, spread_over, working_store

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "candidates.json"
ROUGH = 1e-3  # candidates whose rounding in the reference may exceed this cosine are always re-examined
FIELDS = (
    "hits_N",
    "images_U",
    "need_U",
    "counts_U",
    "classes_R",
    "before_R",
    "values_RM",
    "own_UM",
    "singles_MN",
)


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
    before_R: NDArray[np.bool_]
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
        """Does candidate `rows_Q[q]` come before its label under `weights_PM[persons_Q[q]]`? By `fused`."""
        images_Q = np.searchsorted(self._offsets, rows_Q, side="right")
        weights_MQ = np.ascontiguousarray(weights_PM[persons_Q].T)
        values_MQ = single(np.ascontiguousarray(self.values_RM[rows_Q].T))
        own_MQ = single(np.ascontiguousarray(self.own_UM[images_Q].T))
        theirs, own = np.zeros(len(rows_Q), np.float32), np.zeros(len(rows_Q), np.float32)
        for weight, value, label in zip(weights_MQ, values_MQ, own_MQ):
            theirs += weight * value
            own += weight * label
        before: NDArray[np.bool_] = (theirs > own) | (self.before_R[rows_Q] & (theirs == own))
        return before

    def table(self, labels_N: NDArray[np.integer], threads: int = 0) -> Table:
        """The table of all candidates in memory, tile by tile from the disk."""
        counts = np.array(self.counts_U)
        made = list(spread_over(self._tile, list(layout(counts)), int(counts.sum()), threads))
        _let_go(self.values_RM)
        # on top: the sums of the product, and what rounding its bfloat16 output can hide
        slack = 1.02 * (max((moved for _, moved in made), default=0) + ROUGH + 2 * rounding(self.num_results))
        labels = np.asarray(labels_N, np.int32)
        tiles = [tile for tile, _ in made]
        return Table(labels, np.array(self.hits_N), tiles, self, self.cap, slack, threads=threads)

    def _tile(self, of: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[Tile, float]:
        """The tile of some images (see `tiles.layout`), and how far rounding moved its vectors at most."""
        import torch

        chosen, place_nI = of
        there_nI = place_nI >= 0
        first = self._offsets[chosen] - self.counts_U[chosen]
        rows_nI = np.where(there_nI, first + place_nI, -1)
        image_nI = np.broadcast_to(chosen, place_nI.shape)
        values = torch.from_numpy(single(self.values_RM[rows_nI[there_nI]]))
        own = torch.from_numpy(single(self.own_UM[image_nI[there_nI]]))
        exact, spread = _units(values, own)
        low = torch.full((place_nI.size, self.num_results), -1, dtype=working_store())
        where = torch.from_numpy(np.flatnonzero(there_nI))
        low[where] = exact.to(low.dtype)
        moved = float((low[where].float() - exact).norm(dim=1).max())
        spread_nI = np.zeros(place_nI.shape, np.float32)
        spread_nI[there_nI] = spread.numpy()
        images, need = np.array(self.images_U[chosen]), np.array(self.need_U[chosen])
        return Tile(images, need, low, rows_nI, spread_nI), moved


def _units(values_RM: Tensor, own_RM: Tensor) -> tuple[Tensor, Tensor]:
    """Differences scaled to length one, zeros where they are too small to trust, and |units − mean|."""
    num_results = values_RM.shape[1]
    largest = values_RM.abs().amax(dim=1) + own_RM.abs().amax(dim=1)
    units = values_RM - own_RM
    lengths = units.norm(dim=1)
    # a weight vector that sums to 1 is at least 1/√M long: the reference's error as a cosine
    rough = rounding(num_results) * num_results**0.5 * largest > ROUGH * lengths
    units *= (1 / lengths.clamp(min=1e-30)).masked_fill(rough, 0.0)[:, None]
    spread = (units - units.mean(dim=1, keepdim=True)).norm(dim=1)
    return units, spread * 1.001 + 1e-5


def _let_go(array: NDArray[Any]) -> None:
    """Give the pages of a mapped file back: all of it was read once, few of its rows are asked for again."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


def _mapped(path: Path) -> NDArray[Any]:
    """A .npy file, mapped unless it is empty."""
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        mapped = np.load(path, allow_pickle=False)
    return mapped
