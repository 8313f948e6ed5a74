"""Which images an epoch shows and in which order: counter-based, so any step of any epoch is drawn alone.

Class-balanced: every class that has rows is shown exactly `images_per_class` times an epoch. Each class is a
ring of its rows in an order of its own; epoch e takes the next so many after epoch e - 1. So no image is
repeated before its class is used up, within an epoch and across them, and nothing has to be remembered.

The order within the epoch is a keyed permutation of its draws: a Feistel network on Z_a × Z_b, with the
few values outside the range sent round again (cycle walking; Black and Rogaway 2002, "Ciphers with
arbitrary finite domains"). It needs neither a table nor a sort, and is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import isqrt
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from smelt.random import brief, mixed, murmur

_CHUNK = 1 << 16  # draws made at a time: the arrays of one round stay in the cache
_PART = 1 << 15  # rows grouped at a time: small beside the rows, and quicker than 1 << 18
_ROUNDS = 6


class ClassBalancedSampler:
    """Draws rows (N,) with labels (N,); see the module.

    images_per_class: draws of each class in an epoch, or None: every row once. Rows and draws number less
    than 2**32; labels are at least 0.
    """

    def __init__(
        self, rows: NDArray[Any] | range, labels: NDArray[Any], *, images_per_class: int | None, seed: int
    ) -> None:
        assert len(rows) == len(labels)
        self.images_per_class, self.seed = images_per_class, seed
        if images_per_class is None:
            self._rows = _array(rows).astype(np.uint32)
            self.num_draws = len(rows)
        else:
            counts = _counts(labels)
            self._rows = _grouped(rows, labels, counts, seed)
            filled = np.flatnonzero(counts)
            self._counts = counts[filled]
            self._starts = np.cumsum(self._counts) - self._counts
            self.num_draws = len(filled) * images_per_class

    def __len__(self) -> int:
        """Draws in one epoch, all ranks."""
        return self.num_draws

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """All draws of an epoch in global order; (num_draws,) int64."""
        return self.draw(epoch, 0, self.num_draws)

    def draw(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Draws start..stop-1 of an epoch."""
        drawn = np.empty(max(stop - start, 0), np.int64)
        key = mixed(self.seed, epoch)
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            draws = permute(np.arange(first, last, dtype=np.uint32), self.num_draws, key)
            drawn[first - start : last - start] = self._rows[self._places(epoch, draws)]
        return drawn

    def _places(self, epoch: int, draws: NDArray[np.uint32]) -> NDArray[Any]:
        """Where in the grouped rows the draws 0..num_draws-1 of an epoch are, before they are shuffled."""
        if self.images_per_class is None:
            return draws
        group = draws // np.uint32(self.images_per_class)
        turn = draws - group * np.uint32(self.images_per_class)
        begins = epoch * self.images_per_class % self._counts
        places: NDArray[np.int64] = self._starts[group] + (begins[group] + turn) % self._counts[group]
        return places

    def batches(
        self, epoch: int, batch_size: int, rank: int = 0, world_size: int = 1, *, even: bool = False
    ) -> Batches:
        """Batches of one rank: its part [rank::world_size] of each global batch; see `Batches`."""
        return Batches(self, epoch, batch_size, rank, world_size, even)


