"""Dynamics on disk: what training recorded of each catalogue row, one plain `.npy` a column.

36 bytes a row, so 16 M rows take 579 MB. Columns are opened memory-mapped. Every mean is NaN for a row that
was never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.files import read_json, write_json
from smelt.errors import ArtifactError

COLUMNS: dict[str, np.dtype[Any]] = {
    "seen": np.dtype(np.int32),
    "margin_sum": np.dtype(np.float32),
    "log_margin_sum": np.dtype(np.float32),
    "probability_sum": np.dtype(np.float32),
    "probability_m2": np.dtype(np.float32),
    "correct": np.dtype(np.int32),
    "forgotten": np.dtype(np.int32),
    "last": np.dtype(np.int64),
}
BYTES_PER_ROW = sum(dtype.itemsize for dtype in COLUMNS.values())
OTHER_BITS = 31  # `last` = step << 32 | correct << 31 | class of the largest other logit; -1: never seen


@dataclass(frozen=True)
class Dynamics:
    """Columns (N,) by catalogue row; index them with row ids, never by position in some other list.

    seen: times the row was recorded. margin_sum: sum of (logit of the label − largest other logit).
    log_margin_sum: sum of log p/(1 − p), p being the label's probability. probability_sum: sum of p.
    probability_m2: sum of squared deviations of p from its mean. correct: times the label had the strictly
    largest logit. forgotten: times the row went from correct to wrong. last: the newest visit, packed.
    """

    seen: NDArray[np.int32]
    margin_sum: NDArray[np.float32]
    log_margin_sum: NDArray[np.float32]
    probability_sum: NDArray[np.float32]
    probability_m2: NDArray[np.float32]
    correct: NDArray[np.int32]
    forgotten: NDArray[np.int32]
    last: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, dtype in COLUMNS.items():
            column = getattr(self, name)
            assert column.dtype == dtype and column.shape == self.seen.shape, name

    @property
    def num_rows(self) -> int:
        """Number of catalogue rows, seen or not."""
        return len(self.seen)

    def _mean(self, name: str) -> NDArray[np.float64]:
        seen = np.asarray(self.seen, dtype=np.float64)
        mean: NDArray[np.float64] = np.full(len(seen), np.nan)
        np.divide(getattr(self, name), seen, out=mean, where=seen > 0)
        return mean

    def aum(self) -> NDArray[np.float64]:
        """Area under the margin: the mean margin over all visits (Pleiss et al. 2020, section 3)."""
        return self._mean("margin_sum")

    def log_margin(self) -> NDArray[np.float64]:
        """Mean of log p/(1 − p): the margin against all other classes together."""
        return self._mean("log_margin_sum")

    def probability(self) -> NDArray[np.float64]:
        """Mean probability of the label ("confidence" in Swayamdipta et al. 2020, section 2)."""
        return self._mean("probability_sum")

    def variability(self) -> NDArray[np.float64]:
        """Standard deviation over visits of the label's probability (Swayamdipta et al. 2020)."""
        spread: NDArray[np.float64] = np.sqrt(np.maximum(self._mean("probability_m2"), 0))
        return spread

    def accuracy(self) -> NDArray[np.float64]:
        """Share of the visits at which the label had the largest logit."""
        return self._mean("correct")

    def other(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.int64]:
        """The class with the largest logit besides the label, at the last visit; −1 if never seen."""
        last = np.asarray(self.last[rows])
        return np.where(last >= 0, last & ((1 << OTHER_BITS) - 1), -1)


def save_dynamics(folder: Path, arrays: Mapping[str, NDArray[Any]], summary: Mapping[str, Any]) -> None:
    """Write the columns `arrays` (as `Recorder.arrays` gives them) and `dynamics.json` (`summary`)."""
    dynamics = Dynamics(**arrays)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in COLUMNS:
            np.save(folder / f"{name}.npy", getattr(dynamics, name), allow_pickle=False)
    except OSError as error:
        needed = BYTES_PER_ROW * dynamics.num_rows
        raise ArtifactError(f"cannot write dynamics to {folder} ({needed} bytes): {error}") from error
    write_json(folder / "dynamics.json", {**summary, "rows": dynamics.num_rows})


def open_dynamics(folder: Path) -> tuple[Dynamics, dict[str, Any]]:
    """The dynamics in `folder`, memory-mapped, and their summary; ArtifactError names a bad file."""
    summary = read_json(folder / "dynamics.json")
    columns = {field.name: _open(folder / f"{field.name}.npy", summary["rows"]) for field in fields(Dynamics)}
    return Dynamics(**columns), summary


def _open(path: Path, rows: int) -> NDArray[Any]:
    try:
        column: NDArray[Any] = np.load(path, mmap_mode="r" if rows else None, allow_pickle=False)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is not there") from error
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error
    if column.shape != (rows,) or column.dtype != COLUMNS[path.stem]:
        raise ArtifactError(f"{path} holds {column.shape} {column.dtype}, not ({rows},) {COLUMNS[path.stem]}")
    return column
