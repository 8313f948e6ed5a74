"""Stores and tables of one pooling, for the tests of fusion."""

from __future__ import annotations

from typing import Any

import numpy as np

from smelt.fusion.exact.build import Wanted, build_all
from smelt.fusion.exact.candidates import Store
from smelt.fusion.exact.hits import Table, tables_of
from smelt.fusion.scores.sources import Pool


def build(
    pool: Pool,
    labels_N: np.ndarray,
    k: int,
    *,
    bound: float | None = None,
    folder: Any = None,
    fingerprint: str = "",
    **rest: Any,
) -> Store:
    """The candidates of one pooling for one k."""
    return build_all([Wanted(pool, (k,), bound, folder, fingerprint)], labels_N, **rest)[0]


def table_of(store: Store, labels_N: np.ndarray, threads: int = 0, k: int | None = None) -> Table:
    """The table of all candidates for one k (None: the first)."""
    return tables_of(store, labels_N, threads)[store.ks[0] if k is None else k]
