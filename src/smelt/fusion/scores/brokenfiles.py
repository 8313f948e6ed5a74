"""What is wrong with an array file that a library could not read, in words that say how to mend it.

The file itself is looked at: what it begins with, what its header announces, how many bytes are there. The
library's own words follow in brackets where that does not tell.
"""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from smelt.errors import ArtifactError, short
from smelt.files.opening import open_file

# What libraries raise for files that are damaged, whatever it is that they stumble over
DAMAGED = (
    ValueError, OSError, EOFError, KeyError, TypeError, MemoryError, RecursionError, OverflowError,
    SyntaxError, NotImplementedError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
MOST_SHOWN = 1 << 80  # bytes; Python refuses to write out numbers of thousands of digits
_WRITTEN_BY = {
    ".npy": "numpy.save(path, array)", ".npz": "numpy.savez(path, scores=array)",
    ".pt": "torch.save({'scores': tensor}, path)", ".parquet": "table.to_parquet(path)",
}  # fmt: skip
_BEGINS = {".npy": b"\x93NUMPY", ".npz": b"PK", ".parquet": b"PAR1"}
_KNOWN = (  # what files begin with, what they are then, and what they should be called
    (b"\x93NUMPY", "a .npy array", ".npy"), (b"PK\3\4", "a zip archive (.npz, .pt)", ".npz"),
    (b"PAR1", "Parquet", ".parquet"), (b"\x89HDF", "HDF5", ""), (b"\x1f\x8b", "packed with gzip", ""),
    (b"\x80", "a pickle, which is never opened", ""), (b"<", "a page (HTML or XML)", ""),
    (b"version https://git-lfs", "a pointer of Git LFS (git lfs pull fetches the file)", ""),
    (b"{", "JSON", ""),
)  # fmt: skip
_OBJECTS = "it holds objects, which are never unpickled; save it as numbers, or names with dtype=str"


def refuse_no_file(path: Path, option: str, meant: str) -> None:
    """ArtifactError where an option, or a name beside a file of scores, leads to anything but a file.

    option: before the path in the message (`--ids `, or nothing). meant: what the file should hold.
    """
    if path.is_file():
        return
    what = "is a folder" if path.is_dir() else "is no ordinary file" if path.exists() else "is not there"
    raise ArtifactError(f"{option}{path} {what}: name a file that holds {meant}")


def weights_file(path: Path) -> Path:
    """The `fusion.json` that --use means: the file itself, or the one in the folder that --out wrote."""
    inside = path / "fusion.json"
    if path.is_dir() and not inside.is_file():
        raise ArtifactError(
            f"--use {path} is a folder without fusion.json: name the file, or the folder that --out wrote"
        )
    if not path.is_dir():
        refuse_no_file(path, "--use ", "weights, the fusion.json that --out wrote")
    return inside if path.is_dir() else path


def broken(path: Path, error: BaseException | None = None) -> ArtifactError:
    """The refusal of `path`, which `error` was raised for: what is wrong with it, and what to do."""
    said, suffix = str(error or "").partition("\n")[0], path.suffix.lower()
    again = f"copy or download it again, or write it again with {_WRITTEN_BY.get(suffix, 'what wrote it')}"
    try:
        with open_file(path) as file:
            why = _why(path, file, str(error or ""))
    except OSError as failed:
        why, again = f"{failed.strerror}; is it there, and may you read it?", ""
    # only where nothing better is known: numpy's advice for text in a .npy is to unpickle it
    words = f" [{short(said, 160)}]" if said and "damaged" in why else ""
    mend = f"; {again}" if again and ";" not in why else ""
    return ArtifactError(f"{path} cannot be read as a {suffix} file: {why}{mend}{words}")


def _why(path: Path, file: IO[bytes], said: str) -> str:
    """What is wrong; behind a semicolon what to do, where that is not to get the file again."""
    suffix, size, head = path.suffix.lower(), path.stat().st_size, file.read(64)
    if not size:
        return "it is empty"
    if not head.startswith(_BEGINS.get(suffix, b"")):
        what, fits = next(((what, fits) for mark, what, fits in _KNOWN if head.startswith(mark)), ("", ""))
        other = f"it is {what}" if what else "it does not begin as one does"
        return f"{other}; call it {path.stem}{fits}" if fits else other
    if suffix == ".npy":
        return _why_npy(file, size)
    file.seek(max(0, size - 4))
    if suffix == ".parquet" and file.read() != _BEGINS[suffix]:
        return "it is cut off (it does not end as Parquet does)"
    if "object" in said.lower():
        return _OBJECTS
    if suffix == ".npz" and ("zip" in said.lower() or not said):
        return "it is cut off or damaged (its directory, at its end, cannot be read)"
    return "it is damaged, or cut off"


def _why_npy(file: IO[bytes], size: int) -> str:
    """What is wrong with an array whose first bytes are right."""
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0), (3, 0)):
                return f"its version {version[0]}.{version[1]} is not known"
            later: Any = np.lib.format.read_array_header_2_0
            shape, _, dtype = (np.lib.format.read_array_header_1_0 if version == (1, 0) else later)(file)
    except DAMAGED:
        return "its header is cut off or damaged"
    needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if dtype.hasobject:
        return _OBJECTS
    if not 0 <= needed <= MOST_SHOWN or any(abs(side) > MOST_SHOWN for side in shape):
        return "its header announces more than any disk holds, or less than nothing"
    if needed > there:
        return (
            f"it is cut off: its header announces {dtype} of shape {shape}, {needed:,} bytes, and {there:,} "
            f"are there"
        )
    return f"its header announces {dtype} of shape {shape}, which is no array of scores or labels"
