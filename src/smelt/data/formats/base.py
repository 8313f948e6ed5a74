"""What the readers of all formats share: problems counted before anything is refused, and held-out splits."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import encode
from smelt.artifacts.catalogue import SPLITS
from smelt.data.formats.config import FormatSettings
from smelt.errors import WIDEST, DataError, short
from smelt.files.opening import NOT_THERE, patiently
from smelt.random import numbered

SHOWN = 10
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


Found = TypeVar("Found")


@dataclass
class Report:
    """What a reader found: `problems` refuse the data set, `warnings` do not. The first few are kept.

    notes: what was recognised or decided, to be said and no more. left_out: why → paths below the root that
    are no images of the catalogue, by a reader that knows why; what no reader speaks of `census` accounts
    for. used: lists, archives and the like that were read, as paths below the root.
    """

    problems: list[str] = field(default_factory=list)
    num_problems: int = 0
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    held_out: dict[str, str] = field(default_factory=dict)  # split we made → split its images are from
    left_out: dict[str, list[bytes]] = field(default_factory=dict)
    used: set[bytes] = field(default_factory=set)
    reads: Callable[[bytes], bool] = lambda path: False  # of further files, whether they were read
    no_images: int = 0  # of the catalogue's files, by the content of those that were opened
    repeats: bool = False  # whether a path may have a row for each of its labels (`multi_label: split`)

    def problem(self, text: str, times: int = 1) -> None:
        """Note something that cannot be right; `times` how often it was met."""
        self.num_problems += times
        if len(self.problems) < SHOWN:
            self.problems.append(text)

    def warn(self, text: str) -> None:
        """Note something odd that can be lived with."""
        self.warnings.append(text)

    def note(self, text: str) -> None:
        """Note what was recognised or decided for the user, who may want it otherwise."""
        self.notes.append(text)

    def leave_out(self, why: str, path: bytes) -> None:
        """Note that a file (or the member of an archive) is no image of the catalogue; `why` in few words."""
        self.left_out.setdefault(why, []).append(path)

    def add(self, other: Report) -> None:
        """Take over what another report noted."""
        self.num_problems += other.num_problems
        self.problems += other.problems[: max(SHOWN - len(self.problems), 0)]
        self.warnings += other.warnings
        self.notes += other.notes
        self.used |= other.used
        for why, paths in other.left_out.items():
            self.left_out.setdefault(why, []).extend(paths)

    def refuse(self) -> None:
        """Raise DataError if there was a problem."""
        if not self.problems:
            return
        rest = self.num_problems - len(self.problems)
        lines = [
            *(short(problem, 2 * WIDEST) for problem in self.problems),
            *([f"… and {rest} more"] if rest else []),
        ]
        raise DataError(f"the data set has {self.num_problems} problem(s):\n  " + "\n  ".join(lines))


def natural(name: bytes) -> tuple[tuple[bool, bytes], ...]:
    """Sort key that puts `c2` before `c10`: classes get the numbers that people expect."""
    parts = re.split(rb"(\d+)", name)
    return tuple((part.isdigit(), part.rjust(20, b"0") if part.isdigit() else part) for part in parts)


def unsafe(path: bytes) -> str:
    """Why a path may not be used ("" if it may): all paths stay below the root."""
    if path.startswith(b"/"):
        return "is absolute"
    if b"\0" in path:
        return "has a NUL byte"
    if b".." in path.split(b"/"):
        return "leads out of its folder (..)"
    return ""


def hold_out(
    splits: NDArray[np.uint8], labels: NDArray[np.int32], keys: NDArray[np.uint64], settings: FormatSettings,
    report: Report | None = None,
) -> NDArray[np.uint8]:  # fmt: skip
    """Split codes (0 train, 1 val, 2 test) with a validation and a test part where there was none.

    Of every label of the split it is taken from the same share, at least one image where the class has two
    or more, goes, but never its last one; which ones is decided by (seed, key), so a new image does not move
    the others. Images without a label are not taken. `report` is told what was held out, for `dedupe`, and
    warned of classes that could not give any.
    """
    splits = splits.copy()
    wanted = ((2, settings.test_fraction, settings.test_from), (1, settings.val_fraction, settings.val_from))
    for code, fraction, source in wanted:
        taken_from = {"train": 0, "val": 1, "test": 2}[source]
        there = splits == taken_from
        if fraction and not bool((splits == code).any()) and not bool(there.any()) and report is not None:
            report.warn(
                f"nothing is held out for {SPLITS[code]}: it is to be taken from {source} "
                f"(data.{SPLITS[code]}_from), which has no images"
            )
        if fraction == 0 or bool((splits == code).any()) or not bool(there.any()) or code == taken_from:
            continue
        rows = np.flatnonzero(there & (labels >= 0))
        if not len(rows) and report is not None:
            report.warn(f"no image of {source} has a label: nothing is held out for {SPLITS[code]}")
        order = np.lexsort((numbered(keys[rows], settings.seed, code), labels[rows]))
        rows = rows[order]
        _, starts, counts = np.unique(labels[rows], return_index=True, return_counts=True)
        share = np.minimum(np.maximum(np.round(counts * fraction), counts > 1), counts - 1)
        place = np.arange(len(rows)) - np.repeat(starts, counts)
        splits[rows[place < np.repeat(share, counts)]] = code
        if report is not None:
            report.held_out[SPLITS[code]] = source
            _warn_of_single(SPLITS[code], source, int((counts == 1).sum()), len(counts), report)
    return splits


def _warn_of_single(split: str, source: str, single: int, classes: int, report: Report) -> None:
    if single:
        report.warn(
            f"{single} of {classes} classes have one image in {source}, which stays there: nothing of them "
            f"is held out for {split}"
        )


def runs(groups_N: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(group, its rows ascending) of every group number, ascending; in one sort, however many there are."""
    order = np.argsort(groups_N, kind="stable")
    ordered = groups_N[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(ordered)]):
        yield int(ordered[start]), order[start:stop]


def if_there(look: Callable[[], Found], path: str | bytes, otherwise: Found) -> Found:
    """What `look` gives; `otherwise` where nothing is called `path`. StorageError where none can tell."""

    def looked() -> Found:
        try:
            return look()
        except ValueError:  # a NUL byte, which is refused where it is listed
            return otherwise
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            return otherwise

    return patiently(looked, lambda: os.fsdecode(path))


def list_folder(root: Path | bytes, folder: bytes) -> set[bytes]:
    """Names in `root`/`folder`; empty where there is no such folder. StorageError where it cannot be read."""
    path = os.path.join(os.fsencode(root), folder)
    return if_there(lambda: set(os.listdir(path)), path, set())


def as_bytes(path: Path, root: Path) -> bytes:
    """`path` relative to `root`, as bytes."""
    return encode(str(path.relative_to(root)))


def refuse_unknown_lists(settings: FormatSettings, *takes: str, what: str = "") -> None:
    """DataError where `lists` names one that the format does not take; `what` says more of those it does."""
    if unknown := settings.lists.keys() - set(takes):
        raise DataError(
            f"data.lists: format {settings.format} has {', '.join(takes[:-1])}{what} and {takes[-1]}, not "
            f"{', '.join(sorted(unknown))}"
        )


def lists_named(settings: FormatSettings, root: Path, *takes: str, instead: str = "") -> dict[str, Path]:
    """The lists that the settings name. DataError for one that the format does not take, or is not there."""
    refuse_unknown_lists(settings, *takes)
    named = {name: root / path for name, path in settings.lists.items()}
    for name, path in named.items():
        if not path.is_file():
            raise DataError(f"data.lists.{name}: there is no file {path}{instead}")
    return named
