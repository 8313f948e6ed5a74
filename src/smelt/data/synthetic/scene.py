"""Draws one photo-like picture: a lit, textured object before a cluttered background, seen by a poor camera.

All arrays are float32 in 0..1 up to the JPEG. What is drawn depends on the generator alone, so that a picture
is the same whoever draws it, in whatever order.
"""

# numpy's ufuncs are typed as returning Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import colorsys
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from smelt.data.synthetic.config import SyntheticSettings
from smelt.data.synthetic.looks import ACCENTS, ClassTable, Look
from smelt.data.synthetic.shapes import Plane, blob, shape, smooth_noise, texture

Pixels = NDArray[Any]  # float32 (3, H, W): planes, for numpy is slow where the last axis is short
Colour = NDArray[np.float32]  # (3,)
Rng = np.random.Generator


def draw(look: Look | None, table: ClassTable, settings: SyntheticSettings, rng: Rng) -> Image.Image:
    """A picture of `look`, or of something that is of no class where `look` is None."""
    x, y, pixel = _grid(settings, rng)
    scene = _background(x, y, rng)
    for _ in range(rng.integers(0, 4)):
        _clutter(scene, x, y, pixel, table, rng)
    if look is not None:
        _object(scene, x, y, pixel, look, rng)
    else:
        _stranger(scene, x, y, pixel, rng)
    if rng.random() < 0.3:
        _occluder(scene, x, y, pixel, rng)
    return _camera(scene, x, y, rng)


