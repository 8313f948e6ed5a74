"""The catalogue: one row for each image of a data set, as memory-mapped columns.

The folder `catalogue/` holds

    catalogue.json           classes, splits, sources, shards, and the kind of every column
    <name>.npy               a fixed-width column, or codes into words
    <name>.heap.npy          bytes of a column of strings …
    <name>.offsets.npy       … and where each begins: of rows, or of the words of a column of codes
    catalogue.parquet        the same for other programs (see `catalogue_parquet`)

Opening it maps files, so processes share one copy and pay only for the pages that they read; a path is put
together from its folder (a word) and its name when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, combine, decode
from smelt.errors import ArtifactError
from smelt.files.arrays import map_array
from smelt.files.atomic import read_json

VERSION = 2
INDEX = "catalogue.json"
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

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder = folder
        self._kinds: dict[str, str] = index["columns"]
        self._opened: dict[str, ByteStrings] = {}
        self.num_rows: int = index["num_rows"]
        self.classes: tuple[str, ...] = tuple(index["classes"])
        self.class_ids: tuple[str, ...] = tuple(index["class_ids"])  # WordNet ids and the like; may be empty
        self.splits: tuple[str, ...] = tuple(index["splits"])
        self.sources: tuple[str, ...] = tuple(index["sources"])
        self.shards: tuple[str, ...] = tuple(index["shards"])
        self.raw_shape: tuple[int, int, int] | None = (
            tuple(index["raw_shape"]) if index["raw_shape"] else None
        )
        self.inside = frozenset(index["inside"])  # those of `shards` that lie in this folder
        self.follow: bool = index["follow"]  # whether links may lead out of the root
        self.labels_N: NDArray[np.int32] = self._map("label.npy")
        self.split_codes_N: NDArray[np.uint8] = self._map("split.npy")
        self.source_codes_N: NDArray[np.uint16] = self._map("source.npy")
        self._folder_codes_N: NDArray[np.uint32] = self._map("folder.npy")

    @classmethod
    def open(cls, folder: Path) -> Catalogue:
        """Map the catalogue in `folder`; ArtifactError if it is missing, damaged or of another version."""
        index = read_json(folder / INDEX)
        if not isinstance(index, dict) or index.get("version") != VERSION:
            raise ArtifactError(f"{folder / INDEX} is not a catalogue of version {VERSION}: index again")
        try:
            return cls(folder, index)
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{folder / INDEX} is damaged: {error!r}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Catalogue.open, (self.folder,)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classes)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Rows of a split, ascending; empty where the data set has no such split."""
        if split not in self.splits:
            assert split in SPLITS, f"the splits are {SPLITS}, not {split!r}"
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.split_codes_N == self.splits.index(split))

    def path(self, row: int) -> str:
        """Path of the image relative to the root, or its name in its shard; `os.fsencode` gives the bytes."""
        folder = self._folders[int(self._folder_codes_N[row])]
        name = self._names[row]
        return decode(folder + b"/" + name if folder else name)

    def location(self, row: int) -> Location:
        """Where the bytes of the image of `row` are."""
        path = self.path(row)
        if "offset" not in self._kinds:
            return Location(None, 0, 0, path)
        size = int(self._columns["size"][row])
        code = int(self._columns["shard"][row])
        if size < 0 or code >= len(self.shards):
            return Location(None, 0, size, path)
        offset = int(self._columns["offset"][row])
        shard = self.shards[code]
        return Location(shard, offset, size, path, self.raw_shape, shard in self.inside)

    def column(self, name: str) -> NDArray[Any] | None:
        """A fixed-width column such as "true_label" or "rank" (int32, -1 unknown); None if not there."""
        return self._columns[name] if self._kinds.get(name) == "fixed" else None

    def strings(self, column: str, rows: Iterable[int]) -> list[str]:
        """Text of "query", "title", "description", "tags", "noise"; "" where there is none."""
        kind = self._kinds.get(column)
        if kind == "words":
            words, codes = self._strings(column), self._columns[column]
            return [words[int(codes[row])].decode("utf-8", "replace") for row in rows]
        if kind == "strings":
            strings = self._strings(column)
            return [strings[row].decode("utf-8", "replace") for row in rows]
        return ["" for _ in rows]

    @cached_property
    def missing(self) -> NDArray[np.int64]:
        """Rows whose file was not there when the data set was indexed."""
        return self._map("missing.npy")

    @property
    def column_kinds(self) -> dict[str, str]:
        """Name of every further column → "fixed", "words" or "strings"."""
        return dict(self._kinds)

    def codes(self, column: str) -> NDArray[np.uint32]:
        """(N,) codes into `words(column)` of a column of kind "words"."""
        return self._columns[column]

    def coded(self, column: str, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
        """A column of kind "words" as (words, codes (len(rows),) into them); all "" where it is not there."""
        if self._kinds.get(column) != "words":
            return [""], np.zeros(len(rows), np.int64)
        words = [word.decode("utf-8", "replace") for word in self._strings(column)]
        return words, self._columns[column][rows].astype(np.int64)

    def words(self, column: str) -> ByteStrings:
        """What the codes of a column of kind "words" (or "folder") stand for, or all its strings."""
        return self._strings(column)

    def path_hashes(self) -> NDArray[np.uint64]:
        """(N,) hashes of the paths, those of `catalogue_writer.Paths.hashes`: what a hold-out is drawn by."""
        folders = ByteStrings.of(self._folders).hashes()
        return combine(folders[self._folder_codes_N], self._names.hashes())

    def names(self) -> ByteStrings:
        """The last part of every path."""
        return self._names

    def folder_codes(self) -> NDArray[np.uint32]:
        """(N,) codes into `words("folder")`, the part of the path before the name."""
        return self._folder_codes_N

    @cached_property
    def _columns(self) -> _Columns:
        return _Columns(self)

    @cached_property
    def _folders(self) -> list[bytes]:
        return list(self._strings("folder"))

    @cached_property
    def _names(self) -> ByteStrings:
        return self._strings("name")

    def _strings(self, name: str) -> ByteStrings:
        key = f"{name}.heap.npy"
        if key not in self._opened:
            self._opened[key] = ByteStrings(self._map(key), self._map(f"{name}.offsets.npy"))
        return self._opened[key]

    def _map(self, name: str) -> NDArray[Any]:
        return map_array(self.folder / name)


class _Columns(dict[str, NDArray[Any]]):
    """Columns, mapped when first asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.folder = catalogue.folder

    def __missing__(self, name: str) -> NDArray[Any]:
        self[name] = map_array(self.folder / f"{name}.npy")
        return self[name]
