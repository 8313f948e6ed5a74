"""Compressed archives become plain ones: images in them cannot be read by offset where they lie.

Unpacked as a stream, in pieces of PIECE bytes, into the catalogue's folder. What is unpacked may be
MOST_RATIO times as large as what it was packed in and SPARE bytes beside (images hardly pack at all), and
leaves RESERVE bytes of the disk free; both are looked at while it grows. xz may take WINDOW bytes of memory,
zstd half as much (its own limit).
"""

from __future__ import annotations

import bz2
import lzma
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from smelt.data.formats.base import Report
from smelt.data.images.kinds import sniff
from smelt.errors import ArtifactError, DataError
from smelt.files.atomic import new_file, sync
from smelt.files.ipc import open_stream
from smelt.files.opening import NOT_THERE, open_descriptor, patiently

PIECE = 1 << 20
MOST_RATIO = 100
SPARE = 64 << 20
RESERVE = 256 << 20
WINDOW = 1 << 28
_LOOK = 64  # pieces after which the disk is looked at again
_KINDS = {"gzip (SVGZ?)": "gzip", "bzip2": "bzip2", "xz": "xz", "zstd": "zstd"}


class _Decoder(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decoder with the manners of the others: what was not used yet is kept."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": _Gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=WINDOW),
}


def compression(path: Path) -> str:
    """How a file is compressed, by its first bytes: gzip, bzip2, xz, zstd, or "". DataError if it is gone."""
    return _KINDS.get(sniff(next(_raw(path, 64), b"")).kind, "")


def unpack(path: Path, kind: str, target: Path, report: Report) -> int:
    """Write what the file `path`, compressed as `kind`, holds to `target`; returns its size in bytes.

    Raises DataError where it is damaged or grows beyond all measure, ArtifactError where there is no room.
    """
    packed = os.stat(path).st_size
    limit = MOST_RATIO * packed + SPARE
    look_for_room(path, target.parent, packed)
    size = 0
    try:
        with new_file(target) as file:
            for number, piece in enumerate(_unpacked(path, kind, report)):
                size += len(piece)
                if size > limit:
                    raise DataError(
                        f"{path} ({packed:,} bytes) unpacks to more than {MOST_RATIO} times its size: no "
                        f"archive of images does, so it is taken for a bomb; unpack it yourself if it is none"
                    )
                if number % _LOOK == 0:
                    look_for_room(path, target.parent, len(piece))
                file.write(piece)
            sync(file)
    except OSError as error:
        raise ArtifactError(f"cannot write {target}: {error.strerror}") from error
    return size


def look_for_room(path: Path, folder: Path, needed: int) -> None:
    """Raise ArtifactError where `folder` has no room for `needed` bytes that `path` brings, and RESERVE."""
    free = shutil.disk_usage(folder).free
    if free - needed < RESERVE:
        raise ArtifactError(
            f"{path} has to be unpacked into {folder}, for its images cannot be read where they lie, but the "
            f"disk there has only {free:,} bytes left ({needed + RESERVE:,} are needed): make room, or let "
            f"--work lie on a larger disk"
        )


def _unpacked(path: Path, kind: str, report: Report) -> Iterator[bytes]:
    try:
        yield from _zstd(path) if kind == "zstd" else _decoded(path, _DECODERS[kind], report)
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path} is damaged, or no {kind}: {error}") from error


def _decoded(path: Path, make: Callable[[], _Decoder], report: Report) -> Iterator[bytes]:
    """The content of all streams of a file, which may follow one another."""
    decoder, fresh = make(), True
    for data in _raw(path):
        while True:
            if decoder.eof:
                if not data.strip(b"\0"):
                    break
                decoder = make()
            try:
                piece = decoder.decompress(data, PIECE)
            except OSError as error:  # what bz2 says of damage
                raise EOFError(str(error)) from error
            fresh = False
            if piece:
                yield piece
            if decoder.eof:
                data = decoder.unused_data
            elif len(piece) < PIECE:
                break
            else:
                data = b""
    if not fresh and not decoder.eof:
        report.warn(f"{path} was cut short: what is there is read")


def _zstd(path: Path) -> Iterator[bytes]:
    try:
        with open_stream(path, "zstd") as stream:
            while piece := stream.read(PIECE):
                yield piece
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is damaged, cut short, or no zstd: {error}") from error


def _raw(path: Path, size: int = PIECE) -> Iterator[bytes]:
    """The bytes of a file in pieces. DataError where it is not there."""
    descriptor = patiently(lambda: _open(path), lambda: str(path))
    try:
        while piece := patiently(lambda: os.read(descriptor, size), lambda: str(path)):
            yield piece
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return open_descriptor(path)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        raise DataError(f"cannot read the archive {path}: {error.strerror}") from error
