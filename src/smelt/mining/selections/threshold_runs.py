"""Some rows get an extra class, as threshold samples of a training: the step before `threshold_samples`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import DataError

if TYPE_CHECKING:
    from smelt.mining.draft import Draft, Known

NEEDS = ()
READS = ("part", "seed")
THRESHOLD_SAMPLE = "threshold_sample"


def threshold_rows(
    rows: NDArray[np.int64], num_classes: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two disjoint random sets of N/(C + 1) of the N rows each, ascending (Pleiss et al. 2020, section 4).

    Raises DataError when there are too few rows.
    """
    size = len(rows) // (num_classes + 1)
    if size < 1:
        raise DataError(
            f"threshold samples need more rows than classes: {len(rows)} rows, {num_classes} classes"
        )
    shuffled = np.random.default_rng([seed, 0xA0A0]).permutation(np.sort(rows))
    return np.sort(shuffled[:size]), np.sort(shuffled[size : 2 * size])


def select(draft: Draft, known: Known, *, part: int, seed: int) -> dict[str, Any]:
    """Give the rows of one of the two sets the extra class."""
    rows = threshold_rows(draft.rows[draft.kept], draft.num_classes, seed)[part]
    draft.relabel(draft.mask_of(rows), draft.num_classes, THRESHOLD_SAMPLE)
    return {"part": part, "threshold_samples": len(rows)}
