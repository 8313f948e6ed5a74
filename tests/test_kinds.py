"""What a file is by its first bytes: every kind has its name, and what is not read says why."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from smelt.data.images import kinds
from smelt.data.images.kinds import ENOUGH, HEIC_HINT, READ, sniff


def encoded(format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(file, format)
    return file.getvalue()


def ftyp(major: bytes, *others: bytes) -> bytes:
    brands = major + bytes(4) + b"".join(others)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + b"\0\0\0\x08mdat"


@pytest.mark.parametrize("format", READ)
def test_what_is_read_is_known_from_few_bytes_and_from_all(format: str) -> None:
    data = encoded(format)
    for part in (data[:ENOUGH], data):
        assert sniff(part) == (format, True, "", True)


@pytest.mark.parametrize(
    ("data", "kind", "image"),
    [
        (b"", "empty", False),
        (b"II*\0" + bytes(60), "TIFF", True),
        (b"%PDF-1.7\n", "PDF", True),
        (b"\xef\xbb\xbf<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG", True),
        (b"<?xml version='1.0'?>\n<!-- made by hand -->\n<svg/>", "SVG", True),
        (b"<!DOCTYPE html>\n<p>404</p>", "html", False),
        (b"  <HTML><svg/></HTML>", "html", False),
        (b"Not found", "text", False),
        ("größer als 1 кот".encode()[:-1], "text", False),
        ("id,label\n".encode("utf-16"), "text", False),
        (b"[1, 2, 3]", "text", False),
        (bytes(200), "unknown", False),
        (np.random.default_rng(0).bytes(64), "unknown", False),
        (b"BM is how this text begins, and it goes on for a while", "text", False),
        (b"PK\3\4" + bytes(30), "zip", False),
        (b"RIFF\0\0\0\0AVI LIST", "video", False),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio", False),
        (ftyp(b"mp42", b"isom", b"iso2"), "video", False),
        (ftyp(b"qt  "), "video", False),
        (ftyp(b"crx "), "camera raw", True),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", True),
    ],
)
def test_what_is_not_read_has_its_name_and_says_so(data: bytes, kind: str, image: bool) -> None:
    found = sniff(data)
    assert (found.kind, found.readable, found.image) == (kind, False, image)
    assert found.why


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (ftyp(b"avif", b"mif1", b"miaf"), "AVIF"),
        (ftyp(b"avis", b"msf1", b"avif"), "AVIF"),
        (ftyp(b"mif1", b"avif", b"miaf"), "AVIF"),
        (ftyp(b"heic", b"mif1", b"heic"), "HEIC"),
        (ftyp(b"mif1", b"heic"), "HEIC"),
        (ftyp(b"msf1", b"hevc"), "HEIC"),
        (ftyp(b"mif1"), "HEIC"),
    ],
)
def test_avif_and_heic_are_told_by_their_brands(data: bytes, kind: str) -> None:
    assert sniff(data[:ENOUGH]).kind == kind


def test_heic_says_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ftyp(b"heic", b"mif1")
    monkeypatch.setattr(kinds, "heif_reader", lambda: None)
    assert sniff(data) == ("HEIC", False, HEIC_HINT, True)
    assert "pip install 'smelt[heic]'" in HEIC_HINT and "pillow-heif" in HEIC_HINT
    monkeypatch.setattr(kinds, "heif_reader", lambda: "pi_heif")
    assert sniff(data) == ("HEIC", True, "", True)
