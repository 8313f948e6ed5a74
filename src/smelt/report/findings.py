"""What a run found, as figures and tables: made once here, shown by the terminal and by the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smelt.report.shown import NAME, shown

UNKNOWN = "–"
SPLITS = {"val": "validation", "test": "test"}
INTERVALS = "In brackets intervals of 95 %."


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage, a dash where it is not known."""
    return UNKNOWN if value is None or value != value else f"{100 * value:.{digits}f}"


def points(value: float) -> str:
    """A difference of shares in points of a hundred, with its sign."""
    return f"{100 * value:+.2f}"


def count(value: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def between(
    value: float | None, ends: Sequence[float | None] | None = None, factor: float = 100.0, digits: int = 1
) -> str:
    """A figure with its interval, `83.1 (80.2–85.6)`; a dash where it is not known."""
    if value is None:
        return UNKNOWN
    text = f"{factor * value:.{digits}f}"
    if not ends or ends[0] is None or ends[1] is None:
        return text
    return f"{text} ({factor * ends[0]:.{digits}f}–{factor * ends[1]:.{digits}f})"


@dataclass(frozen=True)
class Table:
    """Rows of text. The first column and those named in `words` are words, all others figures."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    note: str = ""
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Step:
    """A step of the method. accuracy: split → {top1, top5}, empty where it is not known; spread: standard
    deviation over the models, by split; gain: of top-1 over the step before, by split. taken: whether what
    the step does is used: else it is the step before once more."""

    name: str
    chosen: bool
    accuracy: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, float]
    gain: Mapping[str, float]
    taken: bool = True

    def cells(self) -> list[str]:
        """The name, then top-1 (`63.72 ±1.20 (+7.41)`) and top-5 of each split."""
        found = [self.name if self.taken else f"{self.name}: not used"]
        for split in SPLITS:
            text = percent(self.accuracy[split].get("top1"))
            text += f" ±{percent(self.spread[split])}" if split in self.spread else ""
            text += f" ({points(self.gain[split])})" if split in self.gain else ""
            found += [text, percent(self.accuracy[split].get("top5"))]
        return found


@dataclass(frozen=True)
class Ladder:
    """Every step of the method, measured. `measured`: `ladder.json`, as `smelt results --json` has it."""

    steps: tuple[Step, ...]
    measured: Mapping[str, Any]

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> Ladder:
        """From what `evaluate` wrote; without a step where it is empty."""
        steps = []
        before: dict[str, float] = {}
        for one in measured.get("rungs", ()):
            first = {split: one[split]["top1"] for split in SPLITS if one[split].get("top1") is not None}
            spread = {split: one["spread"].get(f"{split}_top1") for split in first}
            steps.append(
                Step(
                    one["name"],
                    bool(one.get("chosen")),
                    {split: one[split] for split in SPLITS},
                    {split: value for split, value in spread.items() if value is not None},
                    {split: value - before[split] for split, value in first.items() if split in before},
                    bool(one.get("taken", True)),
                )
            )
            if steps[-1].taken:  # what follows goes on from here
                before |= first
        return cls(tuple(steps), measured)

    @property
    def split(self) -> str:
        """The split whose accuracy counts: test, else val; "" where neither has labels (yet)."""
        has = {split for step in self.steps for split in SPLITS if "top1" in step.accuracy[split]}
        return next((split for split in reversed(SPLITS) if split in has), "")

    @property
    def outcome(self) -> Step:
        """The step that a user would take away: the chosen fusion, else the last round."""
        return next((step for step in self.steps if step.chosen), self.steps[-1])

    def table(self) -> Table:
        """All steps."""
        columns = ["step", "val top-1", "val top-5", "test top-1", "test top-5"]
        title = "Class-averaged accuracy, %: ± standard deviation over the models (gain over the step before)"
        note = (
            "Validation: fitted fusions are judged on images that they were not fitted to; what the guard "
            "chose, on images that had no part in the whole choice."
        )
        return Table(columns, [step.cells() for step in self.steps], title, note)

    def averages(self) -> Table | None:
        """What averaging the models of one round gains over one of them, where a round has several."""
        rows = []
        for one, step in zip(self.measured.get("rounds", ()), self.steps):  # the first steps are the rounds
            if one["models"] > 1:
                both = [(step.accuracy[split], one.get(split, {})) for split in SPLITS]
                cells = [percent(found.get("top1")) for pair in both for found in pair]
                rows.append([one["title"], str(one["models"]), *cells])
        columns = ["round", "models", "val, one", "val, average", "test, one", "test, average"]
        title = "One model of a round, and the average of its models, under the same view (top-1)"
        return Table(columns, rows, title) if rows else None

    def dropped(self) -> Table | None:
        """What was dropped as noise, against the known truth: each selection once."""
        rows = []
        for row in self._selections():
            if row.get("precision") is not None and not row.get("selected_for"):
                figures = [
                    between(row.get(name), row.get(f"{name}_interval"))
                    for name in ("precision", "recall", "noise_left")
                ]
                rows.append([row["round"], count(row["rows"]), count(row["dropped"]), *figures])
        columns = ["round", "images", "dropped as noise", "precision, %", "recall, %", "noise left, %"]
        return Table(columns, rows, "What was dropped, against the known truth", INTERVALS) if rows else None

    def scores(self) -> Table | None:
        """How well each score of each round's training finds wrong labels."""
        rows, counts = [], []
        for row in self._selections():
            intervals = row.get("intervals", {})
            for name, found in row.get("scores", {}).items():
                ends = intervals.get(name, {})
                figures = [
                    between(found[what], ends.get(what), 1.0, 3) for what in ("auroc", "precision_at_k")
                ]
                rows.append([row["round"], name, *figures])
            for known in list(intervals.values())[:1]:
                counts.append(
                    f"{row['round']} {count(known['images'])}, {count(known['wrong'])} of them wrong"
                )
        note = (
            "P@k: share of wrong labels among the k least clean, k being the true number of wrong labels. "
            + INTERVALS
        )
        if counts:
            note += f" Images with a margin and a known truth: {'; '.join(counts)}."
        columns = ["round", "score", "AUROC", "P@k"]
        title = "How well each score finds wrong labels"
        return Table(columns, rows, title, note, words=("score",)) if rows else None

    def decided(self) -> Table | None:
        """What rounds tried, what it gained on validation, and what became of it."""
        rows = []
        for one in self.measured.get("rungs", ()):
            found = one.get("decision", {})
            for number, tried in enumerate(found.get("tries", ()), 1):
                gain = f"{points(tried['gain'])} ± {percent(tried['standard_error'])}"
                used = "used" if number == found["chosen"] else "not used"
                rows.append([found["round"], tried["name"], percent(tried["accuracy"]), gain, used])
        title = "What was tried, judged on validation against the round before (± one standard error)"
        note = "A step is taken only where it climbs by more than what chance would give."
        columns = ["round", "tried", "val, %", "gain, points", ""]
        return Table(columns, rows, title, note, words=("tried", "")) if rows else None

    def sentences(self) -> list[str]:
        """What is said beside the tables: the fusion, and how many labels look wrong."""
        found = [f"Fusion: {self.measured['fusion']}."] if "fusion" in self.measured else []
        noise = self.measured.get("noise", ())
        for one in self.measured.get("rungs", ()):
            if words := one.get("decision", {}).get("words"):
                found.append(f"{one['name'].removeprefix('one model, ')}: {words}.")
        return found + [f"Wrong labels, {one['round']}: {one['words']}." for one in noise if one["words"]]

    def _selections(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self.measured.get("selections", ())
        return found


SHIFTED = 4  # classes that are told of those that a fusion with weights of each class raises, and lowers


@dataclass(frozen=True)
class Fused:
    """What fusing is worth. `record` is `fusion.json`."""

    record: Mapping[str, Any]

    @property
    def metric(self) -> str:
        """The metric as people write it: top-1."""
        return str(self.record["metric"]).replace("top", "top-")

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The way of fusing that is used."""
        methods = self.record["methods"]
        return next((one for one in methods if one["method"] == self.record["chosen"]), {})

    @property
    def judged(self) -> list[Mapping[str, Any]]:
        """The ways of fusing that were judged on images they were not fitted to."""
        return [one for one in self.record["methods"] if "held_out" in one]

    def held_out(self) -> str:
        """The honest figure of the choice, its interval, and how many images stand behind it; "" if none."""
        held, metric = self.record.get("held_out"), self.record["metric"]
        if not held:
            return ""
        text = f"The whole choice holds out {percent(held[metric])} % ({self.metric})"
        if held.get("interval"):
            low, high = held["interval"][metric]
            text += f", 95 % interval {percent(low)} … {percent(high)}"
        text += f", on {held['images']} images"
        if held["groups"] < held["images"]:
            text += f" of which {held['groups']} are different"
            text += f" (worth {held['effective']:.0f} equally frequent ones)"
        low, high = held["gain_interval"]
        gain = f"{points(held['gain'])} points ({points(low)} … {points(high)})"
        return f"{text}. Over the plain average: {gain}."

    def methods(self) -> Table | None:
        """Each way of fusing by itself; an arrow before the one that is used."""
        metric, rows = self.record["metric"], []
        for one in self.judged:
            fitted = [one["chosen_by"][metric]]
            fitted = one.get("certified", {}).get(metric, fitted)  # bounds, where it was not computed exactly
            rows.append(
                [
                    "→ " * (one["method"] == self.record["chosen"]) + one["title"],
                    " … ".join(map(percent, fitted)),
                    percent(one["held_out"][metric]),
                    points(one["gain"]),
                    f"{points(one['interval'][0])} … {points(one['interval'][1])}",
                    percent(one["sure"], 0) if "sure" in one else UNKNOWN,
                ]
            )
        columns = ["way of fusing", "fitted on, %", "held out, %", "gain, points", "interval", "sure, %"]
        title = "Each way by itself: the best of these figures is not what the choice holds out"
        return Table(columns, rows, title) if rows else None

    def results(self, names: Sequence[str], most: int) -> Table | None:
        """What each result is worth to the chosen fusion, the `most` with the highest weights. `names`: of
        the results, in order."""
        metric, results = self.record["metric"], self.record.get("results", [])
        rows = []
        for name, one in sorted(zip(names, results), key=lambda pair: -pair[1]["weight"])[:most]:
            known = "accuracy" in one
            worth = [percent(one["accuracy"][metric]), points(one["without"])] if known else [UNKNOWN] * 2
            aside = " (set aside)" if one.get("set_aside") else ""
            rows.append([name + aside, f"{one['weight']:.4f}", *worth])
        weight = "mean weight" if self.by_class() else "weight"
        columns = ["result", weight, f"own {self.metric}, %", "lost without it, points"]
        return Table(columns, rows, "What each result is worth to the chosen fusion") if rows else None

    def similarity(self, most: int) -> Table | None:
        """How alike the first `most` results err."""
        known = self.record.get("likeness")
        if not known:
            return None
        names = [one["name"] for one in self.record["results"]][:most]
        rows = [
            [f"{i + 1} {name}", *("·" if i == j else f"{100 * known[i][j]:.0f}" for j in range(len(names)))]
            for i, name in enumerate(names)
        ]
        title = "How alike they err: correlation of being wrong, in %"
        return Table(["", *(str(i + 1) for i in range(len(names)))], rows, title)

    def by_class(self) -> str:
        """Where the chosen fusion has weights of each class: which it raises and lowers most; else ""."""
        biases = self.chosen.get("biases")
        if not biases:
            return ""
        names = self.record.get("classes") or [str(number) for number in range(len(biases))]
        ordered = sorted(zip(biases, names), key=lambda pair: -pair[0])
        most = [one for one in ordered[:SHIFTED] if one[0] > 0]
        least = [one for one in ordered[: -SHIFTED - 1 : -1] if one[0] < 0]
        told = ", ".join(f"{shown(name, NAME)} {bias:+.2f}" for bias, name in [*most, *least])
        return (
            "Every class has weights and a bias of its own (fusion.json); the weights below are their means. "
            f"Biases, in logits: {told or 'none'}."
        )
