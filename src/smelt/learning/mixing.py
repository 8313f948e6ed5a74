"""Mixed batches: mixup (Zhang et al. 2018, eq. 1 and section 3) and CutMix (Yun et al. 2019, eq. 1 and 2).

Each image of a batch is mixed with a partner out of it, and is taught as both: `share` as its own row, the
rest as the partner's. The partners of a batch are a permutation of it, share and box are the same for all of
it, as in both papers' code. Whether and how a step is mixed is the same on all ranks; partners are images of
the same rank. All of it goes by (seed, step, rank), so it is the same in any number of micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from smelt.learning.sections import MixingSettings
from smelt.random import mixed, numbered, unit

_WHETHER, _HOW, _ORDER = range(3)  # streams of numbers


@dataclass(frozen=True)
class Mix:
    """How one batch is mixed.

    partners_B: place in the batch of each image's partner. share: how much of an image is its own, 0..1. box:
    top, bottom, left, right of the pixels that are the partner's, of CutMix; None: all are mixed, by mixup.
    """

    partners_B: Tensor
    share: float
    box: tuple[int, int, int, int] | None = None

    def images(self, own: Tensor, partners: Tensor) -> Tensor:
        """Mixed float images (B, 3, H, W) in the memory format of `own`."""
        if self.box is None:
            return own.mul(self.share).add_(partners, alpha=1.0 - self.share)
        top, bottom, left, right = self.box
        found = own.clone()
        found[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        return found


class Mixer:
    """Draws how the batches of one rank are mixed."""

    def __init__(self, settings: MixingSettings, seed: int, rank: int) -> None:
        self.settings, self.seed, self.rank = settings, seed, rank

    def draw(self, step: int, images: int, height: int, width: int) -> Mix | None:
        """How a step's batch of so many images is mixed; None where it is shown as it is."""
        settings = self.settings
        whether = _numbers(self.seed, step, _WHETHER)
        if next(whether) >= settings.probability:
            return None
        both = settings.mixup > 0 and settings.cutmix > 0
        cut = next(whether) < 0.5 if both else settings.cutmix > 0
        numbers = _numbers(self.seed, step, _HOW, self.rank)
        share, box = beta(settings.cutmix if cut else settings.mixup, numbers), None
        if cut:
            box = cut_box(height, width, share, next(numbers), next(numbers))
            share = 1.0 - (box[1] - box[0]) * (box[3] - box[2]) / (height * width)
        return Mix(permutation(images, mixed(self.seed, step, _ORDER, self.rank)), share, box)


def cut_box(height: int, width: int, share: float, down: float, along: float) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of CutMix's box: of 1 - share of the area, its middle at (down, along), which
    lie in 0..1, and cut off at the borders (Yun et al. 2019, eq. 2 and the authors' code)."""
    ratio = math.sqrt(1.0 - share)
    found = []
    for size, middle in ((height, int(down * height)), (width, int(along * width))):
        half = int(size * ratio) // 2
        found += [max(middle - half, 0), min(middle + half, size)]
    return found[0], found[1], found[2], found[3]


def permutation(size: int, key: int) -> Tensor:
    """A permutation (size,) int64 that goes by the key alone."""
    words = numbered(np.arange(size, dtype=np.uint64), key, 0)
    return torch.from_numpy(np.argsort(words, kind="stable"))


def beta(alpha: float, numbers: Iterator[float]) -> float:
    """A number of the distribution Beta(alpha, alpha), from numbers in [0, 1): X / (X + Y) of two of Gamma's,
    by way of their logarithms, as a small alpha needs."""
    first, second = _log_gamma(alpha, numbers), _log_gamma(alpha, numbers)
    return 1.0 / (1.0 + math.exp(min(second - first, 700.0)))


def _log_gamma(alpha: float, numbers: Iterator[float]) -> float:
    """The logarithm of a number of the distribution Gamma(alpha, 1) (Marsaglia and Tsang 2000, sections 3 and
    6: of alpha + 1, times U^(1/alpha))."""
    d = alpha + 1.0 - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        radius = math.sqrt(-2.0 * math.log(1.0 - next(numbers)))  # Box and Muller 1958
        normal = radius * math.cos(2.0 * math.pi * next(numbers))
        v = (1.0 + c * normal) ** 3
        u = 1.0 - next(numbers)
        if v > 0.0 and math.log(u) < 0.5 * normal**2 + d - d * v + d * math.log(v):
            return math.log(d * v) + math.log(1.0 - next(numbers)) / alpha


def _numbers(*counters: int) -> Iterator[float]:
    """Numbers in [0, 1) without an end."""
    return (unit(mixed(*counters, i)) for i in count())