def jpeg(image: Image.Image, rng: Rng) -> bytes:
    """The picture as JPEG of a quality between 45 and 93."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(45, 94)))
    return buffer.getvalue()


def _grid(settings: SyntheticSettings, rng: Rng) -> tuple[Plane, Plane, float]:
    """Coordinates, the shorter side spanning −1..1, and the size of a pixel in them."""
    low, high = settings.min_side, settings.max_side
    sides = [int(rng.integers(low, high + 1))]
    sides.append(int(np.clip(round(sides[0] * rng.uniform(1.0, 1.5)), low, high)))
    height, width = sides if rng.random() < 0.3 else sides[::-1]
    pixel = 2 / min(sides)
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * pixel
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) * pixel
    grid = np.meshgrid(x, y)
    return grid[0], grid[1], pixel


def _colour(hue: float, saturation: float, value: float) -> Colour:
    return np.array(colorsys.hsv_to_rgb(hue % 1, min(saturation, 1.0), min(value, 1.0)), dtype=np.float32)


def _any_colour(rng: Rng, saturation: float = 0.6) -> Colour:
    return _colour(rng.random(), rng.uniform(0, saturation), rng.uniform(0.15, 0.95))


def _mix(low: Colour, high: Colour, share: Plane) -> Pixels:
    """Two colours mixed pixel by pixel."""
    return low[:, None, None] + (high - low)[:, None, None] * share


def _paint(scene: Pixels, colour: Pixels, alpha: Plane) -> None:
    scene += (colour - scene) * alpha


def _alpha(inside: Plane, pixel: float, softness: float = 1.0) -> Plane:
    """Coverage of each pixel by what is below 0; the edge is `softness` pixels wide."""
    return np.clip(0.5 - inside * (1 / (pixel * softness)), 0, 1)


def _background(x: Plane, y: Plane, rng: Rng) -> Pixels:
    """A wall, a floor with a horizon, a cloud of colours or something striped; never flat."""
    kind = rng.integers(0, 4)
    low, high = _any_colour(rng), _any_colour(rng)
    noise = smooth_noise(x.shape, int(rng.integers(2, 7)), rng)
    if kind == 0:  # cloud of colours
        share = noise
    elif kind == 1:  # floor and wall
        horizon = rng.uniform(-0.3, 0.7)
        share = np.clip((y - horizon + 0.1 * (noise - 0.5)) * rng.uniform(6, 30) + 0.5, 0, 1)
    elif kind == 2:  # planks, cloth, fences
        turn, f = rng.uniform(0, 3.14), rng.uniform(1.0, 5.0)
        share = np.sin((x * np.cos(turn) + y * np.sin(turn)) * np.float32(6.28 * f) + noise * 3) * 0.5 + 0.5
        share = share * np.float32(rng.uniform(0.3, 1))
    else:  # studio: a gradient
        share = np.clip(
            0.5 + 0.4 * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)) + 0.2 * (noise - 0.5), 0, 1
        )
    scene = _mix(low, high, share.astype(np.float32))
    grain = smooth_noise(x.shape, int(rng.integers(14, 40)), rng) - np.float32(0.5)
    scene += grain * np.float32(rng.uniform(0.05, 0.35))
    return scene


def _place(
    x: Plane, y: Plane, centre: tuple[float, float], size: float, turn: float, shear: float
) -> tuple[Plane, Plane]:
    """Object coordinates (u, v) of every pixel: moved, scaled, turned, sheared."""
    cos, sin = np.cos(turn) / size, np.sin(turn) / size
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    u = dx * np.float32(cos) + dy * np.float32(sin)
    v = dy * np.float32(cos) - dx * np.float32(sin)
    return u + v * np.float32(shear), v


def _clutter(scene: Pixels, x: Plane, y: Plane, pixel: float, table: ClassTable, rng: Rng) -> None:
    """A small thing at the side, in any shape, texture and colour of the vocabulary."""
    look = table.looks[rng.integers(len(table.looks))]
    other = table.looks[rng.integers(len(table.looks))]
    size = rng.uniform(0.12, 0.32)
    around = rng.uniform(0, 6.283)
    reach = float(np.abs(x[0, 0])), float(np.abs(y[0, 0]))
    centre = reach[0] * np.cos(around) * rng.uniform(0.6, 1), reach[1] * np.sin(around) * rng.uniform(0.6, 1)
    window = tuple(
        slice(*np.searchsorted(axis, (middle - 1.4 * size, middle + 1.4 * size)))
        for axis, middle in ((y[:, 0], centre[1]), (x[0], centre[0]))
    )
    u, v = _place(x[window], y[window], centre, size, rng.uniform(-3.14, 3.14), 0.0)
    alpha = _alpha(shape(look.shape, look.shape_variant, u, v) * np.float32(size), pixel, rng.uniform(1, 4))
    share = texture(other.texture, other.texture_variant, u, v, rng)
    _paint(scene[:, *window], _mix(_any_colour(rng, 0.9), _any_colour(rng, 0.9), share), alpha)


def _object(scene: Pixels, x: Plane, y: Plane, pixel: float, look: Look, rng: Rng) -> None:
    """The thing the picture is of."""
    size, centre = rng.uniform(0.6, 0.92), (rng.uniform(-0.22, 0.22), rng.uniform(-0.18, 0.18))
    u, v = _place(x, y, centre, size, rng.uniform(-0.4, 0.4), rng.uniform(-0.15, 0.15))
    inside = shape(look.shape, look.shape_variant, u, v) * np.float32(size)
    share = texture(
        look.texture, look.texture_variant, *_place(u, v, (0, 0), 1, rng.uniform(-0.3, 0.3), 0), rng
    )
    hue = look.colour / 12 + rng.normal(0, 0.015)
    main = _colour(hue, rng.uniform(0.55, 0.9), rng.uniform(0.55, 0.95))
    accent = _colour(
        hue + ACCENTS[look.accent] / 360 + rng.normal(0, 0.015), rng.uniform(0.5, 0.9), rng.uniform(0.5, 0.95)
    )
    _solid(scene, inside, _mix(main, accent, share), u, v, pixel, rng)


def _solid(scene: Pixels, inside: Plane, paint: Pixels, u: Plane, v: Plane, pixel: float, rng: Rng) -> None:
    """Paint with a shadow beside it and light from one side."""
    angle, drop = rng.uniform(0, 6.283), rng.uniform(0.03, 0.14)
    dx, dy = np.cos(angle), np.sin(angle)
    shift = round(drop * dy / pixel), round(drop * dx / pixel)
    shadow = _alpha(np.roll(inside, shift, (0, 1)), pixel, rng.uniform(4, 12))
    scene *= 1 - np.float32(rng.uniform(0.2, 0.7)) * shadow
    light = 1 - np.float32(rng.uniform(0.1, 0.4)) * (u * np.float32(dx) + v * np.float32(dy))
    bevel = np.clip(-inside * np.float32(1 / rng.uniform(0.05, 0.25)), 0, 1)
    light *= np.float32(0.6) + np.float32(0.4) * bevel
    _paint(scene, paint * light, _alpha(inside, pixel, rng.uniform(1, 2)))


def _stranger(scene: Pixels, x: Plane, y: Plane, pixel: float, rng: Rng) -> None:
    """Something of no class: a blob, a crowd of them, a page of lines or nothing at all."""
    kind = rng.integers(0, 4)
    if kind <= 1:
        for _ in range(1 if kind == 0 else rng.integers(3, 9)):
            size = rng.uniform(0.5, 0.9) if kind == 0 else rng.uniform(0.15, 0.4)
            reach = 0.3 if kind == 0 else 0.9
            centre = rng.uniform(-reach, reach), rng.uniform(-reach, reach)
            u, v = _place(x, y, centre, size, rng.uniform(-3.14, 3.14), rng.uniform(-0.3, 0.3))
            inside = blob(u, v, rng) * np.float32(size)
            share = smooth_noise(x.shape, int(rng.integers(4, 24)), rng)
            share = np.clip((share - 0.5) * np.float32(rng.uniform(1, 6)) + 0.5, 0, 1)
            _solid(scene, inside, _mix(_any_colour(rng, 0.9), _any_colour(rng, 0.9), share), u, v, pixel, rng)
    elif kind == 2:
        _page(scene, rng)


def _page(scene: Pixels, rng: Rng) -> None:
    """A scan: lines of 'text' and a box on paper, as crawled images often are."""
    height, width = scene.shape[1:]
    scene[:] = _colour(rng.random(), rng.uniform(0, 0.15), rng.uniform(0.75, 1))[:, None, None]
    ink = _colour(rng.random(), rng.uniform(0, 0.7), rng.uniform(0.05, 0.4))
    pitch, left = int(rng.integers(5, 11)), int(rng.integers(2, width // 6 + 3))
    for top in range(int(rng.integers(3, 12)), height - pitch, pitch):
        marks = np.repeat(rng.random(width // 2 + 1) < 0.62, 2)[:width].copy()
        marks[:left], marks[int(rng.integers(width // 2, width)) :] = False, False
        scene[:, top : top + max(1, pitch // 2), marks] = ink[:, None, None]
    if rng.random() < 0.6:
        top, side = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
        scene[:, top : top + height // 3, side : side + width // 3] = _any_colour(rng, 0.9)[:, None, None]


def _occluder(scene: Pixels, x: Plane, y: Plane, pixel: float, rng: Rng) -> None:
    """A twig, a bar or a corner in front of everything."""
    turn, width = rng.uniform(0, 3.14), rng.uniform(0.03, 0.12)
    across = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn)) - np.float32(rng.uniform(-0.7, 0.7))
    bend = np.float32(rng.uniform(-0.3, 0.3)) * (x * x + y * y)
    alpha = _alpha(np.abs(across + bend) - np.float32(width), pixel, rng.uniform(1, 4))
    _paint(scene, _any_colour(rng)[:, None, None], alpha)


def _camera(scene: Pixels, x: Plane, y: Plane, rng: Rng) -> Image.Image:
    """Light, white balance, vignette, exposure, blur, grain; in the end 8 bits."""
    turn = rng.uniform(0, 6.283)
    side = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    light = np.float32(rng.uniform(0.7, 1.2)) * (1 + np.float32(rng.uniform(0, 0.35)) * side)
    light *= 1 - np.float32(rng.uniform(0, 0.25)) * (x * x + y * y)
    scene *= light
    scene *= rng.normal(255, 18, 3).astype(np.float32)[:, None, None]
    if rng.random() < 0.02:  # black and white
        scene[:] = scene.mean(axis=0)
    np.clip(scene, 0, 255, out=scene)
    image = Image.fromarray(np.ascontiguousarray(scene.astype(np.uint8).transpose(1, 2, 0)))
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3)))
    noisy = np.asarray(image, dtype=np.float32)
    grain = rng.standard_normal(noisy.shape, dtype=np.float32) * np.float32(255 * rng.uniform(0.005, 0.045))
    return Image.fromarray(np.clip(noisy + grain, 0, 255).astype(np.uint8))
