"""The least clean share of the rows is flagged: what the winners of WebVision 2020 did, with 0.2 by AUM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from smelt.mining.draft import Draft, Known

NEEDS = ("ranking", "selection")
READS = ("fraction", "within")


def lowest(
    cleanness_N: NDArray[np.float64],
    among_N: NDArray[np.bool_],
    fraction: float,
    groups_N: NDArray[np.int32] | None = None,
) -> NDArray[np.bool_]:
    """The least clean `fraction` (rounded down) of the rows `among_N` that have a score, of all or of each
    group. Of equal scores the earlier row goes first."""
    places = np.flatnonzero(among_N & ~np.isnan(cleanness_N))
    groups = np.zeros(len(places), np.int32) if groups_N is None else groups_N[places]
    order = np.lexsort((places, cleanness_N[places], groups))
    sizes = np.bincount(groups, minlength=1)
    position = np.arange(len(places)) - (np.cumsum(sizes) - sizes)[groups[order]]
    # the small term keeps 0.2 · 35 at 7
    limit = np.floor(fraction * sizes + 1e-9)[groups[order]]
    mask = np.zeros(len(cleanness_N), bool)
    mask[places[order[position < limit]]] = True
    return mask


def select(draft: Draft, known: Known, *, fraction: float, within: str) -> dict[str, Any]:
    """Flag the least clean share of the rows that are left, of all or within each class."""
    cleanness = known.cleanness("lowest_fraction")
    draft.flag(lowest(cleanness, draft.kept, fraction, draft.groups(within)), cleanness)
    return {"fraction": fraction}