class Batches(Sequence[NDArray[np.int64]]):
    """Row numbers of each batch of one rank, drawn when they are asked for.

    Batches of `batch_size` over all ranks, the last of what is left; or `even`: as many, but all of one size
    except for a single image, since the step of a last batch of a few images would be as large as any.
    """

    def __init__(
        self,
        sampler: ClassBalancedSampler,
        epoch: int,
        batch_size: int,
        rank: int,
        world_size: int,
        even: bool,
    ) -> None:
        assert batch_size >= 1 and 0 <= rank < world_size
        self.sampler, self.epoch, self.batch_size, self.even = sampler, epoch, batch_size, even
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.int64]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.int64]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self.whole(index)[self.rank :: self.world_size]

    def _begin(self, index: int) -> int:
        """Where global batch `index` begins in the order."""
        if self.even:
            return index * len(self.sampler) // len(self)
        return min(index * self.batch_size, len(self.sampler))

    def whole(self, index: int) -> NDArray[np.int64]:
        """Row numbers of global batch `index`, of all ranks."""
        place = range(len(self))[index]
        return self.sampler.draw(self.epoch, self._begin(place), self._begin(place + 1))

    def size(self, index: int) -> int:
        """Images of global batch `index`; nothing is drawn for it."""
        return self._begin(index + 1) - self._begin(index)

    @property
    def num_images(self) -> int:
        """Images of this rank in the epoch; nothing is drawn for it."""
        if not len(self):
            return 0
        # all batches have one of two sizes
        size, images = (len(self.sampler) // len(self) if self.even else self.batch_size), len(self.sampler)
        if self.even:
            sizes = {size: len(self) - images % len(self), size + 1: images % len(self)}
        else:
            sizes = {size: images // size, images % size: 1}
        return sum(len(range(self.rank, one, self.world_size)) * times for one, times in sizes.items())

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return (self[index] for index in range(len(self)))


def permute(values: NDArray[np.uint32], size: int, key: int) -> NDArray[np.uint32]:
    """Image of `values` (each below `size`) under a pseudo-random permutation of 0..size-1 given by `key`."""
    if size <= 1:
        return values
    assert size <= 1 << 32
    side = isqrt(size - 1) + 1
    other = -(-size // side)
    keys = _round_keys(key)
    values = _feistel(values, side, other, keys)
    last = np.uint32(size - 1)
    while len(outside := np.flatnonzero(values > last)):
        values[outside] = _feistel(values[outside], side, other, keys)
    return values


@lru_cache(maxsize=64)
def _round_keys(key: int) -> tuple[int, ...]:
    return tuple(mixed(key, turn) >> 32 for turn in range(_ROUNDS))


def _feistel(values: NDArray[np.uint32], side: int, other: int, keys: tuple[int, ...]) -> NDArray[np.uint32]:
    """One pass: the parts (v // other, v % other) take turns at being shifted by a hash of the other one."""
    left = values // np.uint32(other)
    right = values - left * np.uint32(other)
    for turn, key in enumerate(keys):
        if turn % 2:
            left = _shifted(left, right, key, side)
        else:
            right = _shifted(right, left, key, other)
    return left * np.uint32(other) + right


def _shifted(part: NDArray[np.uint32], by: NDArray[np.uint32], key: int, modulus: int) -> NDArray[np.uint32]:
    """(part + hash(by) scaled to 0..modulus-1) mod modulus; for moduli up to 2**16."""
    hashed = brief(by, key)
    hashed *= np.uint32(modulus)
    hashed >>= np.uint32(16)
    hashed += part
    # of x and x - modulus the smaller one: below the modulus the difference wraps round to a huge number
    shifted: NDArray[np.uint32] = np.minimum(hashed, hashed - np.uint32(modulus))
    return shifted


def _array(rows: NDArray[Any] | range) -> NDArray[Any]:
    """Rows as an array; NumPy itself makes a Python number of each element of a range."""
    return np.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else np.asarray(rows)


def _counts(labels: NDArray[Any]) -> NDArray[np.int64]:
    """(C,) rows of each label; counted in parts, since bincount makes a 64-bit copy."""
    counts = np.zeros(1, np.int64)
    for start in range(0, len(labels), _PART):
        part = np.bincount(labels[start : start + _PART], minlength=len(counts))
        part[: len(counts)] += counts
        counts = part
    return counts


def _grouped(
    rows: NDArray[Any] | range, labels: NDArray[Any], counts: NDArray[np.int64], seed: int
) -> NDArray[np.uint32]:
    """Rows by class, those of a class in an order decided by (seed, row) alone; a counting sort, in parts."""
    grouped = np.empty(len(rows), np.uint32)
    free = np.cumsum(counts) - counts
    for start in range(0, len(rows), _PART):
        part = np.asarray(labels[start : start + _PART])
        order = np.argsort(part.astype(np.uint16) if len(counts) <= 1 << 16 else part, kind="stable")
        part = part[order]
        heads = np.flatnonzero(np.r_[True, part[1:] != part[:-1]])
        sizes = np.diff(np.append(heads, len(part)))
        within = np.arange(len(part)) - np.repeat(heads, sizes)
        grouped[free[part] + within] = _array(rows[start : start + _PART])[order]
        free[part[heads]] += sizes
    _shuffle_groups(grouped, counts, seed)
    return grouped


def _shuffle_groups(grouped: NDArray[np.uint32], counts: NDArray[np.int64], seed: int) -> None:
    """Put the rows of each class into the order of their 32-bit hashes; some hundred thousand rows at a time.

    Three stable sorts of 16-bit numbers, for which NumPy has a radix sort: twice as fast as one of 64 bits.
    """
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        start = int(ends[first] - counts[first])
        last = int(np.searchsorted(ends, start + _PART, side="right"))
        last = min(max(first + 1, last), first + (1 << 16))
        part = grouped[start : int(ends[last - 1])]
        hashed = murmur(part, mixed(seed) >> 32)
        order = np.argsort(hashed.astype(np.uint16), kind="stable")
        order = order[np.argsort((hashed >> np.uint32(16)).astype(np.uint16)[order], kind="stable")]
        if last - first > 1:
            classes = np.repeat(np.arange(last - first, dtype=np.uint16), counts[first:last])
            order = order[np.argsort(classes[order], kind="stable")]
        part[:] = part[order]
        first = last
