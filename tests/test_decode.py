"""Every kind of file has one outcome; a part equals the same part of the whole; nothing else escapes."""

from __future__ import annotations

import errno
import io
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from smelt.data.images import decode as module
from smelt.data.images.decode import crop_resize, decode, load_crop
from smelt.data.images.headers import probe
from smelt.data.images.limits import MAX_PIXELS, MAX_SCANS, Header
from smelt.errors import BadImageError

REASONS = {"empty", "not_an_image", "unsupported_format", "too_large", "truncated", "corrupt"}
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF")


def photo(height: int = 120, width: int = 160, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth picture with structure, that JPEG keeps well."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: Image.Image | NDArray[np.uint8], format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def reason_of(data: bytes) -> str:
    with pytest.raises(BadImageError) as caught:
        decode(data)
    return caught.value.reason


def bare_png(width: int, height: int, bits: int = 8, kind: int = 0) -> bytes:
    """A PNG of zeros, compressed as far as it goes, without ever holding its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    packer, line = zlib.compressobj(9), bytes(1 + width * bits // 8)
    body = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("height", "width"), [(120, 160), (1, 1), (33, 7)])
def test_probe_and_decode_agree_with_pillow(format: str, height: int, width: int) -> None:
    data = encoded(photo(height, width), format)
    header = probe(data)
    assert (header.format, header.height, header.width) == (format, height, width)
    reference = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data) - reference).max() <= 2
    assert decode(data).dtype == np.uint8


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"exif": b"Exif\0\0"}])
def test_webp_of_all_three_kinds(options: dict[str, Any]) -> None:
    header = probe(encoded(photo(45, 77), "WEBP", **options))
    assert (header.height, header.width) == (45, 77)


def test_colour_modes_become_rgb() -> None:
    picture = Image.fromarray(photo())
    grey = encoded(picture.convert("L"), "JPEG")
    assert decode(grey).shape == (120, 160, 3) and np.ptp(decode(grey), axis=2).max() == 0
    for mode, format in (("P", "PNG"), ("1", "PNG"), ("P", "GIF"), ("LA", "PNG"), ("RGBA", "WEBP")):
        data = encoded(picture.convert(mode), format)
        assert decode(data).shape == (120, 160, 3), (mode, format)
    cmyk = encoded(picture.convert("CMYK"), "JPEG", quality=95)
    assert probe(cmyk).components == 4
    assert np.abs(decode(cmyk).astype(int) - photo()).mean() < 4


def test_alpha_is_laid_on_white() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2] = (200, 0, 0, 255)
    pixels[3] = (0, 0, 0, 128)
    for format in ("PNG", "WEBP"):
        got = decode(
            encoded(Image.fromarray(pixels), format, **({"lossless": True} if format == "WEBP" else {}))
        )
        assert (got[0] == (200, 0, 0)).all() and (got[2] == 255).all() and (np.abs(got[3] - 127.0) <= 1).all()
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    for transparency in (0, b"\x00\xff"):
        got = decode(encoded(palette, "PNG", transparency=transparency))
        assert got.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_sixteen_bits_keep_their_upper_half() -> None:
    values = np.array([[0, 255, 256, 65535]], np.uint16)
    assert decode(encoded(Image.fromarray(values), "PNG"))[0, :, 0].tolist() == [0, 0, 1, 255]


def test_of_an_animation_the_first_frame() -> None:
    frames = [Image.fromarray(np.full((8, 9, 3), level, np.uint8)) for level in (50, 200)]
    for format in ("GIF", "WEBP", "PNG", "AVIF"):
        got = decode(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
        assert got.shape == (8, 9, 3) and np.abs(got - 50.0).max() <= 3, format


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_is_applied_to_jpeg(orientation: int, order: str) -> None:
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)
    data = encoded(photo(40, 64), "JPEG", quality=95, exif=exif)
    stored = Image.open(io.BytesIO(encoded(photo(40, 64), "JPEG", quality=95)))
    ways = Image.Transpose
    turns = [None, ways.FLIP_LEFT_RIGHT, ways.ROTATE_180, ways.FLIP_TOP_BOTTOM, ways.TRANSPOSE,
             ways.ROTATE_270, ways.TRANSVERSE, ways.ROTATE_90]  # fmt: skip
    turn = turns[orientation - 1]
    expected = np.asarray(stored if turn is None else stored.transpose(turn)).astype(int)
    assert np.abs(decode(data) - expected).max() <= 2
    header = probe(data)
    assert (header.height, header.width, header.orientation) == (*expected.shape[:2], orientation)
    crop = load_crop(data, (3, 5, 30, 25), (20, 27), False)
    assert np.abs(crop - expected[5:25, 3:30]).max() <= 2


def test_a_damaged_exif_block_is_no_reason_to_refuse() -> None:
    for block in (
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\1\0\0\0\x63\0",
    ):
        assert probe(encoded(photo(), "JPEG", exif=b"Exif\0\0" + block)).orientation == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
        (b"\n <html>", "not_an_image"),
        (b"Not found", "not_an_image"),
        (bytes(1000), "not_an_image"),
        (b"BM is how this text begins, and it goes on for a while", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
        (b"<?xml version='1.0'?>\n<svg/>", "unsupported_format"),
        (b"%PDF-1.7", "unsupported_format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "unsupported_format"),
        (b"8BPS" + bytes(30), "unsupported_format"),
        (b"SIMPLE  =                    T", "unsupported_format"),
        (b"II*\0" + bytes(30), "unsupported_format"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isomiso2", "unsupported_format"),
        (b"\xff\xd8", "truncated"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"GIF89a\1", "truncated"),
        (b"\xff\xd8\xff\xd9", "truncated"),
        (b"RIFF\x10\0\0\0WEBPABCD\0\0\0\0" + bytes(8), "corrupt"),
        (b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIDAT" + bytes(20), "corrupt"),
    ],
)
def test_what_is_no_readable_image_has_its_reason(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


def test_heic_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smelt.data.images.kinds.heif_reader", lambda: None)
    with pytest.raises(BadImageError, match=r"pip install .smelt\[heic\]"):
        probe(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


def test_other_files_of_pillow_are_shut_out() -> None:
    for format, reason in (
        ("TIFF", "unsupported_format"),
        ("ICO", "unsupported_format"),
        ("PPM", "not_an_image"),
    ):
        assert reason_of(encoded(photo(16, 16), format)) == reason


@pytest.mark.parametrize("format", FORMATS)
def test_cut_files_are_truncated(format: str) -> None:
    data = encoded(photo(), format)
    for keep in (len(data) // 3, len(data) // 2, len(data) * 9 // 10):
        assert reason_of(data[:keep]) == "truncated", keep


def test_bombs_are_refused_from_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = bare_png(12_000, 12_000, bits=1)
    assert len(bomb) < 20_000

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a decoder was called")

    monkeypatch.setattr(Image, "open", never)
    monkeypatch.setattr(module.simplejpeg, "decode_jpeg", never)
    jpeg = bytearray(encoded(photo(), "JPEG"))
    at = probe(bytes(jpeg)).height_at
    jpeg[at : at + 4] = struct.pack(">HH", 30_000, 30_000)
    webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (16_000).to_bytes(3, "little") * 2
    gif = b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + bytes(20)
    bmp = b"BM" + bytes(12) + struct.pack("<Iii", 40, 50_000, -50_000) + bytes(40)
    for data in (bomb, bytes(jpeg), webp, gif, bmp):
        assert reason_of(data) == "too_large"
        with pytest.raises(BadImageError, match="too_large"):
            load_crop(data, (0, 0, 8, 8), (8, 8), False)
    assert 10_000 * 10_000 > MAX_PIXELS > 8_000 * 8_000


def gif(width: int, height: int, screen: tuple[int, int], before: bytes = b"", left: int = 0) -> bytes:
    """A GIF whose screen is not as large as its first frame; `before`: what stands before the frame."""
    data = encoded(Image.new("P", (width, height)), "GIF")
    palette = 3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0
    frame = data.index(b",", 13 + palette)
    moved = struct.pack("<H", left)
    return data[:6] + struct.pack("<HH", *screen) + data[10:frame] + before + b"," + moved + data[frame + 3 :]


COMMENT = b"!\xfe\x03abc\x02,,\x00"


@pytest.mark.parametrize("before", [b"", COMMENT, COMMENT * 3, b"junk"])
@pytest.mark.parametrize(("screen", "left"), [((1, 1), 0), ((30, 2), 4), ((2, 30), 7), ((90, 80), 0)])
def test_a_gif_is_as_large_as_its_frame_needs(before: bytes, screen: tuple[int, int], left: int) -> None:
    data = gif(20, 10, screen, before, left)
    header = probe(data)
    assert (header.width, header.height) == (max(screen[0], left + 20), max(screen[1], 10))
    assert decode(data).shape == (header.height, header.width, 3)


def test_a_frame_larger_than_its_screen_is_no_way_round_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gif(400, 400, (1, 1))
    bomb = data.replace(struct.pack("<HH", 400, 400), struct.pack("<HH", 20_000, 20_000))
    assert reason_of(bomb) == "too_large"
    # and if the header could not be read as Pillow reads it, Pillow's own size is looked at before its pixels
    monkeypatch.setattr(module, "probe", lambda _: Header("GIF", 400, 1))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("pixels were made"))
    assert reason_of(data) == "corrupt"


def progressive(scans: int) -> bytes:
    """A progressive JPEG of 64 × 64 whose scans each are some bytes; nothing in it is damaged."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    tables = segment(0xC4, b"\x00\x01" + bytes(15) + b"\x00") + segment(
        0xC4, b"\x10\x01" + bytes(15) + b"\x00"
    )
    start = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([1] * 64))
    start += segment(0xC2, struct.pack(">BHHB", 8, 64, 64, 1) + b"\x01\x11\x00") + tables
    first = segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes(8)
    more = segment(0xDA, b"\x01\x01\x00\x01\x01\x00") + bytes(8)
    return start + first + more * (scans - 1) + b"\xff\xd9"


