"""Selections: one Parquet row for each image that there is to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.artifacts.ranking import of_rows
from smelt.artifacts.softlabels import SoftLabels, read_soft_labels, write_soft_labels
from smelt.files.atomic import read_json, write_json
from smelt.files.parquet import read_table, write_table

FLAGGED = ("likely_wrong", "outside")  # reasons of a score, beside `low_…`


def for_its_score(word: str) -> bool:
    """Whether a reason says what a score said of a row, and not a fact about it."""
    return word.startswith("low_") or word in FLAGGED


@dataclass(frozen=True)
class Selection:
    """What a round learns from.

    rows: (N,) catalogue rows, ascending. labels: (N,) the label to learn, which may differ from the
    catalogue's. weights: (N,) factor of the loss. kept: (N,) learnt from or not. reasons: (N,) codes into
    `words` ("" for rows that are simply kept). num_classes: outputs of the models, C + 1 with threshold
    samples. soft: what some rows are taught as instead of their label alone. ValueError for other shapes.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int32]
    weights: NDArray[np.float32]
    kept: NDArray[np.bool_]
    reasons: NDArray[np.int32]
    words: tuple[str, ...]
    num_classes: int
    soft: SoftLabels | None = None

    def __post_init__(self) -> None:
        of_rows({name: getattr(self, name) for name in ("rows", "labels", "weights", "kept", "reasons")})

    def counts(self) -> dict[str, int]:
        """Number of rows by reason; rows without one count as "kept"."""
        counts = np.bincount(self.reasons, minlength=len(self.words))
        return {word or "kept": int(count) for word, count in zip(self.words, counts) if count}

    def to_arrow(self) -> pa.Table:
        """A table of `row`, `label`, `weight`, `kept`, `reason` (dictionary), as in `selection.parquet`."""
        words = pa.DictionaryArray.from_arrays(
            pa.array(self.reasons, pa.int32()), pa.array(self.words, pa.string())
        )
        columns = {"row": self.rows, "label": self.labels, "weight": self.weights, "kept": self.kept}
        return pa.table({**columns, "reason": words})


def write_selection(folder: Path, selection: Selection, summary: Mapping[str, Any] | None = None) -> None:
    """Write `selection.parquet`, `selection.json` (num_classes, counts by reason, `summary`) and, with soft
    labels, `soft_labels.parquet`."""
    write_table(folder / "selection.parquet", selection.to_arrow())
    if selection.soft is not None:
        write_soft_labels(folder, selection.soft)
    write_json(
        folder / "selection.json",
        {**(summary or {}), "num_classes": selection.num_classes, "counts": selection.counts()},
    )


def read_selection(folder: Path) -> Selection:
    """The selection that `write_selection` wrote into `folder`."""
    table = read_table(folder / "selection.parquet")
    reason = table["reason"].combine_chunks()
    if not hasattr(reason, "dictionary"):
        reason = reason.dictionary_encode()
    return Selection(
        rows=table["row"].to_numpy(),
        labels=table["label"].to_numpy(),
        weights=table["weight"].to_numpy(),
        kept=table["kept"].to_numpy(),
        reasons=np.asarray(reason.indices, dtype=np.int32),
        words=tuple(reason.dictionary.to_pylist()),
        num_classes=int(read_json(folder / "selection.json")["num_classes"]),
        soft=read_soft_labels(folder),
    )
