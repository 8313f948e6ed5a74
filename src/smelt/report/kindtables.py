"""What is wrong with rows, as tables: by kind, source, class, pair of classes; against a known truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smelt.report.findings import UNKNOWN, Table, count, percent
from smelt.report.shown import NAME, shown

LISTED = 12
WORDS = {
    "right": "label is right",
    "wrong_class": "another class of the data",
    "outside": "none of the classes",
    "ambiguous": "between two classes",
    "copy": "copy",
    "unreadable": "cannot be read",
}
NOTE = (
    "By features, each image judged by the others. Uncalibrated: no person has looked (smelt audit asks "
    "one). The class that an image is likelier of is in kinds.parquet."
)


@dataclass(frozen=True)
class KindTables:
    """`diagnosis` is `diagnosis.json` of a ranking by features."""

    diagnosis: Mapping[str, Any]

    def kinds(self) -> Table | None:
        """Images of each kind, with the mean probability of being of it."""
        rows = [
            [WORDS[one["kind"]], count(one["images"]), percent(one["mean_p"], 0)]
            for one in self.diagnosis.get("kinds", [])
            if one["images"]
        ]
        columns = ["what an image is", "images", "how sure, %"]
        return Table(columns, rows, "What kind of wrong", NOTE) if rows else None

    def shares(self) -> list[Table]:
        """The expected share of wrong labels by source and by class."""
        found = []
        for name, what in (("wrong_sources", "source"), ("wrong_classes", "class")):
            rows = [
                [shown(one[what], NAME), count(one["images"]), percent(one["wrong"], 1)]
                for one in self.diagnosis.get(name, [])[:LISTED]
            ]
            if rows:
                columns = [what, "images", "expected to be wrong, %"]
                found.append(Table(columns, rows, f"Labels that look wrong, by {what}"))
        return found

    def pairs(self) -> Table | None:
        """What wrong labels are likelier to be."""
        rows = [
            [shown(one["label"], NAME), shown(one["likely"], NAME), count(one["images"])]
            for one in self.diagnosis.get("wrong_pairs", [])[:LISTED]
        ]
        columns = ["label", "likelier", "images"]
        title = "Which class images of a wrong class are likelier of"
        return Table(columns, rows, title, words=("likelier",)) if rows else None

    def tables(self) -> list[Table]:
        """All of them that there are."""
        return [one for one in (self.kinds(), *self.shares(), self.pairs()) if one is not None]


def against_truth(selections: Sequence[Mapping[str, Any]]) -> Table | None:
    """What images are and what they were taken for, by round, where the truth is known."""
    rows = []
    for one in selections:
        found = one.get("kinds") or {}
        for truth, counts in found.get("confusion", {}).items():
            if sum(counts.values()):
                rows.append([one["round"], WORDS[truth], *(count(counts[kind]) for kind in WORDS)])
    if not rows:
        return None
    named = [
        f"{one['round']} {percent(one['kinds'].get('named'), 1)} %"
        for one in selections
        if one.get("kinds") and one["kinds"].get("named") is not None
    ]
    note = f"Of those rightly called of another class the likelier one is the true one: {', '.join(named)}."
    columns = ["round", "truth", *WORDS.values()]
    title = "Kinds against the known truth (images)"
    return Table(columns, rows, title, note if named else UNKNOWN, words=("truth",))
