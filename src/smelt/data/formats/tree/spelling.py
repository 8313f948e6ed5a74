"""How the paths of a list, written on another machine or system, lead to files: one way of many.

Which way it is, `fitting` tells.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.lists.columns import looks_like_image
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.named import Anywhere, Loose, Near
from smelt.data.formats.tree.names import first_few, normalised

ABSOLUTE = re.compile(rb"/|[A-Za-z]:/")


@dataclass(frozen=True)
class Spelling:
    """A way to read the paths of a list as paths below the root.

    base: folder that they start from. roots: what stands before absolute paths below the root. folders: how
    many of their first folders are not there. ways: what is done to them, by name (`raw`: as
    bytes in `encoding`, that of the list). note: all that in words,
    for the user. hint: what could be meant, where it cannot be told. refused: why such paths are none.
    """

    base: bytes = b""
    prefix: bytes = b""
    suffix: bytes = b""
    roots: tuple[bytes, ...] = ()
    folders: int = 0
    ways: frozenset[str] = frozenset()
    loose: Loose | Anywhere | Near | None = None
    note: str = ""
    hint: str = ""
    refused: str = ""
    encoding: str = ""

    @property
    def plain(self) -> bool:
        """Whether paths are taken as they stand, but for their one form."""
        return not (self.prefix or self.suffix or self.folders or self.ways or self.loose or self.roots)

    def __call__(self, path: bytes) -> bytes:
        """The path below the root, in its one form; as far as it can be such a path."""
        if not path:
            return path
        if self.ways:
            path = self._rewritten(path)
        for root in self.roots:
            if path.startswith(root):
                path = path[len(root) :]
                break
        if self.folders:
            parts = [part for part in path.split(b"/") if part not in (b"", b".")]
            path = b"/".join(parts[self.folders :]) or path
        path = self.prefix + path + self.suffix
        if self.base and not ABSOLUTE.match(path):
            path = _joined(self.base, path)
        path = normalised(path)
        return self.loose.find(path) if self.loose else path

    def _rewritten(self, path: bytes) -> bytes:
        ways = self.ways
        if "latin-1" in ways:
            try:
                path.decode()
            except UnicodeDecodeError:
                path = path.decode("latin-1").encode()
        if "raw" in ways:
            path = path.decode("utf-8", "surrogateescape").encode(self.encoding, "surrogateescape")
        if "blanks" in ways:
            path = path.strip()
        if "file://" in ways and path[:5].lower() == b"file:":
            path = re.sub(rb"(?i)^file:(//(localhost)?(?=/)|//)?", b"", path, count=1)
            path = unquote_to_bytes(path)
            if re.match(rb"/[A-Za-z]:[/\\]", path):
                path = path[1:]
        elif "%" in ways:
            path = unquote_to_bytes(path)
        if "suffix" in ways:
            path = os.path.splitext(path)[0]
        if "backslashes" in ways:
            path = path.replace(b"\\", b"/")
        return path


def _joined(base: bytes, path: bytes) -> bytes:
    """`path` from the folder `base`; `..` goes up as far as the root, and stays where it leads out of it."""
    parts = base.split(b"/")
    for part in path.split(b"/"):
        if part == b".." and parts and parts[-1] != b"..":
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def what_lies_there(root: Path, path: bytes) -> str:
    """What is in the deepest folder of `path` that is there, for a message that the file is not."""
    parts = path.split(b"/")[:-1]
    while parts and not os.path.isdir(os.path.join(os.fsencode(root), *parts)):
        parts.pop()
    folder = decode(b"/".join(parts))
    glimpse = Glimpse(root)
    names = [f"{name}/" for name in glimpse.folders(folder)] + glimpse.files(folder)
    place = f"{folder}/" if folder else "the root"
    if not names:
        return f"{place} is empty"
    inner, images = first_images(glimpse, folder)
    within = (
        f", and {inner}/ has {first_few(images, len(images))}"
        if inner and not _images(glimpse, folder)
        else ""
    )
    return f"{place} has {first_few(names, len(names), 4)}{within}"


def _images(glimpse: Glimpse, folder: str) -> list[str]:
    return [name for name in glimpse.files(folder) if looks_like_image(name)]


def first_images(glimpse: Glimpse, below: str = "") -> tuple[str, list[str]]:
    """The first folder below `below` with images, and these; ("", []) for none near by."""
    start = f"{below}/" if below else ""
    for first in glimpse.folders(below)[:50]:
        for folder in (
            f"{start}{first}",
            *(f"{start}{first}/{two}" for two in glimpse.folders(f"{start}{first}")[:50]),
        ):
            if images := _images(glimpse, folder):
                return folder, images
    return "", []


def usual_options(root: Path, path: bytes) -> str:
    """How paths are mended, with the folder and the suffix that are there for an example."""
    folder, images = first_images(Glimpse(root))
    prefix = f"{folder}/" if folder and b"/" not in path else "…"
    suffix = os.path.splitext(images[0])[1] if images and not looks_like_image(decode(path)) else "…"
    return (
        f"-o data.prefix={prefix} and -o data.suffix={suffix} stand before and behind every path, "
        "-o data.root=… is where they start"
    )
