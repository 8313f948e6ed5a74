"""`p_wrong.parquet`: how likely the label of each training row is wrong, as verdicts and scores say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.artifacts.ranking import of_rows
from smelt.errors import ArtifactError
from smelt.files.parquet import read_table, write_table

FILE = "p_wrong.parquet"


@dataclass(frozen=True)
class LikelyWrong:
    """rows: (N,) catalogue rows, ascending. p_wrong: (N,) float32, 0..1. catalogue: key of the artefact whose
    catalogue the rows are of. ValueError for other shapes."""

    rows: NDArray[np.int64]
    p_wrong: NDArray[np.float32]
    catalogue: str = ""

    def __post_init__(self) -> None:
        of_rows({"rows": self.rows, "p_wrong": self.p_wrong})

    def of(self, rows_M: NDArray[np.int64]) -> NDArray[np.float64]:
        """The probabilities of any catalogue rows, (M,); NaN for those that have none."""
        found = np.full(len(rows_M), np.nan)
        if len(self.rows):
            places = np.minimum(np.searchsorted(self.rows, rows_M), len(self.rows) - 1)
            there = self.rows[places] == rows_M
            found[there] = self.p_wrong[places[there]]
        return found


def write_likely_wrong(folder: Path, found: LikelyWrong) -> None:
    """Write `p_wrong.parquet` (`row`, `p_wrong`; the catalogue's key as metadata) in one step."""
    table = pa.table({"row": found.rows, "p_wrong": found.p_wrong.astype(np.float32)})
    write_table(folder / FILE, table.replace_schema_metadata({"catalogue": found.catalogue}))


def read_likely_wrong(folder: Path, name: str = FILE) -> LikelyWrong:
    """What `write_likely_wrong` wrote into `folder`; ArtifactError where it is missing or damaged."""
    table = read_table(folder / name)
    if not {"row", "p_wrong"} <= set(table.column_names):
        raise ArtifactError(f"{folder / name} lacks the columns row and p_wrong")
    p_wrong = table["p_wrong"].to_numpy().astype(np.float32)
    if not bool(((p_wrong >= 0) & (p_wrong <= 1)).all()):
        raise ArtifactError(f"{folder / name} is damaged: p_wrong is a probability, 0..1")
    key = (table.schema.metadata or {}).get(b"catalogue", b"").decode("utf-8", "replace")
    return LikelyWrong(table["row"].to_numpy().astype(np.int64), p_wrong, key)
