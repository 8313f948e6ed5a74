"""Features of labelled rows, as the scores by features read them: in blocks, whitened, each sum made once.

What all of them need is one sum of D×D and the sums by class, so that a pass over the features is some
N · D² operations, and memory is that of some blocks, whatever N and C are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]
Block = NDArray[np.float32]
Done = TypeVar("Done")

BLOCK = 2048  # rows at a time: 10 MB of 1,280 features; also the order of the sums, so that it decides bits
# A direction in which features vary less than this share of the mean variance is not blown up to the size of
# the others: it is noise of the backbone. Any value from 0.1 to 1 ranks alike (docs/log.md)
SHRINKAGE = 0.3


class Labelled:
    """Features (N, D), any float type, memory-mapped ones too, of rows with labels (N,) in 0..C−1.

    A label of −1 and rows that are not `known_N` (their image could not be read) have no score: NaN.
    threads: that blocks are computed in; sums are added in the order of blocks, so the bits do not depend on
    it. ValueError or TypeError for other shapes or types.
    """

    def __init__(
        self,
        features_ND: ArrayLike,
        labels_N: ArrayLike,
        num_classes: int | None = None,
        *,
        known_N: ArrayLike | None = None,
        places_N: NDArray[np.int64] | None = None,
        threads: int = 1,
    ) -> None:
        """places_N: lines of `features_ND` that the labels (and `known_N`) are of; all unless given."""
        self._features = np.asanyarray(features_ND)
        self.labels = np.asarray(labels_N)
        _check(self._features, self.labels, places_N)
        self.num_classes = int(self.labels.max(initial=0)) + 1 if num_classes is None else num_classes
        usable = self.labels >= 0
        if known_N is not None:
            usable = usable & np.asarray(known_N, bool)
        self.usable = np.flatnonzero(usable)  # places among the labels that are computed with
        self.classes = self.labels[self.usable].astype(np.int64)  # (n,) of these
        if len(self.classes) and self.classes.max() >= self.num_classes:
            raise ValueError(f"a label is {self.classes.max()}, and there are {self.num_classes} classes")
        self._lines = self.usable if places_N is None else np.asarray(places_N)[self.usable]
        self.threads = max(1, threads)
        self.kept: dict[str, Any] = {}  # what several scores go by, made by the first

    @property
    def num_rows(self) -> int:
        """n: rows with a label and features."""
        return len(self.usable)

    @property
    def dim(self) -> int:
        """D."""
        return int(self._features.shape[1])

    def whole(self, values_n: NDArray[Any]) -> Floats:
        """Values of the usable rows for all rows, (N,) or (N, …): NaN for those that have none."""
        found = np.full((len(self.labels), *np.shape(values_n)[1:]), np.nan)
        found[self.usable] = values_n
        return found

    def starts(self) -> range:
        """Where the blocks of usable rows begin."""
        return range(0, self.num_rows, BLOCK)

    def raw(self, start: int) -> Block:
        """The features of the block of usable rows that begins at `start`, float32."""
        return np.asarray(self._features[self._lines[start : start + BLOCK]], np.float32)

    def each(self, work: Callable[[int], Done], starts: Iterable[int] | None = None) -> Iterator[Done]:
        """`work` of every block (its start), or of those that begin at `starts`, in order, in several
        threads, few of them ahead."""
        starts = self.starts() if starts is None else starts
        with threadpool_limits(1, user_api="blas"):
            if self.threads == 1:
                yield from map(work, starts)
                return
            with ThreadPoolExecutor(self.threads) as pool:
                waiting: deque[Future[Done]] = deque()
                for start in starts:
                    waiting.append(pool.submit(work, start))
                    if len(waiting) > 2 * self.threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(C,) usable rows of each class."""
        return np.bincount(self.classes, minlength=self.num_classes)

    @cached_property
    def mean(self) -> Floats:
        """(D,) mean of the features."""
        total = sum(self.each(lambda at: self.raw(at).sum(axis=0, dtype=np.float64)), np.zeros(self.dim))
        return np.asarray(total) / max(self.num_rows, 1)

    def centred(self, start: int) -> Block:
        """A block less the mean."""
        return self.raw(start) - self.mean.astype(np.float32)

    @cached_property
    def spectrum(self) -> tuple[Floats, Floats]:
        """(eigenvalues (D,), eigenvectors (D, D)) of the covariance of the features."""
        self.mean  # noqa: B018  (before the threads, of which each would make it)

        def product(start: int) -> Floats:
            block = self.centred(start)
            return (block.T @ block).astype(np.float64)

        total = np.zeros((self.dim, self.dim))
        for part in self.each(product):
            total += part
        values, vectors = np.linalg.eigh(total / max(self.num_rows, 1))
        return np.maximum(values, 0), vectors

    @cached_property
    def _whitening(self) -> NDArray[np.float32]:
        values, vectors = self.spectrum
        scale = np.sqrt(values + SHRINKAGE * max(float(values.mean()), 1e-30))
        return np.asarray(vectors / scale, np.float32)

    def whitened(self, start: int, directions: int | None = None) -> Block:
        """A block in the space in which all directions vary alike, its rows of length 1 (0 where they are the
        mean). The covariance is shrunk towards a multiple of the identity by `SHRINKAGE`. Of the directions
        those of the largest variance, all unless given."""
        whitening = self._whitening[:, -directions:] if directions else self._whitening
        block = self.centred(start) @ whitening
        length = np.linalg.norm(block, axis=1, keepdims=True)
        return np.asarray(block / np.where(length > 0, length, 1), np.float32)

    def by_class(self, block: Callable[[int], Block]) -> Floats:
        """(C, D) sums over the rows of each class of what `block` gives."""

        def part(start: int) -> tuple[NDArray[np.int64], Floats]:
            there, codes = np.unique(self.classes[start : start + BLOCK], return_inverse=True)
            chosen = np.zeros((len(there), len(codes)), np.float32)
            chosen[codes, np.arange(len(codes))] = 1
            return there, (chosen @ block(start)).astype(np.float64)

        total = np.zeros((self.num_classes, self.dim))
        for there, sums in self.each(part):
            total[there] += sums
        return total


def margins(scores_BC: NDArray[Any], labels_B: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """(score of the label − largest other (B,), class of that other (B,)); among equals the lower class."""
    at = np.arange(len(labels_B))
    others = np.array(scores_BC, np.float64)
    own = others[at, labels_B].copy()
    others[at, labels_B] = -np.inf
    other = others.argmax(axis=1)
    return own - others[at, other], other


def _check(features: NDArray[Any], labels: NDArray[Any], places_N: NDArray[np.int64] | None) -> None:
    if features.ndim != 2 or features.dtype.kind != "f":
        raise TypeError(f"features must be floats (N, D), not {features.dtype} {features.shape}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be whole numbers (N,), not {labels.dtype} {labels.shape}")
    lines = len(features) if places_N is None else len(places_N)
    if lines != len(labels):
        raise ValueError(f"features of {lines} rows and labels ({len(labels)},) must be of one length")
