"""Ranks of the classes of an image, as the pooling "rank" averages them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.scores.cut import Side
from smelt.fusion.scores.reference import single
from smelt.fusion.scores.soften import NARROW

DEPTH = 100.0  # ranks beyond count as this; small enough that halves are exact in float16


def ranks(scores_BC: NDArray[Any], cut_side: Side | None = None) -> NDArray[np.float16]:
    """Minus the rank of every class, from 0; equal scores share the mean of their ranks.

    cut_side: where the lowest scores of each line were cut, the end to take for their ranks.
    """
    first, last = _narrow_places(scores_BC) if scores_BC.shape[1] < NARROW else _places(scores_BC)
    if cut_side in ("high", "low"):
        first = last = first if cut_side == "high" else last
    shared = (first.astype(np.float32) + last.astype(np.float32)) / 2
    return np.asarray(-np.minimum(shared, DEPTH), np.float16)


def _places(scores_BC: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The first and the last place, from 0, that each class could have among its equals, (B, C) each."""
    size, classes = scores_BC.shape
    order = np.argsort(scores_BC, axis=1, kind="stable")[:, ::-1]
    best = np.take_along_axis(scores_BC, order, axis=1)
    fresh = np.ones((size, classes), bool)
    fresh[:, 1:] = best[:, 1:] != best[:, :-1]
    place = np.broadcast_to(np.arange(classes), (size, classes))
    ordered = np.maximum.accumulate(np.where(fresh, place, 0), axis=1)
    ends = np.minimum.accumulate(
        np.where(np.roll(fresh, -1, axis=1) | (place == classes - 1), place, classes)[:, ::-1], axis=1
    )[:, ::-1]
    first, last = np.empty_like(ordered), np.empty_like(ordered)
    np.put_along_axis(first, order, ordered, axis=1)
    np.put_along_axis(last, order, ends, axis=1)
    return first, last


def _narrow_places(scores_BC: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same of few classes: each is compared with all, several times as fast as sorting short rows."""
    turned_CB = np.ascontiguousarray(single(scores_BC).T)
    first, last = np.empty(turned_CB.shape, np.uint8), np.empty(turned_CB.shape, np.uint8)
    for place, own_B in enumerate(turned_CB):
        np.add.reduce((turned_CB > own_B).view(np.uint8), axis=0, out=first[place])
        np.add.reduce((turned_CB >= own_B).view(np.uint8), axis=0, out=last[place])
    return first.T, last.T - np.uint8(1)
