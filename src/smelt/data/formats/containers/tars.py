"""Where the members of a tar lie, from its 512-byte headers alone; nothing is ever extracted.

Reads ustar, GNU (long names) and pax (path, size) headers. Only regular files count; folders are passed
over. Links, devices, sparse files and names that leave the archive are refused: they are how archives do
harm, and no data set needs them. What follows an end mark is read if it is tar again (`cat a.tar b.tar`).

Bounds, whatever the archive holds: time and memory grow with its size and with nothing that it says. An empty
member, the dearest thing for its 512 bytes, takes some 5 µs and 60 bytes; a name MAX_NAME bytes, an extended
header MAX_META bytes; more than MAX_CHAIN of them before a member, or MAX_RECORDS records for each, are
refused.
"""

from __future__ import annotations

import errno
import os
from array import array
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, decode
from smelt.artifacts.catalogue_writer import Paths
from smelt.data.formats.base import Report, unsafe
from smelt.data.formats.containers import tarheaders as tar
from smelt.data.formats.containers.tarheaders import BLOCK, Damaged
from smelt.data.formats.tree.names import normalised
from smelt.data.images.kinds import sniff
from smelt.errors import DataError, short
from smelt.files.opening import NOT_THERE, open_file, patiently, read_part

MAX_CHAIN = 16  # extended headers before a member: at most two names, two pax headers are usual
MAX_RECORDS = 100  # pax records a member, on average, and a million beside
_WINDOW = 1 << 14  # bytes that are read at once where headers lie close together
_PIECE = 1 << 20


@dataclass(frozen=True)
class Members:
    """Regular files of one archive in its order: paths, and where their bytes are."""

    paths: Paths
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def names(self) -> list[bytes]:
        """The last parts of all paths."""
        heap, ends = self.paths.names.heap.tobytes(), self.paths.names.offsets.tolist()
        return [heap[start:end] for start, end in pairwise(ends)]

    def take(self, rows: NDArray[np.int64]) -> Members:
        """The members at `rows`."""
        return Members(self.paths.take(rows), self.offsets[rows], self.sizes[rows])


def read_members(
    path: Path, report: Report, name: str = "", start: int = 0, size: int = -1, shown: bytes = b""
) -> Members:
    """Members of the archive `path`, or of that which lies in it at start..start+size-1.

    What must be refused goes to `report`, an archive cut short as warning; `name` is what messages call it
    (else `path`). Of members of one name the last one counts, as when tar unpacks; the others are left out as
    members of `shown`, what the catalogue calls the archive (else `path`). Raises DataError if it is not
    there, is compressed, or its headers are damaged; StorageError where the machine keeps it from being read.
    """

    def scanned() -> tuple[Members, Report]:
        found = Report()
        try:
            with open_file(path, 0) as file:
                end = os.fstat(file.fileno()).st_size if size < 0 else start + size
                return _Scan(name or str(path), file.fileno(), found, start, end).run(), found
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            raise DataError(f"cannot read the archive {path}: {error.strerror}") from error

    members, found = patiently(scanned, lambda: str(path))
    report.add(found)
    return _last_of_each(members, name or str(path), report, shown or os.fsencode(path))


