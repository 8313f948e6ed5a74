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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.apply import Fusion
from smelt.fusion.config import Pooling
from smelt.fusion.reference import single
from smelt.fusion.soften import Softened
from smelt.fusion.sources import Pool, Source, of_classes

BLOCK = 1 << 18  # scores of one result at once
CLASSES = 64  # of more classes the likeliest, the label among them
ELEMENTS = 1 << 26  # values of all results in memory, for each of the two pools
IMAGES = 6000  # of the sample
LOG_IMAGES = 2500  # that the logarithmic pool is fitted on
LOWEST = -1e4  # logits below the best one by more count as this
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
    chances, logs: (n, K, M) values of the poolings "probability" and "log_probability".
    """

    lines: NDArray[np.int64]
    folds_n: NDArray[np.int8]
    labels_n: NDArray[np.int64]
    place_n: NDArray[np.int64]
    chances: NDArray[np.float32]
    logs: NDArray[np.float32]

    @cached_property
    def normalisers(self) -> NDArray[np.float32]:
        """log Σ exp of the logs over the K classes, (n, M)."""
        return np.asarray(np.log(np.exp(self.logs).sum(axis=1)), np.float32)

    def seen(self, left: Collection[int]) -> NDArray[np.bool_]:
        """Which images are in no fold of `left`, (n,)."""
        return np.asarray(~np.isin(np.arange(int(self.folds_n.max()) + 1), list(left))[self.folds_n])

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
    shape = (len(lines), width, len(sources))
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
        kept_BK = np.broadcast_to(np.arange(width), (len(lines[part]), width))
        if width < num_classes:
            kept_BK, place[part] = _likeliest(soft, labels[part], width)
        for index in range(len(sources)):
            chances[part, :, index] = of_classes(soft[index], kept_BK)
            logs[part, :, index] = of_classes(raw[index], kept_BK)
    logs -= logs.max(axis=1, keepdims=True)
    np.maximum(logs, np.float32(LOWEST), out=logs)
    return Sample(lines, folds_N[lines], labels, place, chances, logs)


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
    own_nM: NDArray[np.float64], balance_n: NDArray[np.float64], start_M: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Weights (M,) with sum 1 of the linear pool; own: what each result gives the label. start: see below."""
    own = np.asarray(own_nM, np.float64)[balance_n > 0] + FAINT
    balance = balance_n[balance_n > 0]

    def value(weights: NDArray[np.float64]) -> float:
        with np.errstate(divide="ignore"):
            return float(weights.sum() - balance @ np.log(own @ weights))

    def judged(weights: NDArray[np.float64]) -> Judged:
        mixed = own @ weights
        ratio = own * (np.sqrt(balance) / mixed)[:, None]
        return value(weights), 1 - own.T @ (balance / mixed), ratio.T @ ratio

    start = np.full(own.shape[1], 1 / own.shape[1]) if start_M is None else start_M
    weights = minimised(value, judged, start)
    return np.asarray(weights / weights.sum())


