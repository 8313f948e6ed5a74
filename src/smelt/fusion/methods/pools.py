"""Weights by likelihood: the linear and the logarithmic pool, and how likely any fusion makes the labels.

    linear pool        q_c = Σ_m w_m p_mc                    log loss of the label is convex in w
    logarithmic pool   q_c ∝ exp Σ_m w_m s_mc                convex in w; Σ w is the sharpness, which no order
                                                             of classes depends on
(Genest & Zidek 1986; Breiman 1996, Stacked regressions.) Both are minimised over w ≥ 0 by projected Newton
steps (Bertsekas 1982), every class weighing the same, as in the metric. Without a constraint on the sum the
linear pool's loss −Σ a log q + Σ w has its minimum at Σ w = 1.

All works on a sample of the labelled images; of many classes the likeliest and the label are looked at, the
same for every fusion that is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.apply import Fusion
from smelt.fusion.config import Pooling
from smelt.fusion.scores.reference import single
from smelt.fusion.scores.soften import Softened
from smelt.fusion.scores.sources import Pool, Source, of_classes

BLOCK = 1 << 18  # scores of one result at once
CLASSES = 64  # of more classes the likeliest, the label among them
ELEMENTS = 1 << 26  # values of all results in memory, for each of the two pools
HOLDS = 3  # times that a step is worked out, each with more weights held at 0
IMAGES = 6000  # of the sample
LOG_IMAGES = 2500  # that the logarithmic pool is fitted on
LOWEST = -1e4  # logits below the best one by more count as this
RUNS = 16  # of images one after the other up to which they are copied as such
SHARP_IMAGES = 1000  # that the sharpness of a fusion is fitted on
FAINT = 1e-30  # added to a probability before its logarithm
RIDGE = 1e-5  # on the logarithmic pool's weights: with every label right its sharpness would grow for ever
STEPS = 30
TOLERANCE = 1e-5  # of the projected gradient
Judged = tuple[float, NDArray[np.float64], NDArray[np.float64]]  # loss, gradient (M,), Hessian (M, M)


@dataclass(frozen=True)
class Sample:
    """n images with values of K classes by M results, fold by fold.

    lines: positions in the fusion's order. folds_n, labels_n: of each. place_n: the label among the K.
    chances, logs: (M, K, n) values of the poolings "probability" and "log_probability". Images lie side by
    side: numpy is several times as fast along long rows as along rows of few classes.
    """

    lines: NDArray[np.int64]
    folds_n: NDArray[np.int8]
    labels_n: NDArray[np.int64]
    place_n: NDArray[np.int64]
    chances_MKn: NDArray[np.float32]
    logs_MKn: NDArray[np.float32]

    @property
    def own_Mn(self) -> NDArray[np.float32]:
        """What each result gives the label."""
        return np.asarray(self.chances_MKn[:, self.place_n, np.arange(len(self.place_n))])

    @cached_property
    def normalisers_Mn(self) -> NDArray[np.float32]:
        """log Σ exp of the logs over the K classes."""
        return np.asarray(np.log(np.exp(self.logs_MKn).sum(axis=1)), np.float32)

    def seen(self, left: Collection[int]) -> NDArray[np.bool_]:
        """Which images are in no fold of `left`, (n,)."""
        seen_F = np.ones(int(self.folds_n.max()) + 1, bool)
        seen_F[list(left)] = False
        return np.asarray(seen_F[self.folds_n])

    def balanced(self, seen_n: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Weights (n,) with sum 1: every class among the seen images the same, none for the others."""
        counts = np.bincount(self.labels_n, seen_n)
        weights = np.where(seen_n, 1 / np.maximum(counts[self.labels_n], 1), 0.0)
        return np.asarray(weights / max(1, (counts > 0).sum()))


