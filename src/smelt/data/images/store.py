"""The bytes of any image of a catalogue: files below a root, or members of shards read by their offset.

The one place that images are read from: training, prediction, the checks and the report's gallery alike.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import numpy as np

from smelt.artifacts.catalogue import Catalogue
from smelt.data.images.decode import Pixels
from smelt.errors import BadImageError, DataError
from smelt.files.opening import NOT_THERE, denied, open_descriptor, patiently, read_part, resolved

MAX_BYTES = 1 << 28  # of a file; what is larger is no photograph
MOST_OPEN = 128  # shards kept open; a process is often allowed 1,024 files, and there may be 65,000 shards


class ImageStore:
    """The bytes (or raw pixels) of any row. May be used by many threads at once."""

    def __init__(self, catalogue: Catalogue, root: Path | None) -> None:
        self.catalogue = catalogue
        self.root = None if root is None else Path(patiently(lambda: resolved(root), lambda: str(root)))
        # whoever brings a catalogue of their own need not know of links
        self._follow: bool = getattr(catalogue, "follow", False)
        self._shards = _Shards()
        self._folders: dict[str, bool] = {}

    def read(self, row: int) -> bytes | Pixels:
        """The file of `row` as bytes, or uint8 pixels (H, W, 3) where the data set stores them raw.

        Raises BadImageError(`missing`) if there is no such file, (`outside_root`) if it leads elsewhere,
        (`truncated`) if its shard ends within it, (`too_large`); StorageError where the machine keeps it
        from being read; DataError where the root or the shard is gone.
        """
        place = self.catalogue.location(row)
        if place.shard is None:
            return patiently(lambda: self._read_file(place.path), lambda: f"{self.root}/{place.path}")
        if place.size > MAX_BYTES:
            raise BadImageError("too_large", f"{place.path}: a member of more than {MAX_BYTES} bytes")
        shard = (self.catalogue.folder if place.inside else self._root()) / place.shard
        data = patiently(lambda: self._shards.read(shard, place.offset, place.size), lambda: str(shard))
        if len(data) != place.size:
            raise BadImageError("truncated", f"{shard} ends within it")
        if place.raw_shape is None:
            return data
        return np.frombuffer(data, np.uint8).reshape(place.raw_shape)

    def name(self, row: int) -> str:
        """What to call the image of `row` in messages and lists."""
        name: str = self.catalogue.path(row)
        return name

    def _root(self) -> Path:
        if self.root is None:
            raise DataError("the catalogue's images lie below a root folder, but none was given (root:)")
        return self.root

    def _read_file(self, name: str) -> bytes:
        """The bytes of a file below the root. OSError where the machine, not the file, is to blame."""
        path = os.path.join(self._root(), name)
        if "\0" in path:
            raise BadImageError("missing", f"{name!r}: no file can be called so")
        try:
            if not self._is_inside(os.path.dirname(path)):
                raise BadImageError("outside_root", name)
            descriptor = self._open(path)
            try:
                return _content(descriptor, name)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            self._still_there()
            raise BadImageError("missing", f"{name}: {error.strerror}") from error

    def _open(self, path: str) -> int:
        """Open a file; a link is followed if it stays below the root."""
        try:
            return open_descriptor(path, os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.ENXIO and stat.S_ISSOCK(os.stat(path).st_mode):
                raise BadImageError("missing", f"{path}: is a socket") from None
            if error.errno != errno.ELOOP:
                raise
        path = os.path.realpath(path, strict=True)
        if not self._is_inside(os.path.dirname(path)):
            raise BadImageError("outside_root", path)
        return open_descriptor(path)

    def _is_inside(self, folder: str) -> bool:
        """Whether `folder`, its links followed, lies below the root (remembered: there are few folders).

        Anywhere will do where the user said that links may lead there (`data.links: anywhere`).
        """
        if self._follow:
            return True
        known = self._folders.get(folder)
        if known is None:
            root = str(self._root())
            known = os.path.commonpath([root, resolved(folder)]) == root
            self._folders[folder] = known
        return known

    def _still_there(self) -> None:
        """DataError if the root itself is gone: then no image of it is known to be missing."""
        try:
            os.stat(self._root())
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            raise DataError(
                f"{self.root}: {error.strerror}. It is the folder that the images lie below (root:): "
                f"mount it or name the right one"
            ) from error


def _content(descriptor: int, name: str) -> bytes:
    """All bytes of an open file; BadImageError for what is no plain file (a folder, a pipe, a device)."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        reason = "missing" if stat.S_ISDIR(status.st_mode) else "empty"
        raise BadImageError(reason, f"{name}: is {kind_of(status.st_mode)}")
    if status.st_size > MAX_BYTES:
        raise BadImageError("too_large", f"{name}: a file of more than {MAX_BYTES} bytes")
    return read_part(descriptor, status.st_size, 0)


def kind_of(mode: int) -> str:
    """What a file is that is no plain one, by its `st_mode`, in words."""
    known = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return known.get(stat.S_IFMT(mode), "a device")


class _Shards:
    """Shards that are open: the last MOST_OPEN that were read from, so that any number can be."""

    def __init__(self) -> None:
        self._open: dict[Path, _Descriptor] = {}  # those used longest ago first
        self._lock = threading.Lock()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Bytes of a shard, fewer where it ends before. DataError if it is not there."""
        try:
            shard = self._descriptor(path)  # held while it is read from: others may drop it meanwhile
            return read_part(shard.number, size, offset)
        except OSError as error:
            if error.errno in NOT_THERE:
                raise DataError(
                    f"{path}: {error.strerror}; the catalogue says that images are in it"
                ) from error
            if isinstance(error, PermissionError):
                raise denied(error, str(path)) from error
            self._forget(path, all_of_them=error.errno in (errno.EMFILE, errno.ENFILE))
            raise

    def _descriptor(self, path: Path) -> _Descriptor:
        with self._lock:
            known = self._open.pop(path, None) or _Descriptor(path)
            while len(self._open) >= MOST_OPEN:
                del self._open[next(iter(self._open))]
            self._open[path] = known
            return known

    def _forget(self, path: Path, all_of_them: bool) -> None:
        """Open a shard anew when it is next read: its descriptor may be stale, or there are too many."""
        with self._lock:
            self._open.pop(path, None)
            if all_of_them:
                self._open.clear()


class _Descriptor:
    """An open file, closed when the last thread that reads from it lets go of it."""

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = open_descriptor(path)
        mode = os.fstat(self.number).st_mode
        if not stat.S_ISREG(mode):
            raise DataError(f"{path}: is {kind_of(mode)}; the catalogue says that images are in it")

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)
