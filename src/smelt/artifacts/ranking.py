"""Rankings: one Parquet row for each image that is ranked, with every score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.files.atomic import write_json
from smelt.files.parquet import read_table, write_table


@dataclass(frozen=True)
class Ranking:
    """Scores of rows, each "higher is cleaner".

    rows: (N,) ascending. scores: name → (N,) float64, NaN where a row was never seen. cleanness: (N,) the
    one that selections go by. ValueError for other shapes.
    """

    rows: NDArray[np.int64]
    scores: Mapping[str, NDArray[np.float64]]
    cleanness: NDArray[np.float64]

    def __post_init__(self) -> None:
        of_rows({"rows": self.rows, "cleanness": self.cleanness, **self.scores})

    def to_arrow(self) -> pa.Table:
        """A table of `row`, `cleanness` and `score_…`, as `ranking.parquet` has it."""
        scores = {f"score_{name}": values for name, values in self.scores.items()}
        return pa.table({"row": self.rows, "cleanness": self.cleanness, **scores})


def of_rows(arrays: Mapping[str, NDArray[Any]]) -> None:
    """ValueError unless all arrays are (N,) as `rows`, which ascend."""
    shape = np.shape(arrays["rows"])
    if len(shape) != 1 or any(np.shape(array) != shape for array in arrays.values()):
        shapes = ", ".join(f"{name} {np.shape(array)}" for name, array in arrays.items())
        raise ValueError(f"all must be of one length, (N,): {shapes}")
    if not bool((np.diff(arrays["rows"]) > 0).all()):
        raise ValueError(f"rows {shape} must ascend, each once")


def write_ranking(folder: Path, ranking: Ranking, summary: Mapping[str, Any] | None = None) -> None:
    """Write `ranking.parquet` and `rank.json` (`summary`)."""
    write_table(folder / "ranking.parquet", ranking.to_arrow())
    write_json(folder / "rank.json", {**(summary or {}), "rows": len(ranking.rows)})


def read_ranking(folder: Path) -> Ranking:
    """The ranking that `write_ranking` wrote into `folder`."""
    table = read_table(folder / "ranking.parquet")
    names = [name for name in table.column_names if name.startswith("score_")]
    return Ranking(
        rows=table["row"].to_numpy(),
        scores={name.removeprefix("score_"): table[name].to_numpy() for name in names},
        cleanness=table["cleanness"].to_numpy(),
    )
