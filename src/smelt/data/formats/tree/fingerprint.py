"""What a data set on disk is known by: hashes of its lists, names and sizes of the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import xxhash

from smelt.data.formats.base import if_there
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.registry import AUTO, reader
from smelt.data.formats.tree.census import Walk
from smelt.data.formats.tree.layout import check_root, resolve
from smelt.errors import DataError
from smelt.files.opening import open_file


def fingerprint(settings: FormatSettings, root: Path) -> str:
    """Identity of what lies below `root`, as hex: file lists by content, archives and folders by listing.

    Listings hold names and sizes: no time stamp, no absolute path. Imports neither torch nor pyarrow (but for
    a list that is Parquet). Of the images that a CSV names the sizes count, unless `check_files` is off;
    images that a published file list names are not looked at one by one. Raises DataError where the folder
    or a list is missing.
    """
    check_root(root)
    asked, (settings, _) = settings.format, resolve(settings, root)
    module = reader(settings.format)
    contents, listed = module.outside(settings, root)
    images = module.listed_images(settings, root) if hasattr(module, "listed_images") else ()
    identity = identity_of(root, contents, listed, images, settings.links)
    return f"{settings.format}-{identity}" if asked == AUTO else identity


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
    return if_there(lambda: os.stat(path).st_size, path, -1)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _hash(path: Path) -> bytes:
    state = xxhash.xxh3_128()
    try:
        with open_file(path, 0) as file:
            while chunk := file.read(1 << 22):
                state.update(chunk)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return state.digest()
