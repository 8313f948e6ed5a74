"""Scores of many images through a view, in blocks: memory does not grow with their number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from smelt.artifacts import results
from smelt.data.config import ViewSettings
from smelt.data.images.loader import Loader
from smelt.errors import ArtifactError
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
        name: _file_array(scratch / f"{name}.part", (len(rows_N), *array.shape[1:]), array.dtype)
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
        (scratch / f"{name}.part").unlink(missing_ok=True)


def _chain(first: NDArray[np.float32], rest: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    yield first
    yield from rest


def _file_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A mapped array with all its blocks on the disk: a full disk is an error now, not a crash later."""
    size = int(np.prod(shape)) * dtype.itemsize
    if size == 0:
        return np.zeros(shape, dtype)
    try:
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise ArtifactError(f"cannot write {path} ({size} bytes): {error.strerror}") from error
    return np.memmap(path, dtype, "r+", shape=shape)
