"""Exact and near duplicates among millions of images: equal hashes, groups, and which copy is kept.

To be like is not transitive: of the frames of a pan each is like the next, and the first has nothing in
common with the last. So groups are stars: every member was compared with the best copy of its group, and is
a copy of that one. What is joined only through others is a chain (`group_rows`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8  # pictures told apart among those of one hash; what is left after so many stays unjoined


def join_exact(hashes_N: NDArray[np.generic], valid_N: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """For each row the lowest row with the same 16-byte hash: its own number where there is none before it.

    hashes_N: (N,) of a 16-byte type, or (N, 16) bytes. Rows that are not valid are each their own.
    """
    words_N2 = np.ascontiguousarray(hashes_N).view(np.uint64).reshape(-1, 2)
    count = len(words_N2)
    rows = np.arange(count) if valid_N is None else np.flatnonzero(valid_N)
    # hardly any row has a twin: sort whole rows only where half of the hash was seen twice
    rows = rows[_repeated(words_N2[rows, 0])]
    words = words_N2[rows]
    order = np.lexsort((words[:, 1], words[:, 0]))  # stable: rows of equal hash stay ascending
    first = np.arange(count)
    if len(rows):
        words, rows = words[order], rows[order]
        starts = np.flatnonzero(np.r_[True, (words[1:] != words[:-1]).any(axis=1)])
        first[rows] = np.repeat(rows[starts], np.diff(np.r_[starts, len(rows)]))
    return first


def _repeated(values_N: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which values occur more than once."""
    ordered = np.sort(values_N)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return np.zeros(len(values_N), np.bool_)
    place = np.minimum(np.searchsorted(twice, values_N), len(twice) - 1)
    return np.asarray(twice[place] == values_N, np.bool_)


