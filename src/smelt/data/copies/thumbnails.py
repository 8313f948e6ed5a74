"""Thumbnails of the images that hashes suggest are copies, and the check of a pair by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from smelt.data.copies.alignment import Agreement, compare
from smelt.data.copies.hashes import SIZE, content_box, luma, thumbnail
from smelt.data.images.decode import decode
from smelt.errors import ArtifactError, BadImageError
from smelt.files.arrays import map_bytes
from smelt.files.atomic import new_file
from smelt.files.opening import patiently

Flags = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)

PIXELS = SIZE * SIZE
COLOUR = slice(PIXELS, PIXELS + 3)  # mean red, green, blue
BYTES = slice(PIXELS + 3, PIXELS + 11)  # size of the file, 0 where the image could not be read
RECORD = PIXELS + 11
CHUNK = 1024
PAIRS = 4096
BLANK_STEP = 2.0  # mean difference in grey levels up to which two pictures without structure are one


class Store(Protocol):
    """Where images are read from; `loader.ImageStore` is one."""

    def read(self, row: int) -> bytes | NDArray[np.uint8]: ...


class Thumbnails:
    """Thumbnails by row, each image decoded once; a file rather than memory holds them (4 KiB each)."""

    def __init__(self, store: Store, path: Path, workers: int) -> None:
        self._store, self._path, self._workers = store, path, max(workers, 1)
        self._rows = np.zeros(0, np.int64)  # ascending
        self._places = np.zeros(0, np.int64)  # record of each
        self._path.unlink(missing_ok=True)

    def add(self, rows: NDArray[np.int64], progress: Callable[[int, int], None]) -> None:
        """Read the images of `rows` that are not there yet."""
        rows = np.setdiff1d(rows, self._rows)
        try:
            with new_file(self._path, append=True) as file, ThreadPoolExecutor(self._workers) as pool:
                for begin in range(0, len(rows), CHUNK):
                    part = rows[begin : begin + CHUNK].tolist()
                    file.write(b"".join(pool.map(self._patient_record, part)))
                    progress(begin + len(part), len(rows))
        except OSError as error:
            raise ArtifactError(
                f"cannot write {self._path} ({len(rows) * RECORD} bytes): {error.strerror}"
            ) from error
        places = np.arange(len(rows)) + len(self._rows)
        merged = np.r_[self._rows, rows]
        order = np.argsort(merged, kind="stable")
        self._rows, self._places = merged[order], np.r_[self._places, places][order]

    def _patient_record(self, row: int) -> bytes:
        return patiently(lambda: self._record(row), lambda: f"the image of row {row}")

    def _record(self, row: int) -> bytes:
        try:
            data = self._store.read(row)
            pixels = decode(data) if isinstance(data, bytes) else data
        except BadImageError:
            return bytes(RECORD)
        grey = luma(pixels)
        colour = pixels.reshape(-1, pixels.shape[-1]).mean(axis=0).round().astype(np.uint8)
        size = np.uint64(len(data) if isinstance(data, bytes) else data.nbytes)
        return b"".join([thumbnail(grey, content_box(grey)).tobytes(), colour.tobytes(), size.tobytes()])

    def records(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(len(rows), RECORD): luma, mean colour, size."""
        if not len(rows):
            return np.zeros((0, RECORD), np.uint8)
        stored = map_bytes(self._path).reshape(-1, RECORD)
        return np.asarray(stored[self._places[np.searchsorted(self._rows, rows)]])

    def colours(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The mean colour of each row in steps of 8 levels, as one number."""
        parts = [self.records(part)[:, COLOUR] // 8 for part in _parts(rows)]
        steps = np.concatenate([np.zeros((0, 3), np.uint8), *parts]).astype(np.int64)
        return steps[:, 0] * 1024 + steps[:, 1] * 32 + steps[:, 2]

    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(rows, bytes of the file of each) of all rows that were added."""
        parts = [_sizes(self.records(part)) for part in _parts(self._rows)]
        return self._rows, np.concatenate([np.zeros(0, np.int64), *parts])

    def same(
        self, pairs_R2: NDArray[np.int64], mirrored_R: NDArray[np.bool_], agrees: Callable[[Agreement], Flags]
    ) -> Flags:
        """Whether each pair, whose rows were added, shows the same picture by the finer comparison."""
        found = [np.zeros(0, bool)]
        for pairs, flip in zip(_parts(pairs_R2), _parts(mirrored_R)):
            left, right = self.records(pairs[:, 0]), self.records(pairs[:, 1])
            first, second = (side[:, :PIXELS].reshape(-1, SIZE, SIZE) for side in (left, right))
            second = np.where(flip[:, None, None], second[:, :, ::-1], second)
            found.append(agrees(compare(first, second)) & (_sizes(left) > 0) & (_sizes(right) > 0))
        return np.concatenate(found)

    def same_blank(self, pairs_R2: NDArray[np.int64]) -> Flags:
        """Whether each pair of pictures without structure is of one shade, place by place."""
        found = [np.zeros(0, bool)]
        for pairs in _parts(pairs_R2):
            left, right = self.records(pairs[:, 0]), self.records(pairs[:, 1])
            step = np.abs(left.astype(np.int16) - right)
            shade, colour = step[:, :PIXELS].mean(axis=1), step[:, COLOUR].max(axis=1)
            readable = (_sizes(left) > 0) & (_sizes(right) > 0)
            found.append((shade <= BLANK_STEP) & (colour <= 2 * BLANK_STEP) & readable)
        return np.concatenate(found)


def _sizes(records_RB: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.ascontiguousarray(records_RB[:, BYTES]).view(np.int64)[:, 0]


def _parts(values: NDArray[Scalar]) -> Iterator[NDArray[Scalar]]:
    for begin in range(0, len(values), PAIRS):
        yield values[begin : begin + PAIRS]
