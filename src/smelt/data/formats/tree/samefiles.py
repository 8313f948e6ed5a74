"""One file under several names: hard links, and links to it or to a folder of it, in two splits or classes.

The walk over the folders knows the number of every file (its inode) without asking for it; only files that
seem to have two names are looked at one by one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.base import Report
from smelt.errors import short

_SHOWN = 3


@dataclass
class Named:
    """The files of the images of a catalogue.

    inodes, hashes: a part for each folder, of its files' numbers and of the hashes of their paths.
    """

    inodes: list[NDArray[np.uint64]] = field(default_factory=list)
    hashes: list[NDArray[np.uint64]] = field(default_factory=list)

    def add(self, inodes: list[int], hashes: NDArray[np.uint64], used: NDArray[np.bool_]) -> None:
        """The files of a folder; `used` are images of the catalogue."""
        if used.any():
            self.inodes.append(np.array(inodes, np.uint64)[used])
            self.hashes.append(hashes[used])

    def tell(self, root: Path, catalogue: Catalogue, report: Report) -> None:
        """Warn of images that are one file and lie in two splits, or have two labels."""
        groups = self._groups(root, catalogue)
        splits: list[list[int]] = []
        labels: list[list[int]] = []
        for rows in groups:
            if len(set(catalogue.split_codes_N[rows].tolist())) > 1:
                splits.append(rows)
            elif len(set(catalogue.labels_N[rows].tolist())) > 1:
                labels.append(rows)
        why = "by links or hard links; take all but one of the names out, or copy the data without links"
        if splits:
            report.warn(
                f"{len(splits):,} image(s) are in two splits, one file by several names: what is learnt from "
                f"is what is judged by. {_some(splits, catalogue)}. They are one {why}"
            )
        if labels:
            report.warn(
                f"{len(labels):,} image(s) have two labels, one file by several names. "
                f"{_some(labels, catalogue)}. They are one {why}"
            )
        if rest := len(groups) - len(splits) - len(labels):
            report.note(f"{rest:,} image(s) are there by several names of one file (links or hard links)")

    def _groups(self, root: Path, catalogue: Catalogue) -> list[list[int]]:
        """The rows of each file that has several names, ascending."""
        if not self.inodes:
            return []
        inodes, hashes = np.concatenate(self.inodes), np.concatenate(self.hashes)
        _, inverse, counts = np.unique(inodes, return_inverse=True, return_counts=True)
        twice = np.flatnonzero(counts[inverse] > 1)
        if not len(twice):
            return []
        known = catalogue.path_hashes()
        order = np.argsort(known, kind="stable")
        rows_of = order[np.searchsorted(known[order], hashes[twice])]
        found: dict[Any, list[int]] = {}
        base = os.fsencode(root)
        for row in rows_of.tolist():
            try:  # a number is one file on one disk only
                status = os.stat(os.path.join(base, os.fsencode(catalogue.path(row))))
            except (OSError, ValueError):
                continue
            found.setdefault((status.st_dev, status.st_ino), []).append(row)
        return sorted(sorted(rows) for rows in found.values() if len(rows) > 1)


def _some(groups: list[list[int]], catalogue: Catalogue) -> str:
    """The first of some files, each with two of its names, and what they are taken for."""
    shown = []
    for rows in groups[:_SHOWN]:
        first = rows[0]
        differs = catalogue.split_codes_N if _differ(catalogue.split_codes_N, rows) else catalogue.labels_N
        second = next(row for row in rows if differs[row] != differs[first])
        shown.append(f"{_told(first, catalogue)} is {_told(second, catalogue)}")
    return "; ".join(shown) + (" …" if len(groups) > _SHOWN else "")


def _differ(values: NDArray[Any], rows: list[int]) -> bool:
    return len(set(values[rows].tolist())) > 1


def _told(row: int, catalogue: Catalogue) -> str:
    label = int(catalogue.labels_N[row])
    name = short(catalogue.classes[label], 40) if label >= 0 else "no label"
    path = decode(os.fsencode(catalogue.path(row)))
    return f"{short(path, 100)} ({catalogue.splits[int(catalogue.split_codes_N[row])]}, {name})"
