"""Numbers by counter are those of SplitMix64 and MurmurHash3, seeds derive in one way."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from smelt import random

SOURCE = Path(random.__file__).parent

KEYS = [8331025746536451881, 3192538382334804187, 9139960681420166145]
UNIFORM = [0.8272044797323695, 0.8233230126560919, 0.6694995276083141]
NUMBERED = [14435194252847300553, 1972343154888801512, 3086008144888444345]
STEP = 1800080892789109162
WORDS = [8804579716247688707, 18307715088526124257, 14686556710769802567]
BRIEF = [3659, 14190, 51615]


def test_the_first_numbers_of_splitmix64() -> None:
    """The published sequence of seed 1234567 (Steele, Lea and Flood; Vigna's C file)."""
    seeds = np.full(5, 1234567, np.uint64) + np.arange(1, 6, dtype=np.uint64) * np.uint64(random.GOLDEN)
    assert random.mixed_array(seeds).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ]  # fmt: skip


def test_numbers_and_arrays_are_mixed_alike() -> None:
    first = np.array([(41 + 1) * random.GOLDEN & random.MASK], np.uint64)
    assert random.mixed(41) == random.mixed_array(first)[0]
    assert random.mixed(1, 2) != random.mixed(2, 1)


def test_a_unit_number_is_the_top_53_bits() -> None:
    assert random.unit(0) == 0.0 and random.unit(1 << 63) == 0.5
    assert 1 - 2**-52 < random.unit(random.MASK) < 1
    keys = np.array([0, 5], np.uint64)
    words = random.mixed_array(keys + np.uint64(random.GOLDEN)).tolist()
    assert [random.unit(word) for word in words] == random.uniform(keys, np.uint64(1)).tolist()


def test_the_finish_of_murmurhash3() -> None:
    """Known values of `fmix32`."""
    assert random.murmur(np.array([0, 1, 0xDEADBEEF], np.uint32), 0).tolist() == [0, 0x514E28B7, 0x0DE5C6A9]


def test_what_is_drawn_stays_what_it_was() -> None:
    """Recorded: a change of any of these changes what every run shows, draws and holds out."""
    rows, turns = np.array([0, 5, 1 << 40]), np.array([0, -1, 2])
    keys = random.keys(7, 3, rows, turns)
    assert keys.tolist() == KEYS
    assert random.uniform(keys, np.array([1, 2, 3], np.uint64)).tolist() == UNIFORM
    assert random.numbered(keys, 12345, 2).tolist() == NUMBERED
    assert random.step_seed(4_000_000_000, 1_000_000, 3) == STEP
    assert random.mixed_words(keys).tolist() == WORDS
    assert random.brief(np.array([0, 1, 70_000], np.uint32), 99).tolist() == BRIEF


def test_seeds_of_recipes_do_not_meet() -> None:
    seeds = [random.derived(recipe, own) for recipe in range(3) for own in range(random.SEEDS)]
    assert len(set(seeds)) == len(seeds)
    assert random.derived(0, 17) == 17


def test_mixing_constants_are_in_one_file() -> None:
    """Every long odd number in hexadecimal is one, but for masks (all ones)."""
    long = re.compile(r"0x[0-9A-Fa-f_]{8,}")
    found = {
        str(file.relative_to(SOURCE))
        for file in SOURCE.rglob("*.py")
        for number in long.findall(file.read_text(encoding="utf-8"))
        if int(number, 16) % 2 and int(number, 16) & (int(number, 16) + 1)
    }
    assert found == {"random.py"}
