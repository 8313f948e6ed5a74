"""Only the classes that do worst on validation are kept: a trial of WebVision 2020's winners that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import RecipeError

if TYPE_CHECKING:
    from smelt.mining.draft import Draft, Known

NEEDS = ("results", "selection")
READS = ("worst_classes", "worst_topk")


def lowest_classes(accuracy_C: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The `count` classes with the lowest accuracy, ascending; classes without images (NaN) are not among
    them. Of equals the lower class."""
    order = np.argsort(accuracy_C, kind="stable")
    order = order[~np.isnan(accuracy_C[order])]
    return np.sort(order[:count])


def select(draft: Draft, known: Known, *, worst_classes: int, worst_topk: int) -> dict[str, Any]:
    """Drop the rows of all other classes."""
    accuracy = known.accuracy(worst_topk)
    if accuracy is None:
        raise RecipeError("select: worst_classes needs dense results of the validation split (port results)")
    worst = lowest_classes(accuracy, worst_classes)
    draft.drop(~np.isin(draft.labels, worst), "other_class")
    return {"worst_classes": worst.tolist()}
