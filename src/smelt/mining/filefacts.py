"""What check and dedupe found of single images, for the stages that go by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ArtifactError
from smelt.files.parquet import read_table
from smelt.mining.evidence import Evidence


def evidence(check: Path | None, dedupe: Path | None, damaged: bool = False) -> Evidence:
    """What the artefacts found: bad files, damaged ones where it is asked for, copies."""
    found: dict[str, Any] = {}
    if check is not None:
        bad = columns(check / "images.parquet", ["row", "reason"], [("ok", "==", False)])
        found["bad"] = {word: bad["row"][bad["reason"] == word] for word in set(bad["reason"])}
        if damaged:
            found["damaged"] = columns(check / "images.parquet", ["row"], [("damaged", "!=", "")])["row"]
    if dedupe is not None:
        names = ["row", "group", "keep", "cross_label", "leak"]
        found["copies"] = columns(dedupe / "duplicates.parquet", names)
    return Evidence(**found)


def unreadable(check: Path | None) -> NDArray[np.int64]:
    """Rows whose image could not be read."""
    if check is None:
        return np.zeros(0, np.int64)
    found: NDArray[np.int64] = columns(check / "images.parquet", ["row"], [("ok", "==", False)])["row"]
    return found


def copies(dedupe: Path | None) -> NDArray[np.int64]:
    """Rows that are copies: of one that is kept, of one under another label, of validation or test."""
    if dedupe is None:
        return np.zeros(0, np.int64)
    table = columns(dedupe / "duplicates.parquet", ["row", "keep", "cross_label", "leak"])
    copied: NDArray[np.int64] = table["row"][~table["keep"] | table["cross_label"] | table["leak"]]
    return copied


def columns(path: Path, names: list[str], filters: list[Any] | None = None) -> dict[str, Any]:
    """These columns of a Parquet file as numpy arrays; ArtifactError if it has them not."""
    table = read_table(path, columns=names, filters=filters)
    if missing := [name for name in names if name not in table.column_names]:
        raise ArtifactError(f"{path} lacks the column {missing[0]}")
    return {name: table[name].to_numpy() for name in names}