def sample(
    sources: Sequence[Source],
    labels_N: NDArray[np.integer],
    folds_N: NDArray[np.int8],
    seed: int,
    num_classes: int,
) -> Sample:
    """Read the values of a sample of the labelled images, evenly over the folds whatever the labels."""
    width = min(num_classes, CLASSES)
    known = np.random.default_rng([seed, 3]).permutation(np.flatnonzero(folds_N >= 0))
    lines = np.sort(known[: min(IMAGES, max(256, ELEMENTS // (width * len(sources))))])
    lines = lines[np.argsort(folds_N[lines], kind="stable")]
    labels = np.asarray(labels_N, np.int64)[lines]
    shape = (len(sources), width, len(lines))
    chances, logs = np.empty(shape, np.float32), np.empty(shape, np.float32)
    place = labels if width == num_classes else np.full(len(lines), -1)
    step = max(1, BLOCK // num_classes)
    poolings: tuple[Pooling, Pooling] = ("probability", "log_probability")
    for start in range(0, len(lines), step):
        part = slice(start, start + step)
        soft, raw = (
            [Pool(sources, pooling).lazily(index, lines[part]) for index in range(len(sources))]
            for pooling in poolings
        )
        if width < num_classes:
            kept_BK, place[part] = _likeliest(soft, labels[part], width)
        for index in range(len(sources)):
            for found, values in ((chances, soft[index]), (logs, raw[index])):
                few = np.asarray(values) if width == num_classes else of_classes(values, kept_BK)
                found[index, :, part] = few.T
    logs -= logs.max(axis=1, keepdims=True)
    np.maximum(logs, np.float32(LOWEST), out=logs)
    return Sample(lines, folds_N[lines], labels, place, chances, logs)


def picked(values: NDArray[Any], keep_n: NDArray[np.bool_]) -> NDArray[Any]:
    """(…, n') of values (…, n), in C order, which an index would not give; runs of images as a whole."""
    inner = (np.flatnonzero(keep_n[1:] != keep_n[:-1]) + 1).tolist()
    if len(inner) > RUNS or not keep_n.any():
        return np.compress(keep_n, values, axis=-1)
    edges = pairwise([0, *inner, len(keep_n)])
    runs = [values[..., begin:end] for begin, end in edges if keep_n[begin]]
    return np.concatenate(runs, axis=-1) if len(runs) > 1 else np.ascontiguousarray(runs[0])


def _likeliest(
    values_MBC: Sequence[NDArray[Any] | Softened], labels_B: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The likeliest classes (B, K) of each image, the label among them, and the label's place (B,)."""
    total_BC = np.zeros(values_MBC[0].shape, np.float32)
    for values_BC in values_MBC:
        total_BC += single(np.asarray(values_BC))
    total_BC[np.arange(len(labels_B)), labels_B] = np.inf
    kept = np.sort(np.argpartition(-total_BC, width - 1, axis=1)[:, :width], axis=1)
    return kept, np.argmax(kept == labels_B[:, None], axis=1)


def linear_pool(
    own_Mn: NDArray[np.float32], balance_n: NDArray[np.float64], start_M: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Weights (M,) with sum 1 of the linear pool; own: what each result gives the label. start: see below."""
    keep = balance_n > 0
    own, balance = picked(own_Mn, keep).astype(np.float64) + FAINT, balance_n[keep]

    def value(weights: NDArray[np.float64]) -> float:
        with np.errstate(divide="ignore"):
            return float(weights.sum() - balance @ np.log(weights @ own))

    def judged(weights: NDArray[np.float64]) -> Judged:
        mixed = weights @ own
        return value(weights), 1 - own @ (balance / mixed), (own * (balance / mixed**2)) @ own.T

    start = np.full(len(own), 1 / len(own)) if start_M is None else start_M
    weights = minimised(value, judged, start)
    return np.asarray(weights / weights.sum())


def log_pool(
    logs_MKn: NDArray[np.float32],
    place_n: NDArray[np.int64],
    balance_n: NDArray[np.float64],
    start_M: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Weights (M,) of the logarithmic pool, their sum its sharpness. start: weights that are near."""
    keep = balance_n > 0
    logs, place, balance = picked(logs_MKn, keep), place_n[keep], balance_n[keep]
    num_results, width, size = logs.shape
    flat = logs.reshape(num_results, -1)
    own = logs[:, place, np.arange(size)].astype(np.float64)
    light = balance.astype(np.float32)

    def shares(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
        mixed = (weights.astype(np.float32) @ flat).reshape(width, size)
        top = mixed.max(axis=0)
        mixed -= top
        np.exp(mixed, out=mixed)
        total = mixed.sum(axis=0)
        loss = balance @ (np.log(total, dtype=np.float64) + top - weights @ own)
        mixed /= total
        return mixed, float(loss + RIDGE / 2 * weights @ weights)

    def judged(weights: NDArray[np.float64]) -> Judged:
        chances, loss = shares(weights)
        mean = np.einsum("mkn,kn->mn", logs, chances)
        gradient = (mean.astype(np.float64) - own) @ balance + RIDGE * weights
        chances *= light
        spread = (mean * -light) @ mean.T
        for one in range(width):  # class by class it stays in the cache
            spread += (logs[:, one] * chances[one]) @ logs[:, one].T
        return loss, gradient, spread.astype(np.float64) + RIDGE * np.eye(num_results)

    start = np.full(num_results, 1 / num_results) if start_M is None else start_M
    return minimised(lambda w: shares(w)[1], judged, start)


def minimised(
    value: Callable[[NDArray[np.float64]], float],
    judged: Callable[[NDArray[np.float64]], Judged],
    start_M: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The minimum (M,) over w ≥ 0 of a convex function: Newton steps in the weights that are free, projected.

    A weight at 0 whose gradient would push it below is held there (Bertsekas 1982, Projected Newton methods).
    Tried first is the step for which those that it would push below go to 0 and the others to what is best
    for them then: cut off instead, a step often lowers nothing, and is shortened again and again.
    """
    weights = start_M
    for _ in range(STEPS):
        loss, gradient, hessian = judged(weights)
        if np.abs(np.where(weights > 0, gradient, np.minimum(gradient, 0))).max() < TOLERANCE:
            break
        free = (weights > 1e-6) | (gradient < 0)
        for holds, shortest in ((HOLDS, 0.2), (1, 1e-6)):
            step, length = _newton(weights, gradient, hessian, free, holds), 1.0
            found = None
            while found is None and length > shortest:
                tried = np.maximum(0.0, weights + length * step)
                aim = loss + 1e-4 * min(0.0, float(gradient @ (tried - weights)))
                if tried.sum() > 0 and value(tried) <= aim:
                    found = tried
                length /= 2
            if found is not None:
                break
        if found is None:
            break
        weights = found
    return weights


def _newton(
    weights_M: NDArray[np.float64],
    gradient_M: NDArray[np.float64],
    hessian_MM: NDArray[np.float64],
    free_M: NDArray[np.bool_],
    holds: int,
) -> NDArray[np.float64]:
    """The step (M,) of the free weights, all others going to 0; `holds` − 1 times those that it would push
    below are no longer free."""
    step = np.where(free_M, 0.0, -weights_M)
    for _ in range(holds):
        inner = hessian_MM[np.ix_(free_M, free_M)]
        pull = gradient_M + hessian_MM @ np.where(free_M, 0.0, step) if holds > 1 else gradient_M
        inner.flat[:: len(inner) + 1] += 1e-9 * max(float(np.trace(inner)), 1e-12)
        step[free_M] = -np.linalg.solve(inner, pull[free_M])
        below = free_M & (weights_M + step < 0)
        if not below.any():
            break
        free_M = free_M & ~below
        step = np.where(below, -weights_M, step) if holds > 1 else step
    return step


def log_chances(found: Sample, fusions: Sequence[Fusion], part: slice) -> list[NDArray[np.float32]]:
    """Logarithms (K, n'), up to a constant of each image, of what fusions make of the images in `part`.

    Either one fusion with temperatures, or any with weights of classes, or any of one pooling without both.
    """
    temperatures, pooling = fusions[0].temperatures, fusions[0].pooling
    if all(one.class_weights is not None for one in fusions):
        return _by_class(found, fusions, part)
    assert len(fusions) == 1 or all(one.summed and one.pooling == pooling for one in fusions)
    if temperatures is not None:
        values = np.exp(found.logs_MKn[:, :, part] / np.asarray(temperatures, np.float32)[:, None, None])
        values /= values.sum(axis=1, keepdims=True)
    else:
        values = (found.chances_MKn if pooling == "probability" else found.logs_MKn)[:, :, part]
    weights_FM = np.array([fusion.weights for fusion in fusions], np.float32)
    mixed = (weights_FM @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])
    return list(np.log(mixed + np.float32(FAINT)) if pooling == "probability" else mixed)


def _by_class(found: Sample, fusions: Sequence[Fusion], part: slice) -> list[NDArray[np.float32]]:
    """The same of fusions with weights of classes; the sample holds all classes."""
    weights_FMK = np.array([fusion.class_weights for fusion in fusions], np.float32)
    biases_FK = np.array([fusion.biases for fusion in fusions], np.float32)
    mixed_KFn = np.matmul(weights_FMK.transpose(2, 0, 1), found.logs_MKn[:, :, part].transpose(1, 0, 2))
    # Σ w (s − n) = Σ w s − Σ w n: normalisers are taken off the sums
    mixed_FKn = mixed_KFn.transpose(1, 0, 2) - weights_FMK.transpose(0, 2, 1) @ found.normalisers_Mn[:, part]
    return list(mixed_FKn + biases_FK[:, :, None])


def calibrated(
    logs_Kn: NDArray[np.float32], place_n: NDArray[np.int64], balance_n: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log likelihood (n,) of the labels after the sharpness that makes them likeliest (one number for all).

    Guo et al. 2017: the sharpness says nothing of the order of classes, so fusions are compared without it.
    """
    keep = balance_n > 0
    place, balance = place_n[keep], balance_n[keep]
    logs = picked(logs_Kn, keep)
    logs = logs - logs.max(axis=0)
    own = logs[place, np.arange(len(place))].astype(np.float64)
    few = slice(None, None, max(1, len(place) // SHARP_IMAGES))
    sharp = _sharpness(np.ascontiguousarray(logs[:, few]), own[few], balance[few])
    logs *= np.float32(sharp)
    np.exp(logs, out=logs)
    likelihood = np.full(len(balance_n), np.nan)
    likelihood[keep] = sharp * own - np.log(logs.sum(axis=0), dtype=np.float64)
    return likelihood


def _sharpness(
    logs_Kn: NDArray[np.float32], own_n: NDArray[np.float64], balance_n: NDArray[np.float64]
) -> float:
    """The factor on the logarithms that makes the labels likeliest, by Newton steps."""
    sharp = 1.0
    for _ in range(8):
        exp = np.exp(np.float32(sharp) * logs_Kn)
        total = exp.sum(axis=0)
        exp *= logs_Kn
        mean = exp.sum(axis=0) / total
        exp *= logs_Kn
        slope = float(balance_n @ (own_n - mean))
        bend = float(balance_n @ (exp.sum(axis=0) / total - mean**2))
        change = slope / max(bend, 1e-12)
        sharp = float(np.clip(sharp + change, sharp / 3, sharp * 3))
        if abs(change) < 1e-3 * sharp:
            break
    return sharp


def clearly(differences_n: NDArray[np.float64], balance_n: NDArray[np.float64]) -> bool:
    """Whether the balanced mean of differences (NaN where nothing weighs) is two standard errors above 0."""
    differences = np.nan_to_num(differences_n)
    mean = float(differences @ balance_n)
    error = float(np.sqrt(((differences - mean) ** 2) @ balance_n**2))
    return mean > 2 * error > 0
