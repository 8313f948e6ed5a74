"""The tables of one fusion, for each pooling: built when asked for, dropped when memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.config import FuseSettings, Pooling
from smelt.fusion.exact.build import Wanted, build_all
from smelt.fusion.exact.candidates import Store
from smelt.fusion.exact.hits import Table, tables_of
from smelt.fusion.scores.sources import Pool, Source

Emit = Callable[..., None]
RESIDENT = 2  # tables of this many poolings may be in memory at once, each up to `memory_gib`


class Tables:
    """Tables of M results for N labelled images; stores stay on disk (or in memory, without a folder).

    ks: what each of them knows hits for, the metric's k first. pessimistic: which end of cut scores is taken,
    see `sources`. parts_N: the part of each image, see `Table.part`; set before the first table is asked for.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        labels_N: NDArray[np.int32],
        settings: FuseSettings,
        *,
        ks: tuple[int, ...] | None = None,
        folder: Path | None,
        workers: int = 1,
        fingerprint: str = "",
        pessimistic: bool = True,
        emit: Emit = lambda event, **fields: None,
    ) -> None:
        self.sources, self.labels_N, self.settings = sources, labels_N, settings
        self.ks = (settings.k,) if ks is None else ks
        self.folder, self.workers, self.fingerprint = folder, workers, fingerprint
        self.pessimistic, self.emit = pessimistic, emit
        self.parts_N: NDArray[np.integer] = np.zeros(len(labels_N), np.int64)
        self._stores: dict[Pooling, Store] = {}
        self._tables: dict[Pooling, dict[int, Table]] = {}  # the least recently used first

    def prepare(self, poolings: Iterable[Pooling]) -> None:
        """Build the stores of these poolings that are not there yet, in one pass over the results."""
        missing = [pooling for pooling in dict.fromkeys(poolings) if pooling not in self._stores]
        if not missing:
            return
        side = "low" if self.pessimistic else "high"
        wanted = [
            Wanted(
                Pool(self.sources, pooling, pessimistic=self.pessimistic), self.ks, self.settings.bound,
                None if self.folder is None else self.folder / f"{pooling}-{side}",
                f"{self.fingerprint} {pooling} {side}",
            )
            for pooling in missing
        ]  # fmt: skip
        of_ks = " and ".join(f"top-{k}" for k in self.ks)
        text = f"table of candidates, {of_ks}: " + ", ".join(pooling.replace("_", " ") for pooling in missing)
        stores = build_all(
            wanted,
            self.labels_N,
            memory_gib=self.settings.memory_gib,
            workers=self.workers,
            progress=lambda done, total: self.emit(
                "progress", done=done, total=total, unit="images", text=text
            ),
        )
        self._stores.update(zip(missing, stores))

    def store(self, pooling: Pooling) -> Store:
        """The candidates under a pooling."""
        self.prepare([pooling])
        return self._stores[pooling]

    def __getitem__(self, key: tuple[Pooling, int]) -> Table:
        pooling, k = key
        found = self._tables.pop(pooling, None)
        if found is None:
            while len(self._tables) >= RESIDENT:
                self._tables.pop(next(iter(self._tables)))
            found = tables_of(self.store(pooling), self.labels_N, parts_N=self.parts_N)
        self._tables[pooling] = found
        return found[k]
