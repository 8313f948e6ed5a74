"""Searches over weights, step by step together: what several of them ask for is evaluated once.

A search sees nothing but class-averaged accuracy, which is a step function: among equals the vector that is
nearest to equal weights wins. It is written as steps: a generator that yields a batch of weights (P, M) and
is sent their accuracies (P,).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.exact.hits import Table
from smelt.fusion.fitting.folded import SHARES, Counts, Left, averaged, by_fold

SEARCHED = 1 << 21  # candidates of a table up to which searches see all of its images
Key = tuple[str, Left]  # a search by its method, and the folds that it leaves out
PROMISING = 64  # moves that a search looks at again once all were looked at


@dataclass(frozen=True)
class Found:
    """The best weights (M,) of a search, their accuracy, and the best accuracy after each step."""

    weights_M: NDArray[np.float64]
    accuracy: float
    history: tuple[float, ...]


Steps = Generator[NDArray[np.float64], NDArray[np.float64], Found]


def best_of(accuracy_P: NDArray[np.float64], weights_PM: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order from best to worst: higher accuracy, then nearer to equal weights, then the earlier."""
    length = np.einsum("pm,pm->p", weights_PM, weights_PM).round(12)
    order: NDArray[np.int64] = np.lexsort((np.arange(len(accuracy_P)), length, -accuracy_P))
    return order


def searched(table: Table, parts_N: NDArray[np.integer], folds: int) -> list[Table]:
    """What searches see: every fold's images; of a very large table some shares, the same for all."""
    shares = int(np.clip(SHARES * SEARCHED // max(1, table.candidates), 1, SHARES))
    return by_fold(table, parts_N, folds, shares)


def together(tables: Sequence[Table], searches: Mapping[Key, Steps]) -> dict[Key, Found]:
    """Run searches that each see the images of all folds but those they leave out, step by step together.

    tables: of each fold. searches: (method, folds left out) → steps. What several ask for is evaluated once.
    """
    counts = [
        Counts(table.labels_N, np.where(table.labels_N >= 0, 0, -1).astype(np.int8), 1) for table in tables
    ]
    classes = np.unique(np.concatenate([count.classes for count in counts]))
    images_FG = np.zeros((len(tables), len(classes)), np.int64)
    places = [np.searchsorted(classes, count.classes) for count in counts]
    for fold, count in enumerate(counts):
        images_FG[fold, places[fold]] = count.images_FG[0]
    asked = {key: next(steps) for key, steps in searches.items()}
    found: dict[Key, Found] = {}
    while asked:
        right = {key: np.zeros((len(batch), len(classes)), np.int32) for key, batch in asked.items()}
        for fold, table in enumerate(tables):
            mine = [key for key in asked if fold not in key[1]]
            if mine and len(counts[fold].classes):
                _counted(table, mine, asked, right, places[fold])
        for key, right_PG in right.items():
            images = np.delete(images_FG, list(key[1]), axis=0).sum(axis=0)
            accuracy = averaged(right_PG, images)
            try:
                asked[key] = searches[key].send(accuracy)
            except StopIteration as stop:
                found[key] = stop.value
                del asked[key]
    return found


def _counted(
    table: Table,
    mine: Sequence[Key],
    asked: Mapping[Key, NDArray[np.float64]],
    right: Mapping[Key, NDArray[np.int32]],
    places: NDArray[np.int64],
) -> None:
    """Add one fold's right images to what the searches that see it have asked for."""
    weights = np.concatenate([asked[key] for key in mine]).astype(np.float32)
    places_of: dict[bytes, int] = {}
    back = np.array([places_of.setdefault(row.tobytes(), len(places_of)) for row in weights])
    first = np.unique(back, return_index=True)[1]
    counted = table.right(weights[first])
    if len(places) < right[mine[0]].shape[1]:  # not all classes are in this fold
        spread = np.zeros((len(counted), right[mine[0]].shape[1]), np.int32)
        spread[:, places] = counted
        counted = spread
    start = 0
    for key in mine:
        stop = start + len(asked[key])
        right[key] += counted[back[start:stop]]
        start = stop
