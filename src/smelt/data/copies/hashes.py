"""64-bit perceptual hashes: of a picture, of its mirror image, unframed, of parts of it, turned.

A hash is the signs of the 64 lowest frequencies (the constant left out) of a discrete cosine transform of
the picture shrunk to 64 × 64 luma, as in pHash (Zauner 2010, §3.2.1), but against zero instead of the median.
So the hash of the mirrored picture is a known flip of bits: see `mirrored`.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 64  # side of the luma thumbnail
BLANK = 0  # hash of a picture without structure: never joined by hash, see `pairs`
# RMS of the 64 frequencies in grey levels, below which their signs are those of the coding noise
BLANK_LEVEL = 0.5
NOTHING = 0.01  # a frequency up to this is one that is not there: rounding must not decide its sign
FREQUENCIES = 12

# A frame is a strip whose pixels are within FLAT grey levels of one value, but for a few from coding, and
# that ends in a hard step: a soft sky or a white background must not be trimmed, its end is not stable
FLAT, FLAT_SHARE, STEP = 16, 0.95, 12
MOST_TRIMMED = 0.3  # of a side's length, at each end

Box = tuple[float, float, float, float]

# Windows of the picture (left, top, right, bottom) that copies cut from it are likely to show
CROPS: tuple[Box, ...] = (
    (0.025, 0.025, 0.975, 0.975),
    (0.05, 0.05, 0.95, 0.95),
    (0.0, 0.0, 0.92, 0.92),
    (0.08, 0.0, 1.0, 0.92),
    (0.0, 0.08, 0.92, 1.0),
    (0.08, 0.08, 1.0, 1.0),
)
TURNS = (-5.0, 5.0)  # degrees; a picture turned by 3 to 7 is near one of them
HASHES = 2 + len(CROPS) + len(TURNS)  # see `perceptual_hashes`


@cache
def _frequencies() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The 64 lowest (vertical, horizontal) frequencies, lowest first, the constant left out."""
    side = range(FREQUENCIES)
    order = sorted(((v, h) for v in side for h in side), key=lambda f: (f[0] ** 2 + f[1] ** 2, f[0]))
    vertical, horizontal = np.array(order[1:65]).T
    return vertical, horizontal


