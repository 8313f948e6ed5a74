"""Scores of many images through a view, in blocks: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from smelt.artifacts import results
from smelt.data.config import ViewSettings
from smelt.data.images.loader import Loader
from smelt.files.arrays import new_array
from smelt.learning.pixels import Normaliser
from smelt.learning.validation import view_logits


def score_blocks(
    model: nn.Module,
    loader: Loader,
    rows_N: NDArray[np.int64],
    view: ViewSettings,
    num_classes: int,
    batch_size: int,
    normalise: Normaliser,
    precision: str,
    progress: Callable[[int], None],
) -> Iterator[NDArray[np.float32]]:
    """Logits (n, num_classes) in the order of `rows_N`, the mean over the view's crops.

    An image that cannot be read gets zeros: no opinion, which leaves it to other models in a fusion and by
    itself lists the first classes, as equal scores do. Outputs beyond `num_classes` (the class of threshold
    samples) are left out.
    """
    done = 0
    for logits_BC, _ in view_logits(model, loader, rows_N, view, batch_size, normalise, precision):
        done += len(logits_BC)
        progress(done)
        yield logits_BC[:, :num_classes].cpu().numpy()


def write_best(
    path: Path,
    blocks: Iterator[NDArray[np.float32]],
    k: int,
    info: results.ResultInfo,
    rows_N: NDArray[np.int64],
    scratch: Path,
) -> None:
    """Write the best `k` scores of each line as a top-K result, by way of files in `scratch`."""
    first = next(blocks, np.zeros((0, info.num_classes), np.float32))
    sample = results.cut(first, k)
    columns = {
        name: new_array(scratch / f"{name}.npy", (len(rows_N), *array.shape[1:]), array.dtype)
        for name, array in vars(sample).items()
    }
    at = 0
    for block in _chain(first, blocks):
        cut = results.cut(block, k)
        for name, column in columns.items():
            column[at : at + len(block)] = getattr(cut, name)
        at += len(block)
    results.write_topk(path, results.TopK(**columns), info, rows_N)
    for name in columns:
        (scratch / f"{name}.npy").unlink()


def _chain(first: NDArray[np.float32], rest: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    yield first
    yield from rest
