"""Files that are whole or not there: one way to write them, JSON, hashes.

A file is made beside its place under a name that nobody else uses (not a process of another host, if they
share the folder), brought to the disk and renamed. What a kill leaves behind is called `.*.tmp`.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from smelt.errors import ArtifactError

_HOST = hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]
_ORDER = itertools.count()


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path` that no other process, on this host or another, has made or will make."""
    return path.with_name(
        f".{path.name[:128]}.{_HOST}-{os.getpid()}-{next(_ORDER)}-{os.urandom(4).hex()}.tmp"
    )


@contextlib.contextmanager
def replacing(path: Path, size: int | None = None) -> Iterator[Path]:
    """The name to write a file under that takes the place of `path`, in one step, when the block ends well.

    A reader sees the old file or the new one, never a part, also after a loss of power. ArtifactError for
    what the system says; `size`: the bytes that were needed, for its message.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        needed = "" if size is None else f" ({size} bytes)"
        raise ArtifactError(f"cannot write {path}{needed}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def filling(folder: Path, names: Sequence[str], mode: int) -> Iterator[Path]:
    """The folder to write files in that come into `folder`, of `mode` where it is new, when the block ends
    well: all of them, or none. Of `names` nothing older stays; the last of them goes first and comes last.
    """
    folder = folder.resolve()  # a link to another disk: what is made aside must be on that disk
    aside = temporary_name(folder)
    try:
        aside.mkdir(mode, parents=True)
        yield aside
        if not folder.exists():
            os.replace(aside, folder)
            return
        for name in reversed(names):
            (folder / name).unlink(missing_ok=True)
        for name in names:
            if (aside / name).exists():
                os.replace(aside / name, folder / name)
    except OSError as error:
        raise ArtifactError(f"cannot write to {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step."""
    with replacing(path, len(content)) as temporary, open(temporary, "xb") as file:
        file.write(content)


def write_plain(path: Path, content: bytes) -> None:
    """Write a file of an artefact that is not committed yet, one of very many: nobody reads it before."""
    with open(path, "wb") as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8 in one step."""
    write_bytes(path, text.encode())


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Replace `path` by lines of CSV in one step. Names of files are bytes: those that are not UTF-8 are
    written as they are."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, keys sorted, in one step."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`; ArtifactError names the file if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is not there") from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, numbers of any length, no end of depth
        raise ArtifactError(f"{path} is damaged: {error}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file that nobody writes to, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def keep_beside(path: Path) -> Path:
    """Give a file a second name beside it, such as `NAME-before-1.csv`; that name. Raises OSError."""
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.stem}-before-{number}{path.suffix}")):
        number += 1
    link_or_copy(path, kept)
    return kept


def move(source: Path, target: Path) -> None:
    """Give a file or folder another name on the same disk; a file that has it is replaced. Raises OSError."""
    os.replace(source, target)


def new_file(path: Path, *, append: bool = False) -> BinaryIO:
    """A file to be written piece by piece, emptied unless one appends; whole once its artefact is."""
    return open(path, "ab" if append else "wb", buffering=1 << 20)


def sync(file: BinaryIO) -> None:
    """Bring what was written to a file onto the disk."""
    file.flush()
    os.fsync(file.fileno())


def append_descriptor(path: Path) -> int:
    """A descriptor that reads a file and writes at its end, never through a link. Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file that several processes add to. Raises OSError.

    It begins afresh behind a line that a kill tore: readers pass over empty lines.
    """
    descriptor = append_descriptor(path)
    try:
        os.write(descriptor, f"\n{line}\n".encode())
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Hex sha256 of the bytes of `path`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Hex sha256 of `text` in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