class _Scan:
    def __init__(self, name: str, descriptor: int, report: Report, start: int, end: int) -> None:
        self.name, self.descriptor, self.report = name, descriptor, report
        self.start, self.end = start, end
        self.folders: dict[bytes, int] = {}
        self.codes, self.name_ends = array("I"), array("q", [0])
        self.names = bytearray()
        self.offsets, self.sizes = array("q"), array("q")
        self.window, self.window_at = b"", start
        self.chain = self.records = 0
        self.ended = self.cut = False
        self._next_member()

    def _next_member(self) -> None:
        """Forget what extended headers said of a member."""
        self.long_name: bytes | None = None
        self.long_size: int | None = None
        self.sparse, self.chain = False, 0

    def run(self) -> Members:
        """All members, in one pass over the headers. DataError where one is damaged."""
        if self.end <= self.start:
            self.report.warn(f"{self.name} is empty (0 bytes): nothing is in it")
            return self._members()
        position = self.start
        while position + BLOCK <= self.end:
            header = self._block(position)
            if header[0] == 0 and not any(header):
                position, self.ended = self._behind_end(position), True
            else:
                position = self._take(header, position + BLOCK, self._size(header, position))
        if position < self.end and not self.ended and not len(self.offsets):
            raise DataError(f"{self.name} {self._what_else(self.start)}")
        if not self.ended and not self.cut:
            self.report.warn(f"{self.name} has no end mark: it may have been cut short")
        elif not len(self.offsets) and not self.report.problems:
            self.report.warn(f"{self.name} has no member that is a file")
        return self._members()

    def _block(self, position: int) -> bytes:
        """The block at `position`; a few more are read with it where the last header was close by."""
        at = position - self.window_at
        if 0 <= at <= len(self.window) - BLOCK:
            return self.window[at : at + BLOCK]
        close = at <= len(self.window) + _WINDOW
        self.window_at = position
        wanted = min(_WINDOW if close else BLOCK, self.end - position)
        self.window = read_part(self.descriptor, wanted, position)
        if len(self.window) < BLOCK:
            raise DataError(f"{self.name} became shorter while it was read")
        return self.window[:BLOCK]

    def _behind_end(self, position: int) -> int:
        """Where tar goes on behind an end mark at `position`; where it does not, the end."""
        start = position
        position = self._past_zeros(position)
        if position + BLOCK > self.end:
            return self.end
        try:
            tar.size_of(self._block(position))
        except Damaged:
            self.report.warn(
                f"{self.name}: the {self.end - position:,} bytes behind its end mark are no tar and not read"
            )
            return self.end
        self.report.warn(
            f"{self.name} has an end mark at byte {start:,} and goes on behind it, as archives put one "
            f"behind the other do: what follows is read too"
        )
        return position

    def _past_zeros(self, position: int) -> int:
        """The first block from `position` on that is not zero; holes of the file are leapt over."""
        while position < self.end:
            data = _next_data(self.descriptor, position)
            if data is None or data >= self.end:
                return self.end
            position = max(position, data // BLOCK * BLOCK)
            piece = read_part(self.descriptor, min(_PIECE, self.end - position), position)
            if rest := piece.lstrip(b"\0"):
                return position + (len(piece) - len(rest)) // BLOCK * BLOCK
            if not piece:
                return self.end
            position += len(piece)
        return self.end

    def _size(self, header: bytes, position: int) -> int:
        try:
            return tar.size_of(header)
        except Damaged as error:
            what = str(error) or "has no valid header"
            first = position == self.start
            what = self._what_else(position) if first else f"{what} at byte {position}: it is damaged"
            raise DataError(f"{self.name} {what}") from error

    def _what_else(self, position: int) -> str:
        """What a file is that is no tar."""
        kind = sniff(read_part(self.descriptor, min(1024, self.end - position), position)).kind
        if kind in ("gzip (SVGZ?)", "bzip2", "xz", "zstd"):
            return f"is compressed ({kind.partition(' ')[0]}): unpack it to a plain tar"
        if kind == "html":
            return "is no tar but a web page: what it was loaded from answered with an error, load it again"
        if kind not in ("unknown", "tar"):
            return f"is no tar but {kind}"
        return f"has no valid header at byte {position}: it is damaged or not a tar"

    def _take(self, header: bytes, start: int, size: int) -> int:
        """Use one header whose content begins at `start`; returns where the next header is."""
        kind = header[156]
        if kind in tar.FILES:
            size = size if self.long_size is None else self.long_size
            self._file(self._name(header), start, size)
            if not self.chain:
                return _next_block(start + size)
        elif kind in (tar.LONG_NAME, tar.LONG_LINK, tar.PAX_OF_ALL) or kind in tar.PAX:
            self._extension(kind, start, size)
            return _next_block(start + size)
        elif kind == tar.OLD_SPARSE:
            self._refuse(self._name(header), tar.SPARSE)
            more = header[482]
            while more and start + BLOCK <= self.end:
                more = self._block(start)[504]
                start += BLOCK
        elif kind in tar.PASSED_OVER:
            size = 0 if kind == ord("5") else size
        else:
            self._refuse(self._name(header), tar.REFUSED.get(kind, f"is of the unknown kind {kind}"))
            size = size if kind == ord("M") else 0
        self._next_member()
        return _next_block(start + size)

    def _file(self, name: bytes, start: int, size: int) -> None:
        if name.endswith(b"/"):
            return  # a folder, as tars before 1988 say it
        reason = tar.SPARSE if self.sparse else unsafe(name)
        if not reason and not name:
            reason = f"at byte {start - BLOCK} has no name"
        if not reason and len(name) > tar.MAX_NAME:
            reason = f"has a name of {len(name):,} bytes, and {tar.MAX_NAME:,} at most are possible"
        if reason:
            self._refuse(name, reason)
        elif start + size > self.end:
            self._cut_short(f"its member {short(decode(name))!r}")
        else:
            self._add(normalised(name), start, size)

    def _cut_short(self, within: str) -> None:
        self.cut = True
        self.report.warn(f"{self.name} ends within {within}: it was cut short")

    def _refuse(self, name: bytes, reason: str) -> None:
        self.report.problem(f"{self.name}: member {decode(name[:400])!r} {reason}")

    def _name(self, header: bytes) -> bytes:
        return tar.name_of(header) if self.long_name is None else self.long_name

    def _extension(self, kind: int, start: int, size: int) -> None:
        """A GNU long name, a pax header of the next member, or one of all that follow."""
        self.chain += 1
        where = f"{self.name} has at byte {start - BLOCK:,}"
        if size > tar.MAX_META or self.chain > MAX_CHAIN:
            what = f"a name of {size:,} bytes" if size > tar.MAX_META else f"more than {MAX_CHAIN} names"
            raise DataError(f"{where} {what} for one member: it is damaged")
        if kind == tar.LONG_LINK:
            return
        if start + size > self.end:
            self._cut_short("the name of a member")
            return
        data = read_part(self.descriptor, size, start)
        if kind == tar.LONG_NAME:
            self.long_name = data.partition(b"\0")[0]
            return
        try:
            found = tar.Records(data)
        except Damaged as error:
            raise DataError(f"{self.name} {error} at byte {start - BLOCK:,}") from error
        self.records += found.count
        if self.records > MAX_RECORDS * (len(self.offsets) + 10_000):
            raise DataError(f"{where} the last of {self.records:,} pax records: no archive needs so many")
        if kind == tar.PAX_OF_ALL:
            if found.path is not None or found.size is not None or found.sparse:
                raise DataError(f"{where} one name or size for all members: it is damaged")
            return
        self.long_name = self.long_name if found.path is None else found.path
        self.long_size = self.long_size if found.size is None else found.size
        self.sparse = self.sparse or found.sparse

    def _add(self, name: bytes, start: int, size: int) -> None:
        folder, _, name = name.rpartition(b"/")
        self.codes.append(self.folders.setdefault(folder, len(self.folders)))
        self.names += name
        self.name_ends.append(len(self.names))
        self.offsets.append(start)
        self.sizes.append(size)

    def _members(self) -> Members:
        names = ByteStrings(np.frombuffer(self.names, np.uint8), np.array(self.name_ends, np.int64))
        paths = Paths(list(self.folders), np.array(self.codes, np.uint32), names)
        return Members(paths, np.array(self.offsets, np.int64), np.array(self.sizes, np.int64))


def _next_data(descriptor: int, position: int) -> int | None:
    """Where the file goes on behind its hole at `position`; None where nothing follows."""
    try:
        return os.lseek(descriptor, position, os.SEEK_DATA)
    except OSError as error:  # some file systems know no holes
        return None if error.errno == errno.ENXIO else position


def _next_block(position: int) -> int:
    return (position + BLOCK - 1) // BLOCK * BLOCK


def _last_of_each(members: Members, name: str, report: Report, shown: bytes) -> Members:
    """Without the members that a later one of the same path stands for; they are left out by name."""
    hashes = members.paths.hashes()
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    if not bool(same.any()):
        return members
    last: dict[bytes, int] = {}
    replaced = []
    suspects = np.flatnonzero(np.isin(hashes, hashes[order][1:][same]))
    for row in suspects.tolist():
        path = members.paths[row]
        if path in last:
            replaced.append(last[path])
        last[path] = row
    if not replaced:
        return members
    report.warn(
        f"{name}: {len(replaced):,} members have the path of a later one, such as "
        f"{short(decode(members.paths[replaced[0]]))!r}: the last one counts, as when tar unpacks"
    )
    for row in replaced:
        report.leave_out(
            "a member that a later one of its name stands for",
            b"%b/%b (at byte %d)" % (shown, members.paths[row], members.offsets[row]),
        )
    return members.take(np.setdiff1d(np.arange(len(members)), np.array(replaced)))
