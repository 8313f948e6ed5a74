"""Somebody's files, opened to be read: what an error says of a file, and what only of the machine.

That a file is not there (NOT_THERE) is a fact. All else may be over in a moment: a disk or a network that
stutters, too many open files, no memory. Such a thing is tried again a few times and then stops the work with
its reason; it is never written down as a property of an image, which would be believed for ever. A missing
permission does not pass and is the user's to mend, so that it stops the work at once.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

from smelt.errors import StorageError

T = TypeVar("T")

PAUSES = (0.05, 0.2, 0.5, 1.0)  # seconds before each further try
# by open(2) and read(2) of Linux; a name that a file system cannot hold is in none of its folders
NOT_THERE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ}
)
DENIED = frozenset({errno.EACCES, errno.EPERM})
_HINTS = {
    errno.EMFILE: "raise the limit of open files (`ulimit -n`) or load with fewer runtime.workers",
    errno.ENFILE: "the machine has too many files open: close other programs or raise fs.file-max",
    errno.ENOMEM: "free memory, or load with fewer runtime.workers",
    errno.ESTALE: "mount the network file system again",
    errno.ENOSPC: "make room where the file system keeps its cache",
    errno.EDQUOT: "make room where the file system keeps its cache",
}
_DISK = "see to the disk or the network that it lies on (`dmesg` may say more)"


def patiently(action: Callable[[], T], name: Callable[[], str]) -> T:
    """What `action` returns, tried again while the machine is to blame; `name()`: what it reads.

    Raises StorageError if it stays so. An OSError out of `action` is taken for the machine's fault: what is a
    fact about the file must leave it as an error of another type, or as a value.
    """
    for pause in PAUSES:
        try:
            return action()
        except PermissionError as error:
            raise denied(error, name()) from error
        except (OSError, MemoryError):
            time.sleep(pause)
    try:
        return action()
    except (OSError, MemoryError) as error:
        raise _given_up(error, name()) from error


def denied(error: OSError, name: str) -> StorageError:
    """The error for a file that may not be read."""
    return StorageError(
        f"{error.filename or name}: {error.strerror} ({_code(error)}). That says nothing of what is in it, "
        f"so the work stops here: let the user that runs smelt read it (chmod, chown), or take it out of the "
        f"data set; then give the same command again"
    )


def _given_up(error: OSError | MemoryError, name: str) -> StorageError:
    if isinstance(error, PermissionError):
        return denied(error, name)
    if isinstance(error, MemoryError):
        what, hint = "there is not enough memory to read it", _HINTS[errno.ENOMEM]
    else:
        name = str(error.filename or name)
        what, hint = f"{error.strerror or error} ({_code(error)})", _HINTS.get(error.errno or 0, _DISK)
    return StorageError(
        f"{name}: {what}, {len(PAUSES) + 1} times in {sum(PAUSES):.1f} s. That says nothing of the image, "
        f"so the work stops here: {hint}; then give the same command again, it goes on"
    )


def _code(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "no code")


def open_descriptor(path: str | bytes | os.PathLike[str], flags: int = 0) -> int:
    """A descriptor to read `path` by, never one that waits for the other end of a pipe. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)


def opened_file(descriptor: int) -> BinaryIO:
    """A file by its descriptor, which it closes."""
    return open(descriptor, "rb")


def open_file(path: str | bytes | os.PathLike[str], buffering: int = -1) -> BinaryIO:
    """`path` open to be read as bytes, a pipe not waited for. Raises OSError, also for a folder."""
    return open(path, "rb", buffering, opener=lambda name, _: open_descriptor(name))


def open_text(path: str | Path, errors: str = "strict", newline: str | None = None) -> TextIO:
    """`path` open to be read as UTF-8. Raises OSError, and UnicodeDecodeError by `errors` when it is read."""
    return open(path, encoding="utf-8", errors=errors, newline=newline)


def read_bytes(path: str | Path) -> bytes:
    """All bytes of `path`. Raises OSError."""
    with open_file(path) as file:
        return file.read()


def read_text(path: str | Path, errors: str = "strict") -> str:
    """All of `path` as UTF-8. Raises OSError, and UnicodeDecodeError by `errors`."""
    with open_text(path, errors) as file:
        return file.read()


def read_head(path: str | bytes | os.PathLike[str], size: int) -> bytes:
    """The first bytes of a plain file; b"" where it is something else. Raises OSError."""
    descriptor = open_descriptor(path)
    try:
        return os.read(descriptor, size) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def read_part(descriptor: int, size: int, offset: int) -> bytes:
    """`size` bytes from `offset` on of an open file; fewer only where the file ends before.

    A system may give fewer bytes than were asked for. OSError where it gives none and the file goes on.
    """
    data = os.pread(descriptor, size, offset)
    if len(data) == size:
        return data
    parts = [data]
    while data and (size := size - len(data)):
        offset += len(data)
        data = os.pread(descriptor, size, offset)
        parts.append(data)
    if size and os.fstat(descriptor).st_size > offset:
        raise OSError(errno.EIO, "no more bytes could be read before the end of the file")
    return b"".join(parts)


def resolved(path: str | os.PathLike[str]) -> str:
    """`path` with its links followed, as far as it is there. OSError where the machine could not look.

    Without `strict`, `os.path.realpath` takes every error for "not a link", a stuttering disk's too.
    """
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        return os.path.realpath(path)


def is_kind(path: bytes, kind: Callable[[int], bool]) -> bool:
    """Whether `path` is there and of a kind (`stat.S_ISREG`, `stat.S_ISDIR`). StorageError if none can tell.

    `os.path.isfile` and its like say "no" to every error.
    """

    def looked() -> bool:
        try:
            return b"\0" not in path and kind(os.stat(path).st_mode)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            return False

    return patiently(looked, lambda: os.fsdecode(path))