def _cosines(begin: float, end: float) -> NDArray[np.float32]:
    """Rows of the DCT-II over the window begin..end (of 1) of SIZE points, (FREQUENCIES, SIZE).

    A point counts by its share in the window; the rows but the first sum to nothing, so brightness does not
    leak into them, and have the length of the whole transform's.
    """
    edges = np.arange(SIZE + 1) / SIZE
    share = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin), 0, None) * SIZE
    points = (edges[:-1] + edges[1:]) / 2
    rows = share * np.cos(np.arange(FREQUENCIES)[:, None] * np.pi * (points - begin) / (end - begin))
    rows[1:] -= rows[1:].sum(axis=1, keepdims=True) * share / share.sum()
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@cache
def _windows() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vertical and horizontal cosines of the whole picture and of each of CROPS, (V, FREQUENCIES, SIZE)."""
    boxes = [(0.0, 0.0, 1.0, 1.0), *CROPS]
    vertical = np.stack([_cosines(top, bottom) for _, top, _, bottom in boxes])
    return vertical, np.stack([_cosines(left, right) for left, _, right, _ in boxes])


def luma(pixels_HW3: NDArray[np.uint8]) -> Image.Image:
    """The picture as a grey image; (H, W) and (H, W, 1) are taken as grey already."""
    if pixels_HW3.ndim == 3 and pixels_HW3.shape[2] == 1:
        pixels_HW3 = pixels_HW3[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(pixels_HW3))
    return image if image.mode == "L" else image.convert("L")


def content_box(grey: Image.Image) -> Box:
    """The picture without the plain frame around it (left, top, right, bottom); all of it without one."""
    levels = np.asarray(grey)
    top, bottom = _frame(levels), _frame(levels[::-1])
    left, right = _frame(levels.T), _frame(levels.T[::-1])
    return left, top, grey.width - right, grey.height - bottom


def _frame(levels_LW: NDArray[np.uint8]) -> int:
    """Number of lines at the start that are a plain frame."""
    most = int(len(levels_LW) * MOST_TRIMMED)
    colour = int(levels_LW[0].mean())
    if most < 1 or np.mean(np.abs(levels_LW[0].astype(np.int16) - colour) <= FLAT) < FLAT_SHARE:
        return 0
    off = np.abs(levels_LW[: most + 1].astype(np.int16) - colour)
    lines = int(np.argmin((off <= FLAT).mean(axis=1) >= FLAT_SHARE))
    if not lines:  # every line is flat
        return 0
    # coding blurs the step over a few lines
    step = off[lines : lines + 3].mean(axis=1).max() - off[max(lines - 3, 0)].mean()
    return lines if step >= STEP else 0


def thumbnail(grey: Image.Image, box: Box | None = None) -> NDArray[np.uint8]:
    """`box` of the picture, shrunk (antialiased) or stretched to (SIZE, SIZE) luma."""
    small = grey.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return np.asarray(small)


def _hashes(luma_SS: NDArray[np.uint8], windows: int = 1) -> NDArray[np.uint64]:
    """64-bit hashes of the first `windows` of (whole, *CROPS), (V,); `BLANK` where there is no structure."""
    vertical, horizontal = (side[:windows] for side in _windows())
    spectra = vertical @ luma_SS.astype(np.float32) @ horizontal.transpose(0, 2, 1)
    lowest = np.ascontiguousarray(spectra[:, *_frequencies()])
    hashes = np.packbits(lowest > NOTHING, axis=1).view(">u8")[:, 0].astype(np.uint64)
    level = np.sqrt(np.mean(lowest**2, axis=1)) * 8 / SIZE
    return np.where(level < BLANK_LEVEL, np.uint64(BLANK), hashes)


def perceptual_hashes(pixels_HW3: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes of the picture, of it unframed, of each of CROPS of it, of it turned by TURNS, (HASHES,).

    The first is of the whole picture, and the second equals it where there is no frame. `BLANK` (0) where
    there is no structure.
    """
    grey = luma(pixels_HW3)
    small = thumbnail(grey)
    hashes = _hashes(small, 1 + len(CROPS))
    box = content_box(grey)
    whole = box == (0, 0, grey.width, grey.height)
    unframed = hashes[:1] if whole else _hashes(thumbnail(grey, box))
    turned = [_hashes(_turned(small, degrees, grey.height / grey.width)) for degrees in TURNS]
    return np.concatenate([hashes[:1], unframed, hashes[1:], *turned])


def _turned(luma_SS: NDArray[np.uint8], degrees: float, aspect: float) -> NDArray[np.uint8]:
    """The picture turned about its middle; `aspect` is height over width, which the thumbnail has lost."""
    sine, cosine, middle = math.sin(math.radians(degrees)), math.cos(math.radians(degrees)), SIZE / 2
    across, down = sine * aspect, -sine / aspect
    start_x, start_y = middle * (1 - cosine - across), middle * (1 - cosine - down)
    places = (cosine, across, start_x, down, cosine, start_y)
    image = Image.fromarray(luma_SS)
    turned = image.transform(
        (SIZE, SIZE), Image.Transform.AFFINE, places, Image.Resampling.BILINEAR, fillcolor=int(luma_SS.mean())
    )
    return np.asarray(turned)


def mirrored(hashes_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes of the left-right mirrored pictures: the odd horizontal frequencies change sign."""
    flip = np.packbits(_frequencies()[1] % 2 == 1).view(">u8")[0]
    return np.where(hashes_N == BLANK, hashes_N, hashes_N ^ np.uint64(flip)).astype(np.uint64)
