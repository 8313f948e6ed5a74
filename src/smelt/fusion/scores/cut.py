"""Scores that are missing in top-K results, at the end that is asked for (see `sources`)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import results

Side = Literal["low", "high", "middle"]


def spread(
    top: results.TopK, lines: NDArray[np.int64], num_classes: int, side: Side, kind: results.Kind
) -> NDArray[Any]:
    """Top-K lines as (B, C), cut scores at their `side` end."""
    kept = np.asarray(top.scores_NK[lines])
    fill = top.floor_N[lines] if side == "low" else kept[:, -1]
    if side == "middle":
        fill = np.clip(_even_tail(kept, top.tail_N[lines], num_classes, kind), top.floor_N[lines], fill)
    scores_BC = np.repeat(np.asarray(fill, kept.dtype)[:, None], num_classes, axis=1)
    np.put_along_axis(scores_BC, top.classes_NK[lines].astype(np.int64), kept, axis=1)
    return scores_BC


def _even_tail(
    kept_BK: NDArray[Any], tail_B: NDArray[np.float32], num_classes: int, kind: results.Kind
) -> NDArray[np.float32]:
    """The score (B,) of a cut class if all of a line's had the same."""
    missing = max(1, num_classes - kept_BK.shape[1])
    share = np.asarray(np.maximum(tail_B, 1e-7) / missing, np.float32)
    if kind == "probabilities":
        return share
    kept = kept_BK.astype(np.float32)
    best = kept.max(axis=1)
    total = best + np.log(np.exp(kept - best[:, None]).sum(axis=1))
    level: NDArray[np.float32] = total - np.log(np.maximum(1 - tail_B, np.float32(1e-7))) + np.log(share)
    return level
