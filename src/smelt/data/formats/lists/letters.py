"""Words in bytes that are not UTF-8: read by the encoding that is given, as latin-1 where they can be nothing
else, and refused otherwise. A wrong guess turns names of classes into nonsense that nobody notices.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence

from smelt.errors import DataError, short

# Letters of Western Europe between ASCII letters, as in `café` or `Größe`: never a pair that stands alone,
# nor a byte below C0 (latin-1 has no letters there, and encodings of East Asia have half of theirs).
_HIGH = re.compile(rb"[\x80-\xff]+")
_LETTER = re.compile(rb"[\xc0-\xd6\xd8-\xf6\xf8-\xff]")
_PAIR = re.compile(rb"[\xc0-\xd6\xd8-\xde]{2}|[\xdf-\xf6\xf8-\xff]{2}")
_TRIED = ("cp932", "gb18030", "euc_kr", "big5", "euc_jp", "cp1251", "cp1250", "cp1253", "cp1252")
_SHOWN = 4  # encodings that a message names


def is_utf8(word: bytes) -> bool:
    """Whether bytes are UTF-8."""
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True


def western(word: bytes) -> bool:
    """Whether bytes that are not UTF-8 can only be latin-1: single letters, beside letters of ASCII."""
    for found in _HIGH.finditer(word):
        before, after = word[found.start() - 1 : found.start()], word[found.end() : found.end() + 1]
        beside = before.isalpha() + after.isalpha()
        if len(found[0]) == 1:
            sound = bool(_LETTER.fullmatch(found[0])) and beside > 0
        else:
            sound = bool(_PAIR.fullmatch(found[0])) and beside == 2
        if not sound:
            return False
    return True


def readings(words: Sequence[bytes]) -> list[tuple[str, str]]:
    """(encoding, the first word in it) of those in which all words are words."""
    found = []
    for encoding in _TRIED:
        try:
            texts = [word.decode(encoding) for word in words]
        except UnicodeDecodeError:
            continue
        if all(text.isprintable() and any(c.isalpha() for c in text) for text in texts):
            found.append((encoding, texts[0]))
    return found


def refusal(where: str, words: Sequence[bytes]) -> DataError:
    """The error for words whose encoding cannot be told; `where` is the place of the first of them."""
    found = readings(words[:1000])[:_SHOWN]
    read = ", ".join(f"{encoding} reads it {short(text, 40)!r}" for encoding, text in found)
    example = found[0][0] if found else "cp932"
    return DataError(
        f"{where}: {short(words[0].decode('utf-8', 'backslashreplace'), 80)!r} is not UTF-8, and in which "
        f"encoding it is cannot be told for sure{f' ({read})' if read else ''}: name it, such as "
        f"-o data.encoding={example}, or save it as UTF-8"
    )


def in_utf8(
    words: Sequence[bytes], encoding: str | None, where: Callable[[int], str], names: bool = True
) -> list[bytes]:
    """Names of classes and the like as UTF-8. `where(i)` is the place of word i.

    DataError for what `encoding` cannot read, or where without one it cannot be told what they are; for a
    zero byte in `names`.
    """
    zero = next((place for place, word in enumerate(words) if b"\0" in word), None)
    if names and zero is not None:
        raise DataError(f"{where(zero)}: {words[zero][:80]!r} holds a zero byte: no name has one")
    odd = [place for place, word in enumerate(words) if not is_utf8(word)]
    if encoding is not None and codecs.lookup(encoding).name != "utf-8":
        return [_decoded(word, encoding, where, place) for place, word in enumerate(words)]
    if any(not western(words[place]) for place in odd):
        first = next(place for place in odd if not western(words[place]))
        raise refusal(where(first), [words[first], *(words[place] for place in odd)])
    return [word if is_utf8(word) else word.decode("latin-1").encode() for word in words]


def _decoded(word: bytes, encoding: str, where: Callable[[int], str], place: int) -> bytes:
    try:
        return word.decode(encoding).encode()
    except UnicodeError as error:
        raise DataError(
            f"{where(place)}: {short(word.decode('utf-8', 'backslashreplace'), 80)!r} is no text in "
            f"{encoding} (-o data.encoding=… names another)"
        ) from error


def shown(text: bytes) -> bytes:
    """Free text for showing: as UTF-8, as latin-1 where it can be nothing else, else with \\xNN."""
    if is_utf8(text):
        return text
    how = ("latin-1", "strict") if western(text) else ("utf-8", "backslashreplace")
    return text.decode(*how).encode()


def known(encoding: str) -> str:
    """Python's name of an encoding of text. DataError where it knows none of this name."""
    try:
        named = codecs.lookup(encoding).name
        "".encode(named), b"".decode(named)
    except (LookupError, ValueError) as error:
        raise DataError(
            f"data.encoding: Python knows no encoding {encoding!r} of text; such as utf-8, "
            "utf-16, latin-1, cp1252, gb18030, cp932 (Shift-JIS), euc_kr"
        ) from error
    return named
