"""Batches of rows that are shown beside those of an epoch: as many at each step, round and round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.data.images.sampler import Batches, ClassBalancedSampler


class Beside(Batches):
    """`size` rows over all ranks at each of an epoch's `steps`; each row once before any comes again.

    The order goes on from epoch to epoch, each pass through the rows in one of its own, and any step's rows
    are drawn alone.
    """

    def __init__(
        self, sampler: ClassBalancedSampler, epoch: int, steps: int, size: int, rank: int, world_size: int
    ) -> None:
        if not len(sampler):
            raise ValueError("there is no row to show beside the others")
        super().__init__(sampler, epoch, size, rank, world_size, even=False)
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def whole(self, index: int) -> NDArray[np.int64]:
        """Row numbers of step `index` of the epoch, of all ranks."""
        images, left, parts = len(self.sampler), self.batch_size, []
        turn, at = divmod((self.epoch * self.steps + range(self.steps)[index]) * self.batch_size, images)
        while left:
            parts.append(self.sampler.draw(turn, at, min(at + left, images)))
            left -= len(parts[-1])
            turn, at = turn + 1, 0
        return np.concatenate(parts)

    def size(self, index: int) -> int:
        """Images of a step, all ranks."""
        return self.batch_size

    @property
    def num_images(self) -> int:
        """Images of this rank in the epoch."""
        return self.steps * len(range(self.rank, self.batch_size, self.world_size))
