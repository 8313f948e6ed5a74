"""Damage that does not keep an image from being read has a word; what is sound has none."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from smelt.data.images import damage
from smelt.data.images.damage import WORDS, damage_of
from smelt.data.images.decode import decode, examine
from smelt.data.images.headers import gif_frame, probe
from smelt.data.images.jpegcodes import seam
from smelt.errors import BadImageError


def photo(height: int = 120, width: int = 160, seed: int = 0) -> NDArray[np.uint8]:
    rough = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))


def encoded(format: str, mode: str = "RGB", seed: int = 0, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo(seed=seed)).convert(mode).save(file, format, **options)
    return file.getvalue()


WAYS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True}), ("JPEG", "L", {}), ("JPEG", "CMYK", {}),
    ("JPEG", "RGB", {"restart_marker_blocks": 5}), ("PNG", "RGB", {}), ("PNG", "P", {}), ("PNG", "RGBA", {}),
    ("GIF", "P", {}), ("GIF", "L", {"interlace": 0}), ("WEBP", "RGB", {}), ("AVIF", "RGB", {}),
    ("BMP", "RGB", {}),
]  # fmt: skip


@pytest.mark.parametrize(("format", "mode", "options"), WAYS)
def test_what_is_sound_has_no_word(format: str, mode: str, options: dict[str, Any]) -> None:
    for seed in range(3):
        data = encoded(format, mode, seed, **options)
        pixels, word = examine(data)
        assert word == "" and np.array_equal(pixels, decode(data))


def test_films_and_text_are_no_damage() -> None:
    first, second = (Image.fromarray(photo(seed=seed)) for seed in (0, 1))
    for format in ("GIF", "PNG", "WEBP"):
        file = io.BytesIO()
        first.save(file, format, save_all=True, append_images=[second, first])
        assert examine(file.getvalue())[1] == ""
    sound = encoded("JPEG")
    assert examine(sound + b"a film that a telephone hangs on" * 99)[1] == ""


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_bytes_left_over_at_the_end_of_a_jpeg(mode: str) -> None:
    data = encoded("JPEG", mode)
    pixels, word = examine(data[:-2] + b"\x12\x34\x56\x78" * 8 + data[-2:])
    assert word == "leftover" and np.array_equal(pixels, decode(data))


def test_a_checksum_of_a_png() -> None:
    data = encoded("PNG", "RGBA")
    end = data.index(b"IDAT") + 4 + int.from_bytes(data[data.index(b"IDAT") - 4 : data.index(b"IDAT")], "big")
    assert examine(data[:end] + b"\0\0\0\0" + data[end + 4 :])[1] == "checksum"
    text = data.index(b"IDAT") - 4
    for name, word in ((b"tEXt", ""), (b"fdAT", ""), (b"tRNT", "checksum")):
        odd = b"\0\0\0\x03" + name + b"a\0b" + b"\1\2\3\4"
        assert examine(data[:text] + odd + data[text:])[1] == word


def spoilt(data: bytes, first: int, last: int, seed: int) -> bytes:
    rng, changed = random.Random(seed), bytearray(data)
    changed[rng.randrange(first, last)] ^= rng.randrange(1, 256)
    return bytes(changed)


def outcomes(data: bytes, first: int, last: int) -> dict[str, int]:
    """What comes of 60 files with one byte changed; `far`: silent, and quite another picture."""
    sound, counts = decode(data), {"refused": 0, "told": 0, "silent": 0, "far": 0}
    for seed in range(60):
        try:
            pixels, word = examine(spoilt(data, first, last, seed))
        except BadImageError:
            counts["refused"] += 1
            continue
        assert word in ("", *WORDS)
        counts["told"] += bool(word)
        if not word and not np.array_equal(pixels, sound):
            counts["silent"] += 1
            counts["far"] += np.abs(pixels.astype(int) - sound).mean() > 8
    return counts


def test_no_damage_to_a_png_is_silent() -> None:
    for mode in ("RGB", "RGBA", "P", "L"):
        data = encoded("PNG", mode)
        counts = outcomes(data, data.index(b"IDAT") + 4, len(data) - 16)
        assert counts["silent"] == 0, (mode, counts)


def test_most_damage_to_a_gif_is_told() -> None:
    data = encoded("GIF", "P")
    counts = outcomes(data, gif_frame(data)[1] + 12, len(data) - 2)
    assert counts["told"] > 10 and counts["far"] <= 1 and counts["silent"] < 20, counts


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_damage_to_a_jpeg_is_told_as_far_as_its_codes_tell(mode: str) -> None:
    data = encoded("JPEG", mode)
    counts = outcomes(data, data.index(b"\xff\xda") + 20, len(data) - 2)
    assert counts["told"] + counts["refused"] > 25 and counts["far"] <= 10, counts


def test_a_gif_of_fewer_and_of_more_pixels_than_it_codes() -> None:
    data = encoded("GIF", "P")
    _, at = gif_frame(data)
    rows = int.from_bytes(data[at + 7 : at + 9], "little")

    def of(rows: int) -> str:
        sides = rows.to_bytes(2, "little")
        return damage_of(data[: at + 7] + sides + data[at + 9 :], probe(data), photo())

    assert (of(rows), of(rows - 1), of(rows + 1)) == ("", "leftover", "short")


@pytest.mark.parametrize("bits", range(1, 9))
def test_runs_of_lzw_are_counted_as_pillow_makes_them(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of palettes of all sizes, and past the point where the table of codes is full."""
    rng = np.random.default_rng(bits)
    pixels = rng.integers(0, 1 << bits, (150, 200), dtype=np.uint8)
    image = Image.fromarray(pixels, "P")
    image.putpalette(rng.bytes(3 << bits))
    file = io.BytesIO()
    image.save(file, "GIF", optimize=False)
    data, made = file.getvalue(), []
    original = damage._runs
    monkeypatch.setattr(damage, "_runs", lambda *given: made.append(original(*given)) or made[-1])
    assert damage_of(data, probe(data), pixels) == "" and made == [(30_000, True)]


def test_codes_that_no_encoder_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a sound JPEG no code is impossible, whether its pixels look suspicious or not."""
    monkeypatch.setattr(damage, "seam", lambda _: True)
    for mode, options in (
        ("RGB", {"quality": 95, "subsampling": 0}), ("RGB", {"quality": 20}), ("L", {"optimize": True}),
        ("RGB", {"qtables": "web_low"}), ("CMYK", {}),
    ):  # fmt: skip
        for seed in range(4):
            assert examine(encoded("JPEG", mode, seed, **options))[1] == ""
    extremes = np.zeros((64, 64, 3), np.uint8)
    extremes[::2, ::2] = extremes[32:] = 255
    for quality in (1, 50, 100):
        file = io.BytesIO()
        Image.fromarray(extremes).save(file, "JPEG", quality=quality)
        assert examine(file.getvalue())[1] == ""


def test_a_seam_is_looked_for_where_blocks_meet() -> None:
    picture = photo(240, 320)
    assert not seam(picture)
    for row, found in ((40, True), (44, False), (112, True)):
        shifted = picture.astype(int)
        shifted[row:] += 30
        assert seam(shifted.clip(0, 255).astype(np.uint8)) == found
    for height in (1, 7, 8, 9, 10):
        assert not seam(picture[:height])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_seam_is_found_whatever_way_up_the_picture_is(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded("JPEG", exif=exif)
    shown, plain = decode(data), decode(encoded("JPEG"))
    assert np.array_equal(damage._stored(shown, orientation), plain)
