"""Features: what a net sees in every image of a catalogue, one line of numbers a row.

    features.npy    (N, D) float16, mapped when read: the line of each catalogue row, all splits
    known.npy       (N,) bool; False: the image could not be read, its line is zeros
    features.json   name, rows, dim, clipped (values that float16 cannot hold), and what they were made from
    text_CD.npy     of a net that reads words, too: (C, D) float32 of the classes' words, each of length 1;
                    features.json then has its `scale` of cosines

Written block by block, in place, so that a killed writer goes on with the next block; a block counts as
written once its bytes are on the disk and its hash is noted. Sixteen million rows of 1,280 take 41 GB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ArtifactError
from smelt.files.arrays import map_array, new_array, write_lines
from smelt.files.atomic import append_line, read_json, write_json
from smelt.files.opening import read_text

VALUES, KNOWN, INFO = "features.npy", "known.npy", "features.json"
WORDS = "text_CD.npy"
LARGEST = 65504.0  # of float16
BLOCK = 8192  # rows that are computed with at once, in float32


@dataclass(frozen=True)
class Features:
    """Features of a catalogue's rows; `open` maps them.

    values_ND: (N, D) float16. known_N: (N,) bool, False where there are none. name: what they are called.
    info: all that `features.json` says, `dim` and `rows` among it. text_CD: (C, D) float32 of the classes'
    words, None where the net reads no words.
    """

    values_ND: NDArray[np.float16]
    known_N: NDArray[np.bool_]
    name: str
    info: Mapping[str, Any] = field(default_factory=dict)
    text_CD: NDArray[np.float32] | None = None

    @classmethod
    def open(cls, folder: Path | str, num_rows: int | None = None) -> Features:
        """Map what a FeatureWriter wrote into `folder`.

        num_rows: rows of the catalogue they have to be of. ArtifactError where a file is missing, damaged or
        of another shape, or where they are of another catalogue.
        """
        folder = Path(folder)
        info = read_json(folder / INFO)
        try:
            shape = int(info["rows"]), int(info["dim"])
            name = str(info["name"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder / INFO} does not describe features: {error!r}") from error
        values, known = map_array(folder / VALUES), map_array(folder / KNOWN)
        if values.dtype != np.float16 or values.shape != shape:
            raise ArtifactError(
                f"{folder / VALUES} holds {values.dtype} {values.shape}, {INFO} says float16 {shape}"
            )
        if known.dtype != np.bool_ or known.shape != shape[:1]:
            raise ArtifactError(f"{folder / KNOWN} holds {known.dtype} {known.shape}, not bool {shape[:1]}")
        if num_rows is not None and shape[0] != num_rows:
            raise ArtifactError(
                f"{folder} has features of {shape[0]} rows, the catalogue has {num_rows}: "
                "they are of different data sets"
            )
        text = map_array(folder / WORDS) if (folder / WORDS).is_file() else None
        if text is not None and (text.ndim != 2 or text.shape[1] != shape[1] or "scale" not in info):
            raise ArtifactError(
                f"{folder / WORDS} holds {text.shape}, and the features have {shape[1]} numbers"
            )
        return cls(values, known, name, info, text)

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.known_N)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.values_ND.shape[1])

    def lines(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The lines of `rows`, (n, D) float32, in their order."""
        return np.asarray(self.values_ND[rows], np.float32)

    def blocks(self, rows: NDArray[np.int64], size: int = BLOCK) -> Iterator[NDArray[np.float32]]:
        """The lines of `rows` in their order, (at most `size`, D) float32 each."""
        for at in range(0, len(rows), size):
            yield self.lines(rows[at : at + size])


class FeatureWriter:
    """Writes features of `rows` catalogue rows into `folder`, in blocks of following rows.

    scratch: a folder that outlives a kill as `folder` does. What a killed writer of the same shape has
    written is kept, as far as its bytes are what they were: `done` rows from the first one on.
    ArtifactError where the disk has no room.
    """

    def __init__(self, folder: Path, scratch: Path, rows: int, dim: int) -> None:
        if rows < 0 or dim < 1:
            raise ValueError(f"features are (rows, dim) of at least 0 and 1, not ({rows}, {dim})")
        self._folder, self._noted = folder, scratch / "features.blocks"
        self.rows, self.dim, self.clipped, self.done = rows, dim, 0, 0
        if not self._take_up():
            self._noted.unlink(missing_ok=True)
            new_array(folder / VALUES, (rows, dim), np.float16)
            new_array(folder / KNOWN, (rows,), np.bool_)
            self.clipped = self.done = 0

    def write(self, values_BD: NDArray[np.float32], known_B: NDArray[np.bool_]) -> None:
        """Append the lines of the next B rows; those that are not known become zeros.

        What float16 cannot hold is clipped to ±65504 and counted. ValueError for another shape or too many
        rows, ArtifactError for a known line that is not finite: it names the row.
        """
        count = len(known_B)
        if values_BD.shape != (count, self.dim) or self.done + count > self.rows:
            raise ValueError(
                f"{values_BD.shape} values and {known_B.shape} flags do not follow row {self.done} of "
                f"({self.rows}, {self.dim})"
            )
        values = np.where(known_B[:, None], values_BD, np.float32(0))
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(wrong):
            raise ArtifactError(
                f"features of {len(wrong)} of {count} images are not finite, the first of row "
                f"{self.done + int(wrong[0])}: the weights are damaged or made for another net, or the "
                "precision is too low for them (precision: fp32)"
            )
        clipped = int((np.abs(values) > LARGEST).sum())
        half = np.clip(values, -LARGEST, LARGEST).astype("<f2")
        flags = np.ascontiguousarray(known_B, np.bool_)
        write_lines(self._folder / VALUES, self.done, half)
        write_lines(self._folder / KNOWN, self.done, flags)
        append_line(self._noted, json.dumps([self.done, count, clipped, _digest(half, flags)]))
        self.clipped += clipped
        self.done += count

    def finish(self, name: str, made_from: Mapping[str, Any]) -> None:
        """Write `features.json`; `made_from`: any JSON. ValueError unless all rows were written."""
        if self.done != self.rows:
            raise ValueError(f"{self.done} of {self.rows} rows were written")
        write_json(
            self._folder / INFO,
            {**made_from, "name": name, "rows": self.rows, "dim": self.dim, "clipped": self.clipped},
        )
        self._noted.unlink(missing_ok=True)

    def _take_up(self) -> bool:
        """Go on with what is there; False where nothing of this shape is."""
        try:
            values, known = map_array(self._folder / VALUES), map_array(self._folder / KNOWN)
            lines = read_text(self._noted, errors="replace").splitlines()
        except (ArtifactError, OSError):
            return False
        if (
            values.shape != (self.rows, self.dim)
            or values.dtype != np.float16
            or known.shape != (self.rows,)
            or known.dtype != np.bool_
        ):
            return False
        for line in filter(None, lines):
            try:
                start, count, clipped, digest = json.loads(line)
                stop = start + count
            except (ValueError, TypeError):  # torn by a kill
                continue
            if start != self.done or _digest(values[start:stop], known[start:stop]) != digest:
                continue
            self.done, self.clipped = stop, self.clipped + clipped
        return True


def _digest(values_BD: NDArray[np.float16], known_B: NDArray[np.bool_]) -> str:
    """Hex sha256 of a block as it lies on the disk."""
    content = hashlib.sha256(np.ascontiguousarray(values_BD).data)
    content.update(np.ascontiguousarray(known_B).data)
    return content.hexdigest()
