"""What an image may cost: told from its header, by the numbers that the decoder will use, and kept."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smelt.data.images import decode as module
from smelt.data.images.decode import decode
from smelt.data.images.headers import probe
from smelt.data.images.limits import MAX_HELD, MAX_PARTS, MAX_PIXELS, MAX_WORK
from smelt.errors import BadImageError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def reason_of(data: bytes) -> tuple[str, str]:
    with pytest.raises(BadImageError) as caught:
        probe(data)
    return caught.value.reason, caught.value.detail


def resized(data: bytes, at: int, code: str, width: int, height: int, first: str = "w") -> bytes:
    sides = (width, height) if first == "w" else (height, width)
    return data[:at] + struct.pack(code, *sides) + data[at + struct.calcsize(code) :]


SMALL = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def jpeg_of(side: int, **options: Any) -> bytes:
    data = encoded(SMALL, "JPEG", **options)
    mode = b"\xff\xc2" if options.get("progressive") else b"\xff\xc0"
    return resized(data, data.index(mode) + 5, ">HH", side, side, "h")


def test_an_ordinary_photograph_of_88_megapixels_is_let_through() -> None:
    assert probe(jpeg_of(9400)).held <= 3 * 9400**2 < MAX_PIXELS * 3
    assert probe(jpeg_of(9400, progressive=True)).held < MAX_HELD  # 4:2:0, with all its coefficients
    assert probe(encoded(Image.new("RGB", (6000, 4000)), "PNG")).held < MAX_HELD


def test_coefficients_of_all_scans_are_held() -> None:
    reason, detail = reason_of(jpeg_of(9400, progressive=True, subsampling=0))
    assert reason == "too_large" and "9400×9400" in detail and f"at most {MAX_HELD >> 20}" in detail
    assert probe(jpeg_of(8000, progressive=True, subsampling=0)).held == (3 + 6) * 8000**2


def test_a_webp_counts_as_its_decoder_holds_it() -> None:
    data = encoded(SMALL, "WEBP")
    assert probe(resized(data, 26, "<HH", 6000, 6000)).held == 17 * 36_000_000
    reason, detail = reason_of(resized(data, 26, "<HH", 7000, 7000))
    assert reason == "too_large" and "7000×7000" in detail


def png_of(width: int, height: int, bits: int, colours: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    body = zlib.compress((bytes(1 + (width * bits * channels + 7) // 8)) * min(height, 99))
    every = [(b"IHDR", header), *chunks, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in every)


@pytest.mark.parametrize(
    ("bits", "colours", "held"),
    [(1, 0, 4), (8, 0, 4), (16, 0, 5), (8, 2, 7), (16, 2, 7), (8, 3, 4), (8, 4, 7), (16, 4, 7), (16, 6, 7)],
)
def test_a_png_counts_by_what_pillow_makes_of_it(bits: int, colours: int, held: int) -> None:
    assert probe(png_of(9400, 9400, bits, colours)).held == held * 9400**2 < MAX_HELD


@pytest.mark.parametrize(
    ("name", "head"), [(b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0"), (b"tEXt", b"")]
)
def test_text_and_profiles_of_a_png_are_not_unpacked(name: bytes, head: bytes) -> None:
    packed = zlib.compress(bytes(64 << 20), 9) if name != b"tEXt" else b"a\0" + b"x" * (2 << 20)
    palette = (b"PLTE", bytes(768))
    data = png_of(5, 4, 8, 3, (name, head + packed), palette, (b"tRNS", b"\0" * 5))
    start = time.process_time()
    assert (decode(data) == 255).all()
    assert time.process_time() - start < 1


def segments(count: int) -> bytes:
    data = encoded(SMALL, "JPEG")
    return data[:2] + b"\xff\xe5\0\2" * count + data[2:]


def webp_chunks(count: int) -> bytes:
    data = encoded(SMALL, "WEBP")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + bytes([15, 0, 0, 15, 0, 0])
    body += data[12:] + b"ABCD\0\0\0\0" * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_comments(count: int, piece: bytes) -> bytes:
    data = encoded(Image.new("P", (9, 9)), "GIF")
    frame = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    return data[:frame] + piece * count + data[frame:]


@pytest.mark.parametrize(
    "make",
    [
        segments,
        webp_chunks,
        lambda count: png_of(9, 9, 8, 2, *[(b"teSt", b"")] * count),
        lambda count: gif_comments(count, b"!\xfe\1a\0"),
        lambda count: gif_comments(1, b"!\xfe" + b"\1a" * count + b"\0"),
        lambda count: gif_comments(count, b"\1"),
    ],
)
def test_a_file_in_very_many_pieces_is_refused_and_in_some_is_not(make: Any) -> None:
    sound = make(300)
    assert decode(sound).shape[:2] == (probe(sound).height, probe(sound).width)
    start = time.process_time()
    reason, detail = reason_of(make(300_000))
    assert reason == "too_large" and f"more than {MAX_PARTS}" in detail
    assert time.process_time() - start < 2


def test_fill_bytes_are_passed_over_at_once() -> None:
    data = encoded(SMALL, "JPEG")
    filled = data[:2] + b"\xff" * (8 << 20) + data[2:]
    start = time.process_time()
    assert probe(filled).width == 16
    assert time.process_time() - start < 1


def test_the_work_of_scans_counts_their_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from fuzz_inputs import scan_jpeg
    finally:
        sys.path.remove(str(BENCHMARKS))
    first, coarse, fine = (0, 0, 0, 0), (1, 63, 0, 1), (1, 63, 1, 0)
    blocks = 1175**2
    monkeypatch.setattr(module.simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("it was decoded"))
    probe(scan_jpeg(9400, [first, *[coarse] * 90]))
    most = (MAX_WORK - 2 * blocks) // (5 * blocks)
    probe(scan_jpeg(9400, [first, coarse, *[fine] * most]))
    reason, detail = reason_of(scan_jpeg(9400, [first, coarse, *[fine] * (most + 1)]))
    assert reason == "too_large" and "9400×9400" in detail and str(MAX_WORK) in detail
    probe(scan_jpeg(2000, [first, coarse, *[fine] * 90]))
    assert reason_of(scan_jpeg(9400, [first, *[coarse, fine] * 20], 0xCA))[0] == "too_large"


def packed_bmp(width: int, height: int, codes: bytes) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(codes), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(codes), 0, 0, 1078) + head + bytes(1024) + codes


def test_run_length_coded_bmps_are_bounded_by_what_their_codes_can_do() -> None:
    assert decode(packed_bmp(20, 10, b"\x14\5\0\0" * 10 + b"\0\1")).shape == (10, 20, 3)
    for data in (
        packed_bmp(4_000_000, 1, b"\0\2\0\xff" * 4),  # each code skips 255 rows of 4,000,000 pixels
        packed_bmp(80_000_000, 1, b"\1\0\0\0\0\1"),  # the row is filled a pixel at a time
        packed_bmp(1000, 1000, b"\0\0" * (8 << 20)),  # codes that do nothing
    ):
        assert reason_of(data)[0] == "too_large"


@pytest.mark.parametrize("size", [12, 16, 40, 52, 56, 64, 108, 124])
@pytest.mark.parametrize(
    "sides", [(20, 10), (20, -10), (-20, 10), (0, 10), (20, 0), (20, -(2**31)), (2**31 - 1, 2)]
)
def test_every_bmp_header_has_an_outcome(size: int, sides: tuple[int, int]) -> None:
    if size == 12:
        head = struct.pack("<IHHHH", 12, sides[0] & 0xFFFF, sides[1] & 0xFFFF, 1, 24)
    else:
        head = struct.pack("<IiiHHIIiiII", size, *sides, 1, 24, 0, 0, 0, 0, 0, 0)[:size].ljust(size, b"\0")
    data = b"BM" + struct.pack("<IHHI", 14 + size + 600, 0, 0, 14 + size) + head + bytes(600)
    try:
        header = probe(data)
        pixels = decode(data)
    except BadImageError:
        return
    assert pixels.shape == (header.height, header.width, 3)


def test_large_images_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE", 1000)
    data, running, most = encoded(SMALL, "PNG"), [], []
    original = module._decode_any

    def watched(*given: Any) -> Any:
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return original(*given)

    monkeypatch.setattr(module, "_decode_any", watched)
    threads = [threading.Thread(target=decode, args=(data,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 6 and max(most) == 1


def test_what_decodes_to_another_size_is_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    for format in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF"):
        data = encoded(SMALL, format)
        header = probe(data)
        other = type(header)(format, 16, 15, header.components, held=header.held)
        with pytest.raises(BadImageError, match="corrupt"):
            decode(data, other)


MEASURED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import fuzz, fuzz_inputs
made = fuzz_inputs.bombs()
for one in fuzz_inputs.image_files(fuzz_inputs.scenes(1, 32)):
    fuzz.measured(one, one.data)
for name in sys.argv[2].split(","):
    data = made[name]()
    print(json.dumps(fuzz.measured(fuzz_inputs.Sound("image", name, b""), data) | {"name": name}), flush=True)
    del data
"""
QUICK = (
    "JPEG 882 scans,JPEG 90 refining,JPEG arithmetic,JPEG fill,JPEG segments,PNG chunks,PNG 900 megapixels,"
    "GIF in a small screen,GIF comments,GIF junk,BMP that skips,BMP of ends of lines,BMP of nothings,"
    "PNG zTXt,PNG iCCP"
)
LARGE = "PNG RGB,PNG RGBA 16,PNG grey 16,PNG palette,GIF,JPEG,JPEG progressive 4:2:0,JPEG 90 scans,WebP,AVIF"


def measured(names: str) -> list[dict[str, Any]]:
    import json

    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(BENCHMARKS), names], capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
def test_bombs_cost_little() -> None:
    for told in measured(QUICK):
        assert not told["wrong"] and told["seconds"] < 2 and told["mib"] < 64, told


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
def test_88_megapixels_stay_within_the_limit() -> None:
    """Memory of decoding, and of the training path behind it (a crop of the whole)."""
    for told in measured(LARGE):
        assert not told["wrong"] and told["mib"] <= (MAX_HELD >> 20) + 32 and told["seconds"] < 10, told
        assert told["word"] in ("ok", "too_large") and (told["word"] == "ok") == (
            told["name"] not in TOO_MUCH
        )


TOO_MUCH = ("WebP", "AVIF")
