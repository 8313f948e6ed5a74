"""The headers of AVIF and HEIC: which of the pictures in such a file is decoded, and what that will cost.

A file is a tree of boxes (ISO/IEC 14496-12). Its pictures are items of a `meta` box, joined by references:
one is the primary, which may be a grid of others and have another one for its transparency; or samples of
tracks, where the file calls itself a sequence (`avis`). ISO/IEC 23008-12, AV1 Image File Format 1.1. Only
what the decoder will decode is counted: not thumbnails, nor further pictures.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from smelt.data.images.coded import Picture, av1, hevc
from smelt.data.images.kinds import HEIC_HINT, heif_reader
from smelt.data.images.limits import MAX_PIXELS, Header, too_large, too_many_parts
from smelt.errors import BadImageError

_ITEMS = 4096  # of a file; libavif looks each up in a list
_MOST_READ = 1 << 26  # bytes of coded pictures that are walked
_COPIES = 10  # bytes a pixel beside the decoder's own picture, where it is most

Box = tuple[bytes, int, int]


@dataclass
class _Meta:
    """What a `meta` box says of its items, by their numbers."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    references: list[tuple[bytes, int, list[int]]] = field(default_factory=list)
    properties: list[Box] = field(default_factory=list)
    owned: dict[int, list[int]] = field(default_factory=dict)
    places: dict[int, list[tuple[int, int]]] = field(default_factory=dict)


def parse(data: bytes) -> Header:
    """Size and cost of the picture that an AVIF or HEIC file shows."""
    top = list(_boxes(data, 0, len(data), whole=True))
    found = {name: (start, end) for name, start, end in reversed(top)}
    brand = data[8:12]
    if brand == b"avis" and b"moov" in found:
        return _sequence(data, *found[b"moov"])
    if b"meta" not in found:
        raise BadImageError("corrupt", "no picture: neither a `meta` box nor a sequence")
    start, end = found[b"meta"]
    return _still(data, _meta(data, start + 4, end))


def _boxes(data: bytes, start: int, end: int, whole: bool = False) -> Iterator[Box]:
    """Name, start and end of the content of each box. whole: boxes that go beyond `end` are an error."""
    at = start
    for _ in range(16 * _ITEMS):
        if at + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        elif size == 0:
            size = end - at
        if size < head:
            raise BadImageError("corrupt", f"a box of {size} bytes at byte {at}")
        if at + size > end:
            if whole:
                raise BadImageError("truncated", "the file is shorter than it says")
            raise BadImageError("corrupt", f"a box at byte {at} goes beyond the one around it")
        yield name, at + head, at + size
        at += size
    raise too_many_parts("boxes")


def _meta(data: bytes, start: int, end: int) -> _Meta:
    meta = _Meta()
    inner: dict[bytes, tuple[int, int]] = {}
    for name, begin, stop in _boxes(data, start, end):
        inner.setdefault(name, (begin, stop))
    if b"pitm" in inner:
        begin, _ = inner[b"pitm"]
        (meta.primary,) = struct.unpack_from(">I" if data[begin] else ">H", data, begin + 4)
    if b"iinf" in inner:
        meta.kinds = _kinds(data, *inner[b"iinf"])
    if b"iref" in inner:
        meta.references = _references(data, *inner[b"iref"])
    if b"iprp" in inner:
        begin, stop = inner[b"iprp"]
        _properties(data, begin, stop, meta)
    if b"iloc" in inner:
        begin, stop = inner[b"iloc"]
        meta.places = _places(data, begin, stop, inner.get(b"idat", (0, 0))[0])
    return meta


def _kinds(data: bytes, start: int, end: int) -> dict[int, bytes]:
    kinds, wide = {}, data[start] > 0
    for name, begin, _ in _boxes(data, start + (8 if wide else 6), end):
        if name != b"infe" or data[begin] < 2:
            continue
        number = ">I" if data[begin] > 2 else ">H"
        (item,) = struct.unpack_from(number, data, begin + 4)
        at = begin + 4 + struct.calcsize(number) + 2
        kinds[item] = data[at : at + 4]
        if len(kinds) > _ITEMS:
            raise too_large(f"more than {_ITEMS} pictures and parts in a file", str(_ITEMS))
    return kinds


