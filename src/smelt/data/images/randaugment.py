"""RandAugment (Cubuk et al. 2020) on uint8 pixels: torchvision's operations and sampling, but quicker.

Every operation gives torchvision's result (its Pillow path, zero fill, nearest neighbour) within one grey
level; those that move pixels give it exactly. What makes it quick: one pass of float32 arithmetic over whole
rows where torchvision builds images to blend, rows copied where it looks up pixels, sums of shifted rows
where it runs a filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smelt.data.config import RandAugmentSettings
from smelt.data.images.decode import Pixels

BINS = 31  # magnitudes 0..30
_LUMA = np.array([19595, 38470, 7471]) / 65536.0  # ITU-R 601-2 in the fixed point that Pillow uses


def strength(operation: str, magnitude: int, width: int, height: int) -> float:
    """What magnitude 0..30 means for an operation, in its own unit, without sign."""
    part = magnitude / (BINS - 1)
    if operation in ("shear_x", "shear_y"):
        return 0.3 * part
    if operation in ("translate_x", "translate_y"):
        return 150.0 / 331.0 * (width if operation == "translate_x" else height) * part
    if operation == "rotate":
        return 30.0 * part
    if operation in ("brightness", "color", "contrast", "sharpness"):
        return 0.9 * part
    if operation == "posterize":
        return 8.0 - round(magnitude / ((BINS - 1) / 4))
    return 255.0 * (1.0 - part) if operation == "solarize" else 0.0


def randaugment(pixels_HW3: Pixels, settings: RandAugmentSettings, numbers: NDArray[np.float64]) -> Pixels:
    """Apply `num_ops` operations; numbers: two uniform ones per operation (which one, its sign)."""
    height, width = pixels_HW3.shape[:2]
    for step in range(settings.num_ops):
        operation = OPERATIONS[int(numbers[2 * step] * len(OPERATIONS))]
        value = strength(operation, settings.magnitude, width, height)
        if operation in SIGNED and numbers[2 * step + 1] < 0.5:
            value = -value
        pixels_HW3 = apply(pixels_HW3, operation, value)
    return pixels_HW3


def apply(pixels_HW3: Pixels, operation: str, value: float) -> Pixels:
    """One operation of strength `value` (signed, in its own unit) on uint8 (H, W, 3)."""
    return _FUNCTIONS[operation](np.ascontiguousarray(pixels_HW3), value)


def _shear_x(pixels_HW3: Pixels, value: float) -> Pixels:
    """Row y moves by a whole number of pixels, in Pillow's 16.16 fixed point: a copy of each row."""
    height, width, _ = pixels_HW3.shape
    step, first = math.floor(value * 65536.0 + 0.5), math.floor((0.5 + 0.5 * value) * 65536.0 + 0.5)
    shift_H = ((first + step * np.arange(height)) >> 16).clip(-width, width)
    pad = int(np.abs(shift_H).max())
    padded = np.zeros((height, width + 2 * pad, 3), np.uint8)
    padded[:, pad : pad + width] = pixels_HW3
    windows = np.lib.stride_tricks.as_strided(
        padded, (height, 2 * pad + 1, 3 * width), (padded.strides[0], 3, 1), writeable=False
    )
    moved: Pixels = windows[np.arange(height), shift_H + pad].reshape(pixels_HW3.shape)
    return moved


def _shear_y(pixels_HW3: Pixels, value: float) -> Pixels:
    image = Image.fromarray(pixels_HW3)
    matrix = (1.0, 0.0, 0.0, value, 1.0, 0.0)
    return np.asarray(image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST))


def _translate_x(pixels_HW3: Pixels, value: float) -> Pixels:
    return shifted(pixels_HW3, 0, int(value))


def _translate_y(pixels_HW3: Pixels, value: float) -> Pixels:
    return shifted(pixels_HW3, int(value), 0)


