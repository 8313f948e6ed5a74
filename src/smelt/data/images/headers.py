"""What the first bytes of an image file say: format, size, kind of pixels, orientation; nothing is decoded.

Parsed by our own code, so that a small file that would unpack to gigabytes is refused in microseconds and
before a decoder sees it (see `limits`). Sources: PNG 3rd edition §11.2, GIF89a, RFC 9649
(WebP), the BMP headers of Windows and OS/2; JPEG is in `jpegs`, AVIF and HEIC are in `heif`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from smelt.data.images import heif, jpegs
from smelt.data.images.kinds import sniff
from smelt.data.images.limits import (
    MAX_PARTS,
    RESULT,
    Header,
    too_large,
    too_many_parts,
)
from smelt.errors import BadImageError

_PNG_MODES = {0: (1, 2), 2: (4, 4), 3: (1, 1), 4: (4, 4), 6: (4, 4)}  # bytes that Pillow holds: of 8, 16 bits
_WEBP = 17  # bytes a pixel: two canvases and two copies of a frame, each of four
_RLE_PIXELS, _RLE_BYTES = 1 << 24, 4 << 20  # of a packed BMP: it is unpacked in Python


def probe(data: bytes) -> Header:
    """The header of an image file.

    BadImageError: `empty`, `not_an_image`, `unsupported_format` (an image, but of a kind that is not
    read), `truncated` or `corrupt` (the header itself), `too_large` (over one of the limits of
    `smelt.data.images.limits`).
    """
    if not data:
        raise BadImageError("empty")
    kind = sniff(data[:1024])
    if not kind.readable:
        foreign = kind.image or kind.kind == "video"
        raise BadImageError("unsupported_format" if foreign else "not_an_image", kind.why)
    try:
        return _PARSERS[kind.kind](data).within_limits()
    except (IndexError, struct.error) as error:
        raise BadImageError("truncated", "the file ends within its header") from error


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise BadImageError("truncated" if len(data) < 16 else "corrupt", "no IHDR")
    width, height, bits, colours = struct.unpack_from(">IIBB", data, 16)
    for _ in png_chunks(data):
        pass  # counts them
    held = _PNG_MODES.get(colours, (4, 4))[bits > 8] + RESULT
    return Header("PNG", width, height, held=width * height * held)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end (checksum included) of the chunks of a PNG, as far as they are there.

    BadImageError (`too_large`) after MAX_PARTS of them, and as many again where each holds some kilobytes.
    """
    at, count, most = 8, 0, MAX_PARTS + (len(data) >> 13)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        yield name, at, min(end, len(data))
        at, count = end, count + 1
        if name == b"IEND":
            return
        if count > most:
            raise too_many_parts("chunks")


def _gif(data: bytes) -> Header:
    """The screen, or what the first frame needs where it is larger: decoders make the screen as large."""
    width, height = struct.unpack_from("<HH", data, 6)
    _, at = gif_frame(data)
    if at < len(data):
        left, top, columns, rows = struct.unpack_from("<HHHH", data, at + 1)
        width, height = max(width, left + columns), max(height, top + rows)
    return Header("GIF", width, height, held=width * height * (2 + RESULT))


def gif_frame(data: bytes) -> tuple[bytes, int]:
    """The last graphic control extension before the first frame of a GIF, and where that frame begins.

    The end of the data where there is none. What stands between is skipped, as decoders do.
    """
    control, at, parts = b"", 13 + _colours(data[10]), 0
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x2C:
            return control, at
        start, parts = at, parts + 1
        if data[at] == 0x21:
            at += 2
            while at < len(data) and data[at]:
                at, parts = at + 1 + data[at], parts + 1
                if parts > MAX_PARTS:
                    break
            at += 1
            control = data[start:at] if data[start + 1] == 0xF9 else control
        else:
            at += 1
        if parts > MAX_PARTS:
            raise too_many_parts("blocks before the first frame")
    return control, len(data)


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
        _count_webp(data)
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise BadImageError("corrupt", "a WebP without an image")
    return Header("WEBP", width, height, held=width * height * _WEBP)


def _count_webp(data: bytes) -> None:
    """Refuse a WebP of very many chunks: its decoder makes a list of all frames."""
    at = 12
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return
        at += 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1 & ~1)
    raise too_many_parts("chunks")


def _bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return Header("BMP", width, height, held=width * height * (4 + RESULT))
    width, height = struct.unpack_from("<ii", data, 18)
    held = abs(width * height) * (4 + RESULT)
    if size >= 40 and struct.unpack_from("<I", data, 30)[0] in (1, 2):
        held += 256 * abs(width)  # one code can skip so far
        if abs(width * height) > _RLE_PIXELS or len(data) > _RLE_BYTES:
            raise too_large(
                f"a run-length coded BMP of {width}×{abs(height)} pixels in {len(data)} bytes",
                f"{_RLE_PIXELS} and {_RLE_BYTES}",
            )
    return Header("BMP", width, abs(height), held=held)


_PARSERS = {
    "JPEG": jpegs.parse,
    "PNG": _png,
    "GIF": _gif,
    "WEBP": _webp,
    "BMP": _bmp,
    "AVIF": heif.parse,
    "HEIC": heif.parse,
}
