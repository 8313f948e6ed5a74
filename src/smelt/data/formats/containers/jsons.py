"""JSON from elsewhere, read within bounded time and memory: a long list or object comes one value at a time.

Refused by name, with file and place: what is no JSON, a value of more than MAX_VALUE bytes, a whole number of
more than MAX_DIGITS digits, a key that an object has twice, and what is nested deeper than Python's own
reader goes (some 1,000 levels). A file of any length is read in pieces; memory holds one value of it, at most
some 30 times its text.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from smelt.artifacts.bytestrings import encode
from smelt.errors import DataError, short
from smelt.files.opening import NOT_THERE, open_descriptor, opened_file, patiently

T = TypeVar("T")

MAX_VALUE = 8 << 20  # bytes of the text of one value
MAX_DIGITS = 40  # of a whole number: identifiers have 32 at most
PIECE = 1 << 20
_BLANKS = re.compile(r"[ \t\n\r]*")


class _Refused(Exception):
    """A value that a hook of the decoder does not take; the text says what it is."""


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _Refused(f"a number of {len(digits):,} digits, and at most {MAX_DIGITS} are read")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = repeated(key for key, _ in pairs) or ""
        raise _Refused(f"the key {short(twice, 80)!r} is there twice")
    return made


_DECODER = json.JSONDecoder(parse_int=_whole, object_pairs_hook=_object)


def repeated(names: Iterable[T]) -> T | None:
    """The first of some names that is there a second time."""
    seen: set[T] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def parse(data: bytes, name: str, most: int = MAX_VALUE) -> Any:
    """The value that `data` is, with `name` for messages. DataError where it is refused (see above)."""
    if len(data) > most:
        raise DataError(f"{name}: JSON of {len(data):,} bytes, and at most {most:,} are read")
    text = _text(data, name)
    try:
        start = _past_blanks(text, 0)
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise DataError(f"{name}:{error.lineno}: no JSON at column {error.colno}: {error.msg}") from error
    except (_Refused, RecursionError) as error:
        raise DataError(f"{name}: {_why(error)}") from error
    if _past_blanks(text, end) < len(text):
        line = text.count("\n", 0, end) + 1
        raise DataError(f"{name}:{line}: more text after the end of the value (is it a JSON object a line?)")
    return value


def load(path: Path, most: int = MAX_VALUE) -> Any:
    """The value of a whole small file. DataError where it cannot be read or is refused."""
    with open_regular(path) as file:
        return parse(file.read(most + 1), str(path), most)


def walk(path: Path, streamed: Collection[str] = ()) -> Iterator[tuple[str, int | str, Any]]:
    """The values of the outermost list or object of a file, one at a time: (key, place in it, value).

    Of a list ("", index, value); of an object ("", key, value). The members of an object that are called as
    in `streamed` may be of any length: such a list or object comes as ("", key, [] or {}) and then value by
    value as (key, index or key, value). DataError where the file cannot be read or is refused.
    """
    with open_regular(path) as file:
        text = _Pieces(file, path)
        yield from _values(text, "", streamed)
        text.place = None
        if text.peek():
            raise text.error("more text after the end of the value (is it a JSON object a line?)")


def _values(text: _Pieces, within: str, streamed: Collection[str]) -> Iterator[tuple[str, int | str, Any]]:
    """The values of the list or object that begins here."""
    opened = text.peek()
    if opened not in ("[", "{"):
        what = "JSON whose outermost value is neither a list nor an object"
        raise text.error(what if opened else "it is empty: no JSON")
    text.take(opened)
    closing, number, keys = "]" if opened == "[" else "}", 0, set[str]()
    if text.peek() == closing:
        text.take(closing)
        return
    while True:
        place: int | str = number
        if opened == "{":
            place = _key(text, within, keys)
        if place in streamed and text.peek() in ("[", "{"):
            yield within, place, [] if text.peek() == "[" else {}
            yield from _values(text, cast(str, place), ())
        else:
            text.place = (within, place)
            yield within, place, text.value()
        number += 1
        if text.peek() == closing:
            text.take(closing)
            return
        text.take(",")


def _key(text: _Pieces, within: str, keys: set[str]) -> str:
    if text.peek() != '"':
        raise text.error(f"no JSON: a key in quotes should be here, not {text.peek()!r}")
    key = cast(str, text.value())
    if key in keys:
        raise text.error(f"the key {short(key, 80)!r} is there twice" + (f" in {within!r}" if within else ""))
    keys.add(key)
    text.take(":")
    return key


def placed(within: str, place: int | str) -> str:
    """`annotations[7]`, `labels["a"]`: how messages call a value."""
    return f"{within}[{place if isinstance(place, int) else json.dumps(short(place, 80))}]"


class _Pieces:
    """The text of a file, a piece at a time; `place` is what messages call the value that is read."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.place: tuple[str, int | str] | None = None
        self.text, self.at, self.ended = "", 0, False
        self.line, self.column = 1, 1  # of the first character of `text`
        first = self._bytes(max(PIECE, 4))
        self.decoder = codecs.getincrementaldecoder(json.detect_encoding(first))("surrogateescape")
        self._append(first)

    def error(self, what: str) -> DataError:
        """The error to raise for what is wrong here."""
        line, column = self._position()
        return DataError(
            f"{self.path}:{line}: {f'{placed(*self.place)}: ' if self.place else ''}{what} (column {column})"
        )

    def _position(self) -> tuple[int, int]:
        """Line and column, from 1, of the next character."""
        lines = self.text.count("\n", 0, self.at)
        first = -self.column if not lines else self.text.rfind("\n", 0, self.at)
        return self.line + lines, self.at - first

    def peek(self) -> str:
        """The next character that is no blank, "" at the end."""
        while (at := _past_blanks(self.text, self.at)) == len(self.text) and not self.ended:
            self.at = at
            self._more(PIECE)
        self.at = at
        return self.text[at : at + 1]

    def take(self, char: str) -> None:
        """Step over the character `char`."""
        if (found := self.peek()) != char:
            what = f"{found!r} is there" if found else "the file ends: it was cut short"
            raise self.error(f"no JSON: {char!r} should be here, and {what}")
        self.at += 1

    def value(self) -> Any:
        """The value that begins here; more is read until it is whole."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                self._wait(error)
                continue
            except (_Refused, RecursionError) as error:
                raise self.error(_why(error)) from error
            if end + 2 < len(self.text) or self.ended:  # else a number may go on: `1` of `1e+5`
                self.at = end
                return value
            self._more(PIECE)

    def _wait(self, error: json.JSONDecodeError) -> None:
        """Read more for a value that is not whole, or not right."""
        have = len(self.text) - self.at
        if self.ended:
            self.at = min(error.pos, len(self.text))
            rest = "the file ends: it was cut short" if self.at == len(self.text) else error.msg
            raise self.error(f"no JSON: {rest}") from error
        if have >= MAX_VALUE:
            if error.pos < len(self.text) - 8 and not error.msg.startswith("Unterminated"):
                self.at = error.pos
                raise self.error(f"no JSON: {error.msg}") from error
            raise self.error(f"a value of more than {MAX_VALUE:,} bytes, and so much is not read") from error
        self._more(max(PIECE, have))  # twice as much: what was in vain stays below what was read

    def _more(self, size: int) -> None:
        self.line, self.column = self._position()
        self.text, self.at = self.text[self.at :], 0
        self._append(self._bytes(size))

    def _append(self, data: bytes) -> None:
        self.ended = not data
        try:
            self.text += self.decoder.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: no text in {error.encoding}: {error.reason}") from error

    def _bytes(self, size: int) -> bytes:
        try:
            return self.file.read(size)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}") from error


def open_regular(path: Path) -> BinaryIO:
    """A plain file, open to be read. DataError where it is none, so that no pipe or device is waited for."""

    def opened() -> int:
        try:
            return open_descriptor(path)
        except ValueError as error:
            raise DataError(f"cannot read {str(path)!r}: {error}") from error
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            raise DataError(f"cannot read {path}: {error.strerror}") from error

    descriptor = patiently(opened, lambda: str(path))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"cannot read {path}: it is no file but a folder, a pipe or a device")
    return opened_file(descriptor)


def name_bytes(text: str) -> bytes | None:
    """A string of JSON as the bytes of a path or a class; None where it has half a character (\\ud800)."""
    try:
        return encode(text)
    except UnicodeEncodeError:
        return None


def kind_of(value: Any) -> str:
    """What a value is, in words, for messages."""
    words = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    if type(value) in words:
        return words[type(value)]
    return f"the number {short(str(value), 40)}"


def _text(data: bytes, name: str) -> str:
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding, "surrogateescape")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: no text in {error.encoding}: {error.reason}") from error


def _past_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _why(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)
