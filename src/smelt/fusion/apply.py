"""A fusion, once chosen: applied to results block by block, whatever their number.

Writes the lists of the best classes, and the fused scores where they are wanted as a teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ArtifactError
from smelt.fusion.config import Method, Pooling
from smelt.fusion.given import Results, as_sources, num_classes_of, num_images_of
from smelt.fusion.scores.reference import normalised, single
from smelt.fusion.scores.sources import Pool, Source
from smelt.metrics import before_label, top_lists

ELEMENTS = 1 << 22  # scores of one result in memory at once
JUDGED = 1 << 21  # the same where hits are all that is kept


@dataclass(frozen=True)
class Fusion:
    """Weights of M results under a pooling; temperatures for the pooling "probability" only.

    class_weights, biases: (M, C) and (C,), of logarithms of probabilities. Where they are there they are what
    counts, as they are; `weights` then tells their means, with sum 1. penalty: that they were fitted with.
    """

    method: Method
    pooling: Pooling
    weights: tuple[float, ...]
    shrinkage: float = 0.0
    temperatures: tuple[float, ...] | None = None
    class_weights: tuple[tuple[float, ...], ...] | None = None
    biases: tuple[float, ...] | None = None
    penalty: float | None = None

    @property
    def summed(self) -> bool:
        """Whether it is one weight a result times values as they are pooled, as a table knows them."""
        return self.temperatures is None and self.class_weights is None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Fusion:
        """What `to_json` gave; ArtifactError if it is not that."""

        def frozen(found: Any) -> Any:
            return tuple(map(frozen, found)) if isinstance(found, list) else found

        try:
            return cls(**{one.name: frozen(value[one.name]) for one in fields(cls) if one.name in value})
        except TypeError as error:
            raise ArtifactError(f"not a fusion: {error}") from error

    def fitting(self, num_results: int, num_classes: int | None) -> bool:
        """Whether it is one of so many results and classes (None: unknown)."""
        found = len(self.weights) == len(self.temperatures or self.weights) == num_results
        if self.class_weights is None or self.biases is None:
            both = self.class_weights is None and self.biases is None
            return found and both and self.method != "stacking"
        width = len(self.biases) if num_classes is None else num_classes
        return (
            found
            and self.pooling == "log_probability"
            and self.temperatures is None
            and len(self.class_weights) == num_results
            and {len(self.biases), *map(len, self.class_weights)} == {width}
        )

    def scores(self, results: Results) -> NDArray[np.float32]:
        """The fused scores (N, C) of M results in the fusion's order, arrays or sources (see `arrays`)."""
        sources = self._suiting(results)
        return np.concatenate([block for _, block in apply(self, sources, num_images_of(sources))])

    def top(self, results: Results, k: int = 5) -> NDArray[np.int32]:
        """The k best classes of each image, most confident first, (N, min(k, C))."""
        sources = self._suiting(results)
        return top_classes(self, sources, num_images_of(sources), k)

    def _suiting(self, results: Results) -> list[Source]:
        sources = as_sources(results)
        if not self.fitting(len(sources), num_classes_of(sources)):
            of_classes = "" if self.class_weights is None else f" of {len(self.biases or ())} classes"
            raise ValueError(
                f"a fusion of {len(self.weights)} results{of_classes}, not of {len(sources)} of "
                f"{num_classes_of(sources)} classes"
            )
        return sources

    def pool(self, sources: Sequence[Source]) -> Pool:
        """The results as this fusion pools them."""
        assert len(sources) == len(self.weights), (len(sources), len(self.weights))
        return Pool(sources, self.pooling, self.temperatures, normalised=self.class_weights is not None)

    @property
    def factors(self) -> NDArray[np.float32]:
        """What each result's values are multiplied by: (M, 1), or (M, C) where classes have weights."""
        if self.class_weights is None:
            return normalised(self.weights)[:, None]
        return np.asarray(self.class_weights, np.float32)


