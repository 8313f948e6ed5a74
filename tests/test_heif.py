"""AVIF and HEIC: the size and the cost are those of what the decoder will make, whatever the boxes say."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import heic_files
from smelt.data.images import heif, kinds
from smelt.data.images.coded import av1
from smelt.data.images.decode import decode
from smelt.data.images.headers import probe
from smelt.data.images.kinds import HEIC_HINT, heif_reader
from smelt.data.images.limits import MAX_PIXELS
from smelt.errors import BadImageError

installed = pytest.mark.skipif(heif_reader() is None, reason="needs pi-heif or pillow-heif")


def photo(height: int, width: int, channels: int = 3) -> Image.Image:
    rough = np.random.default_rng(0).integers(0, 256, (5, 6, channels), dtype=np.uint8)
    return Image.fromarray(rough.squeeze()).resize((width, height), Image.Resampling.BICUBIC)


def avif(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "AVIF", speed=10, **options)
    return file.getvalue()


def pictures(data: bytes, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """What `parse` found that the decoder will make."""
    found: list[tuple[int, int, int]] = []
    with monkeypatch.context() as patch:
        patch.setattr(heif, "_header", lambda format, size, pictures, joined: found.extend(pictures))
        heif.parse(data)
    return found


@pytest.mark.parametrize(("height", "width"), [(33, 50), (1, 1), (64, 64), (130, 7)])
def test_the_size_is_read_from_the_codes(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = height * width
    assert pictures(avif(photo(height, width)), monkeypatch) == [(pixels, 1, int(pixels * 1.5))]
    full = avif(photo(height, width), subsampling="4:4:4")
    assert pictures(full, monkeypatch) == [(pixels, 1, pixels * 3)]
    both = pictures(avif(photo(height, width, 4)), monkeypatch)
    assert sorted(both) == [(pixels, 1, pixels), (pixels, 1, int(pixels * 1.5))]


def test_of_a_sequence_the_first_frame_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    film = [photo(33, 50, 4), photo(33, 50, 4).rotate(180)]
    data = avif(film[0], save_all=True, append_images=film[1:] * 9)
    assert sorted(pictures(data, monkeypatch)) == [(1650, 1, 1650), (1650, 1, 2475)]
    header = probe(data)
    assert (header.height, header.width) == (33, 50) == decode(data).shape[:2]


def says(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def test_a_picture_larger_than_it_says_counts_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    data = says(avif(photo(300, 400)), 8, 8)
    assert pictures(data, monkeypatch) == [(120_000, 1, 180_000)]
    assert probe(data).held >= 180_000
    assert decode(data).shape == (8, 8, 3)
    monkeypatch.setattr(heif, "MAX_PIXELS", 120_000 // 2 - 1)
    with pytest.raises(BadImageError, match=r"too_large.*120000 pixels"):
        probe(data)
    huge = says(avif(photo(300, 400)), 30_000, 30_000)
    assert MAX_PIXELS < 30_000**2
    with pytest.raises(BadImageError, match="too_large"):
        probe(huge)


def test_many_frames_in_one_picture_count(monkeypatch: pytest.MonkeyPatch) -> None:
    data = avif(photo(64, 64))
    at = data.index(b"mdat") + 4
    units = data[at:]
    assert av1(units).frames == 1
    hidden = units[units.index(b"\x32") :]
    assert av1(units + hidden * 99).frames == 100


def test_no_boxes_lead_astray() -> None:
    """Whatever number is changed, the outcome is a header or a reason."""
    data = avif(photo(20, 30, 4))
    for at in range(len(data[: data.index(b"mdat")])):
        for value in (0, 1, 127, 255):
            changed = data[:at] + bytes([value]) + data[at + 1 :]
            try:
                header = probe(changed)
            except BadImageError:
                continue
            assert header.width * header.height <= MAX_PIXELS


def test_very_many_items_are_refused() -> None:
    entry = struct.pack(">HHHHII", 1, 0, 0, 1, 0, 1)
    content = struct.pack(">IBBH", 1 << 24, 0x44, 0, 60_000) + entry * 60_000
    iloc = struct.pack(">I", 8 + len(content)) + b"iloc" + content
    meta = struct.pack(">I", 12 + len(iloc)) + b"meta" + bytes(4) + iloc
    with pytest.raises(BadImageError, match=r"too_large.*60000 pictures"):
        probe(struct.pack(">I", 20) + b"ftypavif" + bytes(4) + b"avif" + meta)


def test_without_a_reader_heic_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "heif_reader", lambda: None)
    for data in (heic_files.plain(), heic_files.transparent()):
        with pytest.raises(BadImageError) as caught:
            decode(data)
        assert caught.value.reason == "unsupported_format" and caught.value.detail == HEIC_HINT


def ramp() -> NDArray[np.int64]:
    """The picture that `heic_files` holds."""
    y, x = np.mgrid[0 : heic_files.HEIGHT, 0 : heic_files.WIDTH]
    pixels = np.stack([x * 4, y * 6, np.full_like(x, 90)], -1)
    pixels[:16, :24] = (220, 30, 30)
    return pixels


@installed
def test_heic_is_read_like_any_other() -> None:
    expected = ramp()
    for data, wanted in (
        (heic_files.plain(), expected),
        (heic_files.turned(), np.rot90(expected)),
    ):
        header, got = probe(data), decode(data)
        assert header.format == "HEIC" and (header.height, header.width, 3) == wanted.shape == got.shape
        assert got.dtype == np.uint8 and np.abs(got - wanted).mean() < 6
    faded = decode(heic_files.transparent())
    assert (faded[:, 30:] > 245).all() and np.abs(faded[:, :26] - expected[:, :26]).mean() < 6


@installed
def test_heic_is_bounded_by_what_is_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic_files.plain()
    monkeypatch.setattr(heif, "MAX_PIXELS", 64 * 64 // 2 - 1)  # 56 × 40 is cut out of 64 × 64
    with pytest.raises(BadImageError, match=r"too_large.*4096 pixels"):
        probe(data)


@installed
def test_a_heic_that_says_another_size_is_corrupt() -> None:
    data = heic_files.plain()
    at = data.index(b"clap") + 4
    for width, height in ((57, 40), (8, 8), (200, 200)):
        sides = struct.pack(">4I", width, 1, height, 1)
        try:
            shape = decode(data[:at] + sides + data[at + 16 :]).shape
        except BadImageError as error:
            assert error.reason in ("corrupt", "truncated")
        else:
            assert shape == (height, width, 3)


@installed
def test_cut_heic_is_no_image() -> None:
    data = heic_files.plain()
    for keep in (100, 300, 450, 600):
        with pytest.raises(BadImageError, match=r"truncated|corrupt"):
            decode(data[:keep])
