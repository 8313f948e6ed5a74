"""What pickles of arrays call by name, stood in for: types and arrays made of bytes that are really there.

Nothing of NumPy's is called with arguments that a file gives but by way of these, which compare them first.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import short

PLAIN_TYPE = re.compile(r"[|<>=]?(b1|[iu][1248]|f[248]|[SU][1-9]\d{0,3})")
TENSORS = ": tensors of torch are not read, save them as arrays (tensor.numpy())"
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")


class UnreadableError(ValueError):
    """A pickle that holds what is not read here, or none; the text says what."""


class Name:
    """A class or function that a pickle names, one of those that are known."""

    def __init__(self, module: str, name: str) -> None:
        if module.startswith("torch"):
            raise UnreadableError(f"it holds a {module}.{name}{TENSORS}"[:200])
        if (module, name) not in _KNOWN:
            raise UnreadableError(f"it wants {module}.{name}"[:200])
        self.name = name


_KNOWN = {
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    ("__builtin__", "bytes"), ("builtins", "bytes"),
    *((module, name) for module in _MULTIARRAY for name in ("_reconstruct", "scalar")),
    *((module, "_frombuffer") for module in _NUMERIC),
}  # fmt: skip


class Dtype:
    """A type of array elements: fixed-width numbers or texts, or objects ("O")."""

    def __init__(self, name: Any) -> None:
        name = text_of(name)
        self.objects = name in ("O", "O8", "|O")
        if not self.objects and not PLAIN_TYPE.fullmatch(name):
            raise UnreadableError(f"it holds an array of type {name!r}"[:200])
        self.name, self.order = name, ""

    def set_state(self, state: Any) -> None:
        """(version, byte order, subtype, names, fields, …): only the plain ones."""
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise UnreadableError("it holds an array with fields")
        self.order = text_of(state[1])
        if self.order not in ("<", ">", "|", "="):
            raise UnreadableError("it holds an array of no byte order")

    def dtype(self) -> np.dtype[Any]:
        """As NumPy has it."""
        name = self.name.lstrip("|<>=")
        return np.dtype(f"{self.order if self.order in ('<', '>') else self.name[: -len(name)]}{name}")


class Array:
    """An array as it comes: empty at first, then with its state."""

    def __init__(self) -> None:
        self.value: NDArray[Any] | list[Any] | None = None

    def set_state(self, state: Any) -> None:
        """(version, shape, type, whether columns come first, bytes or list of objects)."""
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], Dtype):
            raise UnreadableError("it holds an array whose state is none")
        _, shape, kind, columns_first, data = state
        if kind.objects:
            if not isinstance(data, list):
                raise UnreadableError("it holds an array of objects that has none")
            self.value = data
        else:
            self.value = _array(data, kind, shape, "F" if columns_first is True else "C")


def _array(data: Any, kind: Any, shape: Any, order: str) -> NDArray[Any]:
    if not isinstance(data, bytes) or not isinstance(kind, Dtype) or kind.objects:
        raise UnreadableError("it holds an array that is not made of bytes")
    return array_of(data, kind.dtype(), shape if isinstance(shape, tuple) else (shape,), order == "F")


def array_of(
    data: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[Any, ...], columns_first: bool
) -> NDArray[Any]:
    """An array made of bytes that are there. Raises UnreadableError where they do not fill its shape."""
    if len(shape) > 8 or any(type(side) is not int or not 0 <= side < 1 << 40 for side in shape):
        raise UnreadableError(f"it holds an array of an odd shape, {short(repr(shape), 60)}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise UnreadableError(f"it holds an array of {math.prod(shape):,} elements in {len(data):,} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if columns_first else "C")


def text_of(value: Any) -> str:
    """A text, or the bytes of one (at most 200). Raises UnreadableError."""
    if isinstance(value, bytes):
        return value[:200].decode("latin1")
    if not isinstance(value, str):
        raise UnreadableError("it holds something else where a text belongs")
    return value


def _encoded(text: str) -> bytes:
    try:
        return text.encode("latin1")
    except UnicodeEncodeError as error:
        raise UnreadableError("it holds bytes that are none") from error


def made(name: str, arguments: tuple[Any, ...]) -> Any:
    """What the known class or function `name` makes of its arguments. Raises UnreadableError."""
    if name == "_reconstruct":
        return Array()
    if name == "dtype" and arguments:
        return Dtype(arguments[0])
    if name == "encode" and 1 <= len(arguments) <= 2 and isinstance(arguments[0], str):
        return _encoded(arguments[0])
    if name == "bytes" and not arguments:  # so Python writes b"" where it has no opcode for bytes
        return b""
    if name == "scalar" and len(arguments) == 2:
        return _array(arguments[1], arguments[0], (), "C").item()
    if name == "_frombuffer" and len(arguments) == 4:
        array = Array()
        array.value = _array(arguments[0], arguments[1], arguments[2], text_of(arguments[3]))
        return array
    raise UnreadableError(f"it calls {name} in a way that is not known")
