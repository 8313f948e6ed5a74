"""The store: what pruning left, on disk, and the reference's word on single candidates."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.files import read_json
from smelt.errors import ArtifactError
from smelt.fusion.exact.table import Table
from smelt.fusion.exact.tiles import Tile, layout, spread_over
from smelt.fusion.exact.units import ROUGH, exact, halved, picked, rounded
from smelt.fusion.scores.reference import rounding, single

INDEX = "candidates.json"
FIELDS = ("images_U", "certain_U", "counts_U", "classes_R", "before_R", "values_RM", "own_UM")
WHOLE = ("hits_KN", "singles_KMN")  # fields whose last axis is the images


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
            arrays = {name: _mapped(folder / f"{name}.npy") for name in (*FIELDS, *WHOLE)}
            return cls(tuple(map(int, index["ks"])), float(index["cap"]), **arrays)
        except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
            raise ArtifactError(f"{folder} holds a damaged table of candidates: {error}") from error

    @property
    def num_results(self) -> int:
        """M."""
        return int(self.singles_KMN.shape[1])

    def singles(self, k: int) -> NDArray[np.bool_]:
        """Hits (M, N) of each result alone."""
        return np.asarray(self.singles_KMN[self.ks.index(k)])

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

    def table(self, labels_N: NDArray[np.integer], threads: int = 0, k: int | None = None) -> Table:
        """The table of all candidates in memory for one k (None: the first)."""
        return self.tables(labels_N, threads)[self.ks[0] if k is None else k]

    def tables(
        self, labels_N: NDArray[np.integer], threads: int = 0, parts_N: NDArray[np.integer] | None = None
    ) -> dict[int, Table]:
        """k → its table; all share the unit vectors, which are made tile by tile from the disk.

        parts_N: images of different parts never share a tile, so that `Table.part` costs nothing.
        """
        counts = np.array(self.counts_U)
        many = halved(int(counts.sum()) * self.num_results)
        open_KU = np.array(self.hits_KN)[:, self.images_U] < 0
        part_U = np.zeros(len(counts), np.int64) if parts_N is None else np.asarray(parts_N)[self.images_U]
        sorts = np.stack([part_U, (open_KU << np.arange(len(self.ks))[:, None]).sum(axis=0)])
        kinds, kind_U = np.unique(sorts, axis=1, return_inverse=True)
        plans = [
            (kind, mine[chosen], place_nI)
            for kind in range(kinds.shape[1])
            for mine in [np.flatnonzero(kind_U.reshape(-1) == kind)]
            for chosen, place_nI in layout(counts[mine])
        ]
        if many:
            import torch  # noqa: F401  here, not first in some thread

        def make(plan: tuple[int, NDArray[np.int64], NDArray[np.int64]]) -> tuple[Tile, float]:
            return self._tile(plan[1], plan[2], many)

        made = list(spread_over(make, plans, int(counts.sum()), threads))
        _let_go(self.values_RM)
        # on top: the sums of the product, and what rounding its bfloat16 output can hide
        moved = max((far for _, far in made), default=0.0)
        slack = 1.02 * (moved + ROUGH + 2 * rounding(self.num_results))
        labels, tables = np.asarray(labels_N, np.int32), {}
        for place, k in enumerate(self.ks):
            mine = [n for n, (kind, _, _) in enumerate(plans) if kinds[1, kind] >> place & 1]
            tiles = [
                replace(made[n][0], need_I=np.asarray(k - self.certain_U[plans[n][1]], np.int32))
                for n in mine
            ]
            parts = [int(kinds[0, plans[n][0]]) for n in mine]
            tables[k] = Table(
                k, labels, np.array(self.hits_KN[place]), tiles, self, self.cap, slack, many, parts,
                threads=threads,
            )  # fmt: skip
        return tables

    def _tile(self, chosen: NDArray[np.int64], place_nI: NDArray[np.int64], many: bool) -> tuple[Tile, float]:
        """The tile of some images (see `tiles.layout`), and how far rounding moved its vectors at most."""
        there_nI = place_nI >= 0
        first = self._offsets[chosen] - self.counts_U[chosen]
        rows_nI = np.where(there_nI, first + place_nI, -1)
        image_nI = np.broadcast_to(chosen, place_nI.shape)
        values = single(self.values_RM[rows_nI[there_nI]])
        exactly, spread = exact(values, single(self.own_UM[image_nI[there_nI]]))
        held, moved = rounded(exactly, many)
        row_nI = np.full(place_nI.shape, -1)
        row_nI[there_nI] = np.arange(len(exactly))
        spread_nI = np.zeros(place_nI.shape, np.float32)
        spread_nI[there_nI] = spread
        images, need = np.array(self.images_U[chosen]), np.zeros(len(chosen), np.int32)
        return Tile(images, need, picked(held, row_nI.reshape(-1)), rows_nI, spread_nI), moved


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
