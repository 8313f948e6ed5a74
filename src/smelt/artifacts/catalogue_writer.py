"""Writing a catalogue: blocks of rows are appended to files; memory holds one hash for each row, not more.

Rows get their numbers in the order of the blocks. `finish` finds paths that were given twice.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, combine, decode
from smelt.artifacts.catalogue import INDEX, PARQUET, ROWS, SPLITS, UNKNOWN, UNKNOWN_TRUTH, VERSION
from smelt.artifacts.growing import Numbers, Strings, mapped
from smelt.artifacts.longtexts import LongTexts, cut, cut_name
from smelt.errors import DataError
from smelt.files.arrays import map_array
from smelt.files.atomic import link_or_copy, write_json
from smelt.files.ipc import map_batch, write_batch

MAX_SOURCES = 1 << 16  # who has as many took another column for the source
FILL = {"true_label": UNKNOWN_TRUTH, "rank": UNKNOWN, "size": UNKNOWN}
DTYPES = {"true_label": np.int32, "rank": np.int32, "size": np.int64, "offset": np.int64}


def shard_codes(shards: int) -> np.dtype[Any]:
    """Type of the codes of so many shards; its highest value says that a row lies in none."""
    return np.dtype(np.uint16 if shards < 0xFFFF else np.uint32)


@dataclass(frozen=True)
class Paths:
    """N paths as a folder each (codes into `folders`) and a name."""

    folders: Sequence[bytes]
    folder_codes: NDArray[Any]
    names: ByteStrings

    @classmethod
    def of(cls, paths: Iterable[bytes]) -> Paths:
        """From whole paths; for data sets of moderate size."""
        words: dict[bytes, int] = {}
        codes, names = [], []
        for path in paths:
            folder, _, name = path.rpartition(b"/")
            codes.append(words.setdefault(folder, len(words)))
            names.append(name)
        return cls(list(words), np.asarray(codes, np.uint32), ByteStrings.of(names))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> bytes:
        folder, name = self.folders[int(self.folder_codes[index])], self.names[index]
        return folder + b"/" + name if folder else name

    def take(self, rows: NDArray[np.int64]) -> Paths:
        """The paths at `rows`, in that order."""
        codes, folders = self.folder_codes[rows], self.folders
        if len(rows) < len(folders):
            used, codes = np.unique(codes, return_inverse=True)
            folders = [folders[code] for code in used.tolist()]
        return Paths(folders, np.asarray(codes, np.uint32), self.names.take(rows))

    def below(self, folder: bytes) -> Paths:
        """The same paths, moved below `folder`."""
        folder = folder.rstrip(b"/")
        moved = [folder + b"/" + old if old and folder else old or folder for old in self.folders]
        return Paths(moved, self.folder_codes, self.names)

    def hashes(self) -> NDArray[np.uint64]:
        """(N,) 64-bit hashes of the whole paths, however they are cut."""
        return combine(ByteStrings.of(self.folders).hashes()[self.folder_codes], self.names.hashes())


@dataclass
class Block:
    """Rows of one split and source that follow one another in the catalogue.

    labels: (N,) int32, -1 where unknown. fixed: further columns by name, as `true_label`, `rank`, or
    `shard`, `offset`, `size`. words: columns with few values: (codes (N,), words). strings: free text.
    listed_in: what they came from, for messages: row i is at `listed_in(entries[i])`, or at
    `where(entries + i)` where that is one number.
    """

    split: str
    source: str
    paths: Paths
    labels: NDArray[np.int32]
    fixed: dict[str, NDArray[Any]] = field(default_factory=dict)
    words: dict[str, tuple[NDArray[Any], Sequence[bytes]]] = field(default_factory=dict)
    strings: dict[str, ByteStrings] = field(default_factory=dict)
    missing: NDArray[np.bool_] | None = None
    listed_in: Any = None
    entries: NDArray[np.int64] | int = 0

    def __len__(self) -> int:
        return len(self.labels)


def too_many_sources(count: int) -> str:
    """What is wrong with so many sources."""
    return (
        f"there are {count} different sources, and {MAX_SOURCES} at most can be told apart: a source says "
        f"who delivered an image (google, flickr, a site); leave it out, or name another column for it"
    )


@dataclass(frozen=True)
class Repeat:
    """A path that two rows have: their numbers (first < second), and the path."""

    first: int
    second: int
    path: str


class _Words:
    """Words of a column of codes: the same word has the same code in all blocks.

    Those of a column of free text are cut where they are long (`long` keeps them whole, under `name`).
    """

    def __init__(self, first: Sequence[bytes] = (), long: LongTexts | None = None, name: str = "") -> None:
        self.codes: dict[bytes, int] = {word: code for code, word in enumerate(first)}
        self.long, self.name = long, name
        self.cut: dict[int, bytes] = {}

    def code(self, word: bytes) -> int:
        """The code of a word, a new one for a new word."""
        short = cut(word) if self.long else None
        if self.long is None or short is None:
            return self.codes.setdefault(word, len(self.codes))
        known = len(self.codes)
        code = self.codes.setdefault(b"\0" + hashlib.sha256(word).digest(), known)
        if code == known:
            self.cut[code] = short
            self.long.keep(self.name, code, word)
        return code

    def words(self) -> list[bytes]:
        """All of them by code, long ones cut."""
        return [self.cut.get(code, word) for word, code in self.codes.items()]

    def recode(self, codes: NDArray[Any], words: Sequence[bytes]) -> NDArray[np.int32]:
        if len(codes) < len(words):  # few rows of many words: look at those they use
            used, codes = np.unique(codes, return_inverse=True)
            words = [words[code] for code in used.tolist()]
        table = [self.code(word) for word in words]
        return np.asarray(table, np.int32)[codes] if len(codes) else np.zeros(0, np.int32)


class CatalogueWriter:
    """Writes `folder` block by block; used in a `with` statement, ended by `finish`.

    The reader of a format also sets `classes`, and `class_ids`, `shards` (before rows that lie in them) and
    `raw_shape` where it has them; `inside`: those of `shards` that lie in the catalogue's own folder, because
    the data set holds its images in a form that cannot be read by offset (see `pack.Pack`). follow: links may
    lead out of the root.

    Free text (all of `Block.strings` and `Block.words`) is cut to `longtexts.LIMIT` characters, as are names
    of classes and sources; `long.counts` says how often in which column. What was cut lies aside in `folder`,
    whole, until `catalogue_parquet.write_parquet` has put it into the Parquet file.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():  # of an attempt that was killed
            old.unlink()
        self.folder = folder
        self.num_rows = 0
        self.origins: list[tuple[int, str, Any, NDArray[np.int64] | int]] = []
        self.shards: list[str] = []
        self.inside: set[str] = set()
        self.follow = False
        self.classes: list[str] = []
        self.class_ids: list[str] = []
        self.raw_shape: tuple[int, int, int] | None = None
        self.long = LongTexts(folder)
        self._splits, self._sources = _Words([s.encode() for s in SPLITS]), _Words()
        self._words: dict[str, _Words] = {"folder": _Words()}
        self._kinds: dict[str, str] = {}
        self._columns: dict[str, Numbers | Strings] = {
            "label": Numbers(folder / "label.npy", np.int32),
            "split": Numbers(folder / "split.npy", np.int8),
            "source": Numbers(folder / "source.npy", np.int32),
            "folder": Numbers(folder / "folder.npy", np.int32),
            "name": Strings(folder, "name"),
        }
        self._hashes: list[NDArray[np.uint64]] = []
        self._missing: list[NDArray[np.int64]] = []

    def __enter__(self) -> CatalogueWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        for column in self._columns.values():
            # after an error (a full disk, say) what was written is worthless, and the error is what counts
            with contextlib.suppress(*(() if error is None else (OSError, ValueError))):
                column.close()
        with contextlib.suppress(*(() if error is None else (OSError, ValueError))):
            self.long.close()

    def add(self, block: Block) -> None:
        """Append the rows of `block`."""
        count = len(block)
        assert len(block.paths) == count and block.split in SPLITS
        self.origins.append((self.num_rows, block.split, block.listed_in, block.entries))
        self._append("label", block.labels)
        self._append("split", np.full(count, self._splits.codes[block.split.encode()], np.int8))
        self._append("source", self._source_codes(block.source, count))
        self._append("folder", self._words["folder"].recode(block.paths.folder_codes, block.paths.folders))
        names = self._columns["name"]
        assert isinstance(names, Strings)
        names.append(block.paths.names)
        self._add_further(block)
        self._hashes.append(block.paths.hashes())
        if block.missing is not None:
            self._missing.append(np.flatnonzero(block.missing) + self.num_rows)
        self.num_rows += count

    def _add_further(self, block: Block) -> None:
        for name, values in block.fixed.items():
            self._column(name, "fixed")
            self._append(name, values)
        for name, (codes, words) in block.words.items():
            self._column(name, "words")
            self._append(name, self._words[name].recode(codes, words))
        for name, strings in block.strings.items():
            column = self._column(name, "strings")
            assert isinstance(column, Strings)
            for part in self.long.cut(name, strings, self.num_rows):
                column.append(part)
        for name in self._kinds.keys() - {*block.fixed, *block.words, *block.strings}:
            self._fill(name, len(block))

    def _column(self, name: str, kind: str) -> Numbers | Strings:
        """The column `name`, begun with empty rows if earlier blocks did not have it."""
        if name not in self._kinds:
            self._kinds[name] = kind
            if kind == "strings":
                self._columns[name] = Strings(self.folder, name, self.num_rows)
            else:
                dtype = self._dtype(name) if kind == "fixed" else np.dtype(np.int32)
                self._columns[name] = Numbers(self.folder / f"{name}.npy", dtype)
                if kind == "words":
                    self._words[name] = _Words([b""], self.long, name)
                self._fill(name, self.num_rows)
        assert self._kinds[name] == kind, f"column {name} is {self._kinds[name]}, not {kind}"
        return self._columns[name]

    def _dtype(self, name: str) -> np.dtype[Any]:
        return shard_codes(len(self.shards)) if name == "shard" else np.dtype(DTYPES.get(name, np.int32))

    def _fill(self, name: str, rows: int) -> None:
        column = self._columns[name]
        if isinstance(column, Strings):
            column.pad(rows)
        else:
            empty = np.iinfo(column.dtype).max if name == "shard" else FILL.get(name, 0)
            column.append(np.full(rows, empty, column.dtype))

    def _append(self, name: str, values: NDArray[Any]) -> None:
        column = self._columns[name]
        assert isinstance(column, Numbers)
        column.append(values)

    def _source_codes(self, source: str, count: int) -> NDArray[np.int32]:
        codes = self._sources.codes
        code = codes.setdefault(source.encode(), len(codes))
        if code >= MAX_SOURCES:
            raise DataError(too_many_sources(len(codes)))
        return np.full(count, code, np.int32)

    def origin(self, row: int) -> tuple[str, Any, int]:
        """(split, what listed it, number of its entry there) of a row that was added."""
        place = bisect.bisect_right(self.origins, row, key=lambda origin: origin[0]) - 1
        first, split, listed_in, entries = self.origins[place]
        entry = entries + row - first if isinstance(entries, int) else int(entries[row - first])
        return split, listed_in, entry

    def repeats(self) -> list[Repeat]:
        """All paths that more than one row has, ascending by second row; compared byte by byte."""
        hashes = np.concatenate(self._hashes) if self._hashes else np.zeros(0, np.uint64)
        hashes.sort()
        suspects = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        del hashes
        if not len(suspects):
            return []
        rows, first = [], 0
        for part in self._hashes:
            rows.append(np.flatnonzero(np.isin(part, suspects)) + first)
            first += len(part)
        return self._same_paths(np.concatenate(rows))

    def _same_paths(self, rows: NDArray[np.int64]) -> list[Repeat]:
        seen: dict[bytes, int] = {}
        found = []
        for row in rows.tolist():
            path = self.path(row)
            first = seen.setdefault(path, row)
            if first != row:
                found.append(Repeat(first, row, decode(path)))
        return found

    def path(self, row: int) -> bytes:
        """Path of a row that was added."""
        names, codes = self._columns["name"], self._columns["folder"]
        assert isinstance(names, Strings) and isinstance(codes, Numbers)
        name = names.read(row)
        code = int(codes.read(row, 1)[0])
        folder = next(itertools.islice(self._words["folder"].codes, code, None))
        return folder + b"/" + name if folder else name

    def finish(self) -> Path:
        """Put `catalogue.arrow` together and write `catalogue.json`; returns the folder."""
        for column in self._columns.values():
            column.close()
        sources = [word.decode() for word in self._sources.codes]
        classes, sources = self._names("class", self.classes), self._names("source", sources)
        self.long.close()
        splits = [word.decode() for word in self._splits.codes]
        dictionaries = {"split": pa.array(splits, pa.string()), "source": pa.array(sources, pa.string())}
        names = [name for name in self._columns if name not in self._kinds]
        batch = {name: self._arrow(name, dictionaries.get(name)) for name in (*names, *sorted(self._kinds))}
        if self._missing:
            missing_N = np.zeros(self.num_rows, bool)
            missing_N[np.concatenate(self._missing)] = True
            batch["missing"] = pa.array(missing_N)
        write_batch(self.folder / ROWS, pa.RecordBatch.from_pydict(batch))
        write_json(
            self.folder / INDEX,
            {
                "version": VERSION, "classes": classes, "class_ids": self.class_ids, "shards": self.shards,
                "raw_shape": self.raw_shape and list(self.raw_shape),
                "inside": sorted(self.inside), "follow": self.follow,
            },
        )  # fmt: skip
        for column in self._columns.values():
            column.delete()
        self._columns = {}
        return self.folder

    def _arrow(self, name: str, dictionary: pa.Array | None) -> pa.Array:
        """A closed column as it goes into the catalogue, mapped."""
        column = self._columns[name]
        if isinstance(column, Strings):
            strings = mapped(self.folder, name).to_arrow()
            return strings if name == "name" else strings.cast(pa.large_string())
        numbers = pa.array(map_array(column.path))
        if name in self._words:
            words = self._words[name].words()
            dictionary = (
                pa.array(words, pa.large_binary()) if name == "folder"
                else pa.array([word.decode("utf-8", "replace") for word in words], pa.large_string())
            )  # fmt: skip
        return numbers if dictionary is None else pa.DictionaryArray.from_arrays(numbers, dictionary)

    def _names(self, column: str, names: Sequence[str]) -> list[str]:
        """`names` as they are shown and joined by; long ones are cut, and lie aside whole."""
        shown = [cut_name(name) for name in names]
        for code, name in enumerate(names):
            if shown[code] != name:
                self.long.keep(column, code, name.encode("utf-8", "surrogateescape"))
        return shown


def copy_with_splits(source: Path, folder: Path, splits_N: NDArray[np.uint8]) -> None:
    """The catalogue `source` again in `folder`, its rows in the splits `splits_N`, without the Parquet file.

    splits_N: (N,) codes into its `splits`. What stays is linked where the file system can: it takes no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for made in folder.iterdir():  # of an attempt that was killed
        made.unlink()
    for path in sorted(source.iterdir()):
        if path.name not in (ROWS, PARQUET):
            link_or_copy(path, folder / path.name)
    batch = map_batch(source / ROWS)
    place = batch.schema.get_field_index("split")
    codes = pa.array(splits_N.astype(np.int8))
    split = pa.DictionaryArray.from_arrays(codes, batch.column(place).dictionary)
    write_batch(folder / ROWS, batch.set_column(place, "split", split))
