"""What people's verdicts say of the labels, as sentences and tables, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smelt.files.auditfolder import read_record
from smelt.flowchart.work import Work
from smelt.report.findings import INTERVALS, UNKNOWN, Table, between, count, percent
from smelt.report.shown import NAME, shown

SPLITS = {"train": "training", "val": "validation", "test": "test"}
SURE = 0.95  # share of resampled verdicts that must agree on the score
FEW = 5  # verdicts of a kind, below which intervals of cuts hold the truth in some 75 % and not in 95 %
TRADES = {"f1": "highest expected F1"}
CUTS_NOTE = (
    "Precision: share of wrong labels among the least clean that are left out; recall: share of all "
    "wrong labels "
    "that is among them; left: share of wrong labels among what stays. All are to be expected, from the "
    "verdicts "
    "and the score of every image. " + INTERVALS
)


def audits(work: Work) -> list[Audit]:
    """Of each split that has verdicts. ArtifactError where the record is damaged."""
    record = read_record(work.folder)
    keys = {item.key for item in work.items.values()}
    return [Audit(split, record[split], keys) for split in SPLITS if split in record]


@dataclass(frozen=True)
class Audit:
    """The audit of a split. `record`: its part of `audit.json`; `keys`: of the artefacts of the run shown."""

    split: str
    record: Mapping[str, Any]
    keys: set[str]

    def sentences(self) -> list[str]:
        """What is to be said without a table."""
        found = [self.rate(), self.verdicts()]
        return [line for line in (*found, self.score(), self.best(), self.accuracy(), self.stale()) if line]

    def rate(self) -> str:
        """How many labels are wrong."""
        share, sampled = self.record["share"], self.record["sampled"]
        alone = ""
        if self.record["sharper"]:
            alone = f"; the verdicts alone: {_range(sampled)}"
        return (
            f"{SPLITS[self.split].capitalize()}: {_range(share)} % of {count(self.record['rows'])} "
            f"labels are wrong "
            f"(by {self.record['by']}{alone})."
        )

    def verdicts(self) -> str:
        """What the verdicts were, and what is missing of them."""
        counts = self.record["counts"]
        words = (word for word in ("right", "wrong", "outside", "unsure") if counts[word])
        text = ", ".join(f"{count(counts[word])} {word}" for word in words)
        text = f"Verdicts: {text}, of {count(self.record['asked'])} asked for."
        if counts["unsure"]:
            low, high = self.record["if_unsure"]
            text += (
                f" The unsure ones are left out: all right or all wrong, it is anything from "
                f"{percent(low, 1)} to "
                f"{percent(high, 1)} %."
            )
        if not self.record["first"]:
            text += (
                " They are not the first of the random order: as long as others before them have none, "
                "it is not "
                "sure that they are a random sample."
            )
        return text

    def score(self) -> str:
        """How well the score orders the verdicts; "" where there is none."""
        found = self.record.get("mined")
        if not found:
            return ""
        if not found["orders"]:
            return (
                "These verdicts do not show that the score finds wrong labels, so every image has the same "
                "probability: more verdicts (--rows), or a better score."
            )
        area = between(found["auroc"], found["auroc_interval"], 1.0, 2)
        text = f"The score ({found['score']}) orders these verdicts with AUROC {area}."
        counts = self.record["counts"]
        wrong = counts["wrong"] + counts["outside"]
        if found["sure"] < SURE:
            text += (
                " These verdicts are too few to be sure that it finds wrong labels: cut by it when more "
                "say so "
                "(--rows)."
            )
        elif min(wrong, counts["right"]) < FEW:
            rare = f"only {wrong} are wrong" if wrong < FEW else f"only {counts['right']} are right"
            text += f" As {rare}, the intervals of the cuts are too narrow: more verdicts (--rows)."
        return text

    def best(self) -> str:
        """The cut that the trade asks for; "" where there is none."""
        cut = (self.record.get("mined") or {}).get("best")
        if not cut:
            return ""
        trade = self.record["mined"]["trade"]
        if not cut["dropped"]:
            return f"Best cut ({TRADES.get(trade, trade)}): none; nothing is to be left out."
        return (
            f"Best cut ({TRADES.get(trade, trade)}): the {count(cut['dropped'])} least clean "
            f"({percent(cut['share'], 1)} %), expected precision "
            f"{between(cut['precision'], cut['precision_interval'])} %, recall "
            f"{between(cut['recall'], cut['recall_interval'])} %, F1 {cut['f1']:.2f}; "
            f"{between(cut['left'], cut['left_interval'])} % wrong among what stays."
        )

    def accuracy(self) -> str:
        """Accuracy as measured, and under right labels; "" where there are no predictions."""
        found = self.record.get("accuracy")
        if not found:
            return ""
        low, high = (percent(value, 1) for value in found["right_labels"])
        ends = "–".join(percent(value, 1) for value in found["interval"])
        text = (
            f"Accuracy (share of images, first class; {shown(found['by'], NAME)}): "
            f"{percent(found['measured'], 1)} % "
            f"as measured, {low if low == high else f'{low} to {high}'} % ({ends}) under right labels"
        )
        if found["open"]:
            text += f"; of {found['open']} wrong labels nobody said what is right (column right_class)"
        if found["outside"]:
            text += f"; images of no class ({found['outside']}) are not counted"
        return f"{text}."

    def stale(self) -> str:
        """That what is shown is of other artefacts than the run's; "" where it is not."""
        ranking = self.record.get("ranking") or {"key": self.record["catalogue"]}
        if {self.record["catalogue"], ranking["key"]} <= self.keys:
            return ""
        return "The run is another one since: smelt audit again reckons with the same verdicts."

    def cuts(self) -> Table | None:
        """The table of cuts; an arrow before the chosen one."""
        found = self.record.get("mined")
        if not found or not found["orders"]:
            return None
        best = found["best"]
        listed = [cut for cut in found["cuts"] if not best or cut["dropped"] != best["dropped"]]
        listed += [best] if best and best["dropped"] else []
        rows = [
            [
                f"{'→ ' if cut is best else ''}{percent(cut['share'], 1)}",
                count(cut["dropped"]),
                *(between(cut[name], cut[f"{name}_interval"]) for name in ("precision", "recall", "left")),
            ]
            for cut in sorted(listed, key=lambda cut: int(cut["dropped"]))
        ]
        columns = ["least clean, %", "images", "precision, %", "recall, %", "wrong left, %"]
        return Table(columns, rows, "What leaving out the least clean is expected to do", CUTS_NOTE)

    def selections(self) -> Table | None:
        """What the run's selections left out for their score."""
        rows = []
        for one in self.record.get("selections", ()):
            if not one["dropped"]:
                continue
            expected = one.get("expected") or {}
            seen = one["sampled"]
            by = f"{one['judged_wrong']} of {one['judged']}" if one["judged"] else UNKNOWN
            figures = [
                between(expected.get(name), expected.get(f"{name}_interval"))
                for name in ("precision", "recall")
            ]
            share = between(seen["share"], (seen["low"], seen["high"])) if seen else UNKNOWN
            rows.append([shown(one["name"], NAME), count(one["dropped"]), *figures, by, share])
        columns = [
            "selection",
            "dropped",
            "expected precision, %",
            "expected recall, %",
            "verdicts: wrong",
            "%",
        ]
        return Table(columns, rows, "What the run dropped as noise", INTERVALS) if rows else None


def _range(share: Mapping[str, float]) -> str:
    return between(share["share"], (share["low"], share["high"]))
