"""Sections on learning: the ladder, training curves, class difficulty."""

from __future__ import annotations

from typing import Any

from smelt.report import charts
from smelt.report.blocks import Block, Section, chart, percent, section, table
from smelt.report.collect import SPLIT_WORDS, Item, Run, class_counts, number, read_csv
from smelt.report.shown import NAME, shown

MOST_POINTS = 6000  # classes that a chart shows


def lead(run: Run) -> str:
    """One sentence under the title: what came out."""
    ladder = run.ladder()
    rungs = ladder.get("rungs", [])
    if not rungs:
        open_ = sum(state != "done" for state in run.states.values())
        return f"Not finished: {open_} of {len(run.items)} stages are still to do."
    split = run.judged_on()
    if not split:
        return "No validation or test image has a known label, so no accuracy could be measured."
    outcome = run.outcome()
    first, last = rungs[0][split].get("top1"), outcome[split].get("top1")
    words = "test images that were never used to choose anything" if split == "test" else "validation images"
    return (
        f"From {percent(first, 1)} % ({rungs[0]['name']}) to {percent(last, 1)} % ({outcome['name']}) "
        f"class-averaged top-1 on {words}."
    )


def ladder(run: Run) -> Section | None:
    """Every step of the method, measured."""
    measured = run.ladder()
    rungs = measured.get("rungs", [])
    if not rungs:
        return None
    blocks: list[Block] = []
    if split := run.judged_on():
        shown = [rung for rung in rungs if "top1" in rung[split]]
        bars = [_bar(rung, split) for rung in shown]
        best = next((i for i, rung in enumerate(shown) if rung.get("chosen")), None)
        note = "In the second colour: what was chosen, on validation images." if best is not None else ""
        if any(gap for _, _, gap in bars):
            note += " Lines: one standard deviation over the models of a round."
        title = f"Class-averaged top-1 on {SPLIT_WORDS[split]}, % (the axis does not begin at 0)"
        blocks.append(chart(charts.bars(bars, best=best), title, note=note))
    header = ["step", "val top-1", "val top-5", "test top-1", "test top-5"]
    blocks.append(table(header, _with_gains(rungs), "In brackets: gain over the step before"))
    blocks += _averages(measured.get("rounds", []), rungs)
    intro = (
        "Validation images are used to choose; test images are used for nothing but this table. Accuracy is "
        "averaged within each class first, then over the classes."
    )
    return section("ladder", "The ladder", blocks, intro)


def _bar(rung: dict[str, Any], split: str) -> tuple[str, float, tuple[float, float] | None]:
    value, spread = rung[split]["top1"], rung["spread"].get(f"{split}_top1")
    name = rung["name"].partition(":")[0]  # what was chosen is in the table; a chart has little room
    return name, value, (value - spread, value + spread) if spread else None


def _with_gains(rungs: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each step: its accuracies, and what top-1 gained over the step before."""
    rows = []
    before: dict[str, float] = {}
    for rung in rungs:
        cells = [rung["name"]]
        for split in SPLIT_WORDS:
            value = rung[split].get("top1")
            gain = f" ({100 * (value - before[split]):+.2f})" if value is not None and split in before else ""
            cells += [percent(value) + gain, percent(rung[split].get("top5"))]
            if value is not None:
                before[split] = value
        rows.append(cells)
    return rows


def _averages(rounds: list[dict[str, Any]], rungs: list[dict[str, Any]]) -> list[Block]:
    """What averaging the models of one round gains over one of them, where a round has several."""
    rows = [
        [one["title"], one["models"], *_pair(one, rung, "val"), *_pair(one, rung, "test")]
        for one, rung in zip(rounds, rungs)  # the first steps are the rounds, in order
        if one["models"] > 1
    ]
    header = ["round", "models", "val, one", "val, average", "test, one", "test, average"]
    title = "One model of a round, and the average of its models, under the same view (top-1)"
    return [table(header, rows, title)] if rows else []


def _pair(one: dict[str, Any], rung: dict[str, Any], split: str) -> list[str]:
    return [percent(rung[split].get("top1")), percent(one.get(split, {}).get("top1"))]


def training(run: Run) -> Section | None:
    """Learning curves and rates of every model."""
    done = [item for item in run.of("train") if item.path]
    if not done:
        return None
    blocks: list[Block] = []
    rounds = list(dict.fromkeys(item.name.split("/")[0] for item in done))
    groups = {item.name: rounds.index(item.name.split("/")[0]) for item in done}
    for column, title, share in (("val_top1", "validation top-1, %", True), ("train_loss", "loss", False)):
        curves = {item.name: _curve(item, column) for item in done}
        curves = {name: points for name, points in curves.items() if points}
        if curves:
            picture = charts.lines(curves, "epoch", title, percent=share, groups=groups)
            blocks.append(chart(picture, title.capitalize(), rounds))
    for item in (i for i in run.of("tune") if i.path):
        tuned = item.json("tune.json")
        points = [(float(rate), float(loss)) for rate, loss in tuned["curve"]]
        picture = charts.lines({"loss": points}, "learning rate", "smoothed loss", log_x=True)
        blocks.append(
            chart(picture, f"Learning-rate test of {item.name}: {tuned['learning_rate']:.3g} chosen")
        )
    return section("training", "Training", blocks)


def _curve(item: Item, column: str) -> list[tuple[float, float]]:
    assert item.path is not None
    points = [(number(row["epoch"]), number(row.get(column))) for row in read_csv(item.path / "metrics.csv")]
    return [(x, y) for x, y in points if y == y]


def _thinned(points: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """MOST_POINTS of points in order: the first tenth of that, and every so many-th of the rest."""
    first = MOST_POINTS // 10
    step = -(-(len(points) - first) // (MOST_POINTS - first))
    return points[:first] + points[first::step]


def difficulty(run: Run) -> Section | None:
    """Accuracy of each class against its size."""
    per_class = run.one("evaluate").json("evaluate.json").get("per_class")
    catalogue = run.catalogue
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
        [shown(name, NAME), int(size), percent(value, 1), shown(wrong.get(name, "–"), NAME)]
        for size, value, name in hardest
    ]
    # among very many classes the hardest ones, and so many of the others that a browser can draw them
    drawn = points[:MOST_POINTS] if len(points) <= MOST_POINTS else _thinned(points)
    picture = charts.scatter(drawn, "training images", "top-1, %", log_x=True, percent=True)
    header = ["class", "training images", "top-1, %", "most often taken for"]
    blocks = [
        chart(picture, f"Top-1 of the fused prediction on {SPLIT_WORDS[per_class['split']]}, by class"),
        table(header, rows, "The hardest classes", words=header[3:]),
    ]
    return section("difficulty", "Class difficulty", blocks)
