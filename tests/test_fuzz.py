"""Spoilt files of every kind, from a fixed seed: a value or a SmeltError, in time, within memory.

`benchmarks/fuzz.py` is the same for as long as one likes. To repeat mutant I of the seed here:
`python benchmarks/fuzz.py --seed 2026 --only ONLY --repeat I`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SEED = 2026
OTHERS = "tar,yaml,json,scores.npy,scores.npz,scores.csv"
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and measures memory by Linux's means")


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    """The benchmark as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import fuzz as module

        yield module
    finally:
        sys.path.remove(str(BENCHMARKS))


def fired(fuzz: ModuleType, only: str, mutants: int) -> Any:
    return fuzz.fire(SEED, 2, ["--only", only], mutants=mutants, minutes=0.0, most_mib=400.0)


@linux
@pytest.mark.slow
def test_spoilt_images(fuzz: ModuleType) -> None:
    found = fired(fuzz, "image", 3000)
    assert found.mutants >= 3000 and not found.findings
    assert (found.crashes, found.hangs, found.over_1s) == (0, 0, 0)
    words = {word.rpartition(": ")[2] for word in found.outcomes}
    assert words >= {"ok", "truncated", "corrupt", "not_an_image", "leftover", "checksum"}, (
        "the fire was tame"
    )


@linux
@pytest.mark.slow
def test_spoilt_files_of_other_kinds(fuzz: ModuleType) -> None:
    found = fired(fuzz, OTHERS, 700)
    assert found.mutants >= 700 and not found.findings
    assert (found.crashes, found.hangs, found.over_1s) == (0, 0, 0)


PLUGIN = """
import os, time
import fuzz_targets

sound, count = fuzz_targets.TARGETS["yaml"], [0]

def broken(data, folder):
    count[0] += 1
    if count[0] == 5:
        raise RuntimeError("loose")
    if count[0] == 9:
        bytearray(500 << 20)[::4096] = b"x" * 128000
    if count[0] == 14:
        os.kill(os.getpid(), 11)
    return sound(data, folder)

fuzz_targets.TARGETS["yaml"] = broken
"""


@linux
def test_what_is_wrong_is_found(fuzz: ModuleType, tmp_path: Path) -> None:
    """A reader that raises, eats memory and dies: the fuzzer is not blind, and goes on."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    arguments = ["--only", "yaml", "--plugin", str(tmp_path / "plugin.py")]
    found = fuzz.fire(1, 1, arguments, mutants=30, minutes=0.0, most_mib=100.0)
    told = " ".join(found.findings)
    assert found.crashes >= 3 and found.mutants >= 30 and found.hangs == 0
    assert "RuntimeError: loose" in told and "exit code -11" in told and " MiB" in told


@linux
def test_what_hangs_is_given_up(fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN.replace("os.kill(os.getpid(), 11)", "time.sleep(1000)"))
    monkeypatch.setattr(fuzz, "HANG", 2.0)
    arguments = ["--only", "yaml", "--plugin", str(tmp_path / "plugin.py")]
    found = fuzz.fire(1, 1, arguments, mutants=16, minutes=0.0, most_mib=1000.0)
    assert found.hangs == 1 and "still reading after 2 s" in " ".join(found.findings)


def test_a_mutant_is_a_function_of_its_numbers(fuzz: ModuleType) -> None:
    sound = fuzz.inputs.other_files()
    first = [fuzz.mutant(3, number, sound)[1] for number in range(50)]
    assert first == [fuzz.mutant(3, number, sound)[1] for number in range(50)]
    assert len(set(first)) == 50
    for one in sound:
        assert fuzz.inputs.mutated(one.data, random.Random(0)) != one.data


@pytest.mark.slow
def test_damage_is_counted(fuzz: ModuleType) -> None:
    """The figures of docs/loading.md in small: what was silent before and is told now."""
    told = fuzz.damage(10, None, 0)
    for kind in ("PNG", "PNG palette", "PNG alpha", "PNG 16 bit"):
        assert told[kind].get("silent", 0) == 0, told[kind]
    assert told["GIF"]["silent, and far off"] == 0 and told["GIF"]["told"] > 5
    jpegs = [told[kind] for kind in told if kind.startswith("JPEG")]
    before = sum(one["silent before, and far off"] for one in jpegs)
    assert sum(one["silent, and far off"] for one in jpegs) < before / 2
