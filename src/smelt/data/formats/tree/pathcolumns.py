"""Columns of paths: cut into folder and name, checked, and found in one another, all rows at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import decode, gather, hash_spans
from smelt.artifacts.catalogue_writer import Paths
from smelt.data.formats.base import SHOWN, Report, unsafe

_SLASH = 47


def split_paths(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Paths:
    """The spans starts..ends-1 of `data` (ascending, not overlapping) as paths."""
    slashes = np.concatenate([np.full(1, -1), np.flatnonzero(data == _SLASH)])
    slash = slashes[np.searchsorted(slashes, ends) - 1]
    inside = slash >= starts
    # the folder of `/a` is `/`, or it would look like the bare name `a`
    cuts = np.where(inside, np.where(slash == starts, slash + 1, slash), starts)
    codes, firsts = _folder_codes(data, starts, cuts)
    folders = [data[starts[i] : cuts[i]].tobytes() for i in firsts.tolist()]
    return Paths(folders, codes, gather(data, np.where(inside, slash + 1, starts), ends))


def _folder_codes(
    data: NDArray[np.uint8], starts: NDArray[np.int64], cuts: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """(codes of the spans starts..cuts-1, first span of each code); runs of one folder are the rule."""
    hashes = hash_spans(data, starts, cuts - starts)
    heads = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]][: len(hashes)])
    _, firsts, codes = np.unique(hashes[heads], return_index=True, return_inverse=True)
    lengths = np.diff(np.append(heads, len(hashes)))
    return np.repeat(codes.astype(np.uint32), lengths), heads[firsts]


def check_paths(paths: Paths, where: Callable[[int], str], report: Report) -> None:
    """Report paths that are absolute, leave their folder, have no name or hold a NUL byte."""
    for code, folder in enumerate(paths.folders):
        if reason := unsafe(folder):
            rows = np.flatnonzero(paths.folder_codes == code)
            if len(rows):
                report.problem(f"{where(int(rows[0]))}: {decode(paths[int(rows[0])])!r} {reason}", len(rows))
    names = paths.names
    wrong = [i for i in np.flatnonzero(names.lengths() <= 2).tolist() if names[i] in (b"", b".", b"..")]
    zeros = np.flatnonzero(names.heap == 0)
    wrong += np.unique(np.searchsorted(names.offsets, zeros, side="right") - 1).tolist()
    for row in wrong[:SHOWN]:
        report.problem(f"{where(row)}: {decode(paths[row])!r} is not the name of a file")
    report.num_problems += max(0, len(wrong) - SHOWN)


def find_paths(wanted: Paths, known: Paths) -> NDArray[np.int64]:
    """(N,) where each of `wanted` is in `known`, -1 where it is not; of equal ones the first."""
    if not len(known):
        return np.full(len(wanted), -1)
    hashes = known.hashes()
    order = np.argsort(hashes, kind="stable")
    place = order[np.minimum(np.searchsorted(hashes[order], own := wanted.hashes()), len(order) - 1)]
    found = np.flatnonzero(hashes[place] == own)
    mine, theirs = wanted.names.take(found), known.names.take(place[found])
    same = mine.lengths() == theirs.lengths()
    if not bool(same.all()) or not np.array_equal(mine.heap, theirs.heap):
        same = np.array([a == b for a, b in zip(mine, theirs)], np.bool_)
    return np.where(np.isin(np.arange(len(wanted)), found[same]), place, -1)
