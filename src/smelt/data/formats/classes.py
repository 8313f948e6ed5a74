"""Labels as people write them, words, become numbers 0..C-1; nothing is ever allocated by a number in them.

Without a list of classes: numbers that begin at 0 and leave out less than half are the labels themselves, and
those left out are classes without an image. Any other numbers, ids of categories or such that begin at 1, are
names like `cat`, in the order of their value. With a list: its names, and where none of them is a number,
also places in it, from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue import UNKNOWN
from smelt.data.formats.base import Report, natural
from smelt.errors import DataError

_NUMBER = re.compile(rb"-?[0-9]+")
_NONE = b"%d" % UNKNOWN  # how a file whose labels are numbers says that there is no label
_SHOWN = 3


@dataclass(frozen=True)
class Classes:
    """names: C of them. numbers: word → label. places: C where a number is a place in the list, else 0.

    has_none: -1 says that there is no label. twice: word → the class whose number it is, written otherwise.
    """

    names: list[bytes]
    numbers: dict[bytes, int]
    places: int = 0
    has_none: bool = False
    twice: dict[bytes, bytes] = field(default_factory=dict)

    def label(self, word: bytes) -> int | None:
        """Label of a word: None if it is none of the classes, -1 if it says that there is no label."""
        if not word or (self.has_none and word == _NONE):
            return UNKNOWN
        if word in self.numbers:
            return self.numbers[word]
        if self.places and len(word) <= len(str(self.places)) and word.isdigit():
            return int(word) if int(word) < self.places else None
        return None

    def why_not(self, word: bytes) -> str:
        """What to add to the message that `word` is no label."""
        if not word or (self.has_none and word == _NONE):
            return " (only test images may have none)"
        if word in self.twice:
            return f" (it is the number of label {decode(self.twice[word])!r}, written in another way)"
        if self.names and not self.places and is_number(word) and any(map(is_number, self.names)):
            return " (some of their names are numbers, so numbers are names, not places)"
        return ""


def is_number(word: bytes) -> bool:
    """Whether a word is a whole number in decimal digits, of any length."""
    return _NUMBER.fullmatch(word) is not None


def found_in(words: Iterable[bytes], report: Report) -> Classes:
    """The classes that the labels `words` of a data set make.

    "" is none, nor is -1 where all are numbers. A second way to write a number and negative numbers are no
    labels, and so refused where they stand.
    """
    known = {word for word in words if word}
    numeric = bool(known) and all(is_number(word) for word in known)
    if not numeric:
        names = sorted(known, key=natural)
        return Classes(names, {word: label for label, word in enumerate(names)})
    names, twice = [], {}
    values: dict[bytes, bytes] = {}
    for word in sorted((word for word in known if not word.startswith(b"-")), key=_by_value):
        if (other := values.setdefault(word.lstrip(b"0"), word)) == word:
            names.append(word)
        else:
            twice[word] = other
    if _are_labels(names):
        names = [b"%d" % label for label in range(int(names[-1]) + 1)]
    elif names:
        shown = ", ".join(decode(word)[:40] for word in names[:_SHOWN]) + (
            " …" if len(names) > _SHOWN else ""
        )
        report.warn(
            f"the labels are numbers ({shown}), but not those of 0..{len(names) - 1}: they are taken as "
            f"names of {len(names)} classes, in their order"
        )
    return Classes(names, {word: label for label, word in enumerate(names)}, has_none=True, twice=twice)


def _are_labels(numbers: list[bytes]) -> bool:
    """Whether these (ascending) begin at 0, plainly written, and are more than half of all up to the last."""
    if not numbers or numbers[0] != b"0" or any(word != b"0" and word[:1] == b"0" for word in numbers):
        return False
    return len(numbers[-1]) < 10 and int(numbers[-1]) + 1 < 2 * len(numbers)


def listed_in(where: str, names: list[bytes]) -> Classes:
    """The classes of a list with a name a line. DataError where a name is there twice."""
    numbers: dict[bytes, int] = {}
    for place, name in enumerate(names):
        if numbers.setdefault(name, place) != place:
            raise DataError(f"{where}: class {decode(name)!r} is there twice, as {numbers[name]} and {place}")
    numeric = any(is_number(name) for name in names)
    return Classes(names, numbers, 0 if numeric else len(names), has_none=_NONE not in numbers)


def _by_value(word: bytes) -> tuple[int, bytes, int]:
    """Sort key of whole numbers: their value, found without making a number of any length."""
    digits = word.lstrip(b"0")
    return len(digits), digits, len(word)
