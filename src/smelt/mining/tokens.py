"""Crawled texts as sets of hashed words: any language, any length, in blocks.

A word is a run of letters with their marks, or of digits, after NFKC and case folding. Scripts that are
written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) give pairs of neighbouring characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings

BITS = 24  # of a word's number: 16.8 million buckets
BLOCK = 1 << 14  # texts read at once
LONGEST = 1 << 12  # characters of a text that are read; a catalogue keeps 300
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)


@dataclass(frozen=True)
class Words:
    """Distinct words of N texts: those of text i are words[offsets[i]:offsets[i + 1]], ascending.

    words: (T,) int32 in 0..2**BITS−1. offsets: (N + 1,) int64. texts_N: uint64, equal for texts of the same
    words.
    """

    words: NDArray[np.int32]
    offsets: NDArray[np.int64]
    texts_N: NDArray[np.uint64]

    def rows(self) -> NDArray[np.int64]:
        """(T,) the text that each word belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def words_of(text: str) -> list[str]:
    """The words of one text in their order, repetitions and all."""
    found: list[str] = []
    for match in _pattern().finditer(unicodedata.normalize("NFKC", text[:LONGEST]).casefold()):
        run = match.group()
        if match.lastgroup == "unspaced" and len(run) > 1:
            found.extend(run[i : i + 2] for i in range(len(run) - 1))
        else:
            found.append(run)
    return found


def hashed(texts: Sequence[str]) -> Words:
    """The words of all texts. `texts` is read by slices of `BLOCK`, so it may fetch them when asked."""
    parts = [_block(texts[start : start + BLOCK]) for start in range(0, len(texts), BLOCK)]
    if not parts:
        return Words(np.empty(0, np.int32), np.zeros(1, np.int64), np.empty(0, np.uint64))
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    return Words(
        np.concatenate([part.words for part in parts]),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        np.concatenate([part.texts_N for part in parts]),
    )


def _block(texts: Sequence[str]) -> Words:
    split = [words_of(text) if text else [] for text in texts]
    flat = ByteStrings.of(word.encode("utf-8", "surrogatepass") for words in split for word in words)
    rows = np.repeat(np.arange(len(split)), [len(words) for words in split])
    buckets = (flat.hashes() >> np.uint64(64 - BITS)).astype(np.int64)
    codes = np.unique(rows << BITS | buckets)
    rows, words = codes >> BITS, (codes & (1 << BITS) - 1).astype(np.int32)
    offsets = np.searchsorted(rows, np.arange(len(split) + 1))
    sets = ByteStrings(words.view(np.uint8), offsets * words.itemsize)
    return Words(words, offsets.astype(np.int64), sets.hashes())


@cache
def _pattern() -> re.Pattern[str]:
    """Letters with the marks that follow them (Python's own classes end an Indic word at each vowel sign)."""
    marks = "".join(_ranges(c for c in range(0x300, 0x10000) if unicodedata.category(chr(c))[0] == "M"))
    letter = rf"(?:(?![{_UNSPACED}])[^\W\d_][{marks}\u200d]*)"
    return re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?P<letters>{letter}+)|(?P<digits>\d+)")


def _ranges(codes: Iterator[int]) -> Iterator[str]:
    """Ascending code points as ranges of a class of a regular expression."""
    start = last = -2
    for code in [*codes, -1]:
        if code != last + 1:
            if start >= 0:
                yield f"\\U{start:08x}-\\U{last:08x}"
            start = code
        last = code
