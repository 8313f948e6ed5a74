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
from smelt.fusion.reference import fused, normalised
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


def apply(
    fusion: Fusion, sources: Sequence[Source], num_images: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Lines (B,) and fused scores (B, C) of block after block of images, as the reference sums them.

    One result's block is in memory at a time. Results without weight are not read.
    """
    pool = fusion.pool(sources)
    pool.refuse_cut()
    weights = normalised(fusion.weights)
    step, start = 1, 0
    while start < num_images:
        lines = np.arange(start, min(start + step, num_images))
        scores = fused_lines(pool, weights, lines)
        yield lines, scores
        start += len(lines)
        step = max(1, ELEMENTS // scores.shape[1])


def fused_lines(pool: Pool, weights_M: NDArray[np.float32], lines: NDArray[np.int64]) -> NDArray[np.float32]:
    """Fused scores (B, C) of the images at `lines`; results without weight add exactly nothing, unread."""
    used = np.flatnonzero(weights_M)
    scores = fused(pool.guess(int(used[0]), lines)[None], weights_M[used[:1]])
    for index in used[1:]:
        scores += fused(pool.guess(int(index), lines)[None], weights_M[index : index + 1])
    return scores


def top_classes(fusion: Fusion, sources: Sequence[Source], num_images: int, k: int = 5) -> NDArray[np.int32]:
    """The k best classes of each image, most confident first, (N, k)."""
    blocks = [top_lists(scores, k) for _, scores in apply(fusion, sources, num_images)]
    return np.concatenate(blocks).astype(np.int32) if blocks else np.empty((0, k), np.int32)


def plain_hits(
    fusion: Fusion, sources: Sequence[Source], labels_N: NDArray[np.integer], lines: NDArray[np.int64],
    ks: Sequence[int],
) -> dict[int, NDArray[np.bool_]]:  # fmt: skip
    """Hits of the images at `lines` for each k, by evaluating everything."""
    pool, weights = fusion.pool(sources), normalised(fusion.weights)
    found: dict[int, list[NDArray[np.bool_]]] = {k: [] for k in ks}
    for block in np.array_split(lines, max(1, len(lines) // 256)):
        scores = fused_lines(pool, weights, block)
        for k in ks:
            found[k].append(hits_topk(scores, labels_N[block], k))
    return {k: np.concatenate(parts) for k, parts in found.items()}
