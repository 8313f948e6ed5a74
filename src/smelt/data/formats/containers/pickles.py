"""Pickles of arrays, numbers, texts and plain containers, read without running anything.

A machine of our own for the few opcodes that such files need (Python's `pickletools` describes them all). It
calls nothing that a file names: NumPy's constructors are known by name and stood in for, and an array is made
at the end from bytes that are really there. Time and memory are bounded by the file: no length is believed
before as many bytes are there, a memo is a dictionary, keys are texts and small numbers, nothing is walked
through that may hold itself, and at most MOST_OPCODES are read (2 s, some 100 bytes each).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from smelt.data.formats.containers.standins import (
    TENSORS,
    Array,
    Dtype,
    Name,
    UnreadableError,
    made,
    text_of,
)

MOST_OPCODES = 2_000_000  # CIFAR-100's training batch has some 300,000
MOST_DIGITS = 40  # of a number in text form
_MOST_LONG = 16  # bytes of a number of any length
_MOST_KEY = 1 << 60  # of numbers below it no two have the same hash


def load(data: bytes, start: int = 0) -> tuple[Any, int]:
    """(the value of the pickle that begins at `start`, where it ends).

    Texts of Python 2 come as bytes. An array of objects comes as the list of them. Raises UnreadableError.
    """
    machine = _Machine(data, start)
    try:
        return machine.run(), machine.at
    except (IndexError, KeyError) as error:
        raise UnreadableError(f"it is damaged at byte {machine.at:,}") from error
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise UnreadableError(f"it is damaged at byte {machine.at:,}: {error}") from error


class _Machine:
    def __init__(self, data: bytes, start: int) -> None:
        self.data, self.at = data, start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.encoded = 0  # characters made into bytes: the same text may be asked for again and again

    def run(self) -> Any:
        for _ in range(MOST_OPCODES):
            code = self.data[self.at]
            self.at += 1
            if code == 0x2E:  # STOP
                value = self.pop()
                return value.value if isinstance(value, Array) else value
            action = _ACTIONS.get(code)
            if action is None:
                raise UnreadableError(f"it has the opcode {bytes([code])!r} at byte {self.at - 1:,}")
            action(self)
        raise UnreadableError(f"it has more than {MOST_OPCODES:,} opcodes")

    # ---- what is read

    def take(self, size: int) -> bytes:
        """The next `size` bytes, which must be there."""
        if size < 0 or self.at + size > len(self.data):
            raise UnreadableError(f"it wants {size:,} bytes at byte {self.at:,} and ends before")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form: str) -> int:
        """The next whole number, in a form of `struct`."""
        value: int = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]
        return value

    def line(self) -> bytes:
        """The text up to the end of the line."""
        end = self.data.find(b"\n", self.at, self.at + (1 << 16))
        if end < 0:
            raise UnreadableError(f"it has no end of a line behind byte {self.at:,}")
        return self.take(end + 1 - self.at)[:-1]

    def decimal(self) -> int:
        """A number in text form."""
        line = self.line().removesuffix(b"L")
        if len(line) > MOST_DIGITS or not re.fullmatch(rb"-?[0-9]+", line):
            raise UnreadableError(f"it has a number of {len(line):,} characters")
        return int(line)

    def fraction(self) -> float:
        """A number with a point in text form."""
        line = self.line()
        try:
            return float(line[: 2 * MOST_DIGITS])
        except ValueError as error:
            raise UnreadableError("it has a number that is none") from error

    def long(self, size: int) -> int:
        """A number of any length."""
        if size > _MOST_LONG:
            raise UnreadableError(f"it has a number of {size:,} bytes")
        return int.from_bytes(self.take(size), "little", signed=True)

    # ---- the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if self.marks and self.marks[-1] == len(self.stack):
            raise UnreadableError(f"it takes more than there is at byte {self.at:,}")
        return self.stack.pop()

    def items(self) -> list[Any]:
        """What lies above the last mark."""
        mark = self.marks.pop()
        found = self.stack[mark:]
        del self.stack[mark:]
        return found

    def fill(self, items: list[Any]) -> None:
        """Append to the list on top."""
        top = self.stack[-1]
        if not isinstance(top, list):
            raise UnreadableError("it appends to what is no list")
        top += items

    def set(self, items: list[Any]) -> None:
        """Set keys and values, in turn, of the dictionary on top."""
        top = self.stack[-1]
        if not isinstance(top, dict) or len(items) % 2:
            raise UnreadableError("it sets keys of what is no dictionary")
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, str | bytes) and not (type(key) is int and abs(key) < _MOST_KEY):
                raise UnreadableError("it has a key that is neither text nor a small number")
            top[key] = value.value if isinstance(value, Array) else value

    def name(self, module: Any, name: Any) -> None:
        """Push a class or function that is known."""
        self.push(Name(text_of(module), text_of(name)))

    def reduce(self) -> None:
        """Make what a known class or function makes of its arguments."""
        arguments, called = self.pop(), self.pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise UnreadableError("it calls what is no class")
        if called.name == "encode" and arguments and isinstance(arguments[0], str):
            self.encoded += len(arguments[0])
            if self.encoded > 2 * len(self.data):
                raise UnreadableError("it makes more bytes of its texts than it has")
        self.push(made(called.name, arguments))

    def build(self) -> None:
        """Give an array or a type its state."""
        state = self.pop()
        if not isinstance(self.stack[-1], Array | Dtype):
            raise UnreadableError("it gives a state to what has none")
        self.stack[-1].set_state(state)


def _dictionary(machine: _Machine) -> None:
    items = machine.items()
    machine.push({})
    machine.set(items)


def _two(machine: _Machine) -> list[Any]:
    second, first = machine.pop(), machine.pop()
    return [first, second]


def _tuple(machine: _Machine, size: int) -> None:
    parts = [machine.pop() for _ in range(size)]
    machine.push(tuple(reversed(parts)))


def _refuse_tensors(machine: _Machine) -> None:
    raise UnreadableError(f"it holds something of another file{TENSORS}")


def _string(line: bytes) -> bytes:
    """A text of protocol 0, in quotes."""
    if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:] or b"\\" in line:
        raise UnreadableError("it has a text in a form that is not read")
    return line[1:-1]


def _int(machine: _Machine) -> None:
    start = machine.at
    line = machine.line()
    if line in (b"00", b"01"):
        machine.push(line == b"01")
        return
    machine.at = start
    machine.push(machine.decimal())


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _sized(form: str, made: Callable[[bytes], Any] = bytes) -> Callable[[_Machine], None]:
    """Push what is `made` of as many bytes as a number of this form says."""
    return lambda m: m.push(made(m.take(m.number(form))))


def _kept(place: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
    """Keep the top of the stack under a number."""
    return lambda m: m.memo.__setitem__(place(m), m.stack[-1])


_ACTIONS: dict[int, Callable[[_Machine], Any]] = {
    ord(code): action
    for code, action in {
        "\x80": lambda m: m.take(1),  # PROTO
        "\x95": lambda m: m.number("Q"),  # FRAME: the bytes follow, and may end where they like
        "(": lambda m: m.marks.append(len(m.stack)),
        "0": lambda m: m.pop(),
        "1": lambda m: m.items(),
        "2": lambda m: m.push(m.stack[-1]),
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "I": _int,
        "L": lambda m: m.push(m.decimal()),
        "J": lambda m: m.push(m.number("i")),
        "K": lambda m: m.push(m.number("B")),
        "M": lambda m: m.push(m.number("H")),
        "\x8a": lambda m: m.push(m.long(m.number("B"))),
        "\x8b": lambda m: m.push(m.long(m.number("I"))),
        "F": lambda m: m.push(m.fraction()),
        "G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
        "S": lambda m: m.push(_string(m.line())),
        **{code: _sized(form) for code, form in zip("TUBC\x8e\x96", "IBIBQQ")},
        "V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        **{code: _sized(form, _utf8) for code, form in zip("X\x8c\x8d", "IBQ")},
        "]": lambda m: m.push([]),
        ")": lambda m: m.push(()),
        "}": lambda m: m.push({}),
        "l": lambda m: m.push(m.items()),
        "t": lambda m: m.push(tuple(m.items())),
        "d": _dictionary,
        "\x85": lambda m: _tuple(m, 1),
        "\x86": lambda m: _tuple(m, 2),
        "\x87": lambda m: _tuple(m, 3),
        "a": lambda m: m.fill([m.pop()]),
        "e": lambda m: m.fill(m.items()),
        "s": lambda m: m.set(_two(m)),
        "u": lambda m: m.set(m.items()),
        "p": _kept(lambda m: m.decimal()),
        "q": _kept(lambda m: m.number("B")),
        "r": _kept(lambda m: m.number("I")),
        "\x94": _kept(lambda m: len(m.memo)),
        "g": lambda m: m.push(m.memo[m.decimal()]),
        "h": lambda m: m.push(m.memo[m.number("B")]),
        "j": lambda m: m.push(m.memo[m.number("I")]),
        "c": lambda m: m.name(m.line(), m.line()),
        "\x93": lambda m: m.name(*_two(m)),
        "Q": _refuse_tensors,
        "P": _refuse_tensors,
        "R": lambda m: m.reduce(),
        "b": lambda m: m.build(),
    }.items()
}
