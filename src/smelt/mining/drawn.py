"""The rows that people are asked about: a random order of a split that stays, so that more rows extend it.

The order is that of a hash of seed, path and label. It does not hang on row numbers: what is indexed again,
with more images, keeps its order, and verdicts that were given stay verdicts on the same images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings
from smelt.artifacts.catalogue import Catalogue
from smelt.random import GOLDEN, mixed, mixed_array

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


def labelled(catalogue: Catalogue, split: str, unreadable: Ints) -> Ints:
    """Rows of a split that have a label and an image, ascending; `unreadable`: rows that have no image."""
    rows = catalogue.rows(split)
    rows = rows[catalogue.labels_N[rows] >= 0]
    lacking = np.union1d(catalogue.missing, unreadable)
    return rows[~np.isin(rows, lacking)] if len(lacking) else rows


def identities(catalogue: Catalogue, rows_N: Ints) -> Words:
    """A 64-bit number for each row, (N,): of its path, the name of its label, and, where paths are the same
    (in two archives), of which of them it is."""
    paths = catalogue.path_hashes()[rows_N]
    order = np.argsort(paths, kind="stable")
    same = np.r_[False, paths[order][1:] == paths[order][:-1]]
    again = np.zeros(len(rows_N), np.uint64)
    if same.any():
        place = np.arange(len(order))
        first = np.maximum.accumulate(np.where(same, 0, place))
        again[order] = (place - first).astype(np.uint64)
    names = ByteStrings.of(name.encode("utf-8", "surrogateescape") for name in catalogue.classes).hashes()
    labels = names[catalogue.labels_N[rows_N]]
    found: Words = mixed_array(paths ^ mixed_array(labels + again * np.uint64(GOLDEN)))
    return found


def random_order(identities_N: Words, seed: int) -> Ints:
    """Places 0..N-1 in a random order that the seed decides; the first n are a simple random sample."""
    keys: Words = mixed_array(identities_N ^ np.uint64(mixed(seed)))
    return np.argsort(keys, kind="stable")
