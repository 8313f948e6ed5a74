"""Probabilities of logits, worked out where they are asked for.

    p_c = exp(fl(fl(l_c / T) − n)),  n = log Σ exp(l / T)        in float32, element by element

Given a row's normaliser n, a probability depends on its own logit alone. So a table of candidates needs no
N × C probabilities: it compares logits, with a margin for what rounding may do, and takes the exponential of
what remains; and normalisers only of the images that comparing does not settle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.scores.reference import rounding, single, widened

CACHED = 1 << 17  # scores worked on at once: in the cache
NARROW = 32  # classes below which numpy is slow at reductions of rows
DEEP = -80.0  # logarithms of probabilities below which underflow is near: nothing is told by logits there


@dataclass(frozen=True)
class Softened:
    """Probabilities (B, C) of logits (B, C) over a temperature. Normalisers are found when they are needed,
    so the logits must still be there then."""

    logits_BC: NDArray[Any]
    temperature: float = 1.0
    _known_B: NDArray[np.float32] = field(repr=False, default_factory=lambda: np.empty(0, np.float32))

    @property
    def normaliser_B(self) -> NDArray[np.float32]:
        """As in `normaliser`, of all images."""
        if len(self._known_B) != len(self.logits_BC) or np.isnan(self._known_B).any():
            object.__setattr__(self, "_known_B", normaliser(self.logits_BC, self.temperature))
        return self._known_B

    def normalisers(self, images: NDArray[np.int64]) -> NDArray[np.float32]:
        """As in `normaliser`, of the images at `images`, in any order and any number of times."""
        if len(self._known_B) != len(self.logits_BC):
            object.__setattr__(self, "_known_B", np.full(len(self.logits_BC), np.nan, np.float32))
        found = self._known_B[images]
        missing = np.isnan(found)
        if missing.any():
            rows = np.unique(images[missing])
            if 2 * len(rows) > len(self.logits_BC):  # picking rows costs a good part of what they cost
                self._known_B[:] = normaliser(self.logits_BC, self.temperature)
            else:
                self._known_B[rows] = normaliser(self.logits_BC[rows], self.temperature)
            found = self._known_B[images]
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, C)."""
        return self.logits_BC.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Of the probabilities."""
        return np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        """What is held."""
        return int(self.logits_BC.nbytes)

    def of(self, logits: NDArray[Any], images: NDArray[np.int64]) -> NDArray[np.float32]:
        """Probabilities of single logits of the images at `images`."""
        values = np.array(single(logits), np.float32)
        if self.temperature != 1.0:
            values /= np.float32(self.temperature)
        values -= self.normalisers(images)
        return np.exp(values, out=values)

    def lowest(self, own_B: NDArray[Any], num_results: int) -> NDArray[np.float32]:
        """Logits (B,) below which a class cannot come up to the label in a sum of `num_results` results,
        neither of these probabilities nor of the logits themselves.

        own_B: the label's. −inf where its probability is so small that underflow may tie it with any.
        """
        own = single(own_B)
        error = 2.1 * rounding(num_results)
        reach = self.temperature * (error + 2e-5) + (error + 2.0**-20) * np.abs(own)
        # a normaliser is at most this
        most = largest(self.logits_BC) / np.float32(self.temperature) + np.float32(log(self.shape[1]) + 1e-3)
        deep = own / np.float32(self.temperature) - most < DEEP
        return np.asarray(np.where(deep, -np.inf, own - reach), np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.float32]:
        dense = probabilities(self.logits_BC, self.normaliser_B, self.temperature)
        return dense if dtype is None else dense.astype(dtype, copy=False)


@dataclass(frozen=True)
class SoftenedLabels:
    """The labels' values (M, B) under M results: worked out for the images that are asked for.

    own: of each result the values (B,), or the probabilities of all classes. kind: of the values.
    """

    own: list[NDArray[Any] | Softened]
    labels_B: NDArray[np.int64]
    kind: np.dtype[Any]

    @property
    def lazy(self) -> bool:
        """Whether anything has to be worked out."""
        return any(isinstance(one, Softened) for one in self.own)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.kind

    @property
    def shape(self) -> tuple[int, int]:
        """(M, B)."""
        return len(self.own), len(self.labels_B)

    def __getitem__(self, index: tuple[slice, NDArray[np.int64]]) -> NDArray[Any]:
        """Of all results, the images at `index[1]`."""
        images = index[1]
        found = np.empty((len(self.own), len(images)), self.kind)
        for row, one in zip(found, self.own):
            if isinstance(one, Softened):
                row[:] = one.of(one.logits_BC[images, self.labels_B[images]], images)
            else:
                row[:] = one[images]
        return found


def largest(logits_BC: NDArray[Any]) -> NDArray[np.float32]:
    """The largest logit (B,) of each image; float16 by its bits, which order as integers do."""
    if logits_BC.dtype != np.float16 or not logits_BC.flags.c_contiguous:
        return np.asarray(logits_BC.max(axis=1), np.float32)
    bits = logits_BC.view(np.int16).max(axis=1)
    below = np.flatnonzero(bits < 0)  # all are negative: the one with the smallest magnitude
    bits[below] = logits_BC[below].view(np.uint16).min(axis=1).view(np.int16)
    return np.asarray(bits.view(np.float16).astype(np.float32))


def softmax(logits_BC: NDArray[Any], temperature: float = 1.0) -> NDArray[np.float32]:
    """The same, all worked out, (B, C)."""
    return probabilities(logits_BC, normaliser(logits_BC, temperature), temperature)


def normaliser(logits_BC: NDArray[Any], temperature: float = 1.0) -> NDArray[np.float32]:
    """log Σ_c exp(l_c / T), (B,). A row's are the same bits whatever rows are beside it."""
    size, classes = logits_BC.shape
    found_B = np.empty(size, np.float32)
    step = max(1, CACHED // max(1, classes))
    few = classes < NARROW  # they are summed one after the other, in any memory order
    room = np.empty_like(logits_BC[:step], np.float32, order="K" if few else "C")
    for start in range(0, size, step):
        part = widened(logits_BC[start : start + step], room[: min(step, size - start)])
        if temperature != 1.0:
            part /= np.float32(temperature)
        found_B[start : start + step] = _narrow(part) if few else _wide(part)
    return found_B


def _wide(logits_BC: NDArray[np.float32]) -> NDArray[np.float32]:
    """log Σ_c exp(l_c); overwrites its input."""
    most_B = logits_BC.max(axis=1)
    np.subtract(logits_BC, most_B[:, None], out=logits_BC)
    # einsum sums a row three times as fast as `sum`, whatever rows are beside it
    return np.asarray(most_B + np.log(np.einsum("bc->b", np.exp(logits_BC, out=logits_BC))))


def _narrow(logits_BC: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same for few classes: class after class, which is an order of summation of its own."""
    turned_CB = np.ascontiguousarray(logits_BC.T)
    most_B = turned_CB.max(axis=0)
    turned_CB -= most_B
    first_B, *others = np.exp(turned_CB, out=turned_CB)
    for chances_B in others:
        first_B += chances_B
    return np.asarray(most_B + np.log(first_B))


def probabilities(
    logits_BC: NDArray[Any], normaliser_B: NDArray[np.float32], temperature: float
) -> NDArray[np.float32]:
    """exp(l / T − n), (B, C), in the memory order of the logits."""
    chances_BC = np.empty_like(logits_BC, np.float32)
    step = max(1, CACHED // max(1, logits_BC.shape[1]))
    for start in range(0, len(logits_BC), step):
        part = widened(logits_BC[start : start + step], chances_BC[start : start + step])
        if temperature != 1.0:
            part /= np.float32(temperature)
        np.subtract(part, normaliser_B[start : start + step, None], out=part)
        np.exp(part, out=part)
    return chances_BC
