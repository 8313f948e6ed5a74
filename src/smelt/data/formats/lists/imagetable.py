"""A table of images, a row each, as every reader of lists, exports and archives makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings
from smelt.data.formats.lists.letters import in_utf8, shown
from smelt.data.formats.tree.spelling import Spelling

Codes = tuple[NDArray[np.int64], list[bytes]]  # (N,) codes, words
Where = Callable[[int], str]  # what messages call row i, from 0: file and line (or row, or object)


def coded(strings: ByteStrings) -> Codes:
    """Strings of few kinds as codes and words."""
    encoded = strings.to_arrow().dictionary_encode()
    words = encoded.dictionary.cast(pa.large_binary()).to_pylist()
    return encoded.indices.to_numpy().astype(np.int64), words


@dataclass
class Table:
    """Rows of one list, each an image.

    split: the one that all rows are of, or "all" where the column `split` says it. columns: by our names
    (`path`; `label`, `split`, `source`, `query`, `title`, `description`, `tags`, `true_label`, `noise` where
    there are any), all of N strings; "" is none. where: what messages call each. base: folder below the root
    that the list lies in, which its paths may start from. several: all labels of those rows that have more
    than one (`label` is not looked at there). name: the list, for messages. split_words: what words of the
    column `split` mean, where they are not the usual ones. spelling: how its paths are read; found by their
    first ones where it is not given. inside: `shard`, `offset` and `size` (N,) of images that lie in shards;
    rows with the highest code of a shard are files.
    """

    split: str
    columns: dict[str, ByteStrings]
    where: Where
    base: bytes = b""
    several: Mapping[int, Sequence[bytes]] = field(default_factory=dict)
    name: str = ""
    split_words: Mapping[str, str] = field(default_factory=dict)
    spelling: Spelling | None = None
    inside: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["path"])

    def words(self, name: str) -> Codes:
        """A column with few values as codes and words; one empty word where there is no such column.

        Words that are not UTF-8 are read as latin-1 where they can be nothing else. DataError with the line
        where that cannot be told; `query` is only shown.
        """
        if name not in self.columns:
            return np.zeros(len(self), np.int64), [b""]
        codes, words = coded(self.columns[name])
        words = [word.strip() for word in words]
        if name == "query":
            return codes, list(map(shown, words))
        names = name != "source"  # crawled, and only counted
        return codes, in_utf8(words, None, lambda code: self.where(int((codes == code).argmax())), names)
