"""Results and labels as callers have them, checked before anything is computed with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.fusion.scores.inputs import Gathered, read_scores
from smelt.fusion.scores.sources import Held, Source

Results = Gathered | Mapping[str, Any] | Iterable[Any]


def as_sources(results: Results) -> list[Source]:
    """Sources, and results that were read, as they are; anything else as `read_scores` reads it: arrays of
    scores (N, C), by name where they are in a mapping, what they mean found. Raises as it does, with the
    shapes."""
    if isinstance(results, Gathered):
        return list(results.sources)
    if isinstance(results, Sequence) and results and all(isinstance(one, Source) for one in results):
        return list(results)
    results = results if isinstance(results, Mapping) or hasattr(results, "shape") else list(results)
    named = results.items() if isinstance(results, Mapping) else enumerate(results)
    shapes = {name: one.shape for name, one in named if isinstance(one, np.ndarray) and one.ndim == 2}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"results are of the same images and classes, these are not: {shapes}")
    return list(read_scores(results).sources)


def num_classes_of(sources: Sequence[Source]) -> int:
    """C, by the first image."""
    return int(sources[0].block(np.arange(1), "middle").shape[1])


def num_images_of(sources: Sequence[Source]) -> int:
    """N, of results in memory. TypeError for others, which do not know it."""
    known = [len(one) for one in sources if isinstance(one, Held)]
    if not known:
        raise TypeError("results in files do not say how many images they are of: use apply or top_classes")
    return known[0]


def as_labels(
    labels: ArrayLike | None, sources: Sequence[Source], num_classes: int
) -> NDArray[np.int32] | None:
    """Labels (N,), below 0 where unknown; None without any. ValueError for other shapes or numbers."""
    if labels is None:
        return None
    found = np.asarray(labels)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ValueError(f"labels are whole numbers (images,), not {found.dtype} {found.shape}")
    wrong = [one for one in sources if isinstance(one, Held) and len(one) != len(found)]
    if wrong:
        raise ValueError(f"{len(found)} labels, but {wrong[0].name} is of {len(wrong[0])} images")
    if len(found) and int(found.max()) >= num_classes:
        raise ValueError(f"labels are below the number of classes, {num_classes}, not {int(found.max())}")
    return found.astype(np.int32) if (found >= 0).any() else None