def apply_all(
    fusions: Sequence[Fusion], sources: Sequence[Source], num_images: int
) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.float32]]]]:
    """Lines (B,) and each fusion's scores (B, C) of block after block of images, as the reference sums them.

    Every result is read once for all fusions, a block at a time.
    """
    for fusion in fusions:
        fusion.pool(sources).refuse_cut()
    step, start = 1, 0
    while start < num_images:
        lines = np.arange(start, min(start + step, num_images))
        scores = fused_lines(fusions, sources, lines)
        yield lines, scores
        start += len(lines)
        step = max(1, ELEMENTS // (scores[0].shape[1] * len(fusions)))


def apply(
    fusion: Fusion, sources: Sequence[Source], num_images: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Lines (B,) and fused scores (B, C) of block after block of images."""
    for lines, (scores,) in apply_all([fusion], sources, num_images):
        yield lines, scores


def fused_lines(
    fusions: Sequence[Fusion], sources: Sequence[Source], lines: NDArray[np.int64]
) -> list[NDArray[np.float32]]:
    """Each fusion's scores (B, C) of the images at `lines`: results in their order, see `reference`; weights
    of classes and biases are float32, the bias is added last."""
    pools = [fusion.pool(sources) for fusion in fusions]
    factors = [fusion.factors for fusion in fusions]
    counts = [[bool(row.any()) for row in factor] for factor in factors]
    sums: list[NDArray[np.float32] | None] = [None] * len(fusions)
    for index in range(len(sources)):
        values: dict[tuple[Pooling, float, bool], NDArray[np.float32]] = {}
        for place, (fusion, pool) in enumerate(zip(fusions, pools)):
            if not counts[place][index]:
                continue  # it would add exactly nothing
            temperature = fusion.temperatures[index] if fusion.temperatures else 1.0
            key = (fusion.pooling, temperature, pool.normalised)
            if key not in values:
                values[key] = single(pool.guess(index, lines))
            before, part = sums[place], factors[place][index] * values[key]
            sums[place] = part if before is None else np.add(before, part, out=before)
    return [_biased(fusion, scores, len(lines)) for fusion, scores in zip(fusions, sums)]


def _biased(fusion: Fusion, scores_BC: NDArray[np.float32] | None, size: int) -> NDArray[np.float32]:
    if fusion.biases is None:
        assert scores_BC is not None, "some weight is above 0"
        return scores_BC
    biases = np.asarray(fusion.biases, np.float32)
    if scores_BC is None:  # every weight of every class is 0
        return np.repeat(biases[None], size, axis=0)
    return np.add(scores_BC, biases, out=scores_BC)


def top_classes_of_all(
    fusions: Sequence[Fusion], sources: Sequence[Source], num_images: int, k: int = 5
) -> list[NDArray[np.int32]]:
    """For each fusion the k best classes of each image, most confident first, (N, min(k, C))."""
    lists: list[list[NDArray[np.int32]]] = [[np.empty((0, k), np.int32)] for _ in fusions]
    for _, scores in apply_all(fusions, sources, num_images):
        for blocks, scores_BC in zip(lists, scores):
            best = top_lists(scores_BC, k).astype(np.int32)
            blocks.append(best)
            blocks[0] = blocks[0][:, : best.shape[1]]
    return [np.concatenate(blocks) for blocks in lists]


def top_classes(fusion: Fusion, sources: Sequence[Source], num_images: int, k: int = 5) -> NDArray[np.int32]:
    """The k best classes of each image, most confident first, (N, min(k, C))."""
    (lists_NK,) = top_classes_of_all([fusion], sources, num_images, k)
    return lists_NK


def hits_of(
    fusions: Sequence[Fusion],
    sources: Sequence[Source],
    labels_N: NDArray[np.integer],
    lines: NDArray[np.int64],
    ks: Sequence[int],
) -> dict[int, NDArray[np.bool_]]:
    """k → hits (F, n) of F fusions on the n images at `lines`: everything is evaluated, scores read once."""
    found: dict[int, list[list[NDArray[np.bool_]]]] = {k: [[] for _ in fusions] for k in ks}
    num_classes = sources[0].block(lines[:1], "middle").shape[1]
    step = max(1, JUDGED // (num_classes * len(fusions)))
    for start in range(0, len(lines), step):
        part = lines[start : start + step]
        for row, scores_BC in enumerate(fused_lines(fusions, sources, part)):
            before = before_label(scores_BC, np.asarray(labels_N)[part])
            for k in ks:
                found[k][row].append(before < k)
    return {k: np.stack([np.concatenate(row) for row in rows]) for k, rows in found.items()}


def plain_hits(
    fusion: Fusion,
    sources: Sequence[Source],
    labels_N: NDArray[np.integer],
    lines: NDArray[np.int64],
    ks: Sequence[int],
) -> dict[int, NDArray[np.bool_]]:
    """k → hits (n,) of one fusion on the images at `lines`."""
    return {k: hits[0] for k, hits in hits_of([fusion], sources, labels_N, lines, ks).items()}
