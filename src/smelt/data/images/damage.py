"""Signs that a file is damaged though all its pixels could be read.

A decoder that meets damage stops, or patches, or notices nothing. What it stops at is a BadImageError. The
rest is told here, as far as the file itself tells, by a word:

    leftover   more is coded than the pixels need (JPEG, GIF)
    short      fewer pixels are coded than the image has (GIF)
    patched    the decoder met damage and went on (CMYK JPEG)
    codes      codes that no encoder writes (JPEG of one scan)
    checksum   a chunk is not what it was when it was written (PNG)

WebP, AVIF, HEIC and BMP carry nothing that tells. Cost beside decoding: JPEG 0.3 ms, and 0.5 µs a byte for
those sound photographs whose pixels look suspicious (4 %); PNG's checksums 1 ms for some MB; GIF a loop of
Python, 0.3 µs a code, over up to MOST_CODES codes of the first frame; a CMYK JPEG is decoded again. How much
is found: docs/loading.md.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from smelt.data.images.headers import gif_frame, png_chunks
from smelt.data.images.jpegcodes import impossible, seam
from smelt.data.images.limits import Header

WORDS = ("leftover", "short", "patched", "codes", "checksum")
MOST_CODES = 1 << 20  # of a GIF; a larger one is believed

EXTRANEOUS = "extraneous bytes before marker 0xd9"  # what libjpeg says of bytes that are left over


def damage_of(data: bytes, header: Header, pixels_HW3: NDArray[np.uint8]) -> str:
    """The word for the damage of a file that could be decoded, to these pixels; "" where none is told."""
    if header.format == "PNG":
        return _png(data)
    if header.format == "GIF":
        return _gif(data)
    if header.format == "JPEG":
        word = _cmyk(data) if header.components == 4 else ""
        looked = header.single_scan and not word
        if looked and seam(_stored(pixels_HW3, header.orientation)) and impossible(data):
            return "codes"
        return word
    return ""


def _stored(pixels_HW3: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels as they are stored, of pixels as they are shown."""
    if orientation in (2, 3, 6, 7):
        pixels_HW3 = pixels_HW3[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels_HW3 = pixels_HW3[::-1]
    return pixels_HW3.swapaxes(0, 1) if orientation >= 5 else pixels_HW3


_NO_PIXELS = {
    b"acTL", b"fcTL", b"fdAT", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"tIME", b"pHYs", b"gAMA",
    b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"sPLT", b"cICP", b"mDCV", b"cLLI", b"oFFs",
}  # fmt: skip


def _png(data: bytes) -> str:
    """A chunk of an unknown name counts: its name may be what was changed."""
    for name, start, end in png_chunks(data):
        if name in _NO_PIXELS:
            continue
        (told,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != told:
            return "checksum"
    return ""


def _cmyk(data: bytes) -> str:
    """Pillow reads these, and says nothing of what libjpeg complains of."""
    try:
        simplejpeg.decode_jpeg(data, "CMYK", strict=True)
    except ValueError as error:
        return "leftover" if str(error).endswith(EXTRANEOUS) else "patched"
    return ""


def _gif(data: bytes) -> str:
    """Whether the codes of the first frame make as many pixels as it has.

    A code stands for a run of pixels that is one longer than the run before it, so that runs can be counted
    without their colours.
    """
    _, at = gif_frame(data)
    if at >= len(data):
        return ""
    wanted, flags = int.from_bytes(data[at + 5 : at + 7], "little"), data[at + 9]
    wanted *= int.from_bytes(data[at + 7 : at + 9], "little")
    at += 10 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    made, ended = _runs(data[at] if at < len(data) else 0, _blocks(data, at + 1))
    if made > wanted:
        return "leftover"
    return "short" if ended and made < wanted else ""


def _blocks(data: bytes, at: int) -> bytes:
    """The content of blocks up to an empty one, as far as MOST_CODES may need."""
    parts, size = [], 0
    while at < len(data) and data[at] and size < 2 * MOST_CODES:
        parts.append(data[at + 1 : at + 1 + data[at]])
        size += data[at]
        at += 1 + data[at]
    return b"".join(parts)


def _runs(bits: int, codes: bytes) -> tuple[int, bool]:
    """How many pixels LZW codes of `bits` bits at first make, and whether they say that they end."""
    clear = 1 << bits
    lengths = [1] * clear + [0, 0]
    made, width, limit, last = 0, bits + 1, 1 << (bits + 1), 0
    value = held = 0
    for byte in codes:
        value |= byte << held
        held += 8
        while held >= width:
            code = value & (limit - 1)
            value >>= width
            held -= width
            if code == clear:
                del lengths[clear + 2 :]
                width, limit, last = bits + 1, 1 << (bits + 1), 0
                continue
            if code == clear + 1:
                return made, True
            if last and len(lengths) < 4096:
                lengths.append(last + 1)
                if len(lengths) == limit and width < 12:
                    width, limit = width + 1, limit << 1
            if code >= len(lengths):
                return made, True
            last = lengths[code]
            made += last
    return made, False
