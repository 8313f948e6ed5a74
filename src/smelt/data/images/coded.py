"""The size of the pictures that an AV1 or HEVC decoder will make, from the codes themselves.

What the file around them says (`ispe`) is only what the result is scaled or cut to. Sources: AV1 Bitstream &
Decoding Process Specification §5.3, §5.5, §5.9; ITU-T H.265 §7.3.1, §7.3.2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_ENOUGH = 512  # bytes of a header that are looked at
_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # kinds of AV1's units
_SPS = 33  # of HEVC


class Picture(NamedTuple):
    """pixels of a picture, frames: how many are decoded, held: bytes of one in the decoder."""

    pixels: int
    frames: int
    held: int


class _Bits:
    """The bits of some bytes, the highest first; zeros after the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        return self._value >> self._left & (1 << count) - 1 if self._left >= 0 else 0

    def exponential(self) -> int:
        """An unsigned exponential-Golomb number."""
        zeros = 0
        while self._left > 0 and not self.take(1):
            zeros += 1
        zeros = min(zeros, 64)
        return (1 << zeros) - 1 + self.take(zeros)


def av1(data: bytes) -> Picture:
    """The largest picture of AV1 units (a still picture, or a sample of a track) and the number of frames."""
    largest, frames, bits_w, bits_h, sequence = Picture(0, 0, 0), 0, 0, 0, None
    for kind, payload in _units(data):
        if kind == _SEQUENCE:
            sequence = _sequence(_Bits(payload[:_ENOUGH]))
            bits_w, bits_h = sequence.bits_w, sequence.bits_h
            pixels = sequence.width * sequence.height
        elif kind in (_FRAME, _FRAME_HEADER) and sequence is not None:
            frames += 1
            if _other_size(_Bits(payload[:64]), sequence):
                pixels = min(1 << bits_w, 1 << 16) * min(1 << bits_h, 1 << 16)
        else:
            continue
        largest = max(largest, Picture(pixels, 0, int(pixels * sequence.bytes_a_pixel)))
    return largest._replace(frames=max(frames, 1))


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and first bytes of AV1's units."""
    at = 0
    while at < len(data):
        head = data[at]
        at += 1 + (head >> 2 & 1)
        size, shift = len(data) - at, 0
        if head & 2:
            size = 0
            while at < len(data) and shift < 56:
                size |= (data[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if data[at - 1] < 128:
                    break
        yield head >> 3 & 15, data[at : at + min(size, _ENOUGH)]
        at += size


class _Sequence(NamedTuple):
    width: int
    height: int
    bits_w: int
    bits_h: int
    bytes_a_pixel: float
    reduced: bool
    timing: int  # bits of the time of presentation that a shown frame carries
    id_bits: int
    screen_content: int
    integer_motion: int


def _sequence(bits: _Bits) -> _Sequence:
    """A sequence header, up to and with its colours."""
    profile, _, reduced = bits.take(3), bits.take(1), bool(bits.take(1))
    timing = 0
    if reduced:
        bits.take(5)
    else:
        timing = _operating_points(bits)
    bits_w, bits_h = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(bits_w) + 1, bits.take(bits_h) + 1
    id_bits, screen, motion = 0, 2, 2
    if not reduced and bits.take(1):
        delta = bits.take(4) + 2
        id_bits = bits.take(3) + delta + 1
    bits.take(3)
    if not reduced:
        bits.take(4)
        ordered = bits.take(1)
        bits.take(2 if ordered else 0)
        screen = 2 if bits.take(1) else bits.take(1)
        if screen:
            motion = 2 if bits.take(1) else bits.take(1)
        bits.take(3 if ordered else 0)
    bits.take(3)
    depth = 2 if bits.take(1) else 1  # bytes of a sample
    planes = _planes(bits, profile, depth)
    return _Sequence(width, height, bits_w, bits_h, depth * planes, reduced, timing, id_bits, screen, motion)


def _operating_points(bits: _Bits) -> int:
    """Pass over timing and operating points; the bits that a shown frame says its time in."""
    presentation, decoder_model, delay = 0, 0, 0
    if bits.take(1):
        bits.take(64)
        equal = bits.take(1)
        if equal:
            bits.exponential()
        decoder_model = bits.take(1)
        if decoder_model:
            delay = bits.take(5) + 1
            bits.take(37)
            presentation = 0 if equal else bits.take(5) + 1
            bits.take(5 if equal else 0)
    initial = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if decoder_model and bits.take(1):
            bits.take(2 * delay + 1)
        if initial and bits.take(1):
            bits.take(4)
    return presentation


def _planes(bits: _Bits, profile: int, depth: int) -> float:
    """Samples a pixel: 1 grey, 1.5 to 3 colour."""
    twelve = profile == 2 and depth == 2 and bits.take(1)
    if profile != 1 and bits.take(1):
        return 1
    return 1.5 if profile == 0 else 3 if profile == 1 or twelve else 2


def _other_size(bits: _Bits, sequence: _Sequence) -> bool:
    """Whether a frame header says a size of its own."""
    if sequence.reduced or bits.take(1):
        return False
    kind, shown = bits.take(2), bits.take(1)
    if shown:
        bits.take(sequence.timing)
    else:
        bits.take(1)
    if not (kind == 3 or (kind == 0 and shown)):
        bits.take(1)
    bits.take(1)
    screen = bits.take(1) if sequence.screen_content == 2 else sequence.screen_content
    if screen and sequence.integer_motion == 2:
        bits.take(1)
    bits.take(sequence.id_bits)
    return kind == 3 or bool(bits.take(1))


def hevc(configuration: bytes, data: bytes) -> Picture:
    """The largest picture of HEVC, and how many: by an `hvcC` box (its content) and the units of an item."""
    sets, frames = [Picture(0, 0, 0)], 0
    at = 23
    for _ in range(configuration[22] if len(configuration) > 22 else 0):
        kind, count = configuration[at] & 63, int.from_bytes(configuration[at + 1 : at + 3], "big")
        at += 3
        for _ in range(min(count, 64)):
            size = int.from_bytes(configuration[at : at + 2], "big")
            if kind == _SPS:
                sets.append(_sps(configuration[at + 2 : at + 2 + min(size, _ENOUGH)]))
            at += 2 + size
    at, width = 0, (configuration[21] & 3) + 1 if len(configuration) > 21 else 4
    while at + width + 2 < len(data):
        size = int.from_bytes(data[at : at + width], "big")
        at += width
        kind = data[at] >> 1 & 63
        if kind == _SPS:
            sets.append(_sps(data[at : at + min(size, _ENOUGH)]))
        frames += kind < 32 and data[at + 2] >= 128  # the first slice of a picture
        at += size
    return max(sets)._replace(frames=max(frames, 1))


def _sps(unit: bytes) -> Picture:
    """A sequence parameter set, up to its size and depth."""
    bits = _Bits(unit[2:].replace(b"\0\0\3", b"\0\0"))
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 88 + 8)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.exponential()
    chroma = bits.exponential()
    if chroma == 3:
        bits.take(1)
    pixels = bits.exponential() * bits.exponential()
    if bits.take(1):
        for _ in range(4):
            bits.exponential()
    depth = 1 if bits.exponential() == 0 else 2
    planes = {0: 1.0, 1: 1.5, 2: 2.0}.get(chroma, 3.0)
    return Picture(pixels, 1, int(pixels * depth * planes))
