"""Damage in a JPEG that its decoder passes over: codes that no encoder writes (ITU-T T.81, annex F.1.2).

A changed byte mostly sets the decoder off by some bits until it is in step again by chance. It goes on
without a word, with a wrong number carried along in the mean of each block: from there on the picture is
shifted in colour. Two looks: `seam`, at the pixels, quick, and rather too suspicious; `impossible`, along all
codes, slow, and never wrong: a code that is none, a run that leaves its block, a mean beyond black or white.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

SEAM = 6  # grey levels between two rows of blocks that are suspicious; 4 % of sound photographs have them
MOST = 2 << 20  # bytes of codes that are looked at; 0.6 s each
_COLUMNS = 512  # are looked at, or half of what there is

Table = list[tuple[int, int]]  # by the next 16 bits: length of the code (0: there is none) and its symbol


def seam(pixels_HW3: NDArray[np.uint8]) -> bool:
    """Whether the picture is another one from some row of blocks on: half of the columns jump, one way.

    Rows beside it that jump too make it an edge of the picture's own.
    """
    first = np.arange(8, len(pixels_HW3) - 1, 8)
    if not len(first):
        return False
    step = max(pixels_HW3.shape[1] // _COLUMNS, 2)
    before, above, below, after = (pixels_HW3[first + i, ::step].astype(np.int16) for i in (-2, -1, 0, 1))
    at, above, below = _jump(below - above), _jump(above - before), _jump(after - below)
    return bool((at - np.maximum(above, below)).max() > SEAM)


def _jump(differences_RW3: NDArray[np.int16]) -> NDArray[np.int16]:
    """How far half of the columns go at least, in each row."""
    middle = differences_RW3.shape[1] // 2
    differences_RW3.partition(middle, axis=1)
    jumps: NDArray[np.int16] = np.abs(differences_RW3[:, middle]).max(axis=-1)
    return jumps


def impossible(data: bytes) -> bool:
    """Whether a JPEG of one scan, without restarts, holds codes that cannot be; False where it is too large.

    0.5 µs a byte.
    """
    try:
        blocks, codes = _scan(data)
    except (IndexError, KeyError, ValueError, struct.error):
        return False
    return len(codes) <= MOST and _walk(codes, *blocks)


def _scan(data: bytes) -> tuple[tuple[int, list[tuple[int, Table, Table, int]]], bytes]:
    """Number of units, the blocks of one (component, its two tables, the farthest mean), and the codes."""
    at, frame = 2, b""
    steps: dict[int, int] = {}
    tables: dict[int, Table] = {}
    while True:
        while data[at] == 0xFF:
            at += 1
        marker, length = data[at], data[at + 1] << 8 | data[at + 2]
        content = data[at + 3 : at + 1 + length]
        if marker == 0xDB:
            steps |= _steps(content)
        elif marker == 0xC4:
            tables |= _tables(content)
        elif marker in (0xC0, 0xC1):
            frame = content
        at += 1 + length
        if marker == 0xDA:
            break
    height, width, count = struct.unpack_from(">HHB", frame, 1)
    parts = [tuple(frame[6 + 3 * i : 9 + 3 * i]) for i in range(count)]
    across, down = max(p[1] >> 4 for p in parts), max(p[1] & 15 for p in parts)
    if count == 1:
        parts, across, down = [(parts[0][0], 0x11, parts[0][2])], 1, 1
    blocks = []
    for i, (_, sampling, quantiser) in enumerate(parts):
        chosen = content[2 + 2 * i]
        block = i, tables[chosen >> 4], tables[16 | chosen & 15], _farthest(steps[quantiser])
        blocks += [block] * ((sampling >> 4) * (sampling & 15))
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    return (units, blocks), data[at : data.rindex(b"\xff\xd9")].replace(b"\xff\0", b"\xff")


def _farthest(step: int) -> int:
    """The largest mean of a block, in steps, that an encoder may write.

    Black and white are 8 · 128 from grey. Encoders that let edges overshoot (mozjpeg's deringing) go up to
    31 grey levels beyond, or two steps.
    """
    return (8 * (128 + min(31, 2 * step)) + step) // max(step, 1)


def _steps(content: bytes) -> dict[int, int]:
    """By the number of a quantisation table: its step for the mean of a block."""
    found, at = {}, 0
    while at < len(content):
        wide = content[at] >> 4
        found[content[at] & 15] = int.from_bytes(content[at + 1 : at + 2 + bool(wide)], "big")
        at += 1 + 64 * (1 + bool(wide))
    return found


def _tables(content: bytes) -> dict[int, Table]:
    """Huffman tables by class and number."""
    found, at = {}, 0
    while at < len(content):
        counts, symbol = content[at + 1 : at + 17], at + 17
        table: Table = []
        for length, count in enumerate(counts, 1):
            for value in content[symbol : symbol + count]:
                table += [(length, value)] * (1 << (16 - length))
            symbol += count
        if len(table) > 1 << 16:
            raise ValueError("more codes than there are")
        found[content[at]] = table + [(0, 0)] * ((1 << 16) - len(table))
        at = symbol
    return found


def _walk(codes: bytes, units: int, blocks: list[tuple[int, Table, Table, int]]) -> bool:
    """Along the codes: whether one of them is impossible. `at` counts bits."""
    means = [0] * 4
    last, at, padded = 8 * len(codes), 0, codes + b"\xff" * 16
    for _ in range(units):
        for component, mean, others, farthest in blocks:
            byte = at >> 3
            window = int.from_bytes(padded[byte : byte + 5], "big")
            length, size = mean[window >> (24 - (at & 7)) & 0xFFFF]
            if not length or size > 11:
                return True
            at += length
            if size:
                byte = at >> 3
                window = int.from_bytes(padded[byte : byte + 4], "big")
                value = window >> (32 - (at & 7) - size) & (1 << size) - 1
                at += size
                means[component] += value if value >> (size - 1) else value - (1 << size) + 1
                if abs(means[component]) > farthest:
                    return True
            place = 1
            while place < 64:
                byte = at >> 3
                window = int.from_bytes(padded[byte : byte + 4], "big")
                length, symbol = others[window >> (16 - (at & 7)) & 0xFFFF]
                if not length:
                    return True
                at += length + (symbol & 15)
                if symbol & 15:
                    place += (symbol >> 4) + 1
                elif symbol == 0xF0:
                    place += 16
                else:
                    break
            if place > 64:
                return True
        if at > last:
            return False  # the codes end before the picture does: the decoder says so
    return False
