"""What is wrong with each row that is ranked, with its probability: `kinds.parquet` beside a ranking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.artifacts.ranking import of_rows
from smelt.errors import ArtifactError
from smelt.files.parquet import read_table, write_table

FILE = "kinds.parquet"
KINDS = ("right", "wrong_class", "outside", "ambiguous", "copy", "unreadable")
RIGHT, WRONG_CLASS, OUTSIDE, AMBIGUOUS, COPY, UNREADABLE = range(len(KINDS))
COLUMNS = ("row", "p_wrong", "likely", "p_kind", "p_outside", "kind")


@dataclass(frozen=True)
class RowKinds:
    """Of rows (N,), ascending: p_wrong, probability that the label is wrong, NaN where nothing is known;
    likely: the class that each is likeliest of, −1 where unknown; kind: codes into `KINDS`; p_kind: the
    probability of that kind; p_outside: that the row, if wrong, shows none of the classes. ValueError for
    other shapes."""

    rows: NDArray[np.int64]
    p_wrong: NDArray[np.float64]
    likely: NDArray[np.int32]
    kind: NDArray[np.int8]
    p_kind: NDArray[np.float64]
    p_outside: NDArray[np.float64]

    def __post_init__(self) -> None:
        of_rows(dict(vars(self)))

    def counts(self) -> dict[str, int]:
        """Rows by kind."""
        counts = np.bincount(self.kind, minlength=len(KINDS))
        return {name: int(count) for name, count in zip(KINDS, counts)}

    def to_arrow(self) -> pa.Table:
        """A table as in the file, the kind as a word."""
        words = pa.DictionaryArray.from_arrays(pa.array(self.kind, pa.int8()), pa.array(KINDS, pa.string()))
        numbers = {
            "row": self.rows, "p_wrong": self.p_wrong, "likely": self.likely, "p_kind": self.p_kind,
            "p_outside": self.p_outside,
        }  # fmt: skip
        return pa.table({**numbers, "kind": words})


def write_kinds(folder: Path, kinds: RowKinds) -> None:
    """Write `kinds.parquet`."""
    write_table(folder / FILE, kinds.to_arrow())


def read_kinds(folder: Path) -> RowKinds | None:
    """What `write_kinds` wrote into `folder`; None where a ranking came without. ArtifactError if damaged."""
    if not (folder / FILE).is_file():
        return None
    table = read_table(folder / FILE)
    if missing := set(COLUMNS) - set(table.column_names):
        raise ArtifactError(f"{folder / FILE} lacks the column {sorted(missing)[0]}")
    words = table["kind"].combine_chunks()
    words = words if hasattr(words, "dictionary") else words.dictionary_encode()
    codes = np.array([KINDS.index(word) for word in words.dictionary.to_pylist()], np.int8)
    columns = {name: table[name].to_numpy() for name in COLUMNS[1:-1]}
    return RowKinds(table["row"].to_numpy(), kind=codes[np.asarray(words.indices)], **columns)
