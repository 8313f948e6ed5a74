"""What the first bytes of an image file say: format, size, kind of pixels, orientation; nothing is decoded.

Parsed by our own code, so that a small file that would unpack to gigabytes is refused in microseconds and
before a decoder sees it. Sources: ITU-T T.81 (JPEG), Exif 2.32 §4.6, PNG 3rd edition §11.2, GIF89a,
RFC 9649 (WebP), the BMP headers of Windows, ISO/IEC 23008-12 (AVIF's `ispe` boxes).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from smelt.data.kinds import Sniffed, heif_reader, sniff
from smelt.errors import BadImageError

__all__ = ["MAX_PIXELS", "MAX_SCANS", "Header", "Sniffed", "heif_reader", "probe", "sniff"]

MAX_PIXELS = 89_478_485  # 256 MiB as RGB, the size from which Pillow warns of a bomb
MAX_SCANS = 100  # of a JPEG, each a pass over all pixels; encoders write some ten


@dataclass(frozen=True, slots=True)
class Header:
    """width, height: pixels as they are shown, after `orientation` (1–8, Exif) is applied.

    format: JPEG, PNG, GIF, BMP, WEBP or AVIF. components: of a JPEG (1 grey, 3 colour, 4 CMYK), else 0.
    single_scan: a JPEG whose rows are coded from top to bottom once and in one piece (not progressive, not
    split by component, no restart markers), so that it can be decoded in part; `height_at` is where its
    height stands in the file.
    """

    format: str
    width: int
    height: int
    components: int = 0
    orientation: int = 1
    single_scan: bool = False
    height_at: int = 0

    @property
    def in_part(self) -> bool:
        """Whether the rows above some place can be decoded without those below; CMYK is left to Pillow."""
        return self.single_scan and self.orientation == 1 and self.components in (1, 3)


def probe(data: bytes) -> Header:
    """The header of an image file.

    BadImageError: `empty`, `not_an_image`, `unsupported_format` (an image, but of a kind that is not
    read), `truncated` or `corrupt` (the header itself), `too_large` (more than MAX_PIXELS or MAX_SCANS).
    """
    if not data:
        raise BadImageError("empty")
    try:
        header = _parse(data)
    except (IndexError, struct.error) as error:
        raise BadImageError("truncated", "the file ends within its header") from error
    if header.width < 1 or header.height < 1:
        raise BadImageError("corrupt", f"{header.width}×{header.height} pixels")
    if header.width * header.height > MAX_PIXELS:
        raise BadImageError("too_large", f"{header.width}×{header.height} pixels, at most {MAX_PIXELS}")
    return header


def _parse(data: bytes) -> Header:
    kind = sniff(data)
    if not kind.readable:
        foreign = kind.image or kind.kind == "video"
        raise BadImageError("unsupported_format" if foreign else "not_an_image", kind.why)
    return _PARSERS[kind.kind](data)


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise BadImageError("truncated" if len(data) < 16 else "corrupt", "no IHDR")
    return Header("PNG", *struct.unpack_from(">II", data, 16))


def _jpeg(data: bytes) -> Header:
    """Walk the marker segments up to the frame header (and the scan header behind it)."""
    at, orientation, restarts = 2, 1, False
    frame: tuple[int, int, int, int, int] | None = None
    while True:
        if data[at] != 0xFF:
            raise BadImageError("corrupt", f"no marker at byte {at}")
        while data[at] == 0xFF:
            at += 1
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
            height, width, components = struct.unpack_from(">HHB", data, at + 3)
            frame = marker, at + 3, height, width, components
        elif marker == 0xDD:
            restarts = data[at + 2 : at + 4] != b"\0\0"
        elif marker == 0xDA:
            if frame is None:
                raise BadImageError("corrupt", "a scan before the frame header")
            break
        at += length
    kind, height_at, height, width, components = frame
    if orientation >= 5:
        width, height = height, width
    single = kind in (0xC0, 0xC1) and data[at + 2] == components and not restarts
    if not single:
        _count_scans(data, at)
    return Header("JPEG", width, height, components, orientation, single, height_at)


_MARKER = re.compile(rb"\xff+[^\xff\x00\xd0-\xd7]")  # not of a zero byte that was stuffed, nor of a restart


def _count_scans(data: bytes, at: int) -> None:
    """Refuse a JPEG of very many scans, from the length of its first scan header on (at `at`).

    A file of 300 kB can hold a thousand passes over 90 million pixels: half a minute of a core.
    """
    scans = 1
    while marker := _MARKER.search(data, at + (data[at] << 8 | data[at + 1])):
        at = marker.end()
        kind = data[at - 1]
        scans += kind == 0xDA
        if scans > MAX_SCANS:
            raise BadImageError("too_large", f"more than {MAX_SCANS} scans")
        if kind == 0xD9 or at + 2 > len(data):
            break


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


def _gif(data: bytes) -> Header:
    """The screen, or what the first frame needs where it is larger: decoders make the screen as large."""
    width, height = struct.unpack_from("<HH", data, 6)
    at = 13 + _colours(data[10])
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x2C:
            left, top, columns, rows = struct.unpack_from("<HHHH", data, at + 1)
            return Header("GIF", max(width, left + columns), max(height, top + rows))
        at = _after_extension(data, at) if data[at] == 0x21 else at + 1
    return Header("GIF", width, height)


def _after_extension(data: bytes, at: int) -> int:
    """Where an extension at `at` ends: it is blocks of a length and so many bytes, up to an empty one."""
    at += 2
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _colours(flags: int) -> int:
    """Bytes of the palette that the flags of a GIF's screen announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> Header:
    if len(data) < 8 + struct.unpack_from("<I", data, 4)[0]:
        raise BadImageError("truncated", "the file is shorter than it says")
    kind = data[12:16]
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        width, height = (high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise BadImageError("corrupt", "a WebP without an image")
    return Header("WEBP", width, height)


def _bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    elif 16 <= size <= 256:
        width, height = struct.unpack_from("<ii", data, 18)
    else:
        raise BadImageError("not_an_image", "starts as a BMP, but has no BMP header")
    return Header("BMP", width, abs(height))


def _avif(data: bytes) -> Header:
    """The largest `ispe` (image spatial extents) of an AVIF."""
    sizes, at = [], data.find(b"ispe", 0, 1 << 16)
    while at >= 0:
        sizes.append(struct.unpack_from(">II", data, at + 8))
        at = data.find(b"ispe", at + 4, 1 << 16)
    end, length = 0, len(data)
    while end < length and (box := struct.unpack_from(">I", data, end)[0]) > 1:  # 0 and 1 are special sizes
        end += box
    if end > length:
        raise BadImageError("truncated", "the file is shorter than it says")
    if not sizes:
        raise BadImageError("corrupt", "an AVIF without a size")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Header("AVIF", width, height)


_PARSERS = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "WEBP": _webp, "BMP": _bmp, "AVIF": _avif}
