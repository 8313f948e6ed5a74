"""Results as fusion reads them: aligned to one order of images and pooled, block by block.

A pooling turns stored scores into the values that are averaged:
    log_probability   logits as stored: an image's normaliser is the same for all its classes, so the
                      weighted mean of logits ranks classes as that of log-probabilities does; normalised,
                      logit − log Σ exp, where each class has weights of its own
    probability       softmax in float32, see `soften` (stored probabilities as stored)
    rank              minus the number of classes above (half of those equal), not below −100 (`ranks.DEPTH`)
A cut score of a top-K result lies between its line's floor and its last kept score. `side` says which end
is taken: images that are right with every other class at its high end and the label at its low end are
certainly right, the opposite gives those that may be. The "middle" spreads the line's tail mass evenly over
the cut classes: a guess, for fused scores of images whose labels nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import results
from smelt.errors import ResultError
from smelt.fusion.config import Pooling
from smelt.fusion.scores.classranks import ranks
from smelt.fusion.scores.cut import Side, spread
from smelt.fusion.scores.meaning import Found, converted
from smelt.fusion.scores.reference import single
from smelt.fusion.scores.soften import NARROW, Softened, SoftenedLabels, normaliser

KEPT = 1 << 24  # scores of a fusion up to which `Kept` pays
INFINITE = 0x7C00  # the bits of infinity in float16
LEAST = 1e-7  # probabilities below count as this before their logarithm is taken


@runtime_checkable
class Source(Protocol):
    """One result: scores of N images for C classes, in the order that all results of a fusion share."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def kind(self) -> results.Kind:
        """What was stored."""

    @property
    def cut(self) -> bool:
        """Whether scores are missing (top-K)."""

    def block(self, lines: NDArray[np.int64], side: Side) -> NDArray[Any]:
        """Stored scores (B, C), float16 or float32, of the images at `lines`."""


@dataclass(frozen=True)
class Stored:
    """A result file of smelt's own (see `artifacts.results`), opened where it is used.

    order: (N,) line in the file of each image, None where the file is in the common order.
    """

    path: Path
    name: str
    num_classes: int
    kind: results.Kind
    order: NDArray[np.int64] | None = None

    @property
    def cut(self) -> bool:
        return self.path.name.endswith(results.TOPK)

    @cached_property
    def _dense(self) -> NDArray[np.float16]:
        return results.open_dense(self.path)[0]

    @cached_property
    def _top(self) -> results.TopK:
        return results.open_topk(self.path)[0]

    def block(self, lines: NDArray[np.int64], side: Side) -> NDArray[Any]:
        lines = lines if self.order is None else self.order[lines]
        if not self.cut:
            return take(self._dense, lines)
        return spread(self._top, lines, self.num_classes, side, self.kind)


@dataclass(frozen=True)
class Held:
    """A result held in memory or mapped: dense scores (N, C), or a TopK of them.

    order: (N,) line of each image, columns: (C,) column of each class, None where they are in the common
    order; both for dense scores only, a TopK is in it. found: what the scores mean, where they have to be
    converted to `kind` first.
    """

    name: str
    kind: results.Kind
    scores: NDArray[Any] | results.TopK = field(repr=False)
    num_classes: int = 0
    order: NDArray[np.int64] | None = field(default=None, repr=False)
    columns: NDArray[np.int64] | None = field(default=None, repr=False)
    found: Found | None = None

    def __len__(self) -> int:
        return len(self.scores) if self.order is None else len(self.order)

    @property
    def cut(self) -> bool:
        return isinstance(self.scores, results.TopK)

    def block(self, lines: NDArray[np.int64], side: Side) -> NDArray[Any]:
        if isinstance(self.scores, results.TopK):
            return spread(self.scores, lines, self.num_classes, side, self.kind)
        scores_BC = take(self.scores, lines if self.order is None else self.order[lines])
        scores_BC = scores_BC if self.columns is None else scores_BC[:, self.columns]
        return scores_BC if self.found is None else converted(scores_BC, self.found)


