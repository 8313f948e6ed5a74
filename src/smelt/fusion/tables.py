"""The tables of one fusion, for each pooling and k: built when asked for, dropped when memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.candidates import Wanted, build_all
from smelt.fusion.config import FuseSettings, Pooling
from smelt.fusion.sources import Pool, Source
from smelt.fusion.store import Store
from smelt.fusion.table import Table

Emit = Callable[..., None]


class Tables:
    """Tables of M results for N labelled images; stores stay on disk (or in memory, without a folder).

    pessimistic: which end of cut scores is taken, see `sources`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        labels_N: NDArray[np.int32],
        settings: FuseSettings,
        *,
        folder: Path | None,
        workers: int = 1,
        fingerprint: str = "",
        pessimistic: bool = True,
        emit: Emit = lambda event, **fields: None,
    ) -> None:
        self.sources, self.labels_N, self.settings = sources, labels_N, settings
        self.folder, self.workers, self.fingerprint = folder, workers, fingerprint
        self.pessimistic, self.emit = pessimistic, emit
        self._stores: dict[tuple[Pooling, int], Store] = {}
        self._tables: dict[tuple[Pooling, int], Table] = {}  # the least recently used first

    def prepare(self, keys: Iterable[tuple[Pooling, int]]) -> None:
        """Build the stores of these poolings and ks that are not there yet, in one pass over the results."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._stores]
        if not missing:
            return
        side = "low" if self.pessimistic else "high"
        pools = {pooling: Pool(self.sources, pooling, pessimistic=self.pessimistic) for pooling, _ in missing}
        wanted = [
            Wanted(
                pools[pooling], k, self.settings.bound,
                None if self.folder is None else self.folder / f"{pooling}-{k}-{side}",
                f"{self.fingerprint} {pooling} {side}",
            )
            for pooling, k in missing
        ]  # fmt: skip
        text = "table " + ", ".join(f"{pooling} top-{k}" for pooling, k in missing)
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

    def store(self, pooling: Pooling, k: int) -> Store:
        """The candidates under a pooling for top-k."""
        self.prepare([(pooling, k)])
        return self._stores[pooling, k]

    def __getitem__(self, key: tuple[Pooling, int]) -> Table:
        table = self._tables.pop(key, None)
        if table is None:
            table = self.store(*key).table(self.labels_N)
            room = self.settings.memory_gib * 2**30 - table.bytes
            while self._tables and sum(other.bytes for other in self._tables.values()) > room:
                self._tables.pop(next(iter(self._tables)))
        self._tables[key] = table
        return table
