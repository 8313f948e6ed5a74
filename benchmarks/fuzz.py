"""Readers under fire: spoilt files, bombs, and how much damage to pixels is noticed.

    python benchmarks/fuzz.py [--minutes M | --mutants N | --quick] [--seed S] [--jobs J]
                              [--only image,tar,…] [--photos TAR] [--json]

Each mutant (a sound file with one to three things done to it, see `fuzz_inputs`) is read in a child process
of a limited address space. It must end within HANG seconds, without ending the process, and with a value or
a SmeltError; an image must have the shape that its header says, and stay within the limits that
`smelt.data.images.limits` names. Then the bombs, each in a process of its own: seconds of CPU, and MiB
above the process before. Then damage: bytes of coded pixels are changed, and what came of the images whose
pixels then differ is counted: `refused`, `told` (read, with a word for the damage) or `silent`, and `silent
before`: when decoders alone were listened to. Exit code 1 where anything was found.

A finding is repeated by `--seed S --repeat I`. --quick: 1,500 mutants, 20 flips a kind, small bombs. --json:
one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import runpy
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fuzz_inputs as inputs
import fuzz_targets as targets

HANG = 20.0  # seconds of wall clock after which a mutant is given up
SLOW = 1.0  # seconds of CPU that are counted
LIMIT = 3 << 30  # bytes of address space of a child, more than what it has to begin with
WARM = 200  # mutants a child reads before its memory is looked at: libraries load on the way


@dataclass
class Found:
    """What came of the mutants."""

    mutants: int = 0
    crashes: int = 0  # the process ended, or an exception that is no SmeltError came out
    hangs: int = 0
    over_1s: int = 0
    slowest: float = 0.0
    peak_mib: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.findings.append(text)
        print(f"FOUND {text}", flush=True)


def sound_files(only: set[str], archive: Path | None) -> list[inputs.Sound]:
    """What is spoilt: half of it images."""
    pictures = inputs.photos(archive, 4) if archive else inputs.scenes(inputs.SCENES)
    images = inputs.image_files(pictures) if not only or "image" in only else []
    others = [one for one in inputs.other_files() if not only or one.target in only]
    return images + others * (max(len(images) // (2 * len(others)), 1) if others else 0)


def mutant(seed: int, number: int, sound: list[inputs.Sound]) -> tuple[inputs.Sound, bytes]:
    """Mutant `number` of `seed`: which file it was, and its bytes."""
    rng = random.Random(f"{seed} {number}")
    chosen = rng.choice(sound)
    return chosen, inputs.mutated(chosen.data, rng)


# The child


def child(seed: int, first: int, step: int, only: set[str], archive: Path | None) -> None:
    """Read mutants first, first + step, …; a line before each, and one of JSON after it."""
    sound = sound_files(only, archive)
    for one in sound:  # warm: a sound file must be read, and libraries load
        with tempfile.TemporaryDirectory() as folder:
            word = targets.outcome(one.target, one.data, Path(folder))
        assert not word.endswith("Error"), f"{one.kind}, which is sound: {word}"
    limit_memory()
    number = first
    while True:
        chosen, data = mutant(seed, number, sound)
        print(f"S {number}", flush=True)
        print("E " + json.dumps(measured(chosen, data) | {"kind": chosen.kind}), flush=True)
        number += step


def limit_memory() -> None:
    """Let the process have LIMIT bytes of addresses more than it has."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + LIMIT
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def measured(one: inputs.Sound, data: bytes) -> dict[str, Any]:
    """Outcome, CPU seconds and MiB above what there was, of reading one file."""
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        before, start = _resident(reset=True), time.process_time()
        wrong = ""
        try:
            word = targets.outcome(one.target, data, Path(folder))
        except MemoryError:
            word, wrong = "MemoryError", "MemoryError"
        except BaseException as error:
            word = type(error).__name__
            wrong = f"{word}: {error}"[:300]
        seconds = time.process_time() - start
    peak = (_resident() - before) / 1024
    return {"word": word, "wrong": wrong, "seconds": round(seconds, 3), "mib": round(peak, 1)}


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _resident(reset: bool = False) -> int:
    """The most KiB that this process had in memory since the last reset; 0 where that is not told."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


# The parent


class Child:
    """A process that reads every `step`-th mutant, begun again after the one that ended it."""

    def __init__(self, first: int, step: int, arguments: list[str], found: Found, most_mib: float) -> None:
        self.next, self.step, self.arguments, self.found, self.most_mib = (
            first,
            step,
            arguments,
            found,
            most_mib,
        )
        self.done, self.reading, self.since = 0, False, time.monotonic()
        self._start()

    def _start(self) -> None:
        place = ["--child", f"{self.next},{self.step}"]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `stop`
        self.process = subprocess.Popen(
            [sys.executable, __file__, *place, *self.arguments], stdout=subprocess.PIPE, stderr=self.errors
        )
        self.reading, self.since, self._text = False, time.monotonic(), b""

    def fileno(self) -> int:
        assert self.process.stdout
        return self.process.stdout.fileno()

    def take(self) -> None:
        """Take what the process has written; where that is nothing, it has ended."""
        data = os.read(self.fileno(), 1 << 16)
        self.since = time.monotonic()
        if not data:
            self._ended()
            return
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            if line.startswith(b"S "):
                self.next, self.reading = int(line[2:]), True
            elif line.startswith(b"E "):
                self._count(json.loads(line[2:]))

    def _count(self, told: dict[str, Any]) -> None:
        found, name = self.found, f"mutant {self.next} ({told['kind']})"
        found.mutants += 1
        found.outcomes[f"{told['kind']}: {told['word']}"] += 1
        found.over_1s += told["seconds"] > SLOW
        found.slowest = max(found.slowest, told["seconds"])
        if told["wrong"]:
            found.crashes += 1
            found.note(f"{name}: {told['wrong']}")
        if self.done >= WARM:
            found.peak_mib = max(found.peak_mib, told["mib"])
        if told["mib"] > self.most_mib:
            found.note(f"{name}: {told['mib']} MiB")
        if told["seconds"] > SLOW:
            print(f"slow: {name}: {told['seconds']} s, {told['word']}", flush=True)
        self.done, self.reading, self.next = self.done + 1, False, self.next + self.step

    def _ended(self) -> None:
        code = self.process.wait()
        self.errors.seek(0)
        message = self.errors.read().decode(errors="replace").strip().splitlines()
        self.stop()
        if not self.reading:
            raise SystemExit("the child ended before it read anything: " + "\n".join(message[-20:]))
        self.found.crashes += 1
        self.found.mutants += 1
        self.found.note(f"mutant {self.next}: exit code {code} {' | '.join(message[-3:])[:400]}")
        self._again()

    def watch(self) -> None:
        """Give a mutant up that takes too long."""
        if self.reading and time.monotonic() - self.since > HANG:
            self.found.hangs += 1
            self.found.mutants += 1
            self.found.note(f"mutant {self.next}: still reading after {HANG:g} s")
            self.stop()
            self._again()

    def _again(self) -> None:
        self.next += self.step
        self._start()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        self.errors.close()


def fire(
    seed: int, jobs: int, arguments: list[str], *, mutants: int, minutes: float, most_mib: float
) -> Found:
    """Read so many mutants, or for so long where `minutes` is not 0, in `jobs` processes."""
    found = Found()
    until = time.monotonic() + (60 * minutes if minutes else 1e9)
    children = [Child(job, jobs, ["--seed", str(seed), *arguments], found, most_mib) for job in range(jobs)]
    try:
        while time.monotonic() < until and (minutes or found.mutants < mutants):
            with selectors.DefaultSelector() as ready:
                for one in children:
                    ready.register(one, selectors.EVENT_READ)
                for key, _ in ready.select(0.5):
                    key.fileobj.take()  # type: ignore[union-attr]
            for one in children:
                one.watch()
    finally:
        for one in children:
            one.stop()
    return found


# Bombs


def bomb(name: str, side: int) -> dict[str, Any]:
    """Read one bomb, in this process."""
    data = inputs.bombs(side)[name]()
    for warm in inputs.image_files(inputs.scenes(1, 32)):
        measured(warm, warm.data)
    return measured(inputs.Sound("image", name, b""), data) | {"bytes": len(data), "name": name}


def all_bombs(side: int, names: list[str]) -> list[dict[str, Any]]:
    """Each in a process of its own."""
    told = []
    for name in names or list(inputs.bombs(side)):
        done = subprocess.run(
            [sys.executable, __file__, "--bomb", name, "--side", str(side)], capture_output=True, text=True
        )
        line = json.loads(done.stdout) if not done.returncode else {"name": name, "wrong": done.stderr[-300:]}
        told.append(line)
        print(f"  {name:28} " + " ".join(f"{k}={v}" for k, v in line.items() if k != "name"), flush=True)
    return told


# Damage


def damage(flips: int, archive: Path | None, seed: int) -> dict[str, dict[str, int]]:
    """By kind: what came of images whose coded pixels were changed, where the pixels then differ."""
    import numpy as np

    from smelt.data.images.decode import decode, examine
    from smelt.errors import BadImageError

    pictures = inputs.photos(archive, 4) if archive else inputs.scenes(inputs.SCENES)
    told: dict[str, Counter[str]] = {}
    for one in inputs.image_files(pictures):
        if one.kind.endswith("film"):
            continue
        counts, sound = told.setdefault(one.kind, Counter()), decode(one.data)
        rng = random.Random(f"{seed} {one.kind}")
        for _ in range(flips):
            try:
                pixels, word = examine(inputs.flipped(one.data, one.kind, rng))
            except BadImageError:
                counts["refused"] += 1
                continue
            same = pixels.shape == sound.shape and np.array_equal(pixels, sound)
            if same:
                counts["same"] += 1
                continue
            far = pixels.shape != sound.shape or bool(np.abs(pixels.astype(int) - sound).mean() > 8)
            counts["told" if word else "silent"] += 1
            counts["silent, and far off"] += far and not word
            counts["silent before"] += 1
            counts["silent before, and far off"] += far
    return {kind: dict(counts) for kind, counts in told.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--repeat", type=int)
    parser.add_argument("--most-mib", type=float, default=400.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plugin", type=Path, help="Python run first; may change fuzz_targets.TARGETS")
    parser.add_argument("--side", type=int, default=9400, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--bomb", help=argparse.SUPPRESS)
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    if options.plugin:
        runpy.run_path(str(options.plugin))
    if options.child:
        first, step = map(int, options.child.split(","))
        child(options.seed, first, step, only, options.photos)
    elif options.bomb:
        print(json.dumps(bomb(options.bomb, options.side)))
    elif options.repeat is not None:
        chosen, data = mutant(options.seed, options.repeat, sound_files(only, options.photos))
        Path(f"mutant-{options.seed}-{options.repeat}").write_bytes(data)
        with tempfile.TemporaryDirectory() as folder:
            print(chosen.kind, targets.outcome(chosen.target, data, Path(folder)))
    else:
        report(options, only)


def report(options: argparse.Namespace, only: set[str]) -> None:
    """All of it, printed."""
    passed = ["--only", options.only]
    passed += ["--photos", str(options.photos)] if options.photos else []
    passed += ["--plugin", str(options.plugin)] if options.plugin else []
    mutants = 1500 if options.quick else options.mutants
    found = fire(
        options.seed,
        options.jobs,
        passed,
        mutants=mutants,
        minutes=options.minutes,
        most_mib=options.most_mib,
    )
    for word, count in sorted(found.outcomes.items()):
        print(f"  {word:40} {count:>8,}")
    print(
        f"{found.mutants:,} mutants: {found.crashes} crashes, {found.hangs} hangs, {found.over_1s} over 1 s "
        f"(the slowest {found.slowest:.2f}), peak {found.peak_mib:.0f} MiB"
    )
    bombs = [] if only and "image" not in only else all_bombs(600 if options.quick else options.side, [])
    spoilt = damage(20 if options.quick else 300, options.photos, options.seed) if bombs else {}
    for kind, counts in spoilt.items():
        print(f"  {kind:18} " + ", ".join(f"{word} {count}" for word, count in counts.items()))
    wrong = [one for one in bombs if one["wrong"]]
    if options.json:
        total: Counter[str] = sum((Counter(counts) for counts in spoilt.values()), Counter())
        read = [one for one in bombs if not one["wrong"]]
        line = {
            "mutants": found.mutants, "crashes": found.crashes + len(wrong), "hangs": found.hangs,
            "over_1s": found.over_1s, "slowest_s": found.slowest, "peak_mib": found.peak_mib,
            "bombs": len(bombs), "bomb_slowest_s": max((one["seconds"] for one in read), default=0.0),
            "bomb_peak_mib": max((one["mib"] for one in read), default=0.0),
            "silent": total["silent"], "silent_before": total["silent before"], "told": total["told"],
            "refused": total["refused"], "damage": spoilt, "findings": found.findings[:50],
        }  # fmt: skip
        print(json.dumps(line))
    sys.exit(1 if found.findings or wrong else 0)


if __name__ == "__main__":
    main()
