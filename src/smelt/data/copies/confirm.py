"""From the hashes of all images to confirmed pairs of copies, and from those to groups.

1. Equal bytes or equal pixels: exact copies, sure.
2. Of the others, equal perceptual hashes: the best picture leads, those that agree with it follow.
3. Leaders whose hashes are near, mirrored or not, and leaders of which one is like a part of the other;
   where features are known, pairs that a net sees alike, mirrored or not.
4. What shares a partner: whether it also is a copy of the best one there, or of a held-out one.

Nothing of 2 to 4 counts before `thumbnails` has compared the pixels; what was not compared is no copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.data.copies.alignment import Agreement
from smelt.data.copies.groups import followers, group_rows, join_exact, lowest_of, partners, stars
from smelt.data.copies.hashes import BLANK
from smelt.data.copies.pairs import Candidates, crop_candidates, near_candidates
from smelt.data.copies.thumbnails import Thumbnails

NEXT = 8  # partners of a partner that a row is compared with
ROUNDS = 4  # times that rows left alone are compared with the centre that took their partner
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
    """What was found, by row.

    exact_N: lowest row of equal bytes or pixels. groups_N: lowest row of the group; every row of a group is
    a copy of its best row, by comparison. chains_N: lowest row of what is joined through any number of
    copies. pairs_R2: the confirmed near pairs, between rows that are their own `exact`; mirrored_R: of which
    one shows it left for right. shown_N: the held-out row that a row is a copy of, −1 for none. rank_N: of
    two copies the one with the lower rank is better. tested: pairs that the finer comparison saw. blank:
    distinct pictures without structure.
    """

    exact_N: NDArray[np.int64]
    groups_N: NDArray[np.int64]
    chains_N: NDArray[np.int64]
    pairs_R2: NDArray[np.int64]
    mirrored_R: NDArray[np.bool_]
    shown_N: NDArray[np.int64]
    rank_N: NDArray[np.int64]
    tested: int
    blank: int


Progress = Callable[[str, int, int], None]


class CopyFinder:
    """Finds copies among the rows that are ok; `progress(what, done, total)` is told how far it is.

    area_N: pixels of each image; the larger of two copies is the better one. alike_R2: pairs of `rows` that a
    net sees alike, to be compared too.
    """

    def __init__(
        self, hashes: Hashes, thumbnails: Thumbnails, search: Search, progress: Progress,
        area_N: NDArray[np.int64] | None = None, alike_R2: NDArray[np.int64] | None = None,
    ) -> None:  # fmt: skip
        count = len(hashes.ok_N)
        self.hashes, self.search = hashes, search
        self.area_N = np.zeros(count, np.int64) if area_N is None else area_N
        firsts = [join_exact(side, hashes.ok_N) for side in (hashes.content_NB, hashes.pixels_NB)]
        self.exact_N = group_rows(count, _pairs(*firsts))
        self.rows = np.flatnonzero(hashes.ok_N & (self.exact_N == np.arange(count)))
        self.blank_N = hashes.perceptual_NV[:, 0] == BLANK
        self.compare = _Comparison(thumbnails, search, progress, self.blank_N)
        self.known = Candidates(np.zeros((0, 2), np.int64), np.zeros(0, bool))
        self.refused_R2 = np.zeros((0, 2), np.int64)
        self.alike_R2 = self.refused_R2 if alike_R2 is None else alike_R2
        self.by_features = 0

    def find(self, held_out_N: NDArray[np.bool_]) -> Copies:
        """All copies; of two the held-out one is the better."""
        rows, main = self.rows, self.hashes.perceptual_NV[self.rows, 0]
        self.compare.read(_not_alone(rows, main))
        rank_N = self._rank(held_out_N)
        same, leaders = self._equal_hashes(rows[main != BLANK], main[main != BLANK], rank_N)
        blanks = self._blanks(rows[main == BLANK], rank_N)
        near = self.compare.confirmed(_candidates(leaders, self.hashes.perceptual_NV[leaders], self.search))
        self.known = _merged([same, blanks, near])
        self.by_features = self._confirm_alike()
        return self.grouped(held_out_N)

    def _confirm_alike(self) -> int:
        """Compare pairs that a net sees alike, as they are and else mirrored; how many were confirmed."""
        pairs = self.alike_R2[~self.blank_N[self.alike_R2].any(axis=1)]
        asked = _without(Candidates(pairs, np.zeros(len(pairs), bool)), self.known.pairs_R2).pairs_R2
        plain = self.compare.same_unmirrored(asked)
        rest = asked[~plain]
        mirrored = rest[self.compare.same(rest, np.ones(len(rest), bool))]
        found = [Candidates(asked[plain], np.zeros(int(plain.sum()), bool)),
                 Candidates(mirrored, np.ones(len(mirrored), bool))]  # fmt: skip
        self.known = _merged([self.known, *found])
        return int(plain.sum()) + len(mirrored)

    def grouped(self, held_out_N: NDArray[np.bool_]) -> Copies:
        """The copies known so far as groups, for another set of held-out rows."""
        rank_N = self._rank(held_out_N)
        held_N = np.zeros(len(held_out_N), bool)
        held_N[self.exact_N[held_out_N]] = True  # one of its exact copies is
        self._add(_leaks_to_test(self.known, held_N, rank_N))
        for _ in range(ROUNDS):
            known = self._separate(held_out_N, rank_N)
            if not self._add(_left_alone(known, stars(known.pairs_R2, rank_N), rank_N)):
                break
        self._add_leftovers(held_out_N, rank_N)
        centre_N = stars(self._separate(held_out_N, rank_N).pairs_R2, rank_N)
        exact = _pairs(self.exact_N)
        known = self.known
        return Copies(
            self.exact_N,
            lowest_of(centre_N[self.exact_N]),
            group_rows(len(rank_N), np.concatenate([exact, known.pairs_R2])),
            known.pairs_R2,
            known.mirrored_R,
            partners(known.pairs_R2, self.exact_N, held_out_N, rank_N),
            rank_N,
            self.compare.tested,
            int(np.count_nonzero(self.blank_N[self.rows])),
        )

    def _rank(self, held_out_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(N,) place of each row among all, the best copy first; exact copies share the merits of any."""
        count = len(held_out_N)
        size_N = np.zeros(count, np.int64)
        rows, sizes = self.compare.thumbnails.sizes()
        size_N[rows] = sizes
        held_N = np.zeros(count, bool)
        held_N[self.exact_N[held_out_N]] = True
        order = np.lexsort((np.arange(count), -size_N, -self.area_N, ~held_N))
        rank_N = np.empty(count, np.int64)
        rank_N[order] = np.arange(count)
        return rank_N

    def _separate(self, held_out_N: NDArray[np.bool_], rank_N: NDArray[np.int64]) -> Candidates:
        """The known pairs without those of a leak and a training row that is none.

        Leaks are dropped: a group that had one for its centre would have lost what its members were compared
        with.
        """
        pairs = self.known.pairs_R2
        shown_N = partners(pairs, self.exact_N, held_out_N, rank_N) >= 0
        # held-out rows show one themselves, through their own exact class
        together = shown_N[pairs[:, 0]] == shown_N[pairs[:, 1]]
        return Candidates(pairs[together], self.known.mirrored_R[together])

    def _add(self, candidates: Candidates) -> bool:
        """Compare pairs that are not known; whether any was confirmed."""
        asked = _without(candidates, np.concatenate([self.known.pairs_R2, self.refused_R2]))
        right = self.compare.same(asked.pairs_R2, asked.mirrored_R)
        self.refused_R2 = np.concatenate([self.refused_R2, asked.pairs_R2[~right]])
        self.known = _merged([self.known, Candidates(asked.pairs_R2[right], asked.mirrored_R[right])])
        return bool(right.any())

    def _add_leftovers(self, held_out_N: NDArray[np.bool_], rank_N: NDArray[np.int64]) -> None:
        """Compare with one another the rows that are still alone and have a partner in common."""
        pairs = self._separate(held_out_N, rank_N).pairs_R2
        alone, through = _alone(pairs, stars(pairs, rank_N), rank_N)
        found, _ = followers(alone, through, self.compare.same_unmirrored, rank_N[alone])
        self.known = _merged([self.known, Candidates(found, np.zeros(len(found), bool))])

    def _equal_hashes(
        self, rows: NDArray[np.int64], hashes: NDArray[np.uint64], rank_N: NDArray[np.int64]
    ) -> tuple[Candidates, NDArray[np.int64]]:
        """(pairs of leader and follower, leaders) of rows whose first hashes are equal and say something."""
        pairs, leaders = followers(rows, hashes, self.compare.same_unmirrored, rank_N[rows])
        return Candidates(pairs, np.zeros(len(pairs), bool)), leaders

    def _blanks(self, rows: NDArray[np.int64], rank_N: NDArray[np.int64]) -> Candidates:
        """Pairs of pictures without structure that are of one shade, looked for among those of one colour."""
        self.compare.read(rows)
        thumbnails = self.compare.thumbnails
        pairs, _ = followers(rows, thumbnails.colours(rows), thumbnails.same_blank, rank_N[rows])
        return Candidates(pairs, np.zeros(len(pairs), bool))


