"""Columns that grow at their end while a catalogue is written: memory holds none of them.

Each lies in files of its own, until the catalogue's file is put together from all of them, mapped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings
from smelt.errors import DataError
from smelt.files.arrays import GrowingArray, map_array


class Numbers(GrowingArray):
    """A column of whole numbers."""

    def append(self, values: NDArray[Any]) -> None:
        """Write `values` at the end. Raises DataError for a number that the column cannot hold."""
        if values.size and not np.can_cast(values.dtype, self.dtype):
            limits, found = np.iinfo(self.dtype), (int(values.min()), int(values.max()))
            if found[0] < limits.min or found[1] > limits.max:
                raise DataError(
                    f"column {self.path.stem} of the catalogue holds {limits.min}..{limits.max}, and there "
                    f"are values {found[0]}..{found[1]}"
                )
        super().append(values)


class Strings:
    """A column of strings: `NAME.heap.npy` and `NAME.offsets.npy`."""

    def __init__(self, folder: Path, name: str, rows: int = 0) -> None:
        """rows: empty ones to begin with."""
        self.heap = GrowingArray(folder / f"{name}.heap.npy", np.uint8)
        self.offsets = GrowingArray(folder / f"{name}.offsets.npy", np.int64)
        self.offsets.append(np.zeros(rows + 1, np.int64))

    def append(self, strings: ByteStrings) -> None:
        self.offsets.append(strings.offsets[1:].astype(np.int64) - int(strings.offsets[0]) + self.heap.count)
        self.heap.append(strings.heap)

    def pad(self, rows: int) -> None:
        """Append empty strings."""
        self.offsets.append(np.full(rows, self.heap.count, np.int64))

    def read(self, row: int) -> bytes:
        """A string that was written."""
        start, stop = self.offsets.read(row, 2).tolist()
        return self.heap.read(start, stop - start).tobytes()

    def close(self) -> None:
        self.heap.close()
        self.offsets.close()

    def delete(self) -> None:
        self.heap.path.unlink()
        self.offsets.path.unlink()


def mapped(folder: Path, name: str) -> ByteStrings:
    """A closed column of strings."""
    return ByteStrings(map_array(folder / f"{name}.heap.npy"), map_array(folder / f"{name}.offsets.npy"))
