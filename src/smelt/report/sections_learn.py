"""Sections on learning: the ladder, training curves, class difficulty."""

from __future__ import annotations

from smelt.flowchart.work import Item, Work
from smelt.report import charts
from smelt.report.blocks import Block, Section, chart, section, table
from smelt.report.counted import class_counts, number, read_csv, trainings
from smelt.report.findings import SPLITS, Ladder, Step, Table, percent
from smelt.report.shown import NAME, shown

MOST_POINTS = 6000  # classes that a chart shows


def lead(work: Work, measured: Ladder) -> str:
    """One sentence under the title: what came out."""
    if not measured.steps:
        open_ = sum(item.path is None for item in work.items.values())
        return f"Not finished: {open_} of {len(work.items)} stages are still to do."
    split = measured.split
    if not split:
        return "No validation or test image has a known label, so no accuracy could be measured."
    first, last = (
        f"{percent(step.accuracy[split].get('top1'), 1)} % ({step.name})"
        for step in (measured.steps[0], measured.outcome)
    )
    words = "test images that were never used to choose anything" if split == "test" else "validation images"
    return f"From {first} to {last} class-averaged top-1 on {words}."


def ladder(measured: Ladder) -> Section | None:
    """Every step of the method, measured."""
    if not measured.steps:
        return None
    blocks: list[Block] = []
    if split := measured.split:
        shown = [step for step in measured.steps if step.taken and "top1" in step.accuracy[split]]
        bars = [_bar(step, split) for step in shown]
        best = next((i for i, step in enumerate(shown) if step.chosen), None)
        note = "In the second colour: what was chosen, on validation images." if best is not None else ""
        if any(gap for _, _, gap in bars):
            note += " Lines: one standard deviation over the models of a round."
        title = f"Class-averaged top-1 on {SPLITS[split]}, % (the axis does not begin at 0)"
        blocks.append(chart(charts.bars(bars, best=best), title, note=note))
    blocks += table(measured.table()) + table(measured.decided()) + table(measured.averages())
    intro = (
        "Validation images are used to choose; test images are used for nothing but this table. Accuracy is "
        "averaged within each class first, then over the classes."
    )
    return section("ladder", "The ladder", blocks, intro)


def _bar(step: Step, split: str) -> tuple[str, float, tuple[float, float] | None]:
    value, spread = step.accuracy[split]["top1"], step.spread.get(split)
    name = step.name.partition(":")[0]  # what was chosen is in the table; a chart has little room
    return name, value, (value - spread, value + spread) if spread else None


def training(work: Work) -> Section | None:
    """Learning curves and rates of every model."""
    done = [item for item in trainings(work) if item.path]
    if not done:
        return None
    blocks: list[Block] = [*_begun(done)]
    rounds = list(dict.fromkeys(item.name.split("/")[0] for item in done))
    groups = {item.name: rounds.index(item.name.split("/")[0]) for item in done}
    for column, title, share in (("val_top1", "validation top-1, %", True), ("train_loss", "loss", False)):
        curves = {item.name: _curve(item, column) for item in done}
        curves = {name: points for name, points in curves.items() if points}
        if curves:
            picture = charts.lines(curves, "epoch", title, percent=share, groups=groups)
            blocks.append(chart(picture, title.capitalize(), rounds))
    for item in (one for one in work.of("tune") if one.path):
        tuned = item.json("tune.json")
        points = [(float(rate), float(loss)) for rate, loss in tuned["curve"]]
        picture = charts.lines({"loss": points}, "learning rate", "smoothed loss", log_x=True)
        blocks.append(
            chart(picture, f"Learning-rate test of {item.name}: {tuned['learning_rate']:.3g} chosen")
        )
    return section("training", "Training", blocks)


def _begun(trained: list[Item]) -> list[Block]:
    """What models started from, where that came from elsewhere: loaded, left and not used."""
    rows = []
    for item in trained:
        if told := item.json("weights.json"):
            left = "; ".join(f"{name}: {why}" for name, why in list(told["left"].items())[:2])
            count = [f"{len(told[what]):,}" for what in ("loaded", "left", "unused")]
            rows.append([shown(item.name, NAME), shown(told["how"]), *count, shown(left) if left else "–"])
    header = ["model", "tensors found", "loaded", "left", "not used", "what was left, and why"]
    return table(Table(header, rows, "Weights from elsewhere", words=(header[1], header[5]))) if rows else []


def _curve(item: Item, column: str) -> list[tuple[float, float]]:
    assert item.path is not None
    points = [(number(row["epoch"]), number(row.get(column))) for row in read_csv(item.path / "metrics.csv")]
    return [(x, y) for x, y in points if y == y]


def _thinned(points: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """MOST_POINTS of points in order: the first tenth of that, and every so many-th of the rest."""
    first = MOST_POINTS // 10
    step = -(-(len(points) - first) // (MOST_POINTS - first))
    return points[:first] + points[first::step]


def difficulty(work: Work) -> Section | None:
    """Accuracy of each class against its size."""
    per_class = work.one("evaluate").json("evaluate.json").get("per_class")
    catalogue = work.catalogue
    if not per_class or catalogue is None:
        return None
    sizes = class_counts(catalogue, "train")
    points = [
        (float(max(sizes[i], 1)), float(value), catalogue.classes[i])
        for i, value in enumerate(per_class["top1"])
        if value is not None
    ]
    points.sort(key=lambda p: p[1])
    hardest = points[:12]
    wrong = per_class.get("confused_with", {})
    rows = [
        [shown(name, NAME), str(int(size)), percent(value, 1), shown(wrong.get(name, "–"), NAME)]
        for size, value, name in hardest
    ]
    # among very many classes the hardest ones, and so many of the others that a browser can draw them
    drawn = points[:MOST_POINTS] if len(points) <= MOST_POINTS else _thinned(points)
    picture = charts.scatter(drawn, "training images", "top-1, %", log_x=True, percent=True)
    header = ["class", "training images", "top-1, %", "most often taken for"]
    blocks = [
        chart(picture, f"Top-1 of the fused prediction on {SPLITS[per_class['split']]}, by class"),
        *table(Table(header, rows, "The hardest classes", words=header[3:])),
    ]
    return section("difficulty", "Class difficulty", blocks)