def _references(data: bytes, start: int, end: int) -> list[tuple[bytes, int, list[int]]]:
    code, size = ("I", 4) if data[start] else ("H", 2)
    found, total = [], 0
    for name, begin, stop in _boxes(data, start + 4, end):
        source, count = struct.unpack_from(f">{code}H", data, begin)
        total += count
        if total > 4 * _ITEMS or begin + size + 2 + count * size > stop:
            raise BadImageError("corrupt", "references beyond their box")
        found.append((name, source, list(struct.unpack_from(f">{count}{code}", data, begin + size + 2))))
    return found


def _properties(data: bytes, start: int, end: int, meta: _Meta) -> None:
    """The list of properties, and which of it are whose."""
    for name, begin, stop in _boxes(data, start, end):
        if name == b"ipco":
            meta.properties += list(_boxes(data, begin, stop))
        elif name == b"ipma":
            wide, long = data[begin] > 0, data[begin + 3] & 1
            (count,) = struct.unpack_from(">I", data, begin + 4)
            at = begin + 8
            for _ in range(min(count, 4 * _ITEMS)):
                item, owned = struct.unpack_from(">IB" if wide else ">HB", data, at)
                at += 5 if wide else 3
                numbers = struct.unpack_from(f">{owned}{'H' if long else 'B'}", data, at)
                at += owned << long
                meta.owned.setdefault(item, []).extend(n & (0x7FFF if long else 127) for n in numbers)


def _places(data: bytes, start: int, end: int, idat: int) -> dict[int, list[tuple[int, int]]]:
    """The pieces (start, size) of each item."""
    version = data[start]
    sizes, bases = data[start + 4], data[start + 5]
    wide = version == 2
    (count,) = struct.unpack_from(">I" if wide else ">H", data, start + 6)
    at = start + (10 if wide else 8)
    places: dict[int, list[tuple[int, int]]] = {}
    if count > _ITEMS:
        raise too_large(f"{count} pictures and parts in a file", str(_ITEMS))

    def number(size: int) -> int:
        nonlocal at
        if at + size > end:
            raise BadImageError("corrupt", "places of pictures beyond their box")
        at += size
        return int.from_bytes(data[at - size : at], "big")

    total = 0
    for _ in range(count):
        item = number(4 if wide else 2)
        method = number(2) & 15 if version else 0
        number(2)
        base, extents = number(bases >> 4), number(2)
        total += extents
        if total > 4 * _ITEMS:
            raise too_many_parts("pieces of pictures")
        for _ in range(extents):
            number(bases & 15 if version else 0)
            offset, size = number(sizes >> 4), number(sizes & 15)
            place = base + offset + (idat if method == 1 else 0)
            places.setdefault(item, []).append((place, size or len(data)))
    return places


def _still(data: bytes, meta: _Meta) -> Header:
    """The primary item: its size as shown, and the cost of all items that it is made of."""
    decoded, waiting = {meta.primary}, [meta.primary]
    while waiting:
        item = waiting.pop()
        parts = {
            part
            for name, source, targets in meta.references
            for part in (targets if source == item else [source])
            if (name == b"dimg" and source == item) or (name == b"auxl" and item in targets)
        }
        waiting += parts - decoded
        decoded |= parts
    kinds = {meta.kinds.get(item, b"") for item in decoded}
    format = _format(kinds)
    size = _shown(data, meta, format)
    pictures, left = [], _MOST_READ
    for item in sorted(decoded):
        if meta.kinds.get(item) in _CODED:
            coded = _item(data, meta.places.get(item, []), left)
            left -= len(coded)
            known = format == "AVIF"
            pictures.append(av1(coded) if known else hevc(_configuration(data, meta, item), coded))
    return _header(format, size, pictures, joined=bool(kinds - _CODED))


_CODED = {b"av01", b"hvc1", b"hev1"}


