"""Soft labels: of some rows the few classes that each may be of, with their shares.

`soft_labels.parquet` beside a selection: what rows are taught as. `likely_classes.parquet` beside a ranking:
what the features say, each row by a fit to the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.artifacts.ranking import of_rows
from smelt.errors import ArtifactError
from smelt.files.parquet import read_table, write_table

FILE = "soft_labels.parquet"
LIKELY = "likely_classes.parquet"
ROUNDING = 1e-3  # by how much the shares of a row may go beyond 1
MOST = 5  # classes kept of each row: what lies behind is noise, and 16 M rows of 5 are half a gigabyte


@dataclass(frozen=True)
class SoftLabels:
    """rows: (N,) catalogue rows, ascending. classes_NK: (N, K) int32, −1 where there are fewer. shares_NK:
    (N, K) float32, 0..1, 0 where there is no class. What the shares of a row leave over to 1 is whatever else
    is known of the row: of a selection the label that it learns. ValueError for other shapes."""

    rows: NDArray[np.int64]
    classes_NK: NDArray[np.int32]
    shares_NK: NDArray[np.float32]

    def __post_init__(self) -> None:
        of_rows({"rows": self.rows})
        shapes = np.shape(self.classes_NK), np.shape(self.shares_NK)
        if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != len(self.rows):
            raise ValueError(
                f"classes {shapes[0]} and shares {shapes[1]} must be (N, K) for {len(self.rows)} rows"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, rows_B: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Classes and shares (B, K) of any catalogue rows; −1 and 0 for rows that have none."""
        width = self.classes_NK.shape[1]
        classes = np.full((len(rows_B), width), -1, np.int32)
        shares = np.zeros((len(rows_B), width), np.float32)
        if len(self.rows):
            at = np.minimum(np.searchsorted(self.rows, rows_B), len(self.rows) - 1)
            there = self.rows[at] == rows_B
            classes[there], shares[there] = self.classes_NK[at[there]], self.shares_NK[at[there]]
        return classes, shares

    def targets(
        self, rows_B: NDArray[np.int64], labels_B: NDArray[np.integer], num_classes: int
    ) -> NDArray[np.float32]:
        """(B, C) what each row is taught as: its shares, and the rest on its label."""
        classes, shares = self.of(rows_B)
        found = np.zeros((len(rows_B), num_classes), np.float32)
        lines = np.arange(len(rows_B))
        for column in range(classes.shape[1]):
            known = classes[:, column] >= 0
            found[lines[known], classes[known, column]] += shares[known, column]
        found[lines, labels_B] += np.maximum(1 - found.sum(axis=1), 0)
        return found


def write_soft_labels(folder: Path, soft: SoftLabels, name: str = FILE) -> None:
    """Write the file of that name: `row`, and `class_0`, `share_0`, … from the largest share down."""
    columns: dict[str, NDArray[np.generic]] = {"row": soft.rows}
    for column in range(soft.classes_NK.shape[1]):
        columns[f"class_{column}"] = soft.classes_NK[:, column]
        columns[f"share_{column}"] = soft.shares_NK[:, column]
    write_table(folder / name, pa.table(columns))


def read_soft_labels(folder: Path, name: str = FILE) -> SoftLabels | None:
    """What `write_soft_labels` wrote into `folder`; None where there is none. ArtifactError if damaged."""
    if not (folder / name).is_file():
        return None
    table = read_table(folder / name)
    width = sum(name.startswith("share_") for name in table.column_names)
    names = [f"{what}_{column}" for what in ("class", "share") for column in range(width)]
    if missing := {"row", *names} - set(table.column_names):
        raise ArtifactError(f"{folder / name} lacks the column {sorted(missing)[0]}")
    kinds = {"row": np.int64, **{one: np.float32 if one.startswith("share") else np.int32 for one in names}}
    columns = {one: table[one].to_numpy() for one in ("row", *names)}
    for one, kind in kinds.items():
        if columns[one].dtype != kind:  # one with gaps comes as floats
            raise ArtifactError(f"{folder / name} is damaged: {one} is {columns[one].dtype}")
    shape = (len(columns["row"]), width)
    classes, shares = np.empty(shape, np.int32), np.empty(shape, np.float32)
    for column in range(width):
        classes[:, column], shares[:, column] = columns[f"class_{column}"], columns[f"share_{column}"]
    in_range = (shares >= 0) & (shares <= 1) & (classes >= -1)
    if not bool(in_range.all()) or bool((shares.sum(axis=1) > 1 + ROUNDING).any()):
        raise ArtifactError(
            f"{folder / name} is damaged: shares lie in 0..1, also those of a row together, and classes "
            "count from 0"
        )
    try:
        return SoftLabels(columns["row"], classes, shares)
    except ValueError as error:
        raise ArtifactError(f"{folder / name} is damaged: {error}") from error
