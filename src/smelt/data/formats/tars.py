"""Where the members of a tar lie, from its 512-byte headers alone; nothing is ever extracted.

Reads ustar, GNU (long names) and pax (path, size) headers. Only regular files count; folders are passed
over. Links, devices and names that leave the archive are refused: they are how archives do harm, and no
data set needs them. Layout: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar
Format".
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from zlib import adler32

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue_writer import Paths
from smelt.data.formats.base import Report, unsafe
from smelt.data.reading import NOT_THERE, patiently, read_part
from smelt.errors import DataError

BLOCK = 512
_MAX_META = 1 << 20  # bytes of a long name or pax header; real ones have some hundred
_DIGITS = 20  # of a number in a pax header: enough for 64 bits
_KINDS = {49: "a hard link", 50: "a symbolic link", 51: "a device", 52: "a device", 54: "a pipe"}


@dataclass(frozen=True)
class Members:
    """Regular files of one archive in its order: paths, and where their bytes are."""

    paths: Paths
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)


def read_members(path: Path, report: Report) -> Members:
    """Members of the archive `path`. What must be refused goes to `report`, an archive cut short as warning.

    Raises DataError if it is not there, is compressed, or its headers are damaged; StorageError where the
    machine keeps it from being read.
    """

    def scanned() -> tuple[Members, Report]:
        found = Report()
        try:
            with open(path, "rb", buffering=0) as file:
                return _Scan(path, file.fileno(), found).run(), found
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            raise DataError(f"cannot read the archive {path}: {error.strerror}") from error

    members, found = patiently(scanned, lambda: str(path))
    report.add(found)
    return members


class _Scan:
    def __init__(self, path: Path, descriptor: int, report: Report) -> None:
        self.path, self.descriptor, self.report = path, descriptor, report
        self.end = os.fstat(descriptor).st_size
        self.folders: dict[bytes, int] = {}
        self.codes, self.name_ends = array("I"), array("q", [0])
        self.names = bytearray()
        self.offsets, self.sizes = array("q"), array("q")
        self.long_name: bytes | None = None
        self.long_size: int | None = None

    def run(self) -> Members:
        position = 0
        while position + BLOCK <= self.end:
            header = read_part(self.descriptor, BLOCK, position)
            if header[0] == 0 and not any(header):
                break
            size = self._number(header, position)
            position = self._take(header, position + BLOCK, size)
        return self._members()

    def _number(self, header: bytes, position: int) -> int:
        """Size in the header, after its checksum was compared."""
        try:
            expected = int(header[148:156].rstrip(b"\0 ") or b"0", 8)
            size = (
                int.from_bytes(header[125:136], "big") if header[124] & 0x80
                else int(header[124:136].rstrip(b"\0 ") or b"0", 8)
            )  # fmt: skip
        except ValueError:
            expected, size = 0, -1
        # The eight bytes of the checksum count as blanks. Adler-32 has the sum of the bytes, plus one and
        # modulo 65,521, in its lower half, thirty times as fast as a sum in Python.
        found = (adler32(header) & 0xFFFF) - 1 - sum(header[148:156]) + 256
        if (found - expected) % 65521 or size < 0:
            kind = "is compressed: unpack it to a plain tar" if position == 0 and header[:2] in _PACKED else (
                f"has no valid header at byte {position}: it is damaged or not a tar"
            )  # fmt: skip
            raise DataError(f"{self.path} {kind}")
        return size

    def _take(self, header: bytes, start: int, size: int) -> int:
        """Use one header whose content begins at `start`; returns where the next header is."""
        kind = header[156]
        if kind in (48, 0, 55):
            size = size if self.long_size is None else self.long_size
            name = self._name(header)
            if kind == 0 and name.endswith(b"/"):
                pass  # a folder, as tars before 1988 say it
            elif start + size > self.end:
                self.report.warn(f"{self.path} ends within its member {decode(name)!r}")
            else:
                self._add(name, start, size)
        elif kind in (76, 120, 103):
            self._extension(kind, start, size)
        elif kind in _KINDS:
            self._name(header, refused=f"is {_KINDS[kind]}: only plain files are read")
            size = 0
        else:
            self.long_name = self.long_size = None
        return start + (size + BLOCK - 1) // BLOCK * BLOCK

    def _name(self, header: bytes, refused: str = "") -> bytes:
        name = self.long_name
        if name is None:
            name = header[:100].partition(b"\0")[0]
            if header[257:263] == b"ustar\0" and header[345]:
                name = header[345:500].partition(b"\0")[0] + b"/" + name
        self.long_name = self.long_size = None
        while name.startswith(b"./"):
            name = name[2:]
        if reason := refused or unsafe(name):
            self.report.problem(f"{self.path}: member {decode(name)!r} {reason}")
        return name

    def _extension(self, kind: int, start: int, size: int) -> None:
        """A GNU long name (L), a pax header of the next member (x), or of all (g, nothing of it is used)."""
        if size > _MAX_META:
            raise DataError(f"{self.path} has a name of {size} bytes at byte {start}: it is damaged")
        data = read_part(self.descriptor, size, start)
        if kind == 76:
            self.long_name = data.partition(b"\0")[0]
        elif kind == 120:
            self._pax(data)

    def _pax(self, data: bytes) -> None:
        """Records `length key=value\\n`."""
        at = 0
        while at < len(data):
            digits = data[at : at + _DIGITS].partition(b" ")[0]
            length = int(digits) if digits.isdigit() and len(digits) < _DIGITS else 0
            if not len(digits) < length <= len(data) - at:
                raise DataError(f"{self.path} has a damaged pax header")
            key, _, value = data[at + len(digits) + 1 : at + length - 1].partition(b"=")
            if key == b"path":
                self.long_name = value
            elif key == b"size":
                if not value.isdigit() or len(value) > _DIGITS:
                    raise DataError(
                        f"{self.path} has a damaged pax header: a size of {len(value)} characters"
                    )
                self.long_size = int(value)
            at += length

    def _add(self, name: bytes, start: int, size: int) -> None:
        folder, _, name = name.rpartition(b"/")
        self.codes.append(self.folders.setdefault(folder, len(self.folders)))
        self.names += name
        self.name_ends.append(len(self.names))
        self.offsets.append(start)
        self.sizes.append(size)

    def _members(self) -> Members:
        from smelt.artifacts.bytestrings import ByteStrings

        names = ByteStrings(np.frombuffer(bytes(self.names), np.uint8), np.array(self.name_ends, np.int64))
        paths = Paths(list(self.folders), np.array(self.codes, np.uint32), names)
        return Members(paths, np.array(self.offsets, np.int64), np.array(self.sizes, np.int64))


_PACKED = (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5")
