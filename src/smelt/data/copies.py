"""From the hashes of all images to confirmed pairs of copies: join, then look at the pixels.

1. Equal bytes or equal pixels: exact copies, sure.
2. Of the others, equal perceptual hashes: one picture leads, those that agree with it follow.
3. Leaders whose hashes are near, mirrored or not, and leaders of which one is like a part of the other.

Nothing of 2 and 3 counts before `thumbnails` has compared the pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smelt.data.candidates import Candidates, crop_candidates, near_candidates
from smelt.data.duplicates import followers, group_rows, join_exact
from smelt.data.perceptual import BLANK

if TYPE_CHECKING:
    from smelt.data.alignment import Agreement
    from smelt.data.thumbnails import Thumbnails

WHOLE = 2  # the first hashes of `perceptual_hashes` are of the whole picture, the others of changes to it


@dataclass(frozen=True)
class Hashes:
    """What `check` found, by row. content, pixels: (N, 16) bytes. perceptual: (N, V) uint64, V ≥ 1."""

    ok_N: NDArray[np.bool_]
    content_NB: NDArray[np.uint8]
    pixels_NB: NDArray[np.uint8]
    perceptual_NV: NDArray[np.uint64]


@dataclass(frozen=True)
class Search:
    """How to look for copies; see the settings of stage `dedupe`."""

    max_distance: int = 4
    mirrored: bool = True
    crop_distance: int = 10
    crop_tables: int = 16
    agreement: float = 0.75
    aligned_agreement: float = 0.88
    overlap: float = 0.5

    def agrees(self, found: Agreement) -> NDArray[np.bool_]:
        """Whether the detail of each pair agrees, as it is or aligned."""
        aligned = (found.aligned_P >= self.aligned_agreement) & (found.overlap_P >= self.overlap)
        return (found.unmoved_P >= self.agreement) | aligned


@dataclass(frozen=True)
class Copies:
    """exact_N: lowest row of equal bytes or pixels. groups_N: lowest row of the same picture.

    pairs_R2: the confirmed near pairs, between rows that are their own `exact`. tested: pairs that the finer
    comparison saw. blank: distinct pictures without structure.
    """

    exact_N: NDArray[np.int64]
    groups_N: NDArray[np.int64]
    pairs_R2: NDArray[np.int64]
    tested: int
    blank: int


Progress = Callable[[str, int, int], None]


def find_copies(hashes: Hashes, thumbnails: Thumbnails, search: Search, progress: Progress) -> Copies:
    """All copies among the rows that are ok; `progress(what, done, total)` is told how far it is."""
    count = len(hashes.ok_N)
    firsts = [join_exact(side, hashes.ok_N) for side in (hashes.content_NB, hashes.pixels_NB)]
    exact = group_rows(count, _pairs(*firsts))
    rows = np.flatnonzero(hashes.ok_N & (exact == np.arange(count)))
    compare = _Comparison(thumbnails, search, progress)

    main = hashes.perceptual_NV[rows, 0]
    same_R2, leaders = _equal_hashes(rows[main != BLANK], main[main != BLANK], compare)
    blank_R2 = _blanks(rows[main == BLANK], compare)
    near_R2 = compare.confirmed(_candidates(leaders, hashes.perceptual_NV[leaders], search))
    pairs = np.concatenate([same_R2, blank_R2, near_R2])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    groups = group_rows(count, np.concatenate([_pairs(exact), pairs]))
    return Copies(exact, groups, pairs, compare.tested, int(np.count_nonzero(main == BLANK)))


def _pairs(*firsts_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """(first, row) for the rows that are not their own first."""
    pairs = [
        np.stack([first, np.arange(len(first))], axis=1)[first != np.arange(len(first))] for first in firsts_N
    ]
    return np.concatenate(pairs)


class _Comparison:
    """The finer comparison, with the reading of thumbnails and a count of what was compared."""

    def __init__(self, thumbnails: Thumbnails, search: Search, progress: Progress) -> None:
        self.thumbnails, self.search, self.progress, self.tested = thumbnails, search, progress, 0

    def read(self, rows: NDArray[np.int64]) -> None:
        self.thumbnails.add(np.unique(rows), lambda done, total: self.progress("reading", done, total))

    def confirmed(self, candidates: Candidates) -> NDArray[np.int64]:
        pairs, flags = candidates.pairs_R2, candidates.mirrored_R
        return pairs[self.same(pairs, flags)]

    def same(self, pairs_R2: NDArray[np.int64], mirrored_R: NDArray[np.bool_]) -> NDArray[np.bool_]:
        self.read(pairs_R2)
        self.tested += len(pairs_R2)
        self.progress("comparing", 0, len(pairs_R2))
        return self.thumbnails.same(pairs_R2, mirrored_R, self.search.agrees)


def _equal_hashes(
    rows: NDArray[np.int64], hashes: NDArray[np.uint64], compare: _Comparison
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(pairs of leader and follower, leaders) of rows whose first hashes are equal and say something."""
    return followers(rows, hashes, lambda pairs: compare.same(pairs, np.zeros(len(pairs), bool)))


def _blanks(rows: NDArray[np.int64], compare: _Comparison) -> NDArray[np.int64]:
    """Pairs of pictures without structure that are of one shade, looked for among those of one colour."""
    compare.read(rows)
    pairs, _ = followers(rows, compare.thumbnails.colours(rows), compare.thumbnails.same_blank)
    return pairs


def _candidates(rows: NDArray[np.int64], hashes_LV: NDArray[np.uint64], search: Search) -> Candidates:
    """Pairs of leaders to look at."""
    whole_LV, parts_LV = hashes_LV[:, :WHOLE], hashes_LV[:, WHOLE:]
    found = [near_candidates(rows, whole_LV, search.max_distance, search.mirrored)]
    if search.crop_distance and parts_LV.shape[1]:
        # the unframed hash is one of the windows: it finds copies that are written over
        windows_LV = hashes_LV[:, 1:]
        distance, tables = search.crop_distance, search.crop_tables
        found.append(crop_candidates(rows, hashes_LV[:, 0], windows_LV, distance, tables=tables, seed=0))
    return Candidates.merged(found)
