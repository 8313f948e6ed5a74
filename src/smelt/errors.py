"""Every error that smelt raises on purpose.

SmeltError (ValueError)                exit 2   the user can mend it; the message says where and how
├── RecipeError                                 a recipe or an override that cannot be right
├── DataError                                   file lists, labels, images
│   ├── BadImageError                           one image that cannot be used, with a short reason
│   └── OutOfProportionError                    a file that asks for far more memory than its size speaks for
├── StorageError                                a disk, a permission, a limit: no fact about a file's content
├── ArtifactError                               a committed file that is missing, damaged or not ours
├── ResultError                                 score files that cannot be fused together
├── TrainingError                               training that cannot go on
├── LockedError                        exit 3   another run holds the work folder
├── StageFailedError                   exit 4   a stage of the flowchart failed
│   └── RefusedError                   exit 2   … for the data or the settings that it was given
└── PreemptedError                     exit 75  asked to stop (SIGTERM): saved, run again to go on
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

SHOWN = 10  # names that a message lists …
WIDEST = 200  # … each in so many characters: a message about millions of images stays readable


def short(text: str, width: int = WIDEST) -> str:
    """`text` in at most `width` characters: where it is longer, its middle is left out."""
    half = width // 2
    return text if len(text) <= width else f"{text[: half - 2]} … {text[1 - half :]}"


def some(names: Iterable[str], total: int) -> list[str]:
    """The first few of `total` names, long ones cut in the middle, and how many more there are."""
    shown = [short(name) for name in islice(names, SHOWN)]
    return shown + ([f"… and {total - len(shown):,} more"] if total > len(shown) else [])


def printable(text: str) -> str:
    """`text` without what a terminal would obey: crawled names may hold anything. Ends of lines stay."""
    if text.isprintable():
        return text
    return "".join(
        c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


class SmeltError(ValueError):
    """Base of all errors a user can mend. `exit_code` is what the command line returns for it."""

    exit_code = 2


class RecipeError(SmeltError):
    """A recipe, or an override of it, that cannot be right."""


class DataError(SmeltError):
    """File lists, labels or images that cannot be right."""


class BadImageError(DataError):
    """One image that cannot be used; `reason` is the word written to `bad_files.csv`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class OutOfProportionError(DataError):
    """A file that asks for far more memory than its size speaks for."""


class StorageError(SmeltError):
    """The machine kept a file from being read: a disk, a network, a permission, a limit, want of memory."""


class ArtifactError(SmeltError):
    """A committed file that is missing, damaged or not one of ours."""


class ResultError(SmeltError):
    """Score files that cannot be fused together."""


class TrainingError(SmeltError):
    """Training that cannot go on."""


class LockedError(SmeltError):
    """Another run holds the work folder."""

    exit_code = 3


class StageFailedError(SmeltError):
    """A stage of the flowchart failed."""

    exit_code = 4


class RefusedError(StageFailedError):
    """Every stage that failed refused what it was given: data or settings, which the user can mend."""

    exit_code = 2


class PreemptedError(SmeltError):
    """Asked to stop: everything is saved, the same command goes on."""

    exit_code = 75
