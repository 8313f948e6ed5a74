"""Counter-based random numbers, the hashes that they are made of, and how seeds derive from the recipe's.

A number depends on its counters (seed, epoch, row, …) alone: whoever computes it, in whatever order and on
whatever machine, has the same one. This is the only file with mixing constants. NumPy is not imported, since
recipes need the seeds: what takes arrays is written with their operators.
"""

from __future__ import annotations

from typing import Any, TypeAlias

# arrays: NumPy's stubs would have an unsigned one be signed after an operation with a Python number
Words: TypeAlias = Any  # uint64, whatever the shape
Halves: TypeAlias = Any  # uint32
Floats: TypeAlias = Any  # float64
Counters: TypeAlias = Any  # int64

MASK = (1 << 64) - 1
# 2**64 over the golden ratio: the step of SplitMix64, and a factor that mixes the top bits
GOLDEN = 0x9E3779B97F4A7C15
STEP = 0xD1B54A32D192ED03  # the same of the golden ratio in three dimensions (Roberts 2018, "R sequence")
WORD = 0xD6E8FEB86659FD93  # the factor of degski's 64-bit mixer, made for shifts by 32
SEEDS = 1000  # seeds within a recipe are below it, so no two recipes share a derived one


def derived(recipe_seed: int, seed: int) -> int:
    """The seed of a stage or model of a recipe, from the recipe's and its own."""
    return recipe_seed * SEEDS + seed


def mixed(*numbers: int) -> int:
    """A 64-bit hash of some numbers: SplitMix64 (Steele, Lea and Flood 2014) with its state fed by them."""
    state = 0
    for number in numbers:
        state = _finished((state + number + 1) * GOLDEN & MASK)
    return state


def unit(number: int) -> float:
    """The number in [0, 1) of a 64-bit number."""
    return (number >> 11) * 2.0**-53


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed, below 2**63, of what one rank draws in one step of training."""
    return _multiplied(seed * GOLDEN + step * STEP + rank + 1 & MASK) >> 1


def _finished(x: int) -> int:
    x = _multiplied(x)
    return x ^ x >> 31


def _multiplied(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    return (x ^ x >> 27) * 0x94D049BB133111EB & MASK


def mixed_array(x: Words) -> Words:
    """SplitMix64's finaliser, a bijection, of every element."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9
    x = (x ^ x >> 27) * 0x94D049BB133111EB
    return x ^ x >> 31


def keys(seed: int, epoch: int, rows_B: Counters, occurrence_B: Counters) -> Words:
    """One key per image of a batch: a hash of (seed, epoch, row, occurrence of the row in the epoch)."""
    key: Words = _finished(_finished(seed & MASK) + (epoch + 1) * GOLDEN & MASK)
    for counter_B in (rows_B, occurrence_B):
        key = mixed_array((counter_B.astype("u8") + 1) * GOLDEN + key)
    return key


def uniform(keys: Words, counters: Words) -> Floats:
    """The numbers in [0, 1) of keys and counters, whose shapes are broadcast."""
    return (mixed_array(keys + counters * GOLDEN) >> 11) * 2.0**-53


def numbered(keys: Words, seed: int, stream: int) -> Words:
    """A 64-bit number for each key that is hashed already, another one in each of 256 streams."""
    return mixed_array(keys + (seed * GOLDEN + (stream << 56) & MASK))


def murmur(x: Halves, key: int) -> Halves:
    """A 32-bit hash, a bijection for each key: the finish of MurmurHash3 (Appleby 2011)."""
    x = x ^ key
    x ^= x >> 16
    x *= 0x85EBCA6B
    x ^= x >> 13
    x *= 0xC2B2AE35
    return x ^ x >> 16


def brief(x: Halves, key: int) -> Halves:
    """A 16-bit hash at half of `murmur`'s price, good enough for one of several rounds."""
    x = x ^ key
    x *= 0x9E3779B1
    x ^= x >> 15
    x *= 0x85EBCA6B
    x >>= 16
    return x


def mixed_words(x: Words) -> Words:
    """A 64-bit hash of every element, with two multiplications: for long runs of words."""
    x = (x ^ x >> 32) * GOLDEN
    x ^= x >> 32
    return x * WORD
