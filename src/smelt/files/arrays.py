"""Arrays in `.npy` files: the one memory map, read, written in one step, grown at their end."""

from __future__ import annotations

import mmap
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ArtifactError
from smelt.files.atomic import replacing


def map_array(path: Path) -> NDArray[Any]:
    """The array in a `.npy` file, memory-mapped for reading; its base's base is the `mmap`.

    ArtifactError where it is not there, cut short, damaged, or holds objects.
    """
    try:
        with open(path, "rb") as file:
            return _mapped(path, file)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is not there") from error
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    except ArtifactError:
        raise
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error


def _mapped(path: Path, file: BinaryIO) -> NDArray[Any]:
    """The array that begins where `file` stands."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ArtifactError(f"{path} is not one of our arrays")
    read = np.lib.format.read_array_header_1_0
    shape, fortran, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    start = file.tell()
    count = int(np.prod(shape))
    if dtype.hasobject or os.fstat(file.fileno()).st_size < start + count * dtype.itemsize:
        raise ArtifactError(f"{path} is cut short or not plain numbers")
    if not count:
        return np.zeros(shape, dtype)
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if fortran else "C")


def map_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays in an `.npz` by name, mapped, or read where they are compressed. Raises ArtifactError."""
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            found = {}
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if member.compress_type == zipfile.ZIP_STORED:
                    # the local header: 26 bytes in, the lengths of name and extra field (APPNOTE 4.3.7)
                    file.seek(member.header_offset + 26)
                    lengths = np.frombuffer(file.read(4), "<u2")
                    file.seek(member.header_offset + 30 + int(lengths.sum()))
                    found[name] = _mapped(path, file)
                else:
                    with archive.open(member) as packed:
                        found[name] = np.lib.format.read_array(packed, allow_pickle=False)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is not there") from error
    except ArtifactError:
        raise
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise ArtifactError(f"{path} is truncated or not a .npz file: {error}") from error
    return found


def let_go(array: NDArray[Any]) -> None:
    """Give the pages of a mapped array back, if it is one: who asks for them again reads them again."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap):
        base.obj.madvise(mmap.MADV_DONTNEED)


def foreign_npy(path: Path) -> NDArray[Any]:
    """A `.npy` from elsewhere, mapped. Raises what numpy raises, and never unpickles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's word on old headers
        return np.lib.format.open_memmap(path, mode="r")


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replace `path` by the arrays by name as `.npz`, uncompressed, in one step."""
    size = sum(array.nbytes for array in arrays.values())
    with replacing(path, size) as temporary, open(temporary, "xb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def map_bytes(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file, (n,), mapped for reading. Raises OSError."""
    return np.memmap(path, np.uint8, "r")


def read_array(path: Path) -> NDArray[Any]:
    """The array in a `.npy` file, in memory. Raises as `map_array` does."""
    return map_array(path).copy(order="K")


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Replace `path` by the array as `.npy` in one step; ArtifactError names the bytes that were needed."""
    with replacing(path, array.nbytes) as temporary, open(temporary, "xb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def new_array(path: Path, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A `.npy` file of zeros, mapped to be written to; what is written is in the file once it is let go.

    All its blocks are on the disk: one that is full is an ArtifactError now, and no crash later.
    """
    array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
    try:
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise ArtifactError(f"cannot write {path} ({array.nbytes} bytes): {error.strerror}") from error
    return array


def write_lines(path: Path, start: int, values: NDArray[Any]) -> None:
    """Replace entries of a `.npy` file that `new_array` made, from `start` of its first axis on, by `values`.

    They are on the disk afterwards. ValueError where they do not fit, ArtifactError where the disk fails.
    """
    try:
        with open(path, "r+b") as file:
            np.lib.format.read_magic(file)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            fits = values.dtype == dtype and values.shape[1:] == shape[1:] and not fortran
            if not fits or start < 0 or start + len(values) > shape[0]:
                raise ValueError(f"{values.dtype} {values.shape} at {start} does not fit {dtype} {shape}")
            line = int(np.prod(shape[1:])) * dtype.itemsize
            file.seek(file.tell() + start * line)
            file.write(np.ascontiguousarray(values).data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ArtifactError(f"cannot write {values.nbytes} bytes to {path}: {error.strerror}") from error


class GrowingArray:
    """A `.npy` file that grows along its first axis while it is written; whole once it is closed."""

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, ...] = ()) -> None:
        self.path, self.dtype, self.shape, self.count = path, np.dtype(dtype), shape, 0
        self._file = open(path, "wb", buffering=1 << 20)  # noqa: SIM115 closed by close()
        self._header()
        self._begin = self._file.tell()

    def append(self, values: NDArray[Any]) -> None:
        """Write `values` (n, *shape) at the end. Raises ArtifactError."""
        try:
            self._file.write(np.ascontiguousarray(values, self.dtype).data)
        except OSError as error:
            size = values.size * self.dtype.itemsize
            raise ArtifactError(f"cannot write {size} bytes to {self.path}: {error.strerror}") from error
        self.count += len(values)

    def read(self, start: int, count: int) -> NDArray[Any]:
        """`count` entries of one dimension from `start` on, of those that were written."""
        self._file.flush()
        size = self.dtype.itemsize
        with open(self.path, "rb") as file:
            data = os.pread(file.fileno(), count * size, self._begin + start * size)
        return np.frombuffer(data, self.dtype)

    def close(self) -> None:
        """Bring the header up to date; nothing can be appended afterwards."""
        if self._file.closed:
            return
        self._file.seek(0)
        self._header()
        self._file.close()

    def delete(self) -> None:
        """Delete the file."""
        self.path.unlink()

    def _header(self) -> None:
        # NumPy pads the header so that the length of a growing array always fits in place
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False,
                  "shape": (self.count, *self.shape)}  # fmt: skip
        np.lib.format.write_array_header_1_0(self._file, header)
