"""Shapes and textures: functions on a grid, each family with four variants that are hard to tell apart.

A shape is a function of object coordinates, below 0 inside; lengths are about those of the plane, so that
a division by the size of a pixel gives a soft edge. A texture gives the share of the accent colour, 0..1.
"""

# numpy's ufuncs are typed as returning Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[Any]  # float32 (H, W)
TAU = np.float32(2 * np.pi)


def polar(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Radius and angle of every pixel."""
    return np.hypot(x, y), np.arctan2(y, x)


def triangle(phase: Plane) -> Plane:
    """Triangle wave of period 1 between 0 and 1."""
    return np.abs(phase - np.floor(phase) - np.float32(0.5)) * 2


def _star(x: Plane, y: Plane, points: float) -> Plane:
    radius, angle = polar(x, y)
    return (radius - 0.42 - 0.6 * triangle(angle * (points / TAU))) * 0.6


def _polygon(x: Plane, y: Plane, corners: float) -> Plane:
    radius, angle = polar(x, y)
    step = TAU / corners
    folded = np.mod(angle + step / 2, step) - step / 2
    return radius * np.cos(folded) - np.float32(0.95 * np.cos(np.pi / corners))


def _flower(x: Plane, y: Plane, petals: float) -> Plane:
    radius, angle = polar(x, y)
    return (radius - 0.55 - 0.42 * np.abs(np.cos(angle * (petals / 2)))) * 0.7


def _gear(x: Plane, y: Plane, teeth: float) -> Plane:
    radius, angle = polar(x, y)
    return radius - 0.78 - 0.17 * np.clip(3 * np.sin(angle * teeth), -1, 1)


def _ring(x: Plane, y: Plane, hole: float) -> Plane:
    radius = np.hypot(x, y)
    return np.maximum(radius - 0.95, hole - radius)


def _crescent(x: Plane, y: Plane, shift: float) -> Plane:
    return np.maximum(np.hypot(x, y) - 0.95, 0.8 - np.hypot(x - shift, y))


def _cross(x: Plane, y: Plane, arm: float) -> Plane:
    across, along = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(across - arm, along - 0.95), np.maximum(across - 0.95, along - arm))


def _ellipse(x: Plane, y: Plane, aspect: float) -> Plane:
    return (np.hypot(x, y / aspect) - 0.98) * np.float32(aspect**0.5)


def _drop(x: Plane, y: Plane, point: float) -> Plane:
    inside = np.clip(1 - y * y, 0, 1)
    width = 0.85 * np.sqrt(inside) * np.power(np.clip((1 + y) / 2, 1e-3, 1), np.float32(point))
    return np.maximum(np.abs(x) - width, np.abs(y) - 0.98)


def _dumbbell(x: Plane, y: Plane, waist: float) -> Plane:
    across = np.abs(x)
    return np.minimum(np.hypot(across - 0.55, y) - 0.43, np.maximum(across - 0.55, np.abs(y) - waist))


def _arrow(x: Plane, y: Plane, length: float) -> Plane:
    side = (np.abs(y) * length + (x - 0.95) * 0.8) / np.float32(np.hypot(length, 0.8))
    tip = np.maximum(side, 0.95 - length - x)
    shaft = np.maximum(np.abs(y) - 0.24, np.maximum(-0.95 - x, x - 0.5))
    return np.minimum(tip, shaft)


_LETTERS = ("100100111", "111010010", "101101111", "110010011")  # L, T, U, Z on a 3 × 3 board


def _letter(x: Plane, y: Plane, which: float) -> Plane:
    cells = [i for i, cell in enumerate(_LETTERS[int(which)]) if cell == "1"]
    boxes = [
        np.maximum(np.abs(x - (i % 3 - 1) * 0.62), np.abs(y - (i // 3 - 1) * 0.62)) - np.float32(0.33)
        for i in cells
    ]
    return np.minimum.reduce(boxes)


# function, name of each variant and its parameter; variants from slender to full
SHAPES: tuple[tuple[Callable[[Plane, Plane, float], Plane], tuple[tuple[str, float], ...]], ...] = (
    (_star, (("four-pointed star", 4), ("five-pointed star", 5), ("six-pointed star", 6),
             ("eight-pointed star", 8))),
    (_polygon, (("triangle", 3), ("square", 4), ("pentagon", 5), ("octagon", 8))),
    (_flower, (("trefoil", 3), ("quatrefoil", 4), ("cinquefoil", 5), ("seven-petalled rosette", 7))),
    (_gear, (("six-toothed gear", 6), ("eight-toothed gear", 8), ("eleven-toothed gear", 11),
             ("fine gear", 15))),
    (_ring, (("slender hoop", 0.72), ("hoop", 0.55), ("ring", 0.38), ("eyelet", 0.22))),
    (_crescent, (("thin crescent", 0.28), ("crescent", 0.44), ("half moon", 0.62), ("gibbous moon", 0.82))),
    (_cross, (("fine cross", 0.16), ("cross", 0.28), ("stout cross", 0.41), ("block cross", 0.56))),
    (_ellipse, (("spindle", 0.4), ("ellipse", 0.57), ("oval", 0.76), ("disc", 1.0))),
    (_drop, (("flame", 1.7), ("teardrop", 1.0), ("drop", 0.55), ("egg", 0.2))),
    (_dumbbell, (("bow tie", 0.08), ("dumbbell", 0.18), ("bone", 0.28), ("capsule", 0.4))),
    (_arrow, (("broad arrow", 0.5), ("arrow", 0.8), ("dart", 1.15), ("kite", 1.6))),
    (_letter, (("letter L", 0), ("letter T", 1), ("letter U", 2), ("letter Z", 3))),
)  # fmt: skip


def shape(family: int, variant: int, x: Plane, y: Plane) -> Plane:
    """Implicit function of a shape of the vocabulary: below 0 inside, about the distance to the edge."""
    function, variants = SHAPES[family]
    return function(x, y, variants[variant][1])


def blob(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    """A shape of no class: a closed curve of random Fourier terms."""
    radius, angle = polar(x, y)
    edge = np.full_like(radius, 0.62)
    for order in range(1, 6):
        amplitude, phase = rng.uniform(-0.32, 0.32) / order**0.5, rng.uniform(0, 6.283)
        edge += np.float32(amplitude) * np.cos(np.float32(order) * angle + np.float32(phase))
    return (radius - edge) * 0.6


def _wave(phase: Plane) -> Plane:
    """A rounded square wave of period 1, between 0 and 1."""
    return np.clip(0.5 + 1.6 * np.sin(TAU * phase), 0, 1)


def _stripes(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    return _wave(u * f)


def _checks(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    return np.clip(0.5 + 2 * np.sin(TAU * u * (f / 2)) * np.sin(TAU * v * (f / 2)), 0, 1)


def _dots(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    distance = np.hypot(triangle(u * f), triangle(v * f))
    return np.clip(3.2 - 4.2 * distance, 0, 1)


def _rings(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    return _wave(np.hypot(u, v) * f)


def _spokes(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    return _wave(np.arctan2(v, u) * np.float32(round(2.2 * f) / TAU))


def _waves(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    return _wave((u + 0.16 * np.sin(TAU * v)) * f)


def _blotches(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    span = float(np.hypot(u[-1, 0] - u[0, 0], v[-1, 0] - v[0, 0]))  # the picture's height in object lengths
    return np.clip((smooth_noise(u.shape, max(3, round(0.8 * span * f)), rng) - 0.5) * 5 + 0.5, 0, 1)


def _bricks(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    row = np.floor(v * f)
    shifted = u * (f / 2) + 0.5 * np.mod(row, 2)
    gap = np.minimum(1 - triangle(v * f), (1 - triangle(shifted)) * 2)
    return np.clip((0.42 - gap) * 6, 0, 1)


def _hatch(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    line = np.maximum(triangle((u + v) * (f * 0.7)), triangle((u - v) * (f * 0.7)))
    return np.clip((line - 0.74) * 7, 0, 1)


def _sectors(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    swirl = np.arctan2(v, u) * np.float32(1 / TAU) + np.hypot(u, v) * np.float32(0.16 * f)
    return _wave(swirl * 2)


def _scales(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    row = np.floor(v * f)
    across = (1 - triangle(u * (f * 0.6) + 0.5 * np.mod(row, 2))) * 1.1
    return np.clip((np.hypot(across, v * f - row) - 0.62) * 4, 0, 1)


def _zigzag(u: Plane, v: Plane, f: float, rng: np.random.Generator) -> Plane:
    return _wave((u + 0.3 * triangle(v * 2.0)) * f)


_FREQUENCIES = (1.5, 2.2, 3.2, 4.6)
TEXTURES: tuple[tuple[Callable[[Plane, Plane, float, np.random.Generator], Plane], tuple[str, ...]], ...] = (
    (_stripes, ("broad-banded", "banded", "striped", "pin-striped")),
    (_checks, ("quartered", "chequered", "checked", "gingham")),
    (_dots, ("big-spotted", "spotted", "dotted", "speckled")),
    (_rings, ("haloed", "ringed", "circled", "grooved")),
    (_spokes, ("cleft", "spoked", "rayed", "pleated")),
    (_waves, ("swaying", "wavy", "rippled", "crinkled")),
    (_blotches, ("pied", "blotched", "mottled", "marbled")),
    (_bricks, ("slabbed", "blocked", "bricked", "tiled")),
    (_hatch, ("lozenged", "latticed", "hatched", "meshed")),
    (_sectors, ("turned", "twisted", "swirled", "spiralled")),
    (_scales, ("shingled", "scaled", "feathered", "fine-scaled")),
    (_zigzag, ("jagged", "zigzag", "herringbone", "tweed")),
)


def texture(family: int, variant: int, u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    """Share of the accent colour per pixel; the frequency of each variant jitters, the phase is free."""
    frequency = _FREQUENCIES[variant] * rng.uniform(0.93, 1.07)
    du, dv = rng.uniform(-0.05, 0.05, 2) if family in (3, 4, 9) else rng.uniform(-1, 1, 2)
    return TEXTURES[family][0](u + np.float32(du), v + np.float32(dv), frequency, rng)


def smooth_noise(size: tuple[int, ...], cells: int, rng: np.random.Generator) -> Plane:
    """Value noise in 0..1 with about `cells` cells along each side of the picture `size` = (H, W)."""
    height, width = size
    grid = rng.integers(0, 256, (cells, max(2, round(cells * width / height))), dtype=np.uint8)
    image = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32) / np.float32(255)
