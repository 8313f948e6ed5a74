"""Selections and rankings: one Parquet row for each image of the training split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.files.atomic import read_json, write_json
from smelt.files.parquet import read_table, write_table


@dataclass(frozen=True)
class Selection:
    """What a round learns from.

    rows: (N,) catalogue rows, ascending. labels: (N,) the label to learn, which may differ from the
    catalogue's. weights: (N,) factor of the loss. kept: (N,) learnt from or not. reasons: (N,) codes into
    `words` ("" for rows that are simply kept). num_classes: outputs of the models, C + 1 with threshold
    samples.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int32]
    weights: NDArray[np.float32]
    kept: NDArray[np.bool_]
    reasons: NDArray[np.int32]
    words: tuple[str, ...]
    num_classes: int

    def __post_init__(self) -> None:
        shapes = {a.shape for a in (self.rows, self.labels, self.weights, self.kept, self.reasons)}
        assert shapes == {(len(self.rows),)}, shapes
        assert bool((np.diff(self.rows) > 0).all()), "rows must ascend"

    def counts(self) -> dict[str, int]:
        """Number of rows by reason; rows without one count as "kept"."""
        counts = np.bincount(self.reasons, minlength=len(self.words))
        return {word or "kept": int(count) for word, count in zip(self.words, counts) if count}


@dataclass(frozen=True)
class Ranking:
    """Scores of rows, each "higher is cleaner".

    rows: (N,) ascending. scores: name → (N,) float64, NaN where a row was never seen. cleanness: (N,) the
    one that selections go by.
    """

    rows: NDArray[np.int64]
    scores: Mapping[str, NDArray[np.float64]]
    cleanness: NDArray[np.float64]

    def __post_init__(self) -> None:
        assert bool((np.diff(self.rows) > 0).all()), "rows must ascend"
        assert all(len(a) == len(self.rows) for a in (self.cleanness, *self.scores.values()))


def write_selection(folder: Path, selection: Selection, summary: Mapping[str, Any] | None = None) -> None:
    """Write `selection.parquet` and `selection.json` (num_classes, counts by reason, `summary`)."""
    words = pa.DictionaryArray.from_arrays(
        pa.array(selection.reasons, pa.int32()), pa.array(selection.words, pa.string())
    )
    columns = {
        "row": selection.rows, "label": selection.labels, "weight": selection.weights,
        "kept": selection.kept, "reason": words,
    }  # fmt: skip
    write_table(folder / "selection.parquet", columns)
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
    )


def write_ranking(folder: Path, ranking: Ranking, summary: Mapping[str, Any] | None = None) -> None:
    """Write `ranking.parquet` and `rank.json` (`summary`)."""
    scores = {f"score_{name}": values for name, values in ranking.scores.items()}
    columns = {"row": ranking.rows, "cleanness": ranking.cleanness, **scores}
    write_table(folder / "ranking.parquet", columns)
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
