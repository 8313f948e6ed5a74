"""Free text is cut on its way into a catalogue; what was cut lies aside until the Parquet has it.

A crawled title may have 200,000 letters. Whoever shows it, or joins it to a page of a thousand others, wants
the first few hundred; whoever studies it has `catalogue.parquet`. Of the texts that are cut, and of no
others, the catalogue's folder holds for a while

    <column>.long.*.npy      the whole texts, and the number (of row, word or class) of each
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, offsets_of
from smelt.artifacts.growing import Numbers, Strings, mapped
from smelt.files.arrays import map_array

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
        self._kept: dict[str, tuple[Numbers, Strings]] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Number of texts that were cut, by column."""
        return {column: numbers.count for column, (numbers, _) in self._kept.items()}

    def keep(self, column: str, number: int, text: bytes) -> None:
        """Put the whole `text` of a row, word or class aside. Numbers must ascend."""
        if column not in self._kept:
            self._kept[column] = (Numbers(_numbers(self.folder, column), np.int64),
                                  Strings(self.folder, f"{column}.long"))  # fmt: skip
        numbers, texts = self._kept[column]
        numbers.append(np.array([number]))
        texts.append(ByteStrings.of([text]))

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
        for numbers, texts in self._kept.values():
            numbers.close()
            texts.close()


@dataclass(frozen=True)
class Kept:
    """Whole texts of a column that lie aside. numbers: (K,) ascending. texts: K bytes, mapped."""

    numbers: NDArray[np.int64]
    texts: pa.LargeBinaryArray

    @classmethod
    def open(cls, folder: Path, column: str) -> Kept | None:
        """Those of a column; None where nothing of it was cut."""
        path = _numbers(folder, column)
        if not path.is_file():
            return None
        return cls(map_array(path), mapped(folder, f"{column}.long").to_arrow())

    def sizes(self, numbers: NDArray[Any]) -> NDArray[np.int64]:
        """(n,) bytes of the whole text of each of these numbers; 0 for those that were not cut."""
        there, places = self._places(numbers)
        sizes = np.zeros(len(numbers), np.int64)
        sizes[there] = pc.binary_length(self.texts).to_numpy()[places]
        return sizes

    def restored(self, texts: pa.Array, numbers: NDArray[Any]) -> pa.Array:
        """`texts` (n,) of these numbers, whole again."""
        there, places = self._places(numbers)
        whole = (text.decode("utf-8", "replace") for text in self.texts.take(pa.array(places)).to_pylist())
        return pc.replace_with_mask(texts, pa.array(there), pa.array(whole, texts.type))

    def _places(self, numbers: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """(n,) which of `numbers` are there, and where those are."""
        places = np.searchsorted(self.numbers, numbers)
        there = self.numbers[np.minimum(places, len(self.numbers) - 1)] == numbers
        return there, places[there]


def _numbers(folder: Path, column: str) -> Path:
    return folder / f"{column}.long.numbers.npy"


def discard(folder: Path) -> None:
    """Delete what lay aside in `folder`: the Parquet file has it now."""
    for path in folder.glob("*.long.*.npy"):
        path.unlink()
