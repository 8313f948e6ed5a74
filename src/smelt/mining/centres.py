"""The centres of the classes in whitened space, each row left out of its own, and how near rows are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.mining.labelled_features import Floats, Labelled


class Centres:
    """Of the classes of `data`; a centre is the sum of a class's whitened rows, each of length 1."""

    def __init__(self, data: Labelled) -> None:
        data.spectrum  # noqa: B018  (before threads ask for it)
        self.data = data
        self.sums = data.by_class(data.whitened)
        length = np.linalg.norm(self.sums, axis=1, keepdims=True)
        self._units = np.asarray(self.sums / np.where(length > 0, length, 1), np.float32)

    def cosines(self, start: int) -> Floats:
        """(B, C) cosines of the rows of a block to all centres; −inf to a class without other rows."""
        data = self.data
        rows = data.whitened(start)
        labels = data.classes[start : start + len(rows)]
        found = (rows @ self._units.T).astype(np.float64)
        found[:, data.counts == 0] = -np.inf
        others = self.sums[labels] - rows
        size = np.linalg.norm(others, axis=1)
        own = np.einsum("bd,bd->b", others, rows.astype(np.float64)) / np.where(size > 0, size, 1)
        found[np.arange(len(labels)), labels] = np.where(data.counts[labels] > 1, own, -np.inf)
        return found

    def nearest(self) -> NDArray[np.float64]:
        """(n,) largest cosine of each usable row."""
        found = np.empty(self.data.num_rows)
        for start, values in zip(self.data.starts(), self.data.each(lambda at: self.cosines(at).max(axis=1))):
            found[start : start + len(values)] = values
        return found


def centres(data: Labelled) -> Centres:
    """Those of the data, made once for all that goes by them."""
    if "centres" not in data.kept:
        data.kept["centres"] = Centres(data)
    found: Centres = data.kept["centres"]
    return found
