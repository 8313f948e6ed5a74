"""RandAugment (Cubuk et al. 2020) on uint8 pixels: torchvision's operations and sampling, but quicker."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from smelt.data.config import RandAugmentSettings
from smelt.data.decode import Pixels

BINS = 31
OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color",
    "contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize",
)  # fmt: skip
_SIGNED = OPERATIONS[1:10]


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
        return 8.0 - float(np.round(magnitude / ((BINS - 1) / 4)))
    return 255.0 * (1.0 - part) if operation == "solarize" else 0.0


def randaugment(pixels_HW3: Pixels, settings: RandAugmentSettings, numbers: NDArray[np.float64]) -> Pixels:
    """Apply `num_ops` operations; numbers: two uniform ones per operation (which one, its sign)."""
    height, width = pixels_HW3.shape[:2]
    for step in range(settings.num_ops):
        operation = OPERATIONS[int(numbers[2 * step] * len(OPERATIONS))]
        value = strength(operation, settings.magnitude, width, height)
        if operation in _SIGNED and numbers[2 * step + 1] < 0.5:
            value = -value
        pixels_HW3 = apply(pixels_HW3, operation, value)
    return pixels_HW3


def apply(pixels_HW3: Pixels, operation: str, value: float) -> Pixels:
    """One operation of strength `value` (signed) on uint8 (H, W, 3); returns new pixels."""
    if operation == "identity":
        return pixels_HW3
    image = Image.fromarray(np.ascontiguousarray(pixels_HW3))
    return np.asarray(_apply_pillow(image, operation, value))


def _apply_pillow(image: Image.Image, operation: str, value: float) -> Image.Image:
    if operation in ("shear_x", "shear_y", "translate_x", "translate_y"):
        matrix = {
            "shear_x": (1.0, value, 0.0, 0.0, 1.0, 0.0),
            "shear_y": (1.0, 0.0, 0.0, value, 1.0, 0.0),
            "translate_x": (1.0, 0.0, -float(int(value)), 0.0, 1.0, 0.0),
            "translate_y": (1.0, 0.0, 0.0, 0.0, 1.0, -float(int(value))),
        }[operation]
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
    if operation == "rotate":
        return image.rotate(value, Image.Resampling.NEAREST)
    if operation == "posterize":
        return ImageOps.posterize(image, int(value))
    if operation == "solarize":
        return ImageOps.solarize(image, math.ceil(value))
    if operation == "auto_contrast":
        return ImageOps.autocontrast(image)
    if operation == "equalize":
        return ImageOps.equalize(image)
    enhancer = {
        "brightness": ImageEnhance.Brightness,
        "color": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "sharpness": ImageEnhance.Sharpness,
    }[operation]
    return enhancer(image).enhance(1.0 + value)
