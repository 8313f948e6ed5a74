"""Arrays in a `.npz`, and what else lies in a zip, within bounds: no number in the file allocates anything.

A zip's directory may have MOST_DIRECTORY bytes, one thing in it MOST_BYTES when it is unpacked, all that is
asked for MOST_IN_ALL. An array is made only of as many bytes as its shape says, and never of objects.
"""

from __future__ import annotations

import ast
import io
import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from smelt.data.formats.containers.jsons import open_regular
from smelt.data.formats.containers.standins import PLAIN_TYPE, array_of
from smelt.errors import DataError, short

MOST_DIRECTORY = 1 << 20
MOST_BYTES = 1 << 28
MOST_IN_ALL = 1 << 30
MOST_HEADER = 1 << 14
_TAIL = 22 + 20 + 56 + (1 << 16)  # what ends a zip, in both its forms, and a comment

# What zipfile raises on damage, beside its own error: of fields, of packed bytes, of passwords and methods
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, NotImplementedError,
          RuntimeError, KeyError, OSError, OverflowError, MemoryError, SyntaxError, TypeError)  # fmt: skip


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """The zip in `file`. BadZipFile where it is none, or its directory is larger than any of ours."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    for mark, place, width in ((b"PK\5\6", 12, 4), (b"PK\6\6", 40, 8)):
        at = tail.find(mark)
        while at >= 0:
            field = tail[at + place : at + place + width]
            none = field == b"\xff\xff\xff\xff"  # the larger form has it then
            if not none and int.from_bytes(field, "little") > MOST_DIRECTORY:
                raise zipfile.BadZipFile(f"its directory has more than {MOST_DIRECTORY:,} bytes")
            at = tail.find(mark, at + 1)
    return zipfile.ZipFile(file)


def unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    """What `name` is in a zip. BadZipFile where it is larger than anything of ours."""
    inside = archive.getinfo(name)
    if inside.file_size > MOST_BYTES:
        raise zipfile.BadZipFile(f"{name} has {inside.file_size:,} bytes when unpacked")
    return archive.read(inside)


class Arrays:
    """The arrays of the `.npz` at `path`, read when they are asked for; used in a `with` statement.

    Everything raises DataError, with the file and the array, for what is damaged or larger than allowed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_regular(path)
        self._left = MOST_IN_ALL
        try:
            self._zip = open_zip(self._file)
        except DAMAGE as error:
            self._file.close()
            raise DataError(f"{path} is no .npz that can be read: {short(str(error))}") from error
        self.names = [name.removesuffix(".npy") for name in self._zip.namelist()]

    def __enter__(self) -> Arrays:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._zip.close()
        self._file.close()

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array called `name`."""
        if name not in self.names:
            raise DataError(f"{self.path} has no array {name!r}; it has {', '.join(self.names[:20])}"[:1000])
        try:
            data = unpacked(self._zip, f"{name}.npy")
            self._left -= len(data)
            if self._left < 0:
                raise ValueError(f"its arrays have more than {MOST_IN_ALL:,} bytes together")
            return _array(data)
        except DAMAGE as error:
            raise DataError(
                f"{self.path}: array {name!r} cannot be read: {short(str(error)) or type(error).__name__}"
            ) from error


def _array(data: bytes) -> NDArray[Any]:
    """The array of a `.npy`; its header is a dictionary as Python writes it."""
    wide = 2 if data[6:7] == b"\1" else 4
    start = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
    if data[:6] != b"\x93NUMPY" or start > min(len(data), MOST_HEADER):
        raise ValueError("it is no array of NumPy")
    header = ast.literal_eval(data[8 + wide : start].decode("latin1").strip())
    if not isinstance(header, dict):
        raise ValueError("it has no header")
    kind, shape = header.get("descr"), header.get("shape")
    if not isinstance(kind, str) or not PLAIN_TYPE.fullmatch(kind):
        raise ValueError(f"its elements are {short(repr(kind), 60)}, not numbers or short texts")
    if not isinstance(shape, tuple):
        raise ValueError(f"its shape is {short(repr(shape), 60)}")
    return array_of(memoryview(data)[start:], np.dtype(kind), shape, header.get("fortran_order") is True)
