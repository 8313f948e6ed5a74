"""Results that say no more than chance would beside others that do: most often their rows or classes are in
another order.

Chance is what two answers agree on when neither knows of the other: q = Σ_c P(answer = c) P(truth = c), with
the variance q (1 − q) / n. The truth is the labels; without any, the other results. That classes are in
another order shows in what is answered: a map from answers to truths, made on one half of the images, is
right on the other half.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.scores.sources import Held
from smelt.fusion.scores.usual import few

IMAGES = 2000  # looked at at most
LEAST = 30  # images that a verdict needs
CHANCE, BEYOND = 3.0, 6.0  # standard deviations from chance: no more than chance, and surely more


def warnings(sources: Sequence[Held], labels_N: NDArray[np.integer] | None, num_classes: int) -> list[str]:
    """What is to be said of results at chance, in words."""
    lines = _sampled(len(sources[0]), labels_N)
    if len(lines) < LEAST or num_classes < 2:
        return []
    answers_MN = np.stack([_answers(source, lines) for source in sources])
    names = [source.name for source in sources]
    if labels_N is not None and (np.asarray(labels_N) >= 0).any():
        return _by_labels(names, answers_MN, np.asarray(labels_N)[lines], num_classes)
    return _by_agreement(names, answers_MN, num_classes)


def worth(source: Held, others: Sequence[Held], labels_N: NDArray[np.integer] | None) -> float:
    """The share of images that a result has right, or agrees with the other results on; 0 with neither."""
    lines = _sampled(len(source), labels_N)
    mine = _answers(source, lines)
    if labels_N is not None and (np.asarray(labels_N) >= 0).any():
        return float((mine == np.asarray(labels_N)[lines]).mean())
    return float(np.mean([(mine == _answers(other, lines)).mean() for other in others])) if others else 0.0


def _sampled(count: int, labels_N: NDArray[np.integer] | None) -> NDArray[np.int64]:
    """Some images, those with labels where there are such."""
    lines = np.arange(count)
    if labels_N is not None and (np.asarray(labels_N) >= 0).any():
        lines = np.flatnonzero(np.asarray(labels_N) >= 0)
    if len(lines) > IMAGES:
        lines = np.sort(np.random.default_rng(0).choice(lines, IMAGES, replace=False))
    return lines


def _answers(source: Held, lines: NDArray[np.int64]) -> NDArray[np.int64]:
    """The best class of each image (n,), among equals the lowest."""
    parts = [
        source.block(part, "middle").argmax(axis=1)
        for part in np.array_split(lines, max(1, len(lines) // 256))
    ]
    return np.concatenate(parts).astype(np.int64)


def deviations(one_N: NDArray[np.integer], other_N: NDArray[np.integer], num_classes: int) -> float:
    """By how many standard deviations two answers agree on more than chance."""
    shares = [np.bincount(answers, minlength=num_classes) / len(answers) for answers in (one_N, other_N)]
    chance = float(shares[0] @ shares[1])
    spread = np.sqrt(max(chance * (1 - chance), 1e-12) / len(one_N))
    return float(((one_N == other_N).mean() - chance) / max(spread, 1 / len(one_N)))


def _by_labels(
    names: Sequence[str], answers_MN: NDArray[np.int64], truth_N: NDArray[np.integer], num_classes: int
) -> list[str]:
    truth = truth_N.astype(np.int64)
    beyond = np.array([deviations(answers, truth, num_classes) for answers in answers_MN])
    right = [100 * float((answers == truth).mean()) for answers in answers_MN]
    if beyond.max() < CHANCE:
        shifted = (
            [deviations(answers, truth - 1, num_classes) for answers in answers_MN]
            if truth.min() >= 1
            else [0.0]
        )
        if max(shifted) > BEYOND:
            return [
                "no result is better than chance, but all are if labels count from 1: subtract 1 from them"
            ]
        moved = any(_mapped(answers, truth, num_classes) for answers in answers_MN)
        order = (
            "classes are numbered in another order than the columns"
            if moved
            else "labels are of other images, or in another order"
        )
        return [
            f"no result is better than chance with these labels (the best has {max(right):.1f} % right): "
            f"most often {order}"
        ]
    if beyond.max() < BEYOND:
        return []
    top = int(beyond.argmax())
    return [
        f"{names[place]} is no better than chance ({right[place]:.1f} % right, {names[top]} has "
        f"{right[top]:.1f} %): {_reason(answers_MN[place], truth, num_classes, beyond[place])}"
        for place in np.flatnonzero(beyond < CHANCE).tolist()
    ]


def _by_agreement(names: Sequence[str], answers_MN: NDArray[np.int64], num_classes: int) -> list[str]:
    count = len(names)
    if count < 2:
        return []
    beyond = np.full((count, count), -np.inf)
    for one in range(count):
        for other in range(one):
            beyond[one, other] = beyond[other, one] = deviations(
                answers_MN[one], answers_MN[other], num_classes
            )
    if beyond.max() < CHANCE:
        return [f"{few(names)} agree no more than chance would: their rows or classes are in different "
                f"orders, or they say nothing about these images"]  # fmt: skip
    if beyond.max() < BEYOND:
        return []
    best = answers_MN[int(beyond.max(axis=1).argmax())]
    return [
        f"{names[place]} agrees with no other result more than chance would, others agree with each other: "
        f"{_reason(answers_MN[place], best, num_classes, beyond[place].max())}"
        for place in np.flatnonzero(beyond.max(axis=1) < CHANCE).tolist()
    ]


def _reason(answers_N: NDArray[np.int64], truth_N: NDArray[np.int64], num_classes: int, beyond: float) -> str:
    if len(np.unique(answers_N)) == 1:
        return "it always answers the same class"
    if _mapped(answers_N, truth_N, num_classes):
        return "its classes are in another order (name them: A.classes.txt beside A.npy)"
    if beyond < -CHANCE:
        return "it is worse than chance: are its scores distances, of which the lowest is the best?"
    return (
        "most often its rows or classes are in another order (name them in A.ids.txt and A.classes.txt "
        "beside A.npy)"
    )


def _mapped(answers_N: NDArray[np.int64], truth_N: NDArray[np.int64], num_classes: int) -> bool:
    """Whether answers tell the truth under other names: learnt on every second image, true of the rest."""
    pairs = np.bincount(answers_N[::2] * num_classes + truth_N[::2], minlength=num_classes**2)
    to = pairs.reshape(num_classes, num_classes).argmax(axis=1)
    return deviations(to[answers_N[1::2]], truth_N[1::2], num_classes) > BEYOND