def _format(kinds: set[bytes]) -> str:
    """AVIF or HEIC, by the kinds of the items that a picture is made of."""
    if b"av01" in kinds and not kinds & {b"hvc1", b"hev1"}:
        return "AVIF"
    if not kinds & _CODED:
        names = ", ".join(sorted(repr(kind.decode("latin-1")) for kind in kinds))
        raise BadImageError("unsupported_format", f"HEIF with a picture of kind {names}")
    if heif_reader() is None:
        raise BadImageError("unsupported_format", HEIC_HINT)
    return "HEIC"


def _shown(data: bytes, meta: _Meta, format: str) -> tuple[int, int]:
    """Width and height of the primary item; of HEIC with its cut and turns, which its decoder applies."""
    size = None
    for number in meta.owned.get(meta.primary, []):
        name, start, end = meta.properties[number - 1] if 0 < number <= len(meta.properties) else (b"", 0, 0)
        if name == b"ispe" and size is None:
            size = struct.unpack_from(">II", data, start + 4)
        elif size is None or format == "AVIF":
            continue
        elif name == b"irot" and data[start] & 1:
            size = size[1], size[0]
        elif name == b"clap" and end - start >= 32:
            wide, by_w, high, by_h = struct.unpack_from(">4I", data, start)
            size = round(wide / max(by_w, 1)), round(high / max(by_h, 1))
    if size is None:
        raise BadImageError("corrupt", f"a {format} whose picture has no size")
    return size


def _configuration(data: bytes, meta: _Meta, item: int) -> bytes:
    for number in meta.owned.get(item, []):
        if 0 < number <= len(meta.properties) and meta.properties[number - 1][0] == b"hvcC":
            _, start, end = meta.properties[number - 1]
            return data[start : min(end, start + (1 << 16))]
    return b""


def _item(data: bytes, places: list[tuple[int, int]], most: int) -> bytes:
    parts = []
    for start, size in places:
        part = data[start : start + min(size, most)]
        most -= len(part)
        parts.append(part)
    return b"".join(parts)


def _sequence(data: bytes, start: int, end: int) -> Header:
    """The first frame of a sequence: that of its first track, and of the tracks beside it (transparency)."""
    size, pictures = None, []
    for name, begin, stop in _boxes(data, start, end):
        if name != b"trak":
            continue
        inside = dict(_descend(data, begin, stop))
        if b"tkhd" in inside and size is None:
            at = inside[b"tkhd"][0]
            wide, high = struct.unpack_from(">II", data, at + (88 if data[at] else 76))
            size = wide >> 16, high >> 16
        chunks = inside.get(b"stco") or inside.get(b"co64")
        if chunks and b"stsz" in inside:
            (place,) = struct.unpack_from(">I" if b"stco" in inside else ">Q", data, chunks[0] + 8)
            fixed, _, first = struct.unpack_from(">III", data, inside[b"stsz"][0] + 4)
            pictures.append(av1(data[place : place + (fixed or first)]))
        if len(pictures) > 16:
            raise too_many_parts("tracks")
    if size is None:
        raise BadImageError("corrupt", "a sequence without a track")
    return _header("AVIF", size, pictures, joined=False)


def _descend(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """The boxes of a track that say where its samples are, whatever they are in."""
    for name, begin, stop in _boxes(data, start, end):
        if name in (b"mdia", b"minf", b"stbl"):
            yield from _descend(data, begin, stop)
        else:
            yield name, (begin, stop)


def _header(format: str, size: tuple[int, int], pictures: list[Picture], joined: bool) -> Header:
    """With the memory and the time that the pictures take, of which those of a grid are joined."""
    spent = sum(picture.pixels * picture.frames for picture in pictures)
    if spent > 2 * MAX_PIXELS:
        raise too_large(f"{format} whose decoder makes {spent} pixels", str(2 * MAX_PIXELS))
    coded = sum(picture.held for picture in pictures) * (2 if joined else 1)
    width, height = size
    return Header(format, width, height, held=width * height * _COPIES + coded)
