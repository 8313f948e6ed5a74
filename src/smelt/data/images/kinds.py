"""What a file is, by its first bytes and never by its name; nothing is decoded.

Sources: the formats' own signatures, ISO/IEC 14496-12 §4.3 (`ftyp`), ISO/IEC 23008-12 §10 (brands of HEIF).
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import NamedTuple

ENOUGH = 64  # bytes that tell nearly every kind; of an SVG with a long preamble, 1,024
READ = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF")  # by what smelt itself depends on
HEIF_READERS = ("pillow_heif", "pi_heif")  # either; the second is the same without an encoder
HEIC_SUFFIXES = (b".heic", b".heif", b".hif")
HEIC_HINT = "HEIC is read where pillow-heif is installed: pip install 'smelt[heic]'"

_IMAGES = (  # of which none is read
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"), (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"), (b"\xc5\xd0\xd3\xc6", "EPS"), (b"8BPS", "PSD"), (b"SIMPLE  =", "FITS"),
    (b"\0\0\1\0", "ICO"), (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"gimp xcf", "XCF"),
    (b"\x1f\x8b", "gzip (SVGZ?)"),
    (b"FUJIFILM", "camera raw"), (b"IIRO", "camera raw"), (b"IIU\0", "camera raw"), (b"II\xbc\1", "JPEG XR"),
    (b"DDS ", "DDS"), (b"#?RADIANCE", "Radiance HDR"), (b"\x76\x2f\x31\x01", "OpenEXR"), (b"qoif", "QOI"),
    (b"AT&TFORM", "DjVu"), (b"\0\0\2\0\1\0", "CUR"), (b"BPG\xfb", "BPG"), (b"FLIF", "FLIF"),
)  # fmt: skip
_OTHERS = (
    (b"PK\3\4", "zip"), (b"PK\5\6", "zip"), (b"Rar!", "rar"), (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x1a\x45\xdf\xa3", "video"),
    (b"FLV\1", "video"),
    (b"\0\0\1\xba", "video"), (b"\0\0\1\xb3", "video"), (b"OggS", "audio"), (b"ID3", "audio"),
    (b"fLaC", "audio"),
    (b"\x7fELF", "program"), (b"MZ", "program"), (b"SQLite format 3\0", "database"), (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"), (b"\x93NUMPY", "NumPy array"), (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office document"), (b"wOFF", "font"), (b"wOF2", "font"),
)  # fmt: skip
_HEVC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AV1 = {b"avif", b"avis"}
_CONTAINERS = {b"mif1", b"mif2", b"msf1", b"miaf"}  # of HEIF, whatever codes the picture
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}  # their sizes; each is another version


class Sniffed(NamedTuple):
    """kind: JPEG, PNG, GIF, BMP, WEBP, AVIF, HEIC, another image format by its name, SVG, PDF, video, audio,
    zip, …, html, text, empty or unknown. readable: whether smelt decodes such files here. why: what to say
    where it does not; empty where it does. image: whether it is meant as a picture, read or not.
    """

    kind: str
    readable: bool
    why: str
    image: bool


def sniff(first_bytes: bytes) -> Sniffed:
    """What a file is that begins with `first_bytes` (ENOUGH of them, or more, or the whole file).

    Says nothing of whether the rest is sound: `headers.probe` and `decode` do.
    """
    kind = _image_kind(first_bytes)
    if kind in READ:
        return Sniffed(kind, True, "", True)
    if kind == "HEIC":
        readable = heif_reader() is not None
        return Sniffed(kind, readable, "" if readable else HEIC_HINT, True)
    if kind:
        return Sniffed(kind, False, f"{kind} is not read: convert it to JPEG, PNG or WebP", True)
    kind = _other_kind(first_bytes)
    return Sniffed(kind, False, _WHY.get(kind, f"{kind}, not an image"), False)


_WHY = {
    "empty": "the file is empty",
    "html": "an HTML page, not an image",
    "text": "text, not an image",
    "unknown": "not an image of a known kind",
}


@cache
def heif_reader() -> str | None:
    """The module by which HEIC is read here, or None. Nothing is imported."""
    return next((name for name in HEIF_READERS if importlib.util.find_spec(name) is not None), None)


def unread_heic(number: int) -> str:
    """That `number` images, HEIC by name, are not read on this machine, with the mend; "" where they are."""
    if not number or heif_reader() is not None:
        return ""
    return f"{number:,} images are HEIC by name, and {HEIC_HINT}. It is not installed here"


def _image_kind(data: bytes) -> str:
    """The image format, or an empty string."""
    if data[:2] == b"\xff\xd8" and data[2:3] in (b"\xff", b""):
        return "JPEG"
    if len(data) > 3 and (b"\x89PNG\r\n\x1a\n").startswith(data[:8]):
        return "PNG"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _brand(data)
    if data[:2] == b"BM" and (len(data) < 18 or int.from_bytes(data[14:18], "little") in _BMP_HEADERS):
        return "BMP"
    for magic, name in _IMAGES:
        if data.startswith(magic):
            return name
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "SVG" if b"<svg" in text and not text.startswith((b"<!doctype html", b"<html")) else ""


def _brand(data: bytes) -> str:
    """AVIF or HEIC by the brands of an `ftyp` box, its first before the others; empty for videos."""
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    brands = [data[8:12]] + [data[at : at + 4] for at in range(16, end - 3, 4)]
    for brand in brands:
        if brand in _AV1:
            return "AVIF"
        if brand in _HEVC:
            return "HEIC"
    if any(brand in _CONTAINERS for brand in brands):
        return "HEIC"
    return "camera raw" if brands[0] == b"crx " else ""


def _other_kind(data: bytes) -> str:
    """What is no image."""
    if not data:
        return "empty"
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return name
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "audio" if data[8:11] == b"M4A" else "video"
    if data[:4] == b"RIFF":
        return {b"AVI ": "video", b"WAVE": "audio"}.get(data[8:12], "unknown")
    if data[257:262] == b"ustar":
        return "tar"
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_HTML) or b"<html" in text or b"<!doctype html" in text:
        return "html"
    return "text" if _is_text(data[:1024]) else "unknown"


_HTML = (b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<title", b"<meta", b"<div", b"<p>", b"<a ")
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))


def _is_text(data: bytes) -> bool:
    """Whether bytes read as text: UTF-8 (perhaps cut within a character) or UTF-16, without control codes."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return len(data) > 2
    if data.translate(None, _CONTROLS) != data:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.start > 0
    return True