class Kept:
    """A small result, of which all that is worked out from it is kept: every fit asks for the same again."""

    def __init__(self, source: Source, num_images: int) -> None:
        self.source, self.num_images = source, num_images
        self.name, self.kind, self.cut = source.name, source.kind, source.cut
        self._scores: dict[Side, NDArray[Any]] = {}
        self._order: NDArray[np.int64] | None = None
        self._place: NDArray[np.int64] | None = None
        self._laid: dict[Side, NDArray[np.float32]] = {}
        self._chances: dict[Side, Softened | NDArray[Any]] = {}
        self._values: dict[tuple[Pooling, Side, bool], NDArray[np.float32]] = {}

    def arrange(self, order_N: NDArray[np.int64]) -> None:
        """Lay out values in this order of images from now on: what is asked for together lies together."""
        self._order, self._place = order_N, np.empty_like(order_N)
        self._place[order_N] = np.arange(len(order_N))
        for kept in (self._laid, self._chances, self._values):
            kept.clear()

    def whole(self, side: Side) -> NDArray[Any]:
        """Scores of all images (N, C)."""
        if side not in self._scores:
            lines = np.arange(self.num_images)
            self._scores[side] = numbers(self.source.block(lines, side), self.name, lines)
        return self._scores[side]

    def block(self, lines: NDArray[np.int64], side: Side) -> NDArray[Any]:
        return take(self.whole(side), lines)

    def softened(self, lines: NDArray[np.int64], side: Side) -> Softened | NDArray[Any]:
        """Probabilities of images, lazily."""
        scores, soft = take(self.whole(side), lines), self._soft(side)
        if not isinstance(soft, Softened):
            return scores
        return Softened(scores, 1.0, take(soft.normaliser_B, self._laid_at(lines)))

    def values(
        self, lines: NDArray[np.int64], pooling: Pooling, side: Side, normalised: bool = False
    ) -> NDArray[Any]:
        """Values that are averaged, (B, C), worked out."""
        key = (pooling, side, normalised)
        if key not in self._values:
            self._values[key] = self._worked_out(*key)
        return take(self._values[key], self._laid_at(lines))

    def _laid_at(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        return lines if self._place is None else self._place[lines]

    def _worked_out(self, pooling: Pooling, side: Side, normalised: bool) -> NDArray[np.float32]:
        """Values of all images as they are laid out."""
        if pooling == "probability":
            return single(np.asarray(self._soft(side)))
        values = single(np.asarray(pooled(self._lay(_fill(pooling, side)), self, pooling, 1.0, side)))
        if not normalised:
            return values
        soft = self._soft(side) if self.kind == "logits" else None
        return log_probabilities(values, soft.normaliser_B if isinstance(soft, Softened) else None)

    def _lay(self, side: Side) -> NDArray[np.float32]:
        """All scores as they are laid out; of few classes one after the other, since numpy is several times
        as fast along images."""
        if side not in self._laid:
            scores = single(self.whole(side))
            if self._order is not None:
                scores = take(scores, self._order)
            narrow = scores.shape[1] < NARROW
            self._laid[side] = np.asfortranarray(scores) if narrow else np.ascontiguousarray(scores)
        return self._laid[side]

    def _soft(self, side: Side) -> Softened | NDArray[Any]:
        """Their probabilities, with normalisers that are found once."""
        if side not in self._chances:
            self._chances[side] = pooled(self._lay(side), self, "probability", 1.0, side)
        return self._chances[side]


def numbers(scores_BC: NDArray[Any], name: str, lines: NDArray[np.int64]) -> NDArray[Any]:
    """The scores of the images at `lines`; ResultError where one is not finite: sums with it mean nothing."""
    if scores_BC.dtype == np.float16 and scores_BC.flags.c_contiguous and scores_BC.size:
        # what is no number has bits beyond those of infinity, with either sign
        bits = scores_BC.view(np.int16)
        sound = bits.max() < INFINITE and bits.view(np.uint16).max() < INFINITE | 0x8000
    else:
        sound = not scores_BC.size or bool(np.isfinite([scores_BC.max(), scores_BC.min()]).all())
    if not sound:
        line, place = np.argwhere(~np.isfinite(scores_BC))[0]
        found = scores_BC[line, place]
        cure = "" if np.isnan(found) else ": raise it to a finite one (the logarithm of 0 to -16, say)"
        raise ResultError(
            f"{name}: the score of image {lines[line]} for class {place} is "
            f"{'not a number (NaN)' if np.isnan(found) else f'infinite ({found})'}{cure}"
        )
    return scores_BC


def take(scores_NC: NDArray[Any], lines: NDArray[np.int64]) -> NDArray[Any]:
    """Lines of a (mapped) array in its memory order; consecutive ones without a copy."""
    if len(lines) and lines[-1] - lines[0] + 1 == len(lines) and bool((np.diff(lines) == 1).all()):
        return scores_NC[lines[0] : lines[-1] + 1]
    if scores_NC.ndim == 2 and scores_NC.flags.f_contiguous:
        return np.take(scores_NC.T, lines, axis=1).T
    return np.take(scores_NC, lines, axis=0)  # four times as fast as an index where rows are short


@dataclass(frozen=True)
class Pool:
    """M results under one pooling: what a table of candidates is built from.

    temperatures: (M,) that scores are divided by first; only for the pooling "probability" (elsewhere they
    are part of the weights). pessimistic: which end of cut scores is taken, see the top of this file.
    normalised: logits less their normaliser, for `guess` and where no score is missing.
    """

    sources: Sequence[Source]
    pooling: Pooling
    temperatures: tuple[float, ...] | None = None
    pessimistic: bool = True
    normalised: bool = False

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def exact(self) -> bool:
        """Whether no score is missing."""
        return not any(source.cut for source in self.sources)

    def block(
        self, lines: NDArray[np.int64], labels_B: NDArray[np.integer]
    ) -> tuple[list[NDArray[Any] | Softened], NDArray[Any] | SoftenedLabels]:
        """M arrays of values (B, C) of the classes, and (M, B) of the labels, of the images at `lines`.

        Only the former may be used for classes other than the label. A label below 0 counts as class 0.
        """
        safe = np.maximum(np.asarray(labels_B, np.int64), 0)
        here = np.arange(len(lines))
        blocks: list[NDArray[Any] | Softened] = []
        own: list[NDArray[Any] | Softened] = []
        for index, source in enumerate(self.sources):
            sides: tuple[Side, Side] = ("high", "low") if self.pessimistic else ("low", "high")
            values_BC = self._values(index, lines, sides[0])
            label_BC = self._values(index, lines, sides[1]) if source.cut else values_BC
            blocks.append(values_BC)
            own.append(label_BC if isinstance(label_BC, Softened) else label_BC[here, safe])
        kind = np.result_type(*(block.dtype for block in blocks))
        labels = SoftenedLabels(own, safe, kind)
        return blocks, labels if labels.lazy else labels[:, here]

    def guess(self, index: int, lines: NDArray[np.int64]) -> NDArray[Any]:
        """Values (B, C) of one result without regard to labels, cut scores in the middle."""
        source = self.sources[index]
        temperature = self.temperatures[index] if self.temperatures else 1.0
        if isinstance(source, Kept) and temperature == 1.0:
            return source.values(lines, self.pooling, "middle", self.normalised)
        if isinstance(source, Kept) and self.pooling == "probability" and not self.normalised:
            return np.asarray(Softened(source.values(lines, "log_probability", "middle"), temperature))
        values = np.asarray(self._values(index, lines, "middle"))
        return log_probabilities(values) if self.normalised else values

    def lazily(self, index: int, lines: NDArray[np.int64]) -> NDArray[Any] | Softened:
        """What `guess` gives, worked out where it is asked for (see `of_classes`)."""
        source = self.sources[index]
        if isinstance(source, Kept) and not self.temperatures:
            return source.values(lines, self.pooling, "middle")
        return self._values(index, lines, "middle")

    def _values(self, index: int, lines: NDArray[np.int64], side: Side) -> NDArray[Any] | Softened:
        source = self.sources[index]
        temperature = self.temperatures[index] if self.temperatures else 1.0
        fill = _fill(self.pooling, side)
        if isinstance(source, Kept) and self.pooling == "probability" and temperature == 1.0:
            return source.softened(lines, side)
        scores_BC = source.block(lines, fill)
        if not isinstance(source, Kept):
            numbers(scores_BC, source.name, lines)
        return pooled(scores_BC, source, self.pooling, temperature, side)

    def refuse_cut(self) -> None:
        """ResultError for poolings that need every score, where one is cut."""
        for source in self.sources:
            stored = "probability" if source.kind == "probabilities" else "log_probability"
            if source.cut and self.normalised:
                raise ResultError(f"{source.name} is a top-K result: weights of each class need every score")
            if source.cut and self.pooling not in (stored, "rank"):
                raise ResultError(
                    f"{source.name} is a top-K result of {source.kind}: pooling {self.pooling} needs every "
                    f"score; use {stored} or rank"
                )


def _fill(pooling: Pooling, side: Side) -> Side:
    """Which end of cut scores a pooling starts from: a rank's ends come from the ties of the cut scores,
    which need one and the same fill."""
    return "high" if pooling == "rank" else side


def pooled(
    scores_BC: NDArray[Any], source: Source, pooling: Pooling, temperature: float, side: Side
) -> NDArray[Any] | Softened:
    """Values that are averaged, float16 or float32, from stored scores; see the top of this file."""
    if pooling == "rank":
        return ranks(scores_BC, cut_side=side if source.cut else None)
    if pooling == "log_probability":
        if source.kind == "logits":
            return scores_BC
        return np.log(np.maximum(scores_BC.astype(np.float32), np.float32(LEAST)))
    if source.kind == "probabilities" and temperature == 1.0:
        return scores_BC
    logits = scores_BC
    if source.kind == "probabilities":
        logits = np.log(np.maximum(scores_BC.astype(np.float32), np.float32(LEAST)))
    return Softened(logits, temperature)


def of_classes(values_BC: NDArray[Any] | Softened, classes_BK: NDArray[np.integer]) -> NDArray[np.float32]:
    """The values (B, K) of some classes of each image."""
    if not isinstance(values_BC, Softened):
        return single(np.take_along_axis(np.asarray(values_BC), classes_BK, axis=1))
    here = np.repeat(np.arange(len(classes_BK)), classes_BK.shape[1])
    few = values_BC.of(np.take_along_axis(values_BC.logits_BC, classes_BK, axis=1).reshape(-1), here)
    return few.reshape(classes_BK.shape)


def log_probabilities(
    logits_BC: NDArray[Any], normaliser_B: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """l − log Σ exp(l), (B, C) float32: a row's are the same bits whatever rows are beside it."""
    known = normaliser(logits_BC) if normaliser_B is None else normaliser_B
    return np.asarray(single(logits_BC) - known[:, None], np.float32)
