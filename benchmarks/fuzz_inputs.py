"""What `benchmarks/fuzz.py` and `tests/test_fuzz.py` feed to readers: sound files, ways to spoil them, bombs.

All is a function of numbers alone: mutant `i` of seed `s` has the same bytes on every machine that has the
same Pillow, so that a finding is repeated by its two numbers.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import pickle
import random
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from smelt.data.synthetic.config import SyntheticSettings
from smelt.data.synthetic.looks import class_table
from smelt.data.synthetic.scene import draw

SCENES = 4


@dataclass(frozen=True)
class Sound:
    """A sound file: the target that reads it, the kind it is counted under, its bytes."""

    target: str
    kind: str
    data: bytes


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """`image` in a format of Pillow's."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def scenes(count: int, side: int = 160) -> list[Image.Image]:
    """Drawn pictures with the statistics of photographs."""
    settings = SyntheticSettings(min_side=side * 3 // 4, max_side=side)
    table = class_table(settings)
    looks = table.looks
    return [draw(looks[i % len(looks)], table, settings, np.random.default_rng([7, i])) for i in range(count)]


def photos(archive: Path, count: int, side: int = 200) -> list[Image.Image]:
    """Photographs out of a tar, made smaller."""
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.lower().endswith((".jpg", ".jpeg")) else None
            if file is None:
                continue
            image = Image.open(io.BytesIO(file.read())).convert("RGB")
            image.thumbnail((side, side))
            found.append(image)
            if len(found) == count:
                break
    return found


WAYS: dict[str, tuple[str, Callable[[Image.Image], Image.Image], dict[str, Any]]] = {
    "JPEG": ("JPEG", lambda i: i, {"quality": 85}),
    "JPEG 4:4:4": ("JPEG", lambda i: i, {"quality": 92, "subsampling": 0}),
    "JPEG progressive": ("JPEG", lambda i: i, {"quality": 85, "progressive": True}),
    "JPEG restarts": ("JPEG", lambda i: i, {"quality": 85, "restart_marker_rows": 1}),
    "JPEG grey": ("JPEG", lambda i: i.convert("L"), {"quality": 85}),
    "JPEG CMYK": ("JPEG", lambda i: i.convert("CMYK"), {"quality": 85}),
    "PNG": ("PNG", lambda i: i, {}),
    "PNG palette": ("PNG", lambda i: i.convert("P"), {"transparency": 3}),
    "PNG alpha": ("PNG", lambda i: i.convert("RGBA"), {}),
    "PNG 16 bit": ("PNG", lambda i: _sixteen(i), {}),
    "WebP": ("WEBP", lambda i: i, {"quality": 80}),
    "WebP lossless": ("WEBP", lambda i: i, {"lossless": True}),
    "WebP alpha": ("WEBP", lambda i: _faded(i), {"quality": 80}),
    "GIF": ("GIF", lambda i: i.convert("P"), {}),
    "BMP": ("BMP", lambda i: i, {}),
    "BMP palette": ("BMP", lambda i: i.convert("P"), {}),
    "AVIF": ("AVIF", lambda i: i, {"quality": 60, "speed": 9}),
    "AVIF alpha": ("AVIF", lambda i: _faded(i), {"quality": 60, "speed": 9}),
}
FILMS = ("GIF", "PNG", "WEBP", "AVIF")


def _sixteen(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def _faded(image: Image.Image) -> Image.Image:
    alpha = np.linspace(0, 255, image.width * image.height).reshape(image.height, image.width)
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return image


def image_files(pictures: Iterable[Image.Image], target: str = "image") -> list[Sound]:
    """Each picture in every way that is read."""
    found = []
    for picture in pictures:
        for kind, (format, prepare, options) in WAYS.items():
            found.append(Sound(target, kind, encoded(prepare(picture), format, **options)))
        for format in FILMS:
            film = encoded(picture, format, save_all=True, append_images=[picture.rotate(90)])
            found.append(Sound(target, f"{format} film", film))
    return found


@functools.cache
def other_files() -> list[Sound]:
    """Archives, lists, texts and pickles; a target that reads others adds its sound files here."""
    rng = np.random.default_rng(0)
    small = encoded(scenes(1, 32)[0], "JPEG")
    found = [
        Sound("tar", "tar ustar", _tar(tarfile.USTAR_FORMAT, small)),
        Sound("tar", "tar GNU", _tar(tarfile.GNU_FORMAT, small)),
        Sound("tar", "tar pax", _tar(tarfile.PAX_FORMAT, small)),
        Sound("csv", "CSV", b"path,label\n" + b"".join(b"%d.jpg,%d\n" % (i, i % 3) for i in range(40))),
        Sound("yaml", "YAML", b"all: &d {epochs: 3}\ntrain:\n  <<: *d\n  sizes: [32]\nname: 'a b'\n"),
        Sound("json", "JSON", json.dumps({"format": "dense", "rows": [1, 2], "classes": ["a"] * 5}).encode()),
        Sound("pickle", "CIFAR pickle", pickle.dumps(_batch(rng), protocol=2)),
    ]  # fmt: skip
    scores = rng.normal(size=(20, 4)).astype(np.float32)
    for suffix, data in _score_files(scores).items():
        found.append(Sound(f"scores{suffix}", f"scores {suffix}", data))
    return found + _lists() + _labels()


def _lists() -> list[Sound]:
    """Lists of images in the forms that are read."""
    rows = [{"path": f"i/{i}.jpg", "label": "abc"[i % 3], "title": f"é {i}"} for i in range(40)]
    text = "path,label,title\n" + "".join(f"{row['path']},{row['label']},{row['title']}\n" for row in rows)
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    texts = {name: text.encode(name) for name in ("utf-16", "latin-1")}
    return [
        Sound("list.txt", "file list", b"".join(b"i/%d.jpg %d\n" % (i, i % 5) for i in range(40))),
        *(Sound("csv", f"CSV {name}", data) for name, data in texts.items()),
        Sound("list.parquet", "Parquet list", _parquet(table)),
        Sound("list.json", "JSON list", json.dumps(rows).encode()),
        Sound("list.jsonl", "JSON lines", "".join(json.dumps(row) + "\n" for row in rows).encode()),
        Sound("list.csv.gz", "gzip list", gzip.compress(text.encode(), mtime=0)),
    ]


def _labels() -> list[Sound]:
    """Labels of twenty images."""
    ids, numbers = [f"{i}.jpg" for i in range(20)], np.arange(20) % 4
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, numbers)
    np.savez(npz, labels=numbers, ids=np.array(ids))
    text = "id,label\n" + "".join(f"{name},{'abcd'[number]}\n" for name, number in zip(ids, numbers))
    hot = {"abcd"[k]: (numbers == k).astype(int) for k in range(4)}
    return [
        Sound("labels.npy", "labels .npy", npy.getvalue()),
        Sound("labels.npz", "labels .npz", npz.getvalue()),
        Sound("labels.csv", "labels .csv", text.encode()),
        Sound("labels.parquet", "labels .parquet", _parquet(pa.table({"id": ids, "label": numbers}))),
        Sound("labels.parquet", "one-hot .parquet", _parquet(pa.table({"id": ids, **hot}))),
    ]


def _parquet(table: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=15, compression="zstd")
    return file.getvalue()


def _tar(format: int, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name in ("0001.jpg", "a/0002.jpg", "long/" * 30 + "0003.jpg", "grün.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _batch(rng: np.random.Generator) -> dict[bytes, Any]:
    return {
        b"data": rng.integers(0, 256, (4, 3072), dtype=np.uint8),
        b"labels": [0, 1, 2, 3],
        b"filenames": [b"a.png"] * 4,
    }


def _score_files(scores: np.ndarray[Any, Any]) -> dict[str, bytes]:
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, scores)
    np.savez(npz, scores=scores, ids=np.array([f"{i}.jpg" for i in range(len(scores))]))
    rows = [",".join([f"{i}.jpg", *(f"{x:.4f}" for x in row)]) for i, row in enumerate(scores)]
    table = "\n".join(["image,a,b,c,d", *rows]) + "\n"
    ids = [f"{i}.jpg" for i in range(len(scores))]
    columns = _parquet(pa.table({"id": ids, **dict(zip("abcd", scores.T))}))
    tensor = io.BytesIO()
    torch.save({"scores": torch.from_numpy(scores), "ids": ids}, tensor)
    return {
        ".npy": npy.getvalue(), ".npz": npz.getvalue(), ".csv": table.encode(), ".parquet": columns,
        ".pt": tensor.getvalue(),
    }  # fmt: skip


# Ways to spoil


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` with one to three things done to it."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(MUTATORS)(bytearray(data), rng) if data else data
    return data


def _few_bytes(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _one_bit(data: bytearray, rng: random.Random) -> bytes:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _cut(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data))])


def _header_byte(data: bytearray, rng: random.Random) -> bytes:
    data[rng.randrange(min(len(data), 64))] = rng.choice((0, 255, 127, 128, rng.randrange(256)))
    return bytes(data)


def _header_number(data: bytearray, rng: random.Random) -> bytes:
    """A number in the first kilobyte, of 2, 4 or 8 bytes, made extreme."""
    size = rng.choice((2, 4, 8))
    at = rng.randrange(max(min(len(data), 1024) - size, 1))
    value = rng.choice((0, 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63, rng.getrandbits(8 * size)))
    order = rng.choice(("big", "little"))
    data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
    return bytes(data)


def _remove(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 200)]
    return bytes(data)


def _insert(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.randrange(1, 100))
    return bytes(data)


def _same_bytes(data: bytearray, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(data)), rng.choice((2, 4, 8, 512))
    data[at : at + size] = rng.choice((b"\xff", b"\0", b"\x7f", b" ")) * size
    return bytes(data)


def _copy(data: bytearray, rng: random.Random) -> bytes:
    source, at, size = rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(1, 64)
    data[at : at + size] = data[source : source + size]
    return bytes(data)


def _repeat(data: bytearray, rng: random.Random) -> bytes:
    """A piece many times over: chunks, segments, members, braces."""
    at, size = rng.randrange(len(data)), rng.randrange(1, 64)
    piece = data[at : at + size]
    data[at:at] = piece * min(rng.choice((2, 50, 3000)), 60_000 // size)
    return bytes(data)


MUTATORS = (
    _few_bytes, _one_bit, _cut, _header_byte, _header_number, _remove, _insert, _same_bytes, _copy, _repeat,
)  # fmt: skip


# Bombs: small files, or large and simple ones, that ask for very much


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bare_png(width: int, height: int, bits: int, colours: int, extra: bytes = b"") -> bytes:
    """A PNG of zeros, packed as far as it goes, without ever holding its pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    packer, line = zlib.compressobj(9), bytes(1 + (width * bits * channels + 7) // 8)
    body = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    palette = _png_chunk(b"PLTE", bytes(768)) if colours == 3 else b""
    start = b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + palette + extra
    return start + _png_chunk(b"IDAT", body) + _png_chunk(b"IEND", b"")


def jpeg_segment(marker: int, content: bytes) -> bytes:
    """A marker segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def scan_jpeg(side: int, scans: Iterable[tuple[int, int, int, int]], kind: int = 0xC2) -> bytes:
    """A grey JPEG of one passage over all blocks for each (first, last coefficient, high, low place)."""
    start = b"\xff\xd8" + jpeg_segment(0xDB, b"\0" + b"\1" * 64)
    start += jpeg_segment(kind, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    start += jpeg_segment(0xC4, b"\0\1" + bytes(15) + b"\0") + jpeg_segment(
        0xC4, b"\x10\1" + bytes(15) + b"\xe0"
    )
    blocks = (-(-side // 8)) ** 2
    runs = "0" + "1" * 14
    codes = runs * (blocks // 32767) + "0" + format(max(blocks % 32767, 1 << 14) - (1 << 14), "014b")
    codes += "1" * (-len(codes) % 8)
    passage = int(codes, 2).to_bytes(len(codes) // 8, "big").replace(b"\xff", b"\xff\0")
    parts = [start]
    for first, last, high, low in scans:
        head = jpeg_segment(0xDA, bytes([1, 1, 0, first, last, high << 4 | low]))
        parts.append(head + (bytes(-(-blocks // 8)) if first == 0 else passage))
    return b"".join(parts) + b"\xff\xd9"


def gif_of(side: int, screen: int, before: bytes = b"") -> bytes:
    """A GIF whose screen is not as large as its frame; `before`: what stands before the frame."""
    data = encoded(Image.new("P", (side, side)), "GIF")
    palette = 3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0
    frame = data.index(b",", 13 + palette)
    return data[:6] + struct.pack("<HH", screen, screen) + data[10:frame] + before + data[frame:]


def packed_bmp(width: int, height: int, codes: bytes) -> bytes:
    """A run-length coded BMP."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(codes), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(codes), 0, 0, 1078) + head + bytes(1024) + codes


def riff(kind: bytes, *chunks: bytes) -> bytes:
    """A RIFF file of these chunks."""
    body = kind + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def extended_webp(width: int, height: int, simple: bytes) -> bytes:
    """A WebP that says another size than its picture."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff(b"WEBP", b"VP8X" + struct.pack("<I", 10) + bytes(4) + sides, simple[12:])


def other_ispe(avif: bytes, width: int, height: int) -> bytes:
    """An AVIF that says another size than its picture."""
    at = avif.index(b"ispe") + 8
    return avif[:at] + struct.pack(">II", width, height) + avif[at + 8 :]


def _text_chunk(kind: bytes, size: int) -> bytes:
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    return _png_chunk(kind, head + packed)


def bombs(side: int = 9400) -> dict[str, Callable[[], bytes]]:
    """Files that would take gigabytes or minutes, or nearly, by name; each is made when called.

    side: of those of many pixels (9400: 88 million pixels).
    """
    blank, small = functools.partial(Image.new, size=(side, side)), encoded(Image.new("RGB", (9, 9)), "JPEG")
    found: dict[str, Callable[[], bytes]] = {
        "JPEG": lambda: encoded(blank("RGB"), "JPEG"),
        "JPEG progressive 4:4:4": lambda: encoded(blank("RGB"), "JPEG", progressive=True, subsampling=0),
        "JPEG progressive 4:2:0": lambda: encoded(blank("RGB"), "JPEG", progressive=True),
        "JPEG CMYK": lambda: encoded(blank("CMYK"), "JPEG"),
        "JPEG CMYK progressive": lambda: encoded(blank("CMYK"), "JPEG", progressive=True),
        "JPEG 882 scans": lambda: scan_jpeg(side, [(0, 0, 0, 0), *_refined()]),
        "JPEG 90 scans": lambda: scan_jpeg(side, [(0, 0, 0, 0)] + [(1, 63, 0, 0)] * 90),
        "JPEG 90 refining": lambda: scan_jpeg(side, [(0, 0, 0, 0), (1, 63, 0, 13)] + [(1, 63, 1, 0)] * 90),
        "JPEG arithmetic": lambda: scan_jpeg(side, [(0, 0, 0, 0), *_coarse_and_fine()], 0xCA),
        "JPEG fill": lambda: b"\xff\xd8" + b"\xff" * (1 << 25) + small[2:],
        "JPEG segments": lambda: b"\xff\xd8" + b"\xff\xe5\0\2" * (1 << 22) + small[2:],
        "PNG chunks": lambda: bare_png(9, 9, 8, 2, _png_chunk(b"teSt", b"") * (1 << 20)),
        "PNG palette": lambda: bare_png(side, side, 8, 3, _png_chunk(b"tRNS", bytes(256))),
        "PNG 900 megapixels": lambda: bare_png(30_000, 30_000, 1, 0),
        "GIF": lambda: gif_of(side, side),
        "GIF in a small screen": lambda: gif_of(13_000, 1),
        "GIF comments": lambda: gif_of(9, 9, b"!\xfe" + b"\1a" * (1 << 23) + b"\0"),
        "GIF junk": lambda: gif_of(9, 9, b"\1" * (1 << 24)),
        "BMP": lambda: encoded(blank("RGB"), "BMP"),
        "BMP that skips": lambda: packed_bmp(4_000_000, 1, b"\0\2\0\xff" * 4),
        "BMP of ends of lines": lambda: packed_bmp(80_000_000, 1, b"\1\0\0\0\0\1"),
        "BMP of nothings": lambda: packed_bmp(1000, 1000, b"\0\0" * (1 << 23)),
        "WebP": lambda: encoded(blank("RGB"), "WEBP", method=0),
        "WebP lossless": lambda: encoded(blank("RGBA"), "WEBP", lossless=True, method=0),
        "WebP in a small canvas": lambda: extended_webp(1, 1, encoded(blank("RGB"), "WEBP", method=0)),
        "AVIF": lambda: encoded(blank("RGB"), "AVIF", speed=10),
        "AVIF 4:4:4 alpha": lambda: encoded(blank("RGBA"), "AVIF", speed=10, subsampling="4:4:4"),
        "AVIF that says 8×8": lambda: other_ispe(encoded(blank("RGB"), "AVIF", speed=10), 8, 8),
    }  # fmt: skip
    for name, (bits, colours) in {
        "grey": (8, 0), "grey 16": (16, 0), "RGB": (8, 2), "RGB 16": (16, 2), "grey alpha": (8, 4),
        "grey alpha 16": (16, 4), "RGBA": (8, 6), "RGBA 16": (16, 6), "1 bit": (1, 0),
    }.items():  # fmt: skip
        found[f"PNG {name}"] = functools.partial(bare_png, side, side, bits, colours)
    for kind in (b"zTXt", b"iTXt", b"iCCP"):
        found[f"PNG {kind.decode()}"] = functools.partial(_bomb_text, kind)
    return found


def _refined() -> list[tuple[int, int, int, int]]:
    """A scan for every bit of every coefficient."""
    return [(k, k, 0 if bit == 13 else bit + 1, bit) for k in range(1, 64) for bit in range(13, -1, -1)]


def _coarse_and_fine() -> list[tuple[int, int, int, int]]:
    return [(1, 63, 0, 1), (1, 63, 1, 0)] * 40


def _bomb_text(kind: bytes) -> bytes:
    return bare_png(9, 9, 8, 2, _text_chunk(kind, 1 << 28))


# Damage within the pixels


def pixels_of(kind: str, data: bytes) -> tuple[int, int]:
    """First and last byte of the coded pixels in a file of `image_files` (its headers left out)."""
    if kind.startswith("JPEG"):
        at = data.index(b"\xff\xda")
        return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"), len(data) - 2
    if kind.startswith("PNG"):
        at = data.index(b"IDAT")
        return at + 6, at + 4 + int.from_bytes(data[at - 4 : at], "big")
    if kind.startswith("WebP"):
        start = max(data.find(b"VP8 "), data.find(b"VP8L"))
        return start + 20, start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
    if kind.startswith("GIF"):
        return 13 + (3 << ((data[10] & 7) + 1)) + 20, len(data) - 2
    if kind.startswith("AVIF"):
        return data.index(b"mdat") + 24, len(data)
    return 1078, len(data)


def flipped(data: bytes, kind: str, rng: random.Random) -> bytes:
    """`data` with one to four bytes of its coded pixels changed."""
    start, end = pixels_of(kind, data)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        changed[rng.randrange(start, end)] ^= rng.randrange(1, 256)
    return bytes(changed)
