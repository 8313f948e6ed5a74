"""Random augmentation that depends on (seed, epoch, row, occurrence) and on nothing else.

The random numbers of a batch come from a counter-based hash, all at once: a generator per image would cost
more than the flip that it decides. Whoever computes an image, in whatever order, sees the same numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from smelt import random
from smelt.data.config import AugmentSettings
from smelt.data.images.decode import Box, Pixels
from smelt.data.images.randaugment import shifted

CROP_TRIES = 10
CROP_DRAWS = 2 * CROP_TRIES + 2  # area and ratio of every try, then the position
FLIP_DRAW = CROP_DRAWS
OPS_DRAW = FLIP_DRAW + 1  # two per operation of RandAugment: which one, and its sign


def draws_per_image(augment: AugmentSettings) -> int:
    """How many uniform numbers one image needs."""
    return OPS_DRAW + 2 * (augment.randaugment.num_ops if augment.randaugment else 0)


def uniform(keys_B: NDArray[np.uint64], draws: int) -> NDArray[np.float64]:
    """`draws` numbers in [0, 1) for every key, shape (B, draws)."""
    numbers_BD: NDArray[np.float64] = random.uniform(
        keys_B[:, None], np.arange(1, draws + 1, dtype=np.uint64)
    )
    return numbers_BD


def batch_size_in_pixels(augment: AugmentSettings, seed: int, epoch: int, batch: int) -> int:
    """The input size of global batch `batch`, the same on every rank."""
    number = uniform(random.keys(seed, epoch, np.array([batch]), np.array([-1])), 1)[0, 0]
    return augment.sizes[int(number * len(augment.sizes))]


def random_box(
    width: int, height: int, augment: AugmentSettings, numbers: NDArray[np.float64]
) -> tuple[int, int, int, int]:
    """The box of a random resized crop (Szegedy et al. 2015), drawn as torchvision draws it.

    Ten tries of a uniform area and a log-uniform aspect ratio; the first that fits is placed uniformly;
    if none fits, the largest centre crop within the ratios.
    """
    low, high = math.log(augment.ratio[0]), math.log(augment.ratio[1])
    area, (smallest, largest) = width * height, augment.scale
    for attempt in range(CROP_TRIES):
        target = area * (smallest + (largest - smallest) * numbers[2 * attempt])
        ratio = math.exp(low + (high - low) * numbers[2 * attempt + 1])
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(numbers[2 * CROP_TRIES] * (width - w + 1))
            top = int(numbers[2 * CROP_TRIES + 1] * (height - h + 1))
            return left, top, left + w, top + h
    ratio = min(max(width / height, augment.ratio[0]), augment.ratio[1])
    w = max(min(width, round(height * ratio)), 1)
    h = max(min(height, round(width / ratio)), 1)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def view_boxes(width: int, height: int, size: int, crops: int) -> list[tuple[Box, bool]]:
    """Crops of size × size in an image of width × height ≥ size: centre, corners; then all mirrored.

    Order for 5: centre, top left, top right, bottom left, bottom right.
    """
    left, top = round((width - size) / 2), round((height - size) / 2)
    corners = [(left, top)]
    if crops > 1:
        right, bottom = width - size, height - size
        corners += [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    boxes: list[Box] = [(x, y, x + size, y + size) for x, y in corners]
    return [(box, mirrored) for mirrored in ([False, True] if crops == 10 else [False]) for box in boxes]


def pad_crop(pixels_HW3: Pixels, pad: int, numbers: NDArray[np.float64]) -> Pixels:
    """Shift the image by up to ±`pad` pixels each way; what comes in is zero (He et al. 2016, §4.2)."""
    down = int(numbers[2 * CROP_TRIES + 1] * (2 * pad + 1)) - pad
    right = int(numbers[2 * CROP_TRIES] * (2 * pad + 1)) - pad
    return shifted(pixels_HW3, down, right)