def log_pool(
    logs_nKM: NDArray[np.float32],
    place_n: NDArray[np.int64],
    balance_n: NDArray[np.float64],
    start_M: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Weights (M,) of the logarithmic pool, their sum its sharpness. start: weights that are near."""
    keep = balance_n > 0
    logs, place, balance = logs_nKM[keep], place_n[keep], balance_n[keep]
    size, width, num_results = logs.shape
    flat = logs.reshape(-1, num_results)
    own = logs[np.arange(size), place].astype(np.float64)

    def shares(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
        mixed = (flat @ weights.astype(np.float32)).reshape(size, width)
        top = mixed.max(axis=1, keepdims=True)
        exp = np.exp(mixed - top)
        total = exp.sum(axis=1)
        loss = balance @ (np.log(total, dtype=np.float64) + top[:, 0] - own @ weights)
        return exp / total[:, None], float(loss + RIDGE / 2 * weights @ weights)

    def judged(weights: NDArray[np.float64]) -> Judged:
        chances, loss = shares(weights)
        weighted = (chances * balance[:, None].astype(np.float32)).reshape(-1, 1)
        mean = np.matmul(chances[:, None], logs)[:, 0]
        gradient = balance @ (mean.astype(np.float64) - own) + RIDGE * weights
        rooted = flat * np.sqrt(weighted)
        spread = rooted.T @ rooted - (mean * balance[:, None].astype(np.float32)).T @ mean
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
    """
    weights = start_M
    for _ in range(STEPS):
        loss, gradient, hessian = judged(weights)
        if np.abs(np.where(weights > 0, gradient, np.minimum(gradient, 0))).max() < TOLERANCE:
            break
        free = np.flatnonzero((weights > 1e-6) | (gradient < 0))
        inner = hessian[np.ix_(free, free)]
        inner = inner + 1e-9 * max(float(np.trace(inner)), 1e-12) * np.eye(len(free))
        step = np.zeros_like(weights)
        step[free] = -np.linalg.solve(inner, gradient[free])
        held = np.setdiff1d(np.arange(len(weights)), free)
        step[held] = -weights[held]
        length = 1.0
        while length > 1e-6:
            tried = np.maximum(0.0, weights + length * step)
            if tried.sum() > 0 and value(tried) <= loss + 1e-4 * float(gradient @ (tried - weights)):
                break
            length /= 2
        else:
            break
        weights = tried
    return weights


def log_chances(found: Sample, fusions: Sequence[Fusion], part: slice) -> list[NDArray[np.float32]]:
    """Logarithms (n', K), up to a constant of each image, of what fusions make of the images in `part`.

    Either one fusion with temperatures, or any with weights of classes, or any of one pooling without both.
    """
    heat, pooling = fusions[0].temperatures, fusions[0].pooling
    if all(one.class_weights is not None for one in fusions):
        return _by_class(found, fusions, part)
    assert len(fusions) == 1 or all(one.summed and one.pooling == pooling for one in fusions)
    if heat is not None:
        values = np.exp(found.logs[part] / np.asarray(heat, np.float32))
        values /= values.sum(axis=1, keepdims=True)
    else:
        values = (found.chances if pooling == "probability" else found.logs)[part]
    weights_MF = np.array([fusion.weights for fusion in fusions], np.float32).T
    mixed = (values.reshape(-1, len(weights_MF)) @ weights_MF).T.reshape(-1, *values.shape[:2])
    return list(np.log(mixed + np.float32(FAINT)) if pooling == "probability" else mixed)


def _by_class(found: Sample, fusions: Sequence[Fusion], part: slice) -> list[NDArray[np.float32]]:
    """The same of fusions with weights of classes; the sample holds all classes."""
    weights_FMK = np.array([fusion.class_weights for fusion in fusions], np.float32)
    biases_FK = np.array([fusion.biases for fusion in fusions], np.float32)
    mixed_KnF = np.matmul(found.logs[part].transpose(1, 0, 2), weights_FMK.transpose(2, 1, 0))
    size, (count, num_results, width) = mixed_KnF.shape[1], weights_FMK.shape
    # Σ w (s − n) = Σ w s − Σ w n: normalisers are taken off the sums
    below = found.normalisers[part] @ weights_FMK.transpose(1, 0, 2).reshape(num_results, -1)
    mixed_FnK = mixed_KnF.transpose(2, 1, 0) - below.reshape(size, count, width).transpose(1, 0, 2)
    return list(mixed_FnK + biases_FK[:, None])


def calibrated(
    logs_nK: NDArray[np.float32], place_n: NDArray[np.int64], balance_n: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log likelihood (n,) of the labels after the sharpness that makes them likeliest (one number for all).

    Guo et al. 2017: the sharpness says nothing of the order of classes, so fusions are compared without it.
    """
    keep = balance_n > 0
    logs, place, balance = logs_nK[keep], place_n[keep], balance_n[keep]
    logs = logs - logs.max(axis=1, keepdims=True)
    own = logs[np.arange(len(logs)), place].astype(np.float64)
    few = slice(None, None, max(1, len(logs) // SHARP_IMAGES))
    sharp = np.float32(_sharpness(logs[few], own[few], balance[few]))
    likelihood = np.full(len(logs_nK), np.nan)
    likelihood[keep] = sharp * own - np.log(np.exp(sharp * logs) @ np.ones(logs.shape[1], np.float32))
    return likelihood


def _sharpness(
    logs_nK: NDArray[np.float32], own_n: NDArray[np.float64], balance_n: NDArray[np.float64]
) -> float:
    """The factor on the logarithms that makes the labels likeliest, by Newton steps."""
    ones = np.ones(logs_nK.shape[1], np.float32)
    sharp = 1.0
    for _ in range(8):
        exp = np.exp(np.float32(sharp) * logs_nK)
        total = exp @ ones
        exp *= logs_nK
        mean = (exp @ ones) / total
        exp *= logs_nK
        slope = float(balance_n @ (own_n - mean))
        bend = float(balance_n @ ((exp @ ones) / total - mean**2))
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
