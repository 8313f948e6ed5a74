"""Labels as people write them, words, become numbers 0..C-1; nothing is ever allocated by a number in them.

Without a list of classes: numbers that begin at 0 and leave out less than half are the labels themselves, and
those left out are classes without an image. Any other numbers, ids of categories or such that begin at 1, are
names like `cat`, in the order of their value. `1.0` among numbers is 1 (so pandas writes whole numbers where
some are missing), `nan` and its like are no label, and what else is no whole number is refused where it
stands. With a list: its names, and where none of them is a number, also places in it, from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue import UNKNOWN
from smelt.data.formats.base import Report, natural
from smelt.errors import DataError

_NUMBER = re.compile(rb"-?[0-9]+")
_WHOLE = re.compile(rb"(-?[0-9]+)\.0*")
_ODD = re.compile(
    rb"[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?|0[xX][0-9a-fA-F]+|-?[0-9]{1,3}([,' ][0-9]{3})+"
    rb"|[+-]?([iI]nf|[iI]nfinity)"
)
NO_LABEL = frozenset({b"nan", b"null", b"none", b"na", b"n/a", b"<na>", b"nil", b"nat", b"#n/a"})
_NONE = b"%d" % UNKNOWN  # how a file whose labels are numbers says that there is no label
_SHOWN = 3
_NAMES = ": -o data.label_is=name takes every label as the name of a class, as it is written"


@dataclass(frozen=True)
class Classes:
    """names: C of them. numbers: word → label. places: C where a number is a place in the list, else 0.

    has_none: -1 says that there is no label; so do the words `none`. twice: word → the class whose number it
    is, written otherwise. odd: words that are no whole numbers among labels that are.
    """

    names: list[bytes]
    numbers: dict[bytes, int]
    places: int = 0
    has_none: bool = False
    twice: dict[bytes, bytes] = field(default_factory=dict)
    none: frozenset[bytes] = frozenset()
    odd: frozenset[bytes] = frozenset()

    def label(self, word: bytes) -> int | None:
        """Label of a word: None if it is none of the classes, -1 if it says that there is no label."""
        if not word or (self.has_none and word == _NONE) or word in self.none:
            return UNKNOWN
        if word in self.numbers:
            return self.numbers[word]
        if self.places and len(word) <= len(str(self.places)) and word.isdigit():
            return int(word) if int(word) < self.places else None
        return None

    def why_not(self, word: bytes) -> str:
        """What to add to the message that `word` is no label."""
        if not word or (self.has_none and word == _NONE) or word in self.none:
            return " (only test images may have none)"
        if word in self.twice:
            return (
                f" (it is the number of label {decode(self.twice[word])!r}, written in another way{_NAMES})"
            )
        if word in self.odd:
            rest = "as the other labels are" if self.names else "and a label is one, or a name"
            return f" (it is no whole number, {rest}{_NAMES})"
        if is_number(word) and word.startswith(b"-"):
            return f" (labels are not below 0{_NAMES})"
        if self.names and not self.places and is_number(word) and any(map(is_number, self.names)):
            return " (some of their names are numbers, so numbers are names, not places)"
        return ""


def is_number(word: bytes) -> bool:
    """Whether a word is a whole number in decimal digits, of any length."""
    return _NUMBER.fullmatch(word) is not None


def found_in(words: Iterable[bytes], report: Report, *, names: bool = False) -> Classes:
    """The classes that the labels `words` of a data set make.

    "" is none, nor is -1 where all are numbers, but for -1 and 1 alone. A second way to write a number and
    negative numbers are no labels, and so refused where they stand. names: every word names a class.
    """
    known = {word for word in words if word}
    if names:
        return _by_name(known)
    missing = {word for word in known if word.lower() in NO_LABEL}
    numbers = {word for word in known - missing if is_number(word) or _WHOLE.fullmatch(word)}
    odd = {word for word in known - missing - numbers if _ODD.fullmatch(word)}
    if known - missing - numbers - odd:
        return _named(known, missing, numbers | odd, report)
    if not odd and {_WHOLE.sub(rb"\1", word) for word in numbers} == {_NONE, b"1"}:
        report.note("the labels are -1 and 1 alone: they are two classes")
        return _two(numbers, frozenset(missing))
    if missing and numbers:
        shown = _some(sorted(missing))
        report.note(f"the labels are numbers, so {shown} among them says that there is no label")
    return _numbered(numbers, frozenset(missing), frozenset(odd), report)


def _named(known: set[bytes], missing: set[bytes], numbers: set[bytes], report: Report) -> Classes:
    """Classes by their names, with a warning of names that are hardly meant as such."""
    if numbers:
        texts = sorted(known - numbers - missing, key=natural)
        report.warn(
            f"some labels are numbers ({_some(sorted(numbers, key=natural))}) and some names "
            f"({_some(texts)}): all are taken as names of classes"
        )
    return _by_name(known)


def _by_name(known: set[bytes]) -> Classes:
    names = sorted(known, key=natural)
    return Classes(names, {word: label for label, word in enumerate(names)})


def _two(numbers: set[bytes], missing: frozenset[bytes]) -> Classes:
    """The classes -1 and 1."""
    return Classes([_NONE, b"1"], {word: int(not word.startswith(b"-")) for word in numbers}, none=missing)


def _numbered(
    numbers: set[bytes], missing: frozenset[bytes], odd: frozenset[bytes], report: Report
) -> Classes:
    """Classes by their numbers: labels, or names that are numbers."""
    whole = {word: found[1] for word in numbers if (found := _WHOLE.fullmatch(word))}
    known = {whole.get(word, word) for word in numbers}
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
        report.warn(
            f"the labels are numbers ({_some(names)}), but not those of 0..{len(names) - 1}: they are taken "
            f"as names of {len(names)} classes, in their order"
        )
    labels = {word: label for label, word in enumerate(names)}
    labels |= {word: labels[number] for word, number in whole.items() if number in labels}
    if _NONE in known:
        report.warn(
            "labels of -1 are taken to say that there is no label, as all others are numbers from 0 on: "
            "-o data.label_is=name takes every label as the name of a class, -1 too"
        )
    none = missing | {word for word, number in whole.items() if number == _NONE}
    return Classes(names, labels, has_none=True, twice=twice, none=none, odd=odd)


def _some(words: Sequence[bytes]) -> str:
    return ", ".join(decode(word)[:40] for word in words[:_SHOWN]) + (" …" if len(words) > _SHOWN else "")


def _are_labels(numbers: list[bytes]) -> bool:
    """Whether these (ascending) begin at 0, plainly written, and are more than half of all up to the last."""
    if not numbers or numbers[0] != b"0" or any(word != b"0" and word[:1] == b"0" for word in numbers):
        return False
    return len(numbers[-1]) < 10 and int(numbers[-1]) + 1 < 2 * len(numbers)


def listed_in(where: str, names: list[bytes], ids: Mapping[bytes, int] | None = None) -> Classes:
    """The classes of a list with a name a line. DataError where a name is there twice.

    ids: further words for the labels, by which a list of classes calls them.
    """
    numbers: dict[bytes, int] = {}
    for place, name in enumerate(names):
        if numbers.setdefault(name, place) != place:
            raise DataError(f"{where}: class {decode(name)!r} is there twice, as {numbers[name]} and {place}")
    numeric = any(is_number(name) for name in names)
    known = dict(ids or {}) | numbers
    return Classes(names, known, 0 if numeric or ids else len(names), has_none=_NONE not in known)


def _by_value(word: bytes) -> tuple[int, bytes, int]:
    """Sort key of whole numbers: their value, found without making a number of any length."""
    digits = word.lstrip(b"0")
    return len(digits), digits, len(word)