def shifted(pixels_HW3: Pixels, down: int, right: int) -> Pixels:
    """The image moved by whole pixels; what comes in is zero."""
    height, width = pixels_HW3.shape[:2]
    down, right = min(max(down, -height), height), min(max(right, -width), width)
    moved = np.zeros_like(pixels_HW3)
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = pixels_HW3[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return moved


def _rotate(pixels_HW3: Pixels, value: float) -> Pixels:
    return np.asarray(Image.fromarray(pixels_HW3).rotate(value, Image.Resampling.NEAREST))


def _brightness(pixels_HW3: Pixels, value: float) -> Pixels:
    return _quantised(np.multiply(pixels_HW3, np.float32(1.0 + value), dtype=np.float32))


def _color(pixels_HW3: Pixels, value: float) -> Pixels:
    image = Image.fromarray(pixels_HW3)
    return np.asarray(Image.blend(image.convert("L").convert("RGB"), image, 1.0 + value))


def _contrast(pixels_HW3: Pixels, value: float) -> Pixels:
    """Blend with the mean grey."""
    height, width, _ = pixels_HW3.shape
    sums_3 = pixels_HW3.reshape(height, -1).sum(0, dtype=np.uint32).reshape(-1, 3).sum(0, dtype=np.int64)
    mean = math.floor(float(sums_3 @ _LUMA) / (height * width) + 0.5)
    scaled = np.multiply(pixels_HW3, np.float32(1.0 + value), dtype=np.float32)
    scaled -= np.float32(mean * value)
    return _quantised(scaled)


def _sharpness(pixels_HW3: Pixels, value: float) -> Pixels:
    """Blend with a smooth image (3×3 ones, 5 in the middle, over 13); the outermost pixels stay."""
    height, width, _ = pixels_HW3.shape
    if height < 3 or width < 3:
        return pixels_HW3
    rows = pixels_HW3.reshape(height, 3 * width).astype(np.uint16)
    sums = rows[:, :-6] + rows[:, 3:-3]
    sums += rows[:, 6:]
    box = sums[:-2] + sums[1:-1]
    box += sums[2:]
    box += rows[1:-1, 3:-3] << 2
    blended = np.multiply(box, np.float32(-value / 13.0), dtype=np.float32)
    blended += np.multiply(rows[1:-1, 3:-3], np.float32(1.0 + value), dtype=np.float32)
    sharp = pixels_HW3.copy()
    sharp.reshape(height, 3 * width)[1:-1, 3:-3] = _quantised(blended)
    return sharp


def _posterize(pixels_HW3: Pixels, value: float) -> Pixels:
    return pixels_HW3 & np.uint8(0xFF & ~(2 ** (8 - int(value)) - 1))


def _solarize(pixels_HW3: Pixels, value: float) -> Pixels:
    """Invert what is at or above the threshold: exclusive-or with all ones is 255 − x."""
    bright = pixels_HW3 >= np.uint8(math.ceil(value))
    return pixels_HW3 ^ -bright.view(np.uint8)


def _auto_contrast(pixels_HW3: Pixels, _: float) -> Pixels:
    """Stretch each channel to 0..255."""
    rows = pixels_HW3.reshape(pixels_HW3.shape[0], -1)
    low_3 = rows.min(0).reshape(-1, 3).min(0).astype(np.float64)
    high_3 = rows.max(0).reshape(-1, 3).max(0).astype(np.float64)
    gain_3 = np.where(high_3 > low_3, 255.0 / np.maximum(high_3 - low_3, 1.0), 1.0)
    offset_3 = np.where(high_3 > low_3, -low_3 * gain_3, 0.0)
    repeats = pixels_HW3.shape[1]
    stretched = np.multiply(rows, np.tile(gain_3.astype(np.float32), repeats), dtype=np.float32)
    # 2^-10: what is whole in exact arithmetic must not be cut down to the level below
    stretched += np.tile((offset_3 + 2.0**-10).astype(np.float32), repeats)
    return _quantised(stretched).reshape(pixels_HW3.shape)


def _equalize(pixels_HW3: Pixels, _: float) -> Pixels:
    """Flatten the histogram of each channel, by Pillow's formula."""
    image = Image.fromarray(pixels_HW3)
    counts_CK = np.array(image.histogram()).reshape(3, 256)
    last_C = np.array([counts[np.flatnonzero(counts)[-1]] for counts in counts_CK])
    step_C = (counts_CK.sum(1) - last_C) // 255
    before_CK = counts_CK.cumsum(1) - counts_CK
    table_CK = (step_C[:, None] // 2 + before_CK) // np.maximum(step_C, 1)[:, None]
    table_CK[step_C == 0] = np.arange(256)
    table = table_CK.clip(max=255).ravel().tolist()
    # `Image.point` would first round each of the 768 entries in Python
    return np.asarray(image._new(image.im.point(table, None)))


def _quantised(values: NDArray[np.float32]) -> Pixels:
    """Cut to 0..255 and to whole numbers; the array is changed."""
    return np.clip(values, 0.0, 255.0, out=values).astype(np.uint8)


_FUNCTIONS: dict[str, Callable[[Pixels, float], Pixels]] = {  # in the order that numbers choose them
    "identity": lambda pixels_HW3, _: pixels_HW3,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
}
OPERATIONS = tuple(_FUNCTIONS)
SIGNED = OPERATIONS[1:10]
