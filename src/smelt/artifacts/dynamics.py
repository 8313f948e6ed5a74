"""Dynamics on disk: what training recorded of each catalogue row, one plain `.npy` a column.

Columns are opened memory-mapped. Which there are is for the scores to say (`mining/scores`); today they take
44 bytes a row, so 16 M rows take 707 MB.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ArtifactError
from smelt.files.arrays import map_array, save_array
from smelt.files.atomic import read_json, write_json

DTYPES = (np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.float32))
OTHER_BITS = 31  # `last` = step << 32 | right << 31 | class of the largest other logit; -1: never seen


class Dynamics:
    """Columns (N,) by catalogue row; index them with row ids, never by position in some other list.

    columns: name → (N,) int32, int64 or float32, `seen` (times the row was recorded) and `last` (its newest
    visit, packed) among them; others are declared by scores. TypeError and ValueError for anything else.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]], origin: str = "these dynamics") -> None:
        if missing := {"seen", "last"} - set(columns):
            raise ValueError(f"{origin} lack the column {' and '.join(sorted(missing))}")
        shape = np.shape(columns["seen"])
        for name, column in columns.items():
            if not isinstance(column, np.ndarray) or column.dtype not in DTYPES:
                kind = getattr(column, "dtype", type(column).__name__)
                raise TypeError(f"{name} of {origin} must be an int32, int64 or float32 array, not {kind}")
            if column.ndim != 1 or column.shape != shape:
                raise ValueError(
                    f"{name} of {origin} has the shape {column.shape}, `seen` {shape}: want (N,)"
                )
        self.columns, self.origin = dict(columns), origin

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.columns:
            raise ArtifactError(
                f"{self.origin} has no {name}.npy: the training that recorded it did not know it yet; "
                "train again to have it"
            )
        return self.columns[name]

    @classmethod
    def open(cls, folder: Path | str) -> Dynamics:
        """Those that `save` wrote, memory-mapped; ArtifactError names a bad file."""
        folder = Path(folder)
        rows = read_json(folder / "dynamics.json")["rows"]
        columns = {path.stem: _open(path, rows) for path in sorted(folder.glob("*.npy"))}
        try:
            return cls(columns, str(folder))
        except ValueError as error:
            raise ArtifactError(str(error)) from error

    def save(self, folder: Path | str, summary: Mapping[str, Any] | None = None) -> None:
        """Write the columns, and `dynamics.json` (`summary`, any JSON)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, column in self.columns.items():
            save_array(folder / f"{name}.npy", column)
        write_json(folder / "dynamics.json", {**(summary or {}), "rows": self.num_rows})

    @property
    def num_rows(self) -> int:
        """Number of catalogue rows, seen or not."""
        return len(self.columns["seen"])

    def other(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.int64]:
        """The class with the largest logit besides the label, at the last visit; −1 if never seen."""
        last = np.asarray(self["last"][rows])
        return np.where(last >= 0, last & ((1 << OTHER_BITS) - 1), -1)

    def without(self, rows: NDArray[np.int64]) -> Dynamics:
        """The dynamics as if the catalogue rows `rows` had never been seen."""
        seen, last = np.array(self["seen"]), np.array(self["last"])
        seen[rows], last[rows] = 0, -1
        return Dynamics({**self.columns, "seen": seen, "last": last}, self.origin)


def _open(path: Path, rows: int) -> NDArray[Any]:
    column = map_array(path)
    if column.shape != (rows,) or column.dtype not in DTYPES:
        raise ArtifactError(
            f"{path} holds {column.shape} {column.dtype}, not ({rows},) int32, int64 or float32"
        )
    return column
