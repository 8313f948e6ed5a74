"""Results that cannot help: constant, no better than guessing, or without one best class.

They are named, and left out of the fusion unless the user insists (`fuse.set_aside: false`). A result at
chance beside others that are not has most often its classes or its rows in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.scores.sources import Source
from smelt.metrics import class_averaged, hits_topk

ELEMENTS = 1 << 20  # scores that are looked at, and
IMAGES = 2000  # images at least; of larger problems a sample of the images
BLOCK = 1 << 22  # scores at once
MANY = 0.2  # share of images whose best score is shared from which on a result has many ties
CERTAIN = 3.0  # standard errors that an accuracy must be above chance


@dataclass(frozen=True)
class Look:
    """What a result looks like on a sample of images. accuracy: top-1, class-averaged; NaN without labels."""

    constant: bool
    same: bool
    tied: float
    accuracy: float


def look(
    source: Source, lines: NDArray[np.int64], labels_N: NDArray[np.integer] | None, num_classes: int
) -> Look:
    """Read the scores of the images at `lines`, a block of images at a time."""
    tied, flat, same = 0, 0, True
    first: NDArray[np.float32] | None = None
    hits: list[NDArray[np.bool_]] = []
    for part in np.split(lines, range(step := max(1, BLOCK // num_classes), len(lines), step)):
        scores = np.asarray(source.block(part, "middle"), np.float32)
        first = scores[:1].copy() if first is None else first
        best = scores.max(axis=1, keepdims=True)
        tied += int(((scores == best).sum(axis=1) > 1).sum())
        flat += int((scores.min(axis=1) == best[:, 0]).sum())
        same &= bool((scores == first).all())
        if labels_N is not None:
            hits.append(hits_topk(scores, labels_N[part], 1))
    right = float("nan") if labels_N is None else class_averaged(np.concatenate(hits), labels_N[lines])
    return Look(flat == len(lines), same and len(lines) > 1, tied / len(lines), right)


def screened(
    sources: Sequence[Source],
    labels_N: NDArray[np.integer] | None,
    num_images: int,
    num_classes: int,
    groups_N: NDArray[np.integer] | None = None,
) -> dict[int, str]:
    """Number of a result → why it cannot help, in words. Labels below 0 are unknown; copies of one image,
    which share a group, count as one in how sure an accuracy is."""
    labels_N = None if labels_N is None else np.asarray(labels_N)
    known = np.arange(num_images) if labels_N is None else np.flatnonzero(labels_N >= 0)
    most = max(IMAGES, ELEMENTS // max(1, len(sources) * num_classes))
    if len(known) > most:
        known = known[np.unique(np.linspace(0, len(known) - 1, most).astype(np.int64))]
    if num_classes < 2 or not len(known):
        return {}
    seen = [look(source, known, labels_N, num_classes) for source in sources]
    reasons: dict[int, str] = {}
    guess, error = _chance(labels_N, known, num_classes, groups_N)
    best = max((one.accuracy for one in seen if one.accuracy == one.accuracy), default=0.0)
    for place, one in enumerate(seen):
        if one.constant:
            reasons[place] = "all its scores of an image are equal"
        elif one.same:
            reasons[place] = "it gives every image the same scores"
        elif one.tied > MANY:
            reasons[place] = f"its best score is shared by several classes on {one.tied:.0%} of the images"
        elif one.accuracy <= guess + CERTAIN * error and best > guess + 2 * CERTAIN * error:
            reasons[place] = (
                f"alone it is right on {one.accuracy:.1%} of the labelled images, chance is {guess:.1%} and "
                f"the best result has {best:.1%}: most often its classes or its rows are in another order"
            )
    return reasons


def _chance(
    labels_N: NDArray[np.integer] | None,
    lines: NDArray[np.int64],
    num_classes: int,
    groups_N: NDArray[np.integer] | None,
) -> tuple[float, float]:
    """Class-averaged top-1 accuracy of guessing, and its standard error."""
    guess = 1 / num_classes
    if labels_N is None:
        return guess, 0.0
    groups = lines if groups_N is None else groups_N[lines]
    different = np.unique(np.stack([labels_N[lines], groups]), axis=1)
    counts = np.unique(different[0], return_counts=True)[1]
    # the mean over the classes present of means over each one's images
    error = float(np.sqrt(guess * (1 - guess) * (1 / counts).sum()) / max(1, len(counts)))
    return guess, error
