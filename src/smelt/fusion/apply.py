"""A fusion, once chosen: applied to results block by block, whatever their number.

Writes the lists of the best classes, and the fused scores where they are wanted as a teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ArtifactError
from smelt.fusion.config import Method, Pooling
from smelt.fusion.reference import normalised, single
from smelt.fusion.sources import Pool, Source
from smelt.metrics import hits_topk, top_lists

ELEMENTS = 1 << 22  # scores of one result in memory at once


@dataclass(frozen=True)
class Fusion:
    """Weights of M results under a pooling; temperatures for the pooling "probability" only."""

    method: Method
    pooling: Pooling
    weights: tuple[float, ...]
    shrinkage: float = 0.0
    temperatures: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Fusion:
        """What `to_json` gave; ArtifactError if it is not that."""
        try:
            heat = value.get("temperatures")
            return cls(
                value["method"], value["pooling"], tuple(value["weights"]), value["shrinkage"],
                None if heat is None else tuple(heat),
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"not a fusion: {error!r}") from error

    def pool(self, sources: Sequence[Source]) -> Pool:
        """The results as this fusion pools them."""
        assert len(sources) == len(self.weights), (len(sources), len(self.weights))
        return Pool(sources, self.pooling, self.temperatures)


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
    """Each fusion's scores (B, C) of the images at `lines`."""
    pools = [fusion.pool(sources) for fusion in fusions]
    weights_FM = np.stack([normalised(fusion.weights) for fusion in fusions])
    sums: list[NDArray[np.float32] | None] = [None] * len(fusions)
    for index in np.flatnonzero(weights_FM.any(axis=0)):
        values: dict[tuple[Pooling, float], NDArray[np.float32]] = {}
        for place, (fusion, pool) in enumerate(zip(fusions, pools)):
            weight = weights_FM[place, index]
            if weight == 0:
                continue  # it would add exactly nothing
            key = (fusion.pooling, fusion.temperatures[index] if fusion.temperatures else 1.0)
            if key not in values:
                values[key] = single(pool.guess(int(index), lines))
            before, part = sums[place], weight * values[key]
            sums[place] = part if before is None else np.add(before, part, out=before)
    return [scores for scores in sums if scores is not None]


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


def plain_hits(
    fusion: Fusion, sources: Sequence[Source], labels_N: NDArray[np.integer], lines: NDArray[np.int64],
    ks: Sequence[int],
) -> dict[int, NDArray[np.bool_]]:  # fmt: skip
    """Hits of the images at `lines` for each k, by evaluating everything."""
    found: dict[int, list[NDArray[np.bool_]]] = {k: [] for k in ks}
    for block in np.array_split(lines, max(1, len(lines) // 256)):
        (scores,) = fused_lines([fusion], sources, block)
        for k in ks:
            found[k].append(hits_topk(scores, labels_N[block], k))
    return {k: np.concatenate(parts) for k, parts in found.items()}
