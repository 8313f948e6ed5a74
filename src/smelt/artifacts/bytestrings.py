"""Columns of byte strings without a Python object for each: one heap of bytes and N + 1 offsets.

Paths on disk are bytes and need not be UTF-8; `decode` and `encode` carry any of them through `str`
unharmed (surrogate escapes), as `os.fsdecode` does, but independent of the locale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.random import GOLDEN, WORD, mixed_words


def encode(text: str) -> bytes:
    """The bytes of a path given as `str`."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """A path as `str`; bytes that are not UTF-8 become surrogates, which `open` takes back."""
    return data.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class ByteStrings:
    """heap: (bytes,) uint8. offsets: (N + 1,) ascending; string i is heap[offsets[i]:offsets[i + 1]]."""

    heap: NDArray[np.uint8]
    offsets: NDArray[Any]

    @classmethod
    def of(cls, items: Iterable[bytes]) -> ByteStrings:
        """From Python byte strings; for small numbers of them."""
        parts = list(items)
        lengths = np.fromiter((len(part) for part in parts), np.int64, len(parts))
        return cls(np.frombuffer(b"".join(parts), np.uint8), offsets_of(lengths))

    @classmethod
    def from_arrow(cls, column: pa.Array | pa.ChunkedArray) -> ByteStrings:
        """From strings or bytes, without a copy where they are one piece; null is the empty string."""
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        array = array.cast(pa.large_binary())
        if array.null_count:
            array = array.fill_null(b"")
        _, offsets, heap = array.buffers()
        found = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        return cls(np.frombuffer(heap or b"", np.uint8), found)

    def to_arrow(self) -> pa.LargeBinaryArray:
        """The same strings as an Arrow array, without a copy."""
        offsets = np.ascontiguousarray(self.offsets, np.int64)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(self.heap))]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self), buffers)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.heap[int(self.offsets[index]) : int(self.offsets[index + 1])].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))

    def lengths(self) -> NDArray[np.int64]:
        """(N,) length of each in bytes."""
        offsets = self.offsets.astype(np.int64, copy=False)
        return offsets[1:] - offsets[:-1]

    def slice(self, start: int, stop: int) -> ByteStrings:
        """The strings start..stop-1, of the same heap."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        return ByteStrings(self.heap[first:last], self.offsets[start : stop + 1].astype(np.int64) - first)

    def take(self, indices: NDArray[Any]) -> ByteStrings:
        """The strings at `indices`, in that order, in a heap of their own."""
        starts = self.offsets[:-1][indices].astype(np.int64)
        lengths = self.offsets[1:][indices].astype(np.int64) - starts
        offsets = offsets_of(lengths)
        places = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return ByteStrings(self.heap[places], offsets)

    def hashes(self) -> NDArray[np.uint64]:
        """(N,) 64-bit hash of each."""
        return hash_spans(self.heap, self.offsets[:-1].astype(np.int64, copy=False), self.lengths())


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """(N + 1,) offsets of strings with these lengths laid end to end."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def gather(heap: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> ByteStrings:
    """The spans starts..ends-1 of `heap` (ascending, not overlapping) as strings of their own."""
    filled = ends > starts
    marks = np.zeros(len(heap) + 1, np.int8)
    marks[starts[filled]] += 1
    marks[ends[filled]] -= 1
    inside = np.cumsum(marks[:-1], dtype=np.int8).view(np.bool_)
    return ByteStrings(heap[inside], offsets_of(ends - starts))


def concatenate(parts: list[ByteStrings]) -> ByteStrings:
    """All strings of `parts`, one after the other."""
    if not parts:
        return ByteStrings.of([])
    lengths = np.concatenate([part.lengths() for part in parts])
    return ByteStrings(np.concatenate([part.heap for part in parts]), offsets_of(lengths))


def hash_spans(
    heap: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], seed: int = 0
) -> NDArray[np.uint64]:
    """64-bit hashes of the spans of `heap`, eight bytes at a time, all spans at once.

    Not for adversaries: whoever relies on equality compares the bytes as well.
    """
    hashes = (lengths.astype(np.uint64) + np.uint64(seed)) * np.uint64(GOLDEN)
    if not len(lengths) or not lengths.max():
        return _mix(hashes)
    padded = np.concatenate([heap, np.zeros(8, np.uint8)])
    words = np.ndarray((len(heap) + 1,), np.uint64, padded, strides=(1,))
    active: Any = np.flatnonzero(lengths > 0) if not lengths.min() else slice(None)
    for position in range(0, int(lengths.max()), 8):
        if position and position >= lengths.min():
            active = np.flatnonzero(lengths > position)
        word = words[starts[active] + position]
        left = lengths[active] - position
        if bool((left < 8).any()):
            unused = np.uint64(8) * (8 - np.minimum(left, 8)).astype(np.uint64)
            word = (word << unused) >> unused
        hashes[active] = _mix(hashes[active] ^ word)
    return _mix(hashes)


def combine(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash of a pair (folder, name) from the hashes of its parts."""
    return _mix(first * np.uint64(WORD) ^ second)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed: NDArray[np.uint64] = mixed_words(values)
    return mixed
