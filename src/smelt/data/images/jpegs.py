"""The headers of a JPEG: frame, scans, orientation, what decoding will cost (ITU-T T.81, Exif 2.32 §4.6)."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from smelt.data.images.limits import (
    MAX_PARTS,
    MAX_SCANS,
    MAX_WORK,
    RESULT,
    Header,
    too_large,
    too_many_parts,
)
from smelt.errors import BadImageError

_FILL = re.compile(rb"\xff*")
# a marker that ends a scan: not a zero byte that was stuffed, nor a restart
_MARKER = re.compile(rb"\xff+[^\xff\x00\xd0-\xd7]")
_BLOCK = 128  # bytes of the coefficients of a block, which are held for all scans but of a file in one
_REFINING = 5  # units of work that a block takes in a scan that refines coefficients; others take one
_ARITHMETIC = (
    60  # times as long where the coding is arithmetic: that may find coefficients in no bytes at all
)


class Frame(NamedTuple):
    """A frame header: kind (its marker), and of each component its number, and blocks in all."""

    kind: int
    height: int
    width: int
    blocks: dict[int, int]

    @property
    def progressive(self) -> bool:
        return self.kind in (0xC2, 0xCA)

    @property
    def arithmetic(self) -> bool:
        return self.kind >= 0xC9


def parse(data: bytes) -> Header:
    """Walk the marker segments up to the frame header (and the scan header behind it)."""
    at, orientation, restarts = 2, 1, False
    frame: Frame | None = None
    for _ in range(MAX_PARTS):
        if data[at] != 0xFF:
            raise BadImageError("corrupt", f"no marker at byte {at}")
        at = _FILL.match(data, at).end()  # type: ignore[union-attr]  # it matches nothing too
        marker = data[at]
        at += 1
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        if marker == 0xD9:
            raise BadImageError("truncated", "the file ends before any pixel")
        length = data[at] << 8 | data[at + 1]
        if marker == 0xE1 and orientation == 1 and data[at + 2 : at + 8] == b"Exif\0\0":
            orientation = _orientation(data[at + 8 : at + length])
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame, height_at = _frame(data, at, marker), at + 3
        elif marker == 0xDD:
            restarts = data[at + 2 : at + 4] != b"\0\0"
        elif marker == 0xDA:
            break
        at += max(length, 2)
    else:
        raise too_many_parts("segments before the first scan")
    if frame is None:
        raise BadImageError("corrupt", "a scan before the frame header")
    in_one = not frame.progressive and data[at + 2] == len(frame.blocks)
    if not in_one or frame.arithmetic:
        _weigh_scans(data, at, frame)
    height, width, components = frame.height, frame.width, len(frame.blocks)
    if orientation >= 5:
        width, height = height, width
    single = in_one and frame.kind in (0xC0, 0xC1) and not restarts
    held = 0 if in_one else _BLOCK * sum(frame.blocks.values())
    if components == 4:  # by Pillow, which holds four bytes a pixel, first beside the coefficients
        held = width * height * 4 + max(held, width * height * RESULT)
    else:
        held += width * height * RESULT
    return Header("JPEG", width, height, components, orientation, single, height_at, held)


def _frame(data: bytes, at: int, kind: int) -> Frame:
    """The frame header whose length stands at `at`."""
    height, width, count = struct.unpack_from(">HHB", data, at + 3)
    parts = [struct.unpack_from("BB", data, at + 8 + 3 * number) for number in range(count)]
    across = max((sampling >> 4 for _, sampling in parts), default=1) or 1
    down = max((sampling & 15 for _, sampling in parts), default=1) or 1
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    blocks = {name: units * (sampling >> 4) * (sampling & 15) for name, sampling in parts}
    if len(blocks) != count:
        raise BadImageError("corrupt", "two components of one number")
    return Frame(kind, height, width, blocks)


def _weigh_scans(data: bytes, at: int, frame: Frame) -> None:
    """Refuse a JPEG whose scans, from the one whose length stands at `at` on, take very long all in all.

    A file of 300 kB can hold a thousand passes over 90 million pixels: half a minute of a core.
    """
    scans, parts, work, kind = 0, 0, 0, 0xDA
    while at + 2 <= len(data) and kind != 0xD9:
        if kind == 0xDA:
            scans += 1
            work += _work(data[at : at + 16], frame)
        parts += 1
        if scans > MAX_SCANS:
            raise too_large(f"more than {MAX_SCANS} scans", str(MAX_SCANS))
        if parts > MAX_PARTS:
            raise too_many_parts("segments between scans")
        if work > MAX_WORK:
            raise too_large(
                f"{scans} scans of {frame.width}×{frame.height} pixels and more: {work} units of work",
                str(MAX_WORK),
            )
        marker = _MARKER.search(data, at + max(data[at] << 8 | data[at + 1], 2))
        if marker is None:
            return
        at = marker.end()
        kind = data[at - 1]


def _work(header: bytes, frame: Frame) -> int:
    """Units of work for the scan of this header (from its length on)."""
    count = header[2] if len(header) > 2 else 0
    names = header[3 : 3 + 2 * count : 2]
    blocks = sum(frame.blocks.get(name, 0) for name in names)
    start, end, places = (*header[3 + 2 * count :], 0, 0, 0)[:3]
    if frame.arithmetic:
        return blocks * (_ARITHMETIC if end or not frame.progressive else 2)
    return blocks * (_REFINING if frame.progressive and start and places >> 4 else 1)


def _orientation(tiff: bytes) -> int:
    """The orientation tag (0x0112) in the first directory of an Exif block; 1 where it is not to be had."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(min(entries, 64)):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
