"""Results and labels as callers have them, checked before anything is computed with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.artifacts.results import Kind
from smelt.fusion.scores.sources import Held, Source

SUMS = 1e-2  # how far from 1 the sum of an image's probabilities may be


class Read(Protocol):
    """Results that were read, with their labels: what `read_scores` gives."""

    sources: Sequence[Source]
    num_classes: int
    labels_N: NDArray[np.int32] | None


Results = Mapping[str, ArrayLike] | Iterable[ArrayLike | Source] | Read


def as_sources(results: Results) -> list[Source]:
    """Results in the order given, as they were read or arrays of scores (N, C) among them: logits, or
    probabilities where none is below 0 and those of each image sum to 1. Their names are a mapping's keys, or
    r0, r1, …

    TypeError for what holds no numbers, ValueError for other shapes; both name the result.
    """
    given: Any = getattr(results, "sources", results)
    named = given.items() if isinstance(given, Mapping) else ((f"r{m}", x) for m, x in enumerate(given))
    sources, shapes = list[Source](), dict[str, tuple[int, ...]]()
    for name, one in named:
        if isinstance(one, Source):
            sources.append(one)
            continue
        scores = np.asarray(one)
        if scores.dtype.kind not in "fiu":
            raise TypeError(f"result {name}: scores are numbers, not {scores.dtype}")
        if scores.ndim != 2 or not scores.shape[1]:
            raise ValueError(f"result {name}: scores are (images, classes), not {scores.shape}")
        shapes[name] = scores.shape
        sources.append(_held(str(name), scores))
    if not sources:
        raise ValueError("there are no results")
    if len(set(shapes.values())) > 1:
        raise ValueError(f"results are of the same images and classes, these are not: {shapes}")
    return sources


def _held(name: str, scores_NC: NDArray[Any]) -> Held:
    scores = scores_NC if scores_NC.dtype in (np.float16, np.float32) else scores_NC.astype(np.float32)
    sums = scores.sum(axis=1, dtype=np.float64)
    chances = bool((scores >= 0).all()) and bool((np.abs(sums - 1) <= SUMS).all())
    kind: Kind = "probabilities" if chances and len(scores) else "logits"
    return Held(name, kind, scores, scores.shape[1])


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
    wrong = [one.name for one in sources if isinstance(one, Held) and len(one) != len(found)]
    if wrong:
        raise ValueError(f"{len(found)} labels, but {wrong[0]} is of another number of images")
    if len(found) and int(found.max()) >= num_classes:
        raise ValueError(f"labels are below the number of classes, {num_classes}, not {int(found.max())}")
    return found.astype(np.int32) if (found >= 0).any() else None