def test_very_many_scans_are_refused_and_some_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    probe(progressive(MAX_SCANS))
    monkeypatch.setattr(module.simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("it was decoded"))
    for data in (progressive(MAX_SCANS + 1), progressive(5000)):
        assert reason_of(data) == "too_large"
        with pytest.raises(BadImageError, match="scans"):
            load_crop(data, (0, 0, 8, 8), (8, 8), False)


def test_scans_of_other_images_in_the_file_do_not_count() -> None:
    """A preview in an APP segment, or a film that a telephone hangs on, holds bytes that look like scans."""
    data = encoded(photo(), "JPEG", progressive=True)
    assert np.array_equal(decode(data + b"\xff\xda\0\x08" * 5000), decode(data))
    preview = b"\xff\xe5" + struct.pack(">H", 4 * 500 + 2) + b"\xff\xda\0\x08" * 500
    assert np.array_equal(decode(data[:2] + preview + data[2:]), decode(data))
    within = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)  # between two scans
    assert probe(data[:within] + preview + data[within:]) == probe(data)


@pytest.mark.parametrize("format", FORMATS)
def test_want_of_memory_is_no_damage(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photo(), format)

    def raising(error: Exception) -> None:
        def decoder(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(module.simplejpeg, "decode_jpeg", decoder)
        monkeypatch.setattr(Image, "open", decoder)

    for error in (MemoryError(), OSError("out of memory error when reading image file"),
                  ValueError("Insufficient memory (case 4)")):  # fmt: skip
        raising(error)
        with pytest.raises(MemoryError):
            decode(data)
    raising(OSError(errno.EMFILE, "Too many open files"))
    with pytest.raises(OSError, match="open files"):
        decode(data)
    raising(OSError("broken data stream when reading image file"))
    assert reason_of(data) == "corrupt"


LITTLE_MEMORY = """
import resource, sys
from smelt.data.images.decode import decode
from smelt.errors import BadImageError
data = open(sys.argv[1], "rb").read()
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (16 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    print(decode(data).shape)
except MemoryError:
    print("no memory")
except BadImageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is kept by Linux only")
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_decoder_that_says_damage_for_want_of_memory_is_not_believed(format: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(encoded(Image.new("RGB", (5000, 4000)), format))
    (tmp_path / "small").write_bytes(encoded(photo(), format)[:300])
    told = [
        subprocess.run([sys.executable, "-c", LITTLE_MEMORY, tmp_path / name], capture_output=True, text=True,
                       check=True).stdout
        for name in ("large", "small")
    ]  # fmt: skip
    assert told[0] == "no memory\n" and told[1].startswith("truncated")


def test_pillow_has_nothing_left_to_import() -> None:
    """It would take a failed import (too many open files) for a reader that was not built, for good."""
    code = "import sys, smelt.data.images.decode; print('torch' in sys.modules, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    torch, *loaded = done.stdout.split()
    wanted = {f"PIL.{name}ImagePlugin" for name in ("Jpeg", "Mpo", "Png", "Gif", "Bmp", "WebP", "Avif")}
    assert wanted <= set(loaded)
    assert torch == "False", "the report decodes too, and must start quickly"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_strips_laid_on_white_are_the_whole_laid_on_white(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = photo(70, 50, seed=1)[:, :, :1]
    image = Image.fromarray(np.concatenate([photo(70, 50), alpha], axis=2)).convert(mode)
    data = encoded(image, "PNG", **({"transparency": bytes(range(0, 256, 2))} if mode == "P" else {}))
    with Image.open(io.BytesIO(data)) as file:
        file.load()
        whole = Image.alpha_composite(Image.new("RGBA", file.size, "white"), file.convert("RGBA"))
    for strip in (1, 50, 333, 1 << 20):
        monkeypatch.setattr(module, "_STRIP", strip)
        assert np.array_equal(decode(data), np.asarray(whole.convert("RGB")))


def test_cmyk_in_part_is_cmyk_as_a_whole() -> None:
    data = encoded(Image.fromarray(photo(200, 90)).convert("CMYK"), "JPEG", quality=90)
    box = (3, 10, 80, 60)
    assert np.array_equal(load_crop(data, box, (50, 77), False), decode(data)[10:60, 3:80])


def test_long_thin_images_are_read() -> None:
    assert decode(bare_png(10_000, 1)).shape == (1, 10_000, 3)
    assert load_crop(encoded(photo(1, 10_000), "JPEG"), None, (32, 32), True).shape == (32, 32, 3)


def test_damage_that_the_decoder_notices_is_corrupt() -> None:
    data = encoded(photo(256, 256, seed=3), "JPEG", quality=90)
    scan = data.index(b"\xff\xda") + 14
    # a marker that cannot be there ends the entropy-coded data early
    assert reason_of(data[: scan + 500] + b"\xff\xd9" + data[scan + 500 :]) == "corrupt"


def test_junk_before_the_end_of_a_jpeg_is_read_over() -> None:
    data = encoded(photo(), "JPEG")
    assert np.array_equal(decode(data[:-2] + bytes(40) + data[-2:]), decode(data))
    assert np.array_equal(decode(data + b"trailing text"), decode(data))


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": "4:2:0"},
        {"subsampling": "4:2:2"},
        {"subsampling": "4:4:4"},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"optimize": True},
    ],
)
@pytest.mark.parametrize("colour", ["RGB", "L"])
def test_decoding_a_part_gives_the_pixels_of_the_whole(options: dict[str, Any], colour: str) -> None:
    if colour == "L":
        options = {key: value for key, value in options.items() if key != "subsampling"}
    data = encoded(Image.fromarray(photo(301, 203)).convert(colour), "JPEG", quality=90, **options)
    whole = decode(data)
    for bottom in (1, 7, 16, 64, 100, 201, 250, 284, 285, 286, 301):
        box = (11, max(bottom - 40, 0), 150, bottom)
        size = (bottom - max(bottom - 40, 0), 139)
        assert np.array_equal(load_crop(data, box, size, False), whole[box[1] : bottom, 11:150]), bottom


def test_a_part_is_refused_when_it_is_damaged_or_cut() -> None:
    data = encoded(photo(256, 256, seed=3), "JPEG", quality=90)
    scan = data.index(b"\xff\xda") + 14
    box, size = (0, 0, 256, 128), (64, 64)
    assert load_crop(data, box, size, False).shape == (64, 64, 3)
    with pytest.raises(BadImageError, match="corrupt"):
        load_crop(data[: scan + 300] + b"\xff\xc9" + data[scan + 300 :], box, size, False)
    with pytest.raises(BadImageError, match="truncated"):
        load_crop(data[:-100], box, size, False)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(64, 64), (224, 224), (31, 90), (100, 130)])
def test_the_resize_is_pillows_antialiased_one(format: str, size: tuple[int, int]) -> None:
    data, box = encoded(photo(200, 260), format), (20, 10, 230, 170)
    source = Image.fromarray(decode(data)).crop(box)
    reference = np.asarray(source.resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(load_crop(data, box, size, False) - reference).max() <= 1
    assert np.array_equal(load_crop(data, box, size, True), load_crop(data, box, size, False)[:, ::-1])


def test_boxes_are_kept_within_the_image() -> None:
    pixels = photo(20, 30)
    assert np.array_equal(crop_resize(pixels, (-5, -5, 99, 99), (20, 30), False), pixels)
    assert crop_resize(pixels, (29.6, 19.6, 29.7, 19.7), (4, 4), True).shape == (4, 4, 3)


def test_the_result_does_not_depend_on_torch_threads() -> None:
    data, before = encoded(photo(300, 300), "JPEG"), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(load_crop(data, (5, 5, 290, 280), (224, 224), True))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*results)


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(FORMATS),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    keep=st.floats(0, 1),
)
def test_whatever_the_bytes_the_outcome_is_pixels_or_a_reason(
    format: str, flips: list[tuple[int, int]], keep: float
) -> None:
    data = bytearray(encoded(photo(40, 50), format))
    for at, value in flips:
        data[at % len(data)] = value
    mangled = bytes(data[: max(round(keep * len(data)), 0)])
    try:
        pixels = load_crop(mangled, (1, 1, 30, 20), (8, 8), False)
        assert pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8
    except BadImageError as error:
        assert error.reason in REASONS


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"BM", b"GIF89a", b"RIFF____WEBPVP8X"]),
)
def test_probe_of_noise(tail: bytes, head: bytes) -> None:
    try:
        assert probe(head + tail).width > 0
    except BadImageError as error:
        assert error.reason in REASONS


@pytest.mark.shared
def test_web_oddities_are_all_read(shared_data: Path) -> None:
    with tarfile.open(shared_data / "photos" / "web_oddities.tar") as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
    images = {name: data for name, data in files.items() if not name.endswith(".csv")}
    assert len(images) == 48
    for name, data in images.items():
        with Image.open(io.BytesIO(data)) as image:
            assert decode(data).shape == (image.height, image.width, 3), name
            opaque = not image.has_transparency_data and not image.mode.startswith("I")
            if opaque:
                assert np.array_equal(decode(data), np.asarray(image.convert("RGB"))), name


@pytest.mark.shared
def test_quality_on_photos(shared_data: Path) -> None:
    random, ratios = np.random.default_rng(0), []
    with tarfile.open(shared_data / "photos" / "photos_small600.tar") as tar:
        members = [member for member in tar if member.isfile() and member.name.endswith(".jpg")][::10]
        for member in members:
            data = tar.extractfile(member).read()  # type: ignore[union-attr]
            header = probe(data)
            left, top = random.integers(0, header.width // 3), random.integers(0, header.height // 3)
            box = (int(left), int(top), header.width - int(random.integers(0, 60)), header.height * 3 // 4)
            ours = load_crop(data, box, (224, 224), False).astype(float)
            image = Image.open(io.BytesIO(data)).convert("RGB").crop(box)
            theirs = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))
            ratios.append(10 * np.log10(255**2 / max(((ours - theirs) ** 2).mean(), 1e-9)))
    assert np.mean(ratios) >= 55