def group_rows(count: int, pairs_R2: NDArray[np.int64]) -> NDArray[np.int64]:
    """Connected components: for each of `count` rows the lowest row it is joined to, directly or not.

    Vectorised union by lowest label with pointer jumping (Shiloach and Vishkin 1982).
    """
    label = np.arange(count)
    left, right = pairs_R2[:, 0], pairs_R2[:, 1]
    while True:
        a, b = label[left], label[right]
        open_pairs = a != b
        if not open_pairs.any():
            return label
        left, right, a, b = left[open_pairs], right[open_pairs], a[open_pairs], b[open_pairs]
        np.minimum.at(label, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(label, jumped := label[label]):
            label = jumped


def stars(pairs_R2: NDArray[np.int64], rank_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row the centre of its group: its own number, or that of a row it is paired with.

    pairs_R2: which rows are copies of one another. rank_N: the lower the better a copy. The best row that is
    in no group yet takes all its partners that are in none, and so on: a greedy cover, in time O(N + R).
    """
    centre_N = np.arange(len(rank_N))
    paired = np.zeros(len(rank_N), bool)
    paired[pairs_R2] = True
    nodes = np.flatnonzero(paired)
    places = np.cumsum(paired) - 1
    ends = places[np.concatenate([pairs_R2, pairs_R2[:, ::-1]])]
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    starts = np.searchsorted(ends[:, 0], np.arange(len(nodes) + 1)).tolist()
    partner = ends[:, 1].tolist()
    taken = [-1] * len(nodes)
    for node in np.argsort(rank_N[nodes], kind="stable").tolist():
        if taken[node] < 0:
            taken[node] = node
            for other in partner[starts[node] : starts[node + 1]]:
                if taken[other] < 0:
                    taken[other] = node
    centre_N[nodes] = nodes[np.array(taken, np.int64)]
    return centre_N


def lowest_of(groups_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups, however they are numbered, each renamed to its lowest row."""
    _, first, inverse = np.unique(groups_N, return_index=True, return_inverse=True)
    return first[inverse]


def partners(
    pairs_R2: NDArray[np.int64], exact_N: NDArray[np.int64], wanted_N: NDArray[np.bool_],
    rank_N: NDArray[np.int64],
) -> NDArray[np.int64]:  # fmt: skip
    """For each row the row of `wanted` that it is a copy of, found exactly so or compared; −1 for none.

    pairs_R2: near pairs between rows that are their own `exact`. Exact copies go before near ones, then the
    better rank, then the lower row.
    """
    held_N = np.full(len(exact_N), -1)  # of each exact class its lowest wanted row
    wanted = np.flatnonzero(wanted_N)[::-1]
    held_N[exact_N[wanted]] = wanted
    ends = np.concatenate([pairs_R2, pairs_R2[:, ::-1]])
    ends = ends[held_N[ends[:, 1]] >= 0]
    ends = ends[np.argsort(-rank_N[ends[:, 1]], kind="stable")]  # the best is written last
    found_N = np.full(len(exact_N), -1)
    found_N[ends[:, 0]] = held_N[ends[:, 1]]
    return np.where(held_N >= 0, held_N, found_N)[exact_N]


def followers(
    rows_N: NDArray[np.int64],
    classes_N: NDArray[np.generic],
    same: Callable[[NDArray[np.int64]], NDArray[np.bool_]],
    rank_N: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the rows of each class (one hash) into pictures: (pairs_R2 of leader and follower, leaders).

    The first by `rank_N`, a number for each, leads, those for which `same(pairs_R2)`
    holds follow it; the first of the others leads next. So a class of any size costs ROUNDS comparisons a
    row at most. Classes of one row lead untested.
    """
    order = np.lexsort((rank_N, classes_N))
    rows, classes = rows_N[order], classes_N[order]
    pairs, leaders = [np.zeros((0, 2), np.int64)], []
    for _ in range(ROUNDS):
        starts = np.flatnonzero(np.r_[True, classes[1:] != classes[:-1]][: len(rows)])
        leaders.append(rows[starts])
        leader = np.repeat(rows[starts], np.diff(np.r_[starts, len(rows)]))
        others = np.flatnonzero(leader != rows)
        if not len(others):
            break
        tried = np.stack([leader[others], rows[others]], axis=1)
        agree = same(tried)
        pairs.append(tried[agree])
        rows, classes = rows[others[~agree]], classes[others[~agree]]
    else:
        leaders.append(rows)
    return np.concatenate(pairs), np.sort(np.concatenate(leaders))


@dataclass(frozen=True)
class Verdict:
    """What is to be done with the rows that have a copy (G rows, ascending).

    rows, group: (G,) group numbers ascend with their lowest row. original: the row each was compared with and
    is judged a copy of, itself where it is the original. keep, leak, cross_label: see `decide`.
    """

    rows: NDArray[np.int64]
    group: NDArray[np.int32]
    original: NDArray[np.int64]
    keep: NDArray[np.bool_]
    leak: NDArray[np.bool_]
    cross_label: NDArray[np.bool_]


def decide(
    groups_N: NDArray[np.int64],
    labels_N: NDArray[np.int32],
    held_out_N: NDArray[np.bool_],
    area_N: NDArray[np.int64],
    size_N: NDArray[np.int64],
    *,
    within_training: bool = True,
    against_held_out: bool = True,
    shown_N: NDArray[np.int64] | None = None,
    same_N: NDArray[np.int64] | None = None,
) -> Verdict:
    """Which copy of each group is kept.

    groups_N: as `group_rows` gives them. held_out: rows of validation and test, which are always kept.
    The original of a group is its best copy: held out before training, then more pixels (area), then more
    bytes (size), then the lower row. shown_N: the held-out row that each row is a copy of, −1 for none; a
    training row that has one is a leak. Where it is not given, so is one whose group has a held-out row.
    Dropped are leaks (`against_held_out`) and, of the other training rows of a group, all but the best
    (`within_training`). cross_label: the group's known labels (≥ 0) are not all one. same_N: the lowest row
    of the same file, where a file has a row for each of its labels: these are no copies of one another, and
    are kept or dropped together; files whose labels are the same do not cross.
    """
    files = np.ones(len(groups_N), bool) if same_N is None else same_N == np.arange(len(groups_N))
    members = np.bincount(groups_N[files], minlength=len(groups_N))[groups_N] > 1
    if shown_N is not None:
        members |= (shown_N >= 0) & ~held_out_N
    rows = np.flatnonzero(members)
    _, group = np.unique(groups_N[rows], return_inverse=True)
    count = int(group.max()) + 1 if len(rows) else 0
    held_out, labels = held_out_N[rows], labels_N[rows]
    best = np.lexsort((rows, -size_N[rows], -area_N[rows], ~held_out, group))
    original = rows[best[np.searchsorted(group[best], np.arange(count))]]
    leak = (np.bincount(group, held_out, count) > 0)[group] & ~held_out
    shown = original[group]
    if shown_N is not None:
        leak = (shown_N[rows] >= 0) & ~held_out
        shown = np.where(leak & ~held_out_N[shown], shown_N[rows], shown)
    trained = best[~held_out[best] & ~(leak[best] & against_held_out)]  # best first within each group
    firsts = np.zeros(len(rows), bool)
    firsts[trained[np.r_[True, group[trained][1:] != group[trained][:-1]][: len(trained)]]] = True
    if same_N is not None:
        firsts = np.isin(same_N[rows], same_N[rows[firsts]])
    keep = held_out | firsts | (not within_training)
    if against_held_out:
        keep &= ~leak
    cross = _crosses(group, labels, None if same_N is None else same_N[rows], count)
    return Verdict(rows, group.astype(np.int32), shown, keep, leak, cross[group])


def _crosses(
    group_G: NDArray[np.int64], labels_G: NDArray[np.int32], file_G: NDArray[np.int64] | None, count: int
) -> NDArray[np.bool_]:
    """(count,) whether the known labels of a group are not all one, and not so in each file alone."""
    low, high = np.full(count, np.iinfo(np.int32).max), np.full(count, -1)
    np.minimum.at(low, group_G[labels_G >= 0], labels_G[labels_G >= 0])
    np.maximum.at(high, group_G, labels_G)
    cross = np.asarray(high > low)
    return cross if file_G is None else cross & _differ(group_G, file_G, labels_G, count)


def _differ(
    group_G: NDArray[np.int64], file_G: NDArray[np.int64], labels_G: NDArray[np.int32], count: int
) -> NDArray[np.bool_]:
    """(count,) whether the files of a group have different sets of known labels."""
    sets: dict[tuple[int, int], set[int]] = {}
    for group, file, label in zip(group_G.tolist(), file_G.tolist(), labels_G.tolist()):
        if label >= 0:
            sets.setdefault((group, file), set()).add(label)
    kinds: dict[int, set[frozenset[int]]] = {}
    for (group, _), labels in sets.items():
        kinds.setdefault(group, set()).add(frozenset(labels))
    return np.array([len(kinds.get(group, ())) > 1 for group in range(count)], np.bool_)
