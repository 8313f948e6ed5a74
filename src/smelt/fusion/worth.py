"""What each result is worth to the fusion: alone, left out, beside its likes, and as their number grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.fusion.apply import Fusion, hits_of
from smelt.fusion.case import Case
from smelt.fusion.config import Pooling
from smelt.fusion.exact.hits import Table
from smelt.fusion.exact.pooled import Tables
from smelt.fusion.fitting.evaluator import KS
from smelt.fusion.fitting.fits import large
from smelt.fusion.fitting.vectors import capped
from smelt.fusion.scores.sources import Source
from smelt.metrics import before_label, class_averaged

PRODUCTS = 1 << 28  # of weights and values, for what is lost without each result


def singles(table: Table) -> NDArray[np.float64]:
    """Class-averaged accuracy (M,) of each result alone."""
    return np.array([class_averaged(hits, table.labels_N) for hits in table.store.singles(table.k)])


def similarity(hits_MN: NDArray[np.bool_], labels_N: NDArray[np.integer]) -> NDArray[np.float64]:
    """Correlation (M, M) of being wrong on the same images: 1 alike, 0 independent, rounded to 4 places.

    A result that is always right or always wrong is like no other (0).
    """
    wrong = ~hits_MN[:, np.asarray(labels_N) >= 0]
    size = max(1, wrong.shape[1])
    share = wrong.mean(axis=1) if wrong.shape[1] else np.zeros(len(wrong))
    both = wrong.astype(np.float32) @ wrong.T.astype(np.float32) / size
    spread = np.sqrt(share * (1 - share))
    scale = np.outer(spread, spread)
    alike = np.where(scale > 0, (both - np.outer(share, share)) / np.where(scale > 0, scale, 1), 0.0)
    np.fill_diagonal(alike, 1.0)
    return np.asarray(np.clip(alike, -1, 1).round(4), np.float64)


def without_each(table: Table, weights_M: ArrayLike) -> NDArray[np.float64]:
    """What the fusion's accuracy loses without each result, (M,); the others keep their proportions."""
    weights = np.asarray(weights_M, np.float64)
    left_MM = np.repeat(weights[None], len(weights), axis=0)
    np.fill_diagonal(left_MM, 0.0)
    alone = left_MM.sum(axis=1) <= 0
    left_MM[alone] = 1.0
    accuracy = table.accuracy(np.concatenate([weights[None], capped(left_MM, table.cap)]))
    loss = accuracy[0] - accuracy[1:]
    return np.where(alone, 0.0, loss)


def without_each_by_class(
    fusion: Fusion, sources: Sequence[Source], labels_N: NDArray[np.integer], k: int
) -> NDArray[np.float64]:
    """The same of a fusion with weights of classes, (M,): in every class the others keep their proportions
    and take up its weight (all the same where they have none), biases stay. All is evaluated; of very many
    images an even sample."""
    weights_MC = np.asarray(fusion.class_weights, np.float64)
    sums_C = weights_MC.sum(axis=0)
    fusions = [fusion]
    for index in range(len(weights_MC) if len(weights_MC) > 1 else 0):
        left_MC = weights_MC.copy()
        left_MC[index] = 0.0
        left_MC[:, left_MC.sum(axis=0) <= 0] = 1.0
        left_MC[index] = 0.0
        left_MC *= sums_C / left_MC.sum(axis=0)
        fusions.append(replace(fusion, class_weights=tuple(map(tuple, left_MC.astype(np.float32).tolist()))))
    lines = np.flatnonzero(np.asarray(labels_N) >= 0)
    cost = len(fusions) * weights_MC.size * len(lines)
    lines = lines[:: max(1, -(-cost // PRODUCTS))]
    hits_Fn = hits_of(fusions, sources, labels_N, lines, (k,))[k]
    accuracy = np.array([class_averaged(one, np.asarray(labels_N)[lines]) for one in hits_Fn])
    return accuracy[0] - accuracy[1:] if len(fusions) > 1 else np.zeros(1)


def curve(table: Table) -> list[dict[str, Any]]:
    """Accuracy of the plain average of the best n results for n = 1 … M, best first by their own accuracy.

    Numbers that the cap on weights rules out are left out (but for n = 1, which is known).
    """
    alone = singles(table)
    order = np.argsort(-alone, kind="stable")
    points: list[dict[str, Any]] = [{"results": 1, "accuracy": float(alone[order[0]])}]
    counts = [n for n in range(2, len(order) + 1) if 1 / n <= table.cap * (1 + 1e-9)]
    if len(counts) > 64:
        counts = [counts[int(i)] for i in np.unique(np.linspace(0, len(counts) - 1, 64).round())]
    weights = np.zeros((len(counts), len(order)))
    for place, count in enumerate(counts):
        weights[place, order[:count]] = 1.0
    if counts:
        for count, accuracy in zip(counts, table.accuracy(weights)):
            points.append({"results": count, "accuracy": float(accuracy)})
    return points


def explained(
    case: Case, chosen: Fusion, tables: Tables, labels_N: NDArray[np.int32], num_classes: int
) -> dict[str, Any]:
    """What each result is worth, how alike they err, and what their number gains, as `fusion.json` says it.

    `likeness` there is the similarity of errors; its name stays for those who read the file.
    """
    k = case.settings.k
    table = tables[chosen.pooling, k]
    hits = alone(case, tables, chosen.pooling, labels_N, num_classes)
    if chosen.class_weights is None:
        lost_M = without_each(table, chosen.weights)
    else:
        lost_M = without_each_by_class(chosen, case.taking_part, labels_N, k)
    without = dict(zip(case.active, lost_M.tolist()))
    results = case.results(chosen.weights)
    for index, entry in enumerate(results):
        entry["accuracy"] = {f"top{n}": class_averaged(hits[n][index], labels_N) for n in KS}
        entry["without"] = without.get(index, 0.0)
    return {
        "cap": table.cap,
        "undecided": len(table.store.images_U),
        "candidates": len(table.store.classes_R),
        "results": results,
        "likeness": similarity(hits[k], labels_N).tolist(),
        "curve": curve(table),
    }


def alone(
    case: Case, tables: Tables, pooling: Pooling, labels_N: NDArray[np.int32], num_classes: int
) -> dict[int, NDArray[np.bool_]]:
    """k → hits (M, N) of each result's own list; of very many scores those that the tables hold anyway."""
    known = np.flatnonzero(labels_N >= 0)
    found = {k: np.zeros((len(case.sources), len(labels_N)), np.bool_) for k in KS}
    known_anyway = large(case.taking_part, labels_N, num_classes)
    for index, source in enumerate(case.sources):
        if known_anyway and index in case.active:
            for k in KS:
                found[k][index] = tables.store(pooling).singles(k)[case.active.index(index)]
            continue
        for lines in np.array_split(known, max(1, len(known) * num_classes >> 22)):
            before = before_label(source.block(lines, "middle"), labels_N[lines])
            for k in KS:
                found[k][index, lines] = before < k
    return found
