"""What a data set on disk is known by: hashes of its lists, names and sizes of the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import xxhash

from smelt.data.formats.tree.census import Walk
from smelt.errors import DataError
from smelt.files.opening import NOT_THERE, patiently


def identity_of(
    root: Path, contents: Iterable[Path], listed: Iterable[Path], images: Iterable[bytes] = (),
    links: str = "inside",
) -> str:  # fmt: skip
    """Hex hash of the content of the files `contents` and of names and sizes below the paths `listed`.

    Names count relative to `root` where they lie below it, else by their last part. images: further files by
    their paths below `root`; each counts by its size, or by not being there.
    """
    total = xxhash.xxh3_128()
    for path in sorted(set(contents)):
        total.update(b"content\0" + _name(root, path) + b"\0" + _hash(path) + b"\0")
    for top in sorted(set(listed)):
        total.update(b"listing\0" + _name(root, top) + b"\0")
        for name, size in listing(top, links):
            total.update(name + b"\0" + str(size).encode() + b"\0")
    base = os.fsencode(root)
    for image in images:
        total.update(b"image\0" + str(_size_there(os.path.join(base, image))).encode())
    return total.hexdigest()


def listing(top: Path, links: str = "inside") -> Iterator[tuple[bytes, int]]:
    """(relative name, size) of the files below a folder in the order of names, or of one file itself.

    As `census.Walk` goes: links are followed where they stay inside; hidden files are none of the data, nor
    are work folders of smelt: what a run writes is no part of what it is about.
    """
    if not top.is_dir():
        yield b"", _size(top)
        return
    base = os.fsencode(top)
    found = []
    for folder in Walk(top, links):
        found += [(path, _size_there(os.path.join(base, path))) for path in folder.paths()]
    yield from sorted(found)


def _name(root: Path, path: Path) -> bytes:
    return os.fsencode(path.relative_to(root) if path.is_relative_to(root) else path.name)


def _size_there(path: bytes) -> int:
    """Size of a file, -1 where there is none of this name; StorageError where that cannot be told."""

    def looked() -> int:
        try:
            return os.stat(path).st_size
        except ValueError:
            return -1
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            return -1

    return patiently(looked, lambda: os.fsdecode(path))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _hash(path: Path) -> bytes:
    state = xxhash.xxh3_128()
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(1 << 22):
                state.update(chunk)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return state.digest()