def _pairs(*firsts_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """(first, row) for the rows that are not their own first."""
    pairs = [
        np.stack([first, np.arange(len(first))], axis=1)[first != np.arange(len(first))] for first in firsts_N
    ]
    return np.concatenate(pairs)


def _not_alone(rows: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The rows whose hash another one has."""
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return rows[counts[inverse] > 1]


def _merged(parts: list[Candidates]) -> Candidates:
    """All pairs once, lower row first, sorted; of one that is there both ways the plain one."""
    both = Candidates.merged(parts)
    if not len(both.pairs_R2):
        return both
    first = np.r_[True, (both.pairs_R2[1:] != both.pairs_R2[:-1]).any(axis=1)]
    return Candidates(both.pairs_R2[first], both.mirrored_R[first])


def _without(candidates: Candidates, pairs_R2: NDArray[np.int64]) -> Candidates:
    """The candidates that are none of these pairs, nor a row with itself."""
    wanted = np.sort(candidates.pairs_R2, axis=1)
    span = int(max(wanted.max(initial=0), pairs_R2.max(initial=0))) + 1
    new = ~np.isin(wanted[:, 0] * span + wanted[:, 1], pairs_R2[:, 0] * span + pairs_R2[:, 1])
    new &= wanted[:, 0] != wanted[:, 1]
    return Candidates(wanted[new], candidates.mirrored_R[new])


def _ends(known: Candidates, rank_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(row, partner) of every pair both ways, by row and then by the partner's rank; which are mirrored."""
    ends = np.concatenate([known.pairs_R2, known.pairs_R2[:, ::-1]])
    order = np.lexsort((rank_N[ends[:, 1]], ends[:, 0]))
    return ends[order], np.concatenate([known.mirrored_R, known.mirrored_R])[order]


def _through(
    ends: NDArray[np.int64], flips: NDArray[np.bool_], wanted: NDArray[np.bool_], asked: NDArray[np.bool_]
) -> Candidates:
    """Pairs of (row of an end that is asked for) with the first NEXT wanted partners of its partner."""
    starts = np.searchsorted(ends[wanted, 0], ends[asked, 1], side="left")
    stops = np.searchsorted(ends[wanted, 0], ends[asked, 1], side="right")
    counts = np.minimum(stops - starts, NEXT)
    which = np.repeat(np.arange(len(counts)), counts)
    place = starts[which] + np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    pairs = np.stack([ends[asked, 0][which], ends[wanted, 1][place]], axis=1)
    return Candidates(pairs, flips[asked][which] ^ flips[wanted][place])


def _leaks_to_test(known: Candidates, held_N: NDArray[np.bool_], rank_N: NDArray[np.int64]) -> Candidates:
    """Rows that are no copy of a held-out row, with the held-out partners of their partners."""
    ends, flips = _ends(known, rank_N)
    leaking = np.zeros(len(held_N), bool)
    to_held = held_N[ends[:, 1]]
    leaking[ends[to_held, 0]] = True
    return _through(ends, flips, to_held, ~held_N[ends[:, 0]] & ~leaking[ends[:, 0]] & ~to_held)


def _left_alone(known: Candidates, centre_N: NDArray[np.int64], rank_N: NDArray[np.int64]) -> Candidates:
    """Rows that are alone though they have partners, with the centres that took those."""
    alone = np.zeros(len(rank_N), bool)
    alone[_alone(known.pairs_R2, centre_N, rank_N)[0]] = True
    ends, flips = _ends(known, rank_N)
    to_centre = centre_N[ends[:, 0]] == ends[:, 1]
    return _through(ends, flips, to_centre, alone[ends[:, 0]])


def _alone(
    pairs_R2: NDArray[np.int64], centre_N: NDArray[np.int64], rank_N: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows of `pairs_R2` whose group has no other, the best partner of each)."""
    ends = np.concatenate([pairs_R2, pairs_R2[:, ::-1]])
    members = np.bincount(centre_N, minlength=len(centre_N))[centre_N]
    ends = ends[members[ends[:, 0]] == 1]
    ends = ends[np.lexsort((rank_N[ends[:, 1]], ends[:, 0]))]
    rows, first = np.unique(ends[:, 0], return_index=True)
    return rows, ends[first, 1]


class _Comparison:
    """The finer comparison, with the reading of thumbnails and a count of what was compared."""

    def __init__(
        self, thumbnails: Thumbnails, search: Search, progress: Progress, blank_N: NDArray[np.bool_]
    ) -> None:
        self.thumbnails, self.search, self.progress, self.tested = thumbnails, search, progress, 0
        self.blank_N = blank_N

    def read(self, rows: NDArray[np.int64]) -> None:
        self.thumbnails.add(np.unique(rows), lambda done, total: self.progress("reading", done, total))

    def confirmed(self, candidates: Candidates) -> Candidates:
        pairs, flags = candidates.pairs_R2, candidates.mirrored_R
        right = self.same(pairs, flags)
        return Candidates(pairs[right], flags[right])

    def same_unmirrored(self, pairs_R2: NDArray[np.int64]) -> NDArray[np.bool_]:
        """`same` of pairs as they are."""
        return self.same(pairs_R2, np.zeros(len(pairs_R2), bool))

    def same(self, pairs_R2: NDArray[np.int64], mirrored_R: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether each pair shows one picture; pictures without structure are compared by their shade.

        The lower row is laid on the higher one: which is moved decides a little, so it must not be chance.
        """
        if not len(pairs_R2):
            return np.zeros(0, bool)
        pairs_R2 = np.sort(pairs_R2, axis=1)
        self.read(pairs_R2)
        self.tested += len(pairs_R2)
        self.progress("comparing", 0, len(pairs_R2))
        plain = self.blank_N[pairs_R2].all(axis=1)
        found = np.zeros(len(pairs_R2), bool)
        found[plain] = self.thumbnails.same_blank(pairs_R2[plain])
        found[~plain] = self.thumbnails.same(pairs_R2[~plain], mirrored_R[~plain], self.search.agrees)
        return found


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
