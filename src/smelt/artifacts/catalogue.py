"""The catalogue: one row for each image of a data set, as a memory-mapped Arrow file.

The folder `catalogue/` holds

    catalogue.json       what is not of single rows: classes, shards, …
    catalogue.arrow      Arrow IPC, one record batch: label, split, source, folder, name; where the data set
                         has them shard, offset, size, true_label, rank and texts; missing, where files are
    catalogue.parquet    the same for other programs, with whole paths and texts (see `catalogue_parquet`)

Columns of few values (split, source, folder, query, …) are coded by dictionaries. Opening maps the file, so
processes share one copy and pay only for the pages that they read; a path is put together from its folder and
its name when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, combine, decode
from smelt.errors import ArtifactError
from smelt.files.atomic import read_json
from smelt.files.ipc import map_batch, numbers

VERSION = 3
INDEX = "catalogue.json"
ROWS = "catalogue.arrow"
PARQUET = "catalogue.parquet"
UNKNOWN = -1  # a label nobody gave
OUT_OF_VOCABULARY = -1  # true_label of an image of none of the classes
UNKNOWN_TRUTH = -2  # true_label of an image whose truth is not known
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Location:
    """Where the bytes of an image are.

    shard: file that holds it at offset..offset+size-1, or None where `path` is a file of its own.
    raw_shape: shape of the uint8 pixels stored there, or None where an encoded image is. inside: the shard
    lies in the catalogue's folder, not below the root. size is -1 where the image was not found.
    """

    shard: str | None
    offset: int
    size: int
    path: str
    raw_shape: tuple[int, int, int] | None = None
    inside: bool = False


class Catalogue:
    """An opened catalogue; open it by `Catalogue.open(folder)`. Pickles as its folder."""

    def __init__(self, folder: Path, index: dict[str, Any], batch: pa.RecordBatch) -> None:
        self.folder = folder
        self._batch = batch
        self._opened: dict[str, ByteStrings] = {}
        self.num_rows: int = batch.num_rows
        self.classes: tuple[str, ...] = tuple(index["classes"])
        self.class_ids: tuple[str, ...] = tuple(index["class_ids"])  # WordNet ids and the like; may be empty
        self.splits: tuple[str, ...] = tuple(batch.column("split").dictionary.to_pylist())
        self.sources: tuple[str, ...] = tuple(batch.column("source").dictionary.to_pylist())
        self.shards: tuple[str, ...] = tuple(index["shards"])
        self.raw_shape: tuple[int, int, int] | None = (
            tuple(index["raw_shape"]) if index["raw_shape"] else None
        )
        self.inside = frozenset(index["inside"])  # those of `shards` that lie in this folder
        self.follow: bool = index["follow"]  # whether links may lead out of the root
        self.labels_N: NDArray[np.int32] = numbers(batch.column("label"))
        self.split_codes_N: NDArray[np.uint8] = self._codes("split").view(np.uint8)
        self.source_codes_N: NDArray[np.int32] = self._codes("source")
        self._folder_codes_N = self._codes("folder")

    @classmethod
    def open(cls, folder: Path) -> Catalogue:
        """Map the catalogue in `folder`; ArtifactError if it is missing, damaged or of another version."""
        index = read_json(folder / INDEX)
        if not isinstance(index, dict) or index.get("version") != VERSION:
            found = index.get("version") if isinstance(index, dict) else None
            raise ArtifactError(
                f"{folder / INDEX} is not a catalogue of version {VERSION}, which this smelt reads"
                + (f", but of {found}: another smelt wrote it" if isinstance(found, int) else "")
                + ". Run the recipe again in its work folder: it indexes anew "
                "(`smelt plan` says what that takes)"
            )
        try:
            return cls(folder, index, map_batch(folder / ROWS))
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{folder / INDEX} or {ROWS} is damaged: {error!r}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Catalogue.open, (self.folder,)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classes)

    def to_arrow(self) -> pa.Table:
        """All columns as a table, mapped and not copied.

        `folder` and `name` are bytes, which joined by "/" are the path; `catalogue.parquet` holds it whole.
        """
        return pa.Table.from_batches([self._batch])

    def rows(self, split: str) -> NDArray[np.int64]:
        """Rows of a split, ascending; empty where the data set has no such split."""
        if split not in self.splits:
            assert split in SPLITS, f"the splits are {SPLITS}, not {split!r}"
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.split_codes_N == self.splits.index(split))

    def path(self, row: int) -> str:
        """Path of the image relative to the root, or its name in its shard; `os.fsencode` gives the bytes."""
        folder = self._folders[int(self._folder_codes_N[row])]
        name = self._strings("name")[row]
        return decode(folder + b"/" + name if folder else name)

    def location(self, row: int) -> Location:
        """Where the bytes of the image of `row` are."""
        path = self.path(row)
        sizes, codes, offsets = (self._places[name] for name in ("size", "shard", "offset"))
        if offsets is None or sizes is None or codes is None:
            return Location(None, 0, 0, path)
        size, code = int(sizes[row]), int(codes[row])
        if size < 0 or code >= len(self.shards):
            return Location(None, 0, size, path)
        shard = self.shards[code]
        return Location(shard, int(offsets[row]), size, path, self.raw_shape, shard in self.inside)

    def column(self, name: str) -> NDArray[Any] | None:
        """A column of numbers such as "true_label" or "rank" (int32, -1 unknown); None if not there."""
        found = self._find(name)
        return numbers(found) if found is not None and pa.types.is_integer(found.type) else None

    def strings(self, column: str, rows: Iterable[int]) -> list[str]:
        """Text of "query", "title", "description", "tags", "noise"; "" where there is none."""
        found = self._find(column)
        if found is None:
            return ["" for _ in rows]
        strings = self._strings(column)
        if pa.types.is_dictionary(found.type):
            codes = numbers(found.indices)
            return [strings[int(codes[row])].decode("utf-8", "replace") for row in rows]
        return [strings[row].decode("utf-8", "replace") for row in rows]

    @cached_property
    def missing(self) -> NDArray[np.int64]:
        """Rows whose file was not there when the data set was indexed."""
        found = self._find("missing")
        if found is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero(found.to_numpy(zero_copy_only=False))

    def coded(self, column: str, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
        """A column of few values as (words, codes (len(rows),) into them); all "" where it is not there."""
        found = self._find(column)
        if found is None or not pa.types.is_dictionary(found.type):
            return [""], np.zeros(len(rows), np.int64)
        return found.dictionary.to_pylist(), numbers(found.indices)[rows].astype(np.int64)

    def path_hashes(self) -> NDArray[np.uint64]:
        """(N,) hashes of the paths, those of `catalogue_writer.Paths.hashes`: what a hold-out is drawn by."""
        folders = ByteStrings.of(self._folders).hashes()
        return combine(folders[self._folder_codes_N], self._strings("name").hashes())

    def _find(self, name: str) -> pa.Array | None:
        place = self._batch.schema.get_field_index(name)
        return None if place < 0 else self._batch.column(place)

    def _codes(self, name: str) -> NDArray[Any]:
        codes: NDArray[Any] = numbers(self._batch.column(name).indices)
        return codes

    @cached_property
    def _places(self) -> dict[str, NDArray[Any] | None]:
        return {name: self.column(name) for name in ("shard", "offset", "size")}

    @cached_property
    def _folders(self) -> list[bytes]:
        return list(self._strings("folder"))

    def _strings(self, name: str) -> ByteStrings:
        """The strings of a column, or those that its codes stand for."""
        if name not in self._opened:
            found = self._batch.column(name)
            words = found.dictionary if pa.types.is_dictionary(found.type) else found
            self._opened[name] = ByteStrings.from_arrow(words)
        return self._opened[name]
