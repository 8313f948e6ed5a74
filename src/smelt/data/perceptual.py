"""A 64-bit perceptual hash and the finer comparison that confirms what two near hashes suggest.

The hash is the sign of the 64 lowest frequencies (the constant left out) of a discrete cosine transform of
the picture shrunk to 32 × 32 luma, as in pHash (Zauner 2010, §3.2.1), but against zero instead of the median.
Signs against zero make the hash of the mirrored picture a known flip of bits: see `mirrored`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 32  # side of the luma thumbnail
BLANK = 0  # hash of a picture without structure: never joined by hash, see `duplicates.join_near`
# RMS of the 64 frequencies in grey levels per pixel, below which signs are those of the coding noise
BLANK_LEVEL = 0.5

Box = tuple[float, float, float, float]


@cache
def _frequencies() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The 64 lowest (vertical, horizontal) frequencies, lowest first, the constant left out."""
    side = range(12)
    order = sorted(((v, h) for v in side for h in side), key=lambda f: (f[0] ** 2 + f[1] ** 2, f[0]))
    vertical, horizontal = np.array(order[1:65]).T
    return vertical, horizontal


@cache
def _cosines(size: int, count: int = 12) -> NDArray[np.float32]:
    """The first `count` rows of the orthonormal DCT-II matrix of `size` points, (count, size)."""
    points = (np.arange(size) + 0.5) * np.pi / size
    rows = np.cos(np.arange(count)[:, None] * points) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, dtype=np.float32)


def luma(pixels_HW3: NDArray[np.uint8]) -> Image.Image:
    """The picture as a grey image; (H, W) and (H, W, 1) are taken as grey already."""
    if pixels_HW3.ndim == 3 and pixels_HW3.shape[2] == 1:
        pixels_HW3 = pixels_HW3[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(pixels_HW3))
    return image if image.mode == "L" else image.convert("L")


def thumbnail(grey: Image.Image, box: Box | None = None, size: int = SIZE) -> NDArray[np.float32]:
    """`box` (left, top, right, bottom; all of it for None) shrunk, antialiased, to (size, size) luma."""
    small = grey.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return np.asarray(small, dtype=np.float32)


def hash_thumbnail(luma_SS: NDArray[np.float32]) -> int:
    """The 64-bit hash of a (32, 32) luma thumbnail; `BLANK` where it has no structure."""
    cosines = _cosines(SIZE)
    spectrum = (cosines @ luma_SS @ cosines.T)[_frequencies()]
    if float(np.sqrt(np.mean(spectrum**2))) * 8 / SIZE < BLANK_LEVEL:
        return BLANK
    return int(np.packbits(spectrum > 0).view(">u8")[0])


def perceptual_hash(pixels_HW3: NDArray[np.uint8]) -> int:
    """The 64-bit perceptual hash of a picture of any size, `BLANK` (0) where it has no structure."""
    return hash_thumbnail(thumbnail(luma(pixels_HW3)))


def mirrored(hashes_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes of the left-right mirrored pictures: the odd horizontal frequencies change sign."""
    flip = np.packbits(_frequencies()[1] % 2 == 1).view(">u8")[0]
    return np.where(hashes_N == BLANK, hashes_N, hashes_N ^ np.uint64(flip)).astype(np.uint64)
