"""The files of a data set, whether in folders or in tars: is a path there, and where are its bytes?"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, combine, decode, encode, hash_spans
from smelt.artifacts.catalogue_writer import Paths, shard_codes
from smelt.data.formats.base import Report, list_folder, unsafe
from smelt.data.formats.containers.archives import Archive
from smelt.data.formats.containers.tars import Members, read_members
from smelt.data.formats.tree.census import kind_of
from smelt.errors import DataError
from smelt.files.opening import is_kind, open_file

_TRIED, _LOOKED_AT = 100, 5  # rows of a list that are tried, and files that are opened


@dataclass(frozen=True, order=True)
class Part:
    """A file, or the bytes offset..offset+size-1 of an archive, called `name`."""

    path: Path
    offset: int = 0
    size: int | None = None
    name: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.name}" if self.name else str(self.path)

    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """Bytes from `start` on, at most `length`. Raises DataError."""
        left = None if self.size is None else max(0, self.size - start)
        wanted = min(x for x in (left, length, 1 << 62) if x is not None)
        try:
            with open_file(self.path, 0) as file:
                file.seek(self.offset + start)
                return file.read(wanted) if wanted < 1 << 62 else file.read()
        except OSError as error:
            raise DataError(f"cannot read {self}: {error.strerror}") from error


def _opened(shard: Path, root: Path, report: Report) -> Archive:
    name = str(shard.relative_to(root))
    return Archive(shard, name, name, read_members(shard, report, shown=encode(name)))


class Files:
    """Below `root`, plain files and the members of the archives `shards`; a member goes before a file."""

    def __init__(
        self, root: Path, shards: Sequence[Path | Archive], report: Report, *, check: bool = True
    ) -> None:
        self.root, self.check = root, check
        opened = [shard if isinstance(shard, Archive) else _opened(shard, root, report) for shard in shards]
        self.shards = [archive.shard for archive in opened]
        self._places = [archive.path for archive in opened]
        self._tops: set[bytes] = set()
        self._index([archive.members for archive in opened])
        self._listings: dict[bytes, NDArray[np.uint64]] = {}

    def _index(self, members: list[Members]) -> None:
        """Members sorted by the first of two hashes; the second one tells those of equal first hash apart."""
        none = np.zeros(0, np.uint64)
        first = np.concatenate([none, *(_hashes(part.paths, 0) for part in members)])
        order = np.argsort(first, kind="stable")
        self._first = first[order]
        self._second = np.concatenate([none, *(_hashes(part.paths, 1) for part in members)])[order]
        kind = shard_codes(len(members))
        codes = [np.full(len(part), code, kind) for code, part in enumerate(members)]
        self._shard = np.concatenate([np.zeros(0, kind), *codes])[order]
        self._offset = np.concatenate([np.zeros(0, np.int64), *(part.offsets for part in members)])[order]
        self._size = np.concatenate([np.zeros(0, np.int64), *(part.sizes for part in members)])[order]
        for part in members:
            for folder in part.paths.folders:
                while folder and folder not in self._tops:
                    self._tops.add(folder)
                    folder = folder.rpartition(b"/")[0]

    def has_folder(self, folder: bytes) -> bool:
        """Whether there is such a folder, on disk or in an archive."""
        return folder in self._tops or is_kind(os.path.join(os.fsencode(self.root), folder), stat.S_ISDIR)

    def find(self, path: bytes) -> Part | None:
        """The file `path`, or None."""
        if unsafe(path):
            return None
        member = int(self._lookup(Paths.of([path]))[0]) if len(self._first) else -1
        if member >= 0:
            return Part(
                self._places[int(self._shard[member])],
                int(self._offset[member]),
                int(self._size[member]),
                decode(path),
            )
        plain = os.path.join(os.fsencode(self.root), path)
        return Part(self.root / decode(path)) if is_kind(plain, stat.S_ISREG) else None

    def find_any(self, paths: Sequence[str]) -> Part | None:
        """The first of `paths` that is there, or None."""
        return next((part for path in paths if (part := self.find(encode(path)))), None)

    def locate(self, paths: Paths) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_] | None]:
        """(columns shard, offset, size where there are archives, (N,) missing or None if not looked for)."""
        missing = np.zeros(len(paths), np.bool_)
        fixed: dict[str, NDArray[Any]] = {}
        if self.shards:
            member = self._lookup(paths)
            found = member >= 0
            missing = ~found
            fixed = {
                "shard": np.where(found, self._shard[member], np.iinfo(self._shard.dtype).max),
                "offset": np.where(found, self._offset[member], 0),
                "size": np.where(found, self._size[member], -1),
            } if len(self._first) else {}  # fmt: skip
        if not self.check:
            return fixed, None
        unseen = np.flatnonzero(missing) if self.shards else np.arange(len(paths))
        missing[unseen] = ~self._on_disk(paths, unseen)
        return fixed, missing

    def unread(self, tables: Sequence[Paths]) -> str:
        """What kind the files are if the first that are there are all images that are not read, else ""."""
        if not self.check or self.shards:
            return ""
        kinds: list[str] = []
        for path in (paths[row] for paths in tables for row in range(min(len(paths), _TRIED))):
            if unsafe(path) or not is_kind(os.path.join(os.fsencode(self.root), path), stat.S_ISREG):
                continue
            kind = kind_of(self.root, path)
            if not kind.image or kind.readable or kind.kind == "HEIC":
                return ""
            kinds.append(kind.kind)
            if len(kinds) >= _LOOKED_AT:
                break
        return " and ".join(sorted(set(kinds)))

    def _lookup(self, paths: Paths) -> NDArray[np.int64]:
        """(N,) place in the index of each path, -1 where no archive has it."""
        if not len(self._first):
            return np.full(len(paths), -1)
        first, second = _hashes(paths, 0), _hashes(paths, 1)
        place = np.minimum(np.searchsorted(self._first, first), len(self._first) - 1)
        right = (self._first[place] == first) & (self._second[place] == second)
        return np.where(right, place, -1)

    def _on_disk(self, paths: Paths, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of `rows` are names in their folders: one listing for each folder, remembered as hashes."""
        found = np.zeros(len(rows), np.bool_)
        order = np.argsort(paths.folder_codes[rows], kind="stable")
        codes = paths.folder_codes[rows][order]
        starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]][: len(codes)])
        hashes = paths.names.hashes()
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(codes)]):
            part = order[start:stop]
            found[part] = np.isin(hashes[rows[part]], self._listing(paths.folders[int(codes[start])]))
        return found

    def _listing(self, folder: bytes) -> NDArray[np.uint64]:
        if folder not in self._listings:
            self._listings[folder] = ByteStrings.of(list_folder(self.root, folder)).hashes()
        return self._listings[folder]


def _hashes(paths: Paths, seed: int) -> NDArray[np.uint64]:
    if not seed:
        return paths.hashes()
    parts = [ByteStrings.of(paths.folders), paths.names]
    folders, names = (hash_spans(p.heap, p.offsets[:-1].astype(np.int64), p.lengths(), seed) for p in parts)
    return combine(folders[paths.folder_codes], names)
