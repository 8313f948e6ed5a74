"""What a ranking by features found of a data set, for a person who looks: the worst first, copies, odd ones.

Read from a work folder; computes nothing but orders and counts. The probabilities are of `rank`: uncalibrated
until verdicts are given (`smelt audit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.row_kinds import (
    COPY,
    KINDS,
    OUTSIDE,
    UNREADABLE,
    WRONG_CLASS,
    RowKinds,
    read_kinds,
)
from smelt.errors import ArtifactError
from smelt.files.atomic import write_csv
from smelt.files.parquet import read_table
from smelt.flowchart.work import Item, Work
from smelt.report.counted import read_csv

LIST = "suspicious.csv"
COLUMNS = ("path", "label", "looks_like", "kind", "score", "copy_of")
DOUBT = 0.25  # probability of a wrong label from which a row is listed, whatever kind is likeliest
WORDS = {
    "wrong_class": "wrong class", "outside": "none of the classes", "ambiguous": "between two classes",
    "copy": "copy", "unreadable": "cannot be read", "right": "in doubt",
}  # fmt: skip


@dataclass(frozen=True)
class Looked:
    """A work folder whose `rank` went by features. cleanness_N goes with the rows of `kinds`."""

    work: Work
    catalogue: Catalogue
    item: Item
    kinds: RowKinds
    cleanness_N: NDArray[np.float64]

    @classmethod
    def of(cls, work: Work) -> Looked:
        """By the first ranking that is done; ArtifactError where there is none, or none by features."""
        item = next((item for item in work.of("rank") if item.path), None)
        if item is None or item.path is None or work.catalogue is None:
            raise work.not_done("rank")
        kinds = read_kinds(item.path)
        if kinds is None:
            raise ArtifactError(f"{item.id} of {work.folder} went by no features, which tell the kinds")
        found = read_table(item.path / "ranking.parquet", ["row", "cleanness"])
        if not np.array_equal(found["row"].to_numpy(), kinds.rows):
            raise ArtifactError(f"{item.path} is damaged: its kinds are not of the rows of its ranking")
        return cls(work, work.catalogue, item, kinds, found["cleanness"].to_numpy(zero_copy_only=False))

    @cached_property
    def noise(self) -> str:
        """How many labels look wrong, in words; "" where nobody said."""
        found = self.item.json("diagnosis.json").get("noise") or {}
        return str(found.get("words", ""))

    @cached_property
    def suspects(self) -> NDArray[np.int64]:
        """Places of rows whose label is in doubt, the worst first; no copies, none that cannot be read."""
        kinds = self.kinds
        p_wrong = np.nan_to_num(kinds.p_wrong)
        doubted = np.isin(kinds.kind, (WRONG_CLASS, OUTSIDE)) | (p_wrong >= DOUBT)
        labelled = self.catalogue.labels_N[kinds.rows] >= 0
        found = np.flatnonzero(doubted & labelled & ~np.isin(kinds.kind, (COPY, UNREADABLE)))
        clean = np.where(np.isnan(self.cleanness_N), np.inf, self.cleanness_N)
        return found[np.lexsort((kinds.rows[found], clean[found], -p_wrong[found]))]

    def of_kind(self, kind: int) -> NDArray[np.int64]:
        """Places of the rows of a kind, the surest first."""
        found = np.flatnonzero(self.kinds.kind == kind)
        sure = np.nan_to_num(self.kinds.p_kind)
        return found[np.lexsort((self.kinds.rows[found], -sure[found]))]

    def by_class(self) -> list[tuple[int, NDArray[np.int64]]]:
        """(class, places of its suspects, the worst first), classes with the most of them first."""
        labels = self.labels(self.suspects)
        counts = np.bincount(labels, minlength=self.catalogue.num_classes)
        order = np.argsort(-counts, kind="stable")
        return [(int(c), self.suspects[labels == c]) for c in order if counts[c]]

    def labels(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels of rows."""
        return self.catalogue.labels_N[self.kinds.rows[places]].astype(np.int64)

    def looks_like(self, place: int) -> str:
        """The class that a row looks like instead of its own; "" for none, and for its own."""
        likely = int(self.kinds.likely[place])
        row = int(self.kinds.rows[place])
        if likely < 0 or likely == self.catalogue.labels_N[row] or self.kinds.kind[place] == OUTSIDE:
            return ""
        return self.catalogue.classes[likely]

    @cached_property
    def originals(self) -> Mapping[int, int]:
        """Row → the row that it is a copy of."""
        path = self.work.one("dedupe").path
        if path is None:
            return {}
        table = read_table(path / "duplicates.parquet", ["row", "original"])
        rows, originals = table["row"].to_numpy(), table["original"].to_numpy()
        other = rows != originals
        return dict(zip(rows[other].tolist(), originals[other].tolist(), strict=True))

    @cached_property
    def alike(self) -> list[tuple[int, int, float]]:
        """(row, row, cosine) of pairs that look alike and are no copies by their pixels; nearest first."""
        path = self.work.one("dedupe").path
        lines = read_csv(path / "alike.csv") if path else []
        if not lines:
            return []
        wanted = {line["file"] for line in lines} | {line["other"] for line in lines}
        paths = ((self.catalogue.path(row), row) for row in range(self.catalogue.num_rows))
        rows = {path: row for path, row in paths if path in wanted}
        return [(rows[line["file"]], rows[line["other"]], float(line["cosine"])) for line in lines]

    def bad(self, name: str) -> list[dict[str, str]]:
        """The lines of `bad_files.csv` or `damaged_files.csv` of `check`."""
        path = self.work.one("check").path
        return read_csv(path / name) if path else []

    def summary(self) -> dict[str, Any]:
        """The figures, as `--json` has them."""
        copies = self.work.one("dedupe").json("dedupe.json")
        counts = self.kinds.counts()
        return {
            "images": self.catalogue.num_rows,
            "classes": self.catalogue.num_classes,
            "ranked": len(self.kinds.rows),
            "noise": self.item.json("diagnosis.json").get("noise", {}),
            "kinds": counts,
            "listed": len(self.suspects),
            "exact_copies": copies.get("exact_copies", 0),
            "near_copies": copies.get("near_copies", 0),
            "cross_label_groups": copies.get("cross_label_groups", 0),
            "look_alike": copies.get("look_alike", 0),
            "unreadable": len(self.bad("bad_files.csv")),
            "damaged": len(self.bad("damaged_files.csv")),
        }

    def lines(self) -> Iterator[tuple[str, ...]]:
        """Lines of suspicious.csv: labels in doubt, the worst first, then copies, then unreadable images."""
        for place in np.r_[self.suspects, self.of_kind(COPY), self.of_kind(UNREADABLE)].tolist():
            row, kind = int(self.kinds.rows[place]), int(self.kinds.kind[place])
            label = int(self.catalogue.labels_N[row])
            original = self.originals.get(row) if kind == COPY else None
            p_wrong = float(self.kinds.p_wrong[place])
            yield (
                self.catalogue.path(row),
                self.catalogue.classes[label] if label >= 0 else "",
                self.looks_like(place),
                KINDS[kind],
                "" if np.isnan(p_wrong) else f"{p_wrong:.4f}",
                "" if original is None else self.catalogue.path(original),
            )

    def write_list(self, path: Path) -> None:
        """Write suspicious.csv."""
        write_csv(path, [COLUMNS, *self.lines()])
