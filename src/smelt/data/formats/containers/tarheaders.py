"""The 512-byte headers of a tar: their numbers, checksums and extended records, each within bounds.

Layout: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format", "Sparse Formats".
"""

from __future__ import annotations

import re
import struct
from zlib import adler32

BLOCK = 512
MAX_META = 1 << 20  # bytes of a long name or pax header; real ones have some hundred
MAX_NAME = 4096  # bytes of a member's path, as Linux has it (PATH_MAX)
_DIGITS = 20  # of a number in a pax header: enough for 64 bits

FILES = frozenset(b"0\x007")  # plain files, as new tars, old ones and those for real time call them
LONG_NAME, LONG_LINK, OLD_SPARSE = ord("L"), ord("K"), ord("S")
PAX, PAX_OF_ALL = frozenset(b"xX"), ord("g")
PASSED_OVER = frozenset(b"5DVNAE")  # folders, GNU's dumps and labels, Solaris' access lists
REFUSED = {
    ord("1"): "is a hard link: only plain files are read",
    ord("2"): "is a symbolic link: only plain files are read",
    ord("3"): "is a device: only plain files are read",
    ord("4"): "is a device: only plain files are read",
    ord("6"): "is a pipe: only plain files are read",
    ord("M"): "is the rest of a file of another volume: put the volumes together with tar first",
}
SPARSE = "is stored as a sparse file, in pieces: make the archive anew without tar's --sparse"
_OCTAL = re.compile(rb" *([0-7]*) *(?:\0.*)?", re.DOTALL).fullmatch


class Damaged(Exception):
    """A header that cannot be right; the text says why, and is empty where it is no header at all."""


def number(field: bytes) -> int:
    """A number in octal digits, or GNU's base 256. Damaged where it is neither, or below 0."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40:
            raise Damaged("has a number below 0")
        return value
    digits = _OCTAL(field)
    if digits is None:
        raise Damaged
    return int(digits[1] or b"0", 8)


def size_of(header: bytes) -> int:
    """Size in a header, after its checksum was compared. Damaged where one is wrong."""
    expected = number(header[148:156])
    # The eight bytes of the checksum count as blanks. Adler-32 has the sum of the bytes, plus one and
    # modulo 65,521, in its lower half, thirty times as fast as a sum in Python.
    found = (adler32(header) & 0xFFFF) - 1 - sum(header[148:156]) + 256
    if (found - expected) % 65521 and _signed_sum(header) != expected:
        raise Damaged
    return number(header[124:136])


def _signed_sum(header: bytes) -> int:
    """The checksum as some old systems made it, their bytes being -128..127."""
    total: int = sum(struct.unpack("512b", header)) - sum(struct.unpack("8b", header[148:156])) + 256
    return total


def name_of(header: bytes) -> bytes:
    """The name in a header itself."""
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        return header[345:500].partition(b"\0")[0] + b"/" + name
    return name


class Records:
    """What a pax header says of a member: path, size, whether it is sparse. `count`: records it has."""

    def __init__(self, data: bytes) -> None:
        self.path: bytes | None = None
        self.size: int | None = None
        self.sparse = False
        self.count = 0
        if b"path=" in data or b"size=" in data or b"GNU.sparse." in data:
            self._read(data)

    def _read(self, data: bytes) -> None:
        """Records `length key=value\\n`; NUL bytes may follow the last."""
        at = 0
        while at < len(data) and data[at]:
            digits = data[at : at + _DIGITS].partition(b" ")[0]
            length = int(digits) if digits.isdigit() and len(digits) < _DIGITS else 0
            if not len(digits) < length <= len(data) - at:
                raise Damaged("has a damaged pax header")
            key, _, value = data[at + len(digits) + 1 : at + length - 1].partition(b"=")
            if key == b"path":
                self.path = value
            elif key == b"size":
                if not value.isdigit() or len(value) > _DIGITS:
                    raise Damaged(f"has a damaged pax header: a size of {len(value)} characters")
                self.size = int(value)
            elif key.startswith(b"GNU.sparse."):
                self.sparse = True
                self.path = value if key == b"GNU.sparse.name" else self.path
            at += length
            self.count += 1
