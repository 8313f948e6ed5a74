"""Free text is cut on its way into a catalogue; what was cut lies aside until the Parquet has it.

A crawled title may have 200,000 letters. Whoever shows it, or joins it to a page of a thousand others, wants
the first few hundred; whoever studies it has `catalogue.parquet`. Of the texts that are cut, and of no
others, the catalogue's folder holds for a while

    <column>.long.heap       the bytes of the whole texts, end to end
    <column>.long.index      (K, 3) int64: number (of row, word or class), begin and end in the heap
"""

from __future__ import annotations

import hashlib
import mmap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, offsets_of
from smelt.errors import ArtifactError

LIMIT = 300  # characters of a text that are kept, the mark of the cut among them
MARK = "…"
_BYTES = 4 * LIMIT + 4  # in so many bytes of UTF-8 there are more than LIMIT characters
_AT_ONCE = (1 << 13, 1 << 22)  # rows, bytes: what is cut is put together anew, and lies twice in memory
_JOINED = 16  # combining marks that a cut steps back over, at most
_JOINERS = frozenset("\u200d\ufe0e\ufe0f")  # zero width joiner and variation selectors


def cut(text: bytes) -> bytes | None:
    """`text` (UTF-8) in LIMIT characters, the last of them the mark; None where it is no longer than that.

    Never within a character, nor between a letter and its marks or the parts of one emoji.
    """
    if len(text) <= LIMIT:
        return None
    letters = text[:_BYTES].decode("utf-8", "replace")
    if len(letters) <= LIMIT and len(text) <= _BYTES:
        return None
    stop = LIMIT - 1
    for _ in range(_JOINED):
        joined = letters[stop : stop + 1] in _JOINERS or letters[stop - 1 : stop] == "\u200d"
        if stop <= 1 or not (joined or unicodedata.combining(letters[stop : stop + 1] or " ")):
            break
        stop -= 1
    return (letters[:stop].rstrip() + MARK).encode()


def cut_name(name: str) -> str:
    """A class or a source by a name of at most LIMIT characters; names that differ stay different."""
    if len(name) <= LIMIT:
        return name
    mark = f"{MARK} #{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
    return name[: LIMIT - len(mark)] + mark


class LongTexts:
    """Keeps whole texts aside in `folder`; `counts` says how many of each column."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: dict[str, int] = {}
        self._files: dict[str, tuple[BinaryIO, BinaryIO]] = {}

    def keep(self, column: str, number: int, text: bytes) -> None:
        """Put the whole `text` of a row, word or class aside. Numbers of rows must ascend."""
        if column not in self._files:
            names = (self.folder / f"{column}.long.heap", self.folder / f"{column}.long.index")
            heap, index = (open(path, "wb", buffering=1 << 20) for path in names)  # noqa: SIM115
            self._files[column] = (heap, index)
        heap, index = self._files[column]
        try:
            begin = heap.tell()
            heap.write(text)
            index.write(np.array([number, begin, begin + len(text)], np.int64).tobytes())
        except OSError as error:
            raise ArtifactError(f"cannot write {len(text)} bytes to {heap.name}: {error.strerror}") from error
        self.counts[column] = self.counts.get(column, 0) + 1

    def cut(self, column: str, strings: ByteStrings, first: int) -> Iterator[ByteStrings]:
        """The texts of rows first, first + 1, …, cut; a part of them at a time."""
        start, (rows, size) = 0, _AT_ONCE
        while start < len(strings):
            fits = int(np.searchsorted(strings.offsets, int(strings.offsets[start]) + size, "right")) - 1
            stop = min(start + rows, len(strings), max(fits, start + 1))
            yield self._cut(column, strings.slice(start, stop), first + start)
            start = stop

    def _cut(self, column: str, strings: ByteStrings, first: int) -> ByteStrings:
        lengths = strings.lengths()
        parts: list[bytes | memoryview] = []
        heap, done = np.ascontiguousarray(strings.heap).data, 0
        for place in np.flatnonzero(lengths > LIMIT).tolist():
            begin, end = int(strings.offsets[place]), int(strings.offsets[place + 1])
            short = cut(bytes(heap[begin : min(end, begin + _BYTES + 1)]))
            if short is not None:
                self.keep(column, first + place, bytes(heap[begin:end]))
                parts += [heap[done:begin], short]
                lengths[place], done = len(short), end
        if not parts:
            return strings
        joined = b"".join([*parts, heap[done:]])
        return ByteStrings(np.frombuffer(joined, np.uint8), offsets_of(lengths))

    def close(self) -> None:
        """Close the files; what was kept is on the disk."""
        while self._files:
            for file in self._files.popitem()[1]:
                file.close()


@dataclass(frozen=True)
class Kept:
    """Whole texts that lie aside: numbers, begins and ends (K,) each, ascending by number; their bytes."""

    numbers: NDArray[np.int64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    heap: mmap.mmap | bytes

    @classmethod
    def open(cls, folder: Path, column: str) -> Kept | None:
        """Those of a column; None where nothing of it was cut."""
        path = folder / f"{column}.long.index"
        if not path.is_file():
            return None
        index = np.fromfile(path, np.int64).reshape(-1, 3)
        index = index[np.argsort(index[:, 0], kind="stable")]
        with open(folder / f"{column}.long.heap", "rb") as file:
            heap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(index[:, 0], index[:, 1], index[:, 2], heap)

    def sizes(self) -> NDArray[np.int64]:
        """(K,) bytes of each."""
        return self.ends - self.begins

    def text(self, place: int) -> bytes:
        """The whole text in that place of `numbers`."""
        return bytes(self.heap[int(self.begins[place]) : int(self.ends[place])])

    def between(self, start: int, stop: int) -> range:
        """Places of the numbers start..stop-1."""
        first, last = np.searchsorted(self.numbers, [start, stop]).tolist()
        return range(first, last)

    def restored(self, strings: ByteStrings, start: int) -> ByteStrings:
        """The texts of rows start, start + 1, …, whole again."""
        places = self.between(start, start + len(strings))
        if not places:
            return strings
        heap, done = np.ascontiguousarray(strings.heap).data, 0
        lengths = strings.lengths()
        parts: list[bytes | memoryview] = []
        for place in places:
            row = int(self.numbers[place]) - start
            parts += [heap[done : int(strings.offsets[row])], self.text(place)]
            lengths[row], done = len(parts[-1]), int(strings.offsets[row + 1])
        joined = b"".join([*parts, heap[done:]])
        return ByteStrings(np.frombuffer(joined, np.uint8), offsets_of(lengths))


def discard(folder: Path) -> None:
    """Delete what lay aside in `folder`: the Parquet file has it now."""
    for path in [*folder.glob("*.long.heap"), *folder.glob("*.long.index")]:
        path.unlink()
