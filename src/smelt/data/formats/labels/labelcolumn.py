"""The labels of one table as they are written, with the split of each row: what the steps take and give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue_writer import Paths
from smelt.data.formats.lists.imagetable import Table

TRAIN, VAL, TEST = range(3)  # as in SPLITS of the catalogue


@dataclass(frozen=True)
class LabelColumn:
    """codes (N,) of `words`, split codes (N,), the table they are of, and its paths in their one form."""

    table: Table
    paths: Paths
    splits: NDArray[np.uint8]
    codes: NDArray[np.int64]
    words: Sequence[bytes]

    def counts(self, split: int) -> dict[bytes, int]:
        """Word → rows of that split, without the empty one."""
        found = np.bincount(self.codes[self.splits == split], minlength=len(self.words)).tolist()
        return {word: count for word, count in zip(self.words, found) if word and count}

    def first(self, split: int, word: bytes) -> str:
        """Where the first row of a split with that word is; "" where there is none."""
        rows = np.flatnonzero((self.splits == split) & (self.codes == self.words.index(word)))
        return self.table.where(int(rows[0])) if len(rows) else ""


Columns = Sequence[LabelColumn]
