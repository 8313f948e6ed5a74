"""Sections on mining: margins by source, what was dropped, noise by class and source, suspicious images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.ranking import Ranking
from smelt.artifacts.selection import Selection, read_selection
from smelt.files.parquet import read_table
from smelt.flowchart.work import Item, Work
from smelt.report import charts
from smelt.report.blocks import Block, Section, chart, gallery, paragraph, section, table
from smelt.report.counted import class_counts, main_sources
from smelt.report.findings import UNKNOWN, Ladder, Table, between, count, percent
from smelt.report.gallery import thumbnail
from smelt.report.kindtables import KindTables, against_truth
from smelt.report.sections_classes import whole_classes
from smelt.report.shown import BRIEF, NAME, crawled, shown

BINS = 60
LISTED = 12
NEGATIVE_NOTE = (
    "Not the share of wrong labels: images that were not learnt yet are among them, wrong labels learnt by "
    "heart are not. In brackets intervals of 95 %."
)
HIDDEN_NOTE = "Wrong labels between classes that look alike hide from such an estimate."
STANDING_OUT_NOTE = (
    "In every model most of their images have a negative AUM, and surely more than in the classes nearest in "
    "size. Learnt: whether validation, as far as its images tell, gives at least half of the usual accuracy. "
    "A class can be hard, or show nothing in common: look at its images."
)
GALLERY_CLASSES = 12
GALLERY_IMAGES = 8
DROPPED_NOTE = "The dashed line is the highest score that was dropped."


@dataclass(frozen=True)
class Mined:
    """What the first ranking, of the round that saw the data as they came, and the first selection by it say
    of the data; of the ranking its cleanness alone (at full scale a gigabyte less)."""

    catalogue: Catalogue
    item: Item
    ranking: Ranking
    selection: Selection | None


def mining(work: Work, measured: Ladder) -> list[Section | None]:
    """What is wrong with the data, and its most suspicious images; nothing before a ranking is there."""
    item = next((item for item in work.of("rank") if item.path), None)
    if item is None or item.path is None or work.catalogue is None:
        return []
    known = read_table(item.path / "ranking.parquet", ["row", "cleanness"])
    rows, cleanness = (known[name].to_numpy(zero_copy_only=False) for name in ("row", "cleanness"))
    path = next((path for path in _selected_by(work, item) if path), None)
    ranking = Ranking(rows=rows, scores={}, cleanness=cleanness)
    mined = Mined(work.catalogue, item, ranking, read_selection(path) if path else None)
    return [_noise(work, mined, measured), _galleries(work, mined)]


def _selected_by(work: Work, item: Item) -> Iterator[Path | None]:
    """Selections that go by a ranking: of rounds, and where a round tried some, what it took."""
    by = {one.id for one in work.of("select") if item.id in one.inputs.get("ranking", [])}
    for one in work.of("select"):
        if not one.tried and (one.id in by or by & set(one.inputs.get("tried", []))):
            yield one.path


def _noise(work: Work, mined: Mined, measured: Ladder) -> Section | None:
    """Histograms of the score by source, reasons of what is left out, noise by class, detection quality."""
    diagnosis = mined.item.json("diagnosis.json")
    blocks = _estimate(diagnosis)
    blocks.append(_histogram(mined))
    truth = mined.catalogue.column("true_label")
    if truth is not None:
        blocks += _against_truth(mined.catalogue, truth, mined.ranking)
    blocks += _reasons(work) + table(measured.dropped()) + table(measured.scores())
    for one in KindTables(diagnosis).tables():
        blocks += table(one)
    blocks += table(against_truth(measured.measured.get("selections", ())))
    blocks += _diagnosis(diagnosis)
    judged = work.one("evaluate").json("evaluate.json").get("standing_out", {})
    blocks += _standing_out(diagnosis, judged.get(mined.item.name, []))
    blocks += whole_classes(diagnosis.get("whole_classes", {}))
    intro = (
        "The margin of an image is the score of its label less the highest other score; AUM is its mean over "
        "training. A wrong label is pulled down by the images of its true class, so its margin stays low; so "
        "does that of an image that is hard, or that training was too short for. Scores by features compare "
        "an image with the others as a net that was trained elsewhere sees them."
    )
    return section("noise", "What is wrong with the data", blocks, intro)


def _histogram(mined: Mined) -> Block:
    catalogue, ranking, selection = mined.catalogue, mined.ranking, mined.selection
    score = ranking.cleanness
    known = np.isfinite(score)
    edges = _edges(score[known])
    names, place = main_sources(catalogue)
    sources = place[catalogue.source_codes_N[ranking.rows]]
    counts = {
        name: np.histogram(score[known & (sources == code)], edges)[0].astype(float).tolist()
        for code, name in enumerate(names)
        if bool((known & (sources == code)).any())
    }
    marks = {}
    if selection is not None:
        low = np.array([word.startswith("low_") for word in selection.words])[selection.reasons]
        if low.any():
            marks["dropped below"] = float(np.nanmax(score[low]))
    title = f"Cleanness ({mined.item.settings.get('score', 'aum')}) of the training images, by source"
    picture = charts.histogram(edges.tolist(), counts, "cleanness", "images", marks)
    return chart(picture, title, list(counts), DROPPED_NOTE if marks else "")


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equal bins over all but the outermost thousandth on either side."""
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


def _against_truth(catalogue: Catalogue, truth: NDArray[Any], ranking: Ranking) -> list[Block]:
    """The same histogram by what is really wrong, where the data set knows."""
    rows, score = ranking.rows, ranking.cleanness
    words, kind_of = catalogue.coded("noise", rows)
    real = truth[rows]
    wrong = (real != catalogue.labels_N[rows]) & (real != -2)
    kinds = {
        "right label": (real >= -1) & ~wrong,
        "wrong label": wrong & (real >= 0),
        "out of vocabulary": wrong & (real == -1),
    }
    edges = _edges(score[np.isfinite(score)])
    counts = {
        name: np.histogram(score[mask & np.isfinite(score)], edges)[0].astype(float).tolist()
        for name, mask in kinds.items()
        if mask.any()
    }
    blocks = [
        chart(
            charts.histogram(edges.tolist(), counts, "cleanness", "images"),
            "The same, by the known truth",
            list(counts),
            "Known because the data set was made or checked by people; neither learning nor mining sees it.",
        )
    ]
    numbers = np.bincount(kind_of, minlength=len(words))
    of_them = np.bincount(kind_of[wrong], minlength=len(words))
    table_rows = [
        [words[i] or "none planted", count(numbers[i]), percent(of_them[i] / numbers[i], 1)]
        for i in sorted(np.flatnonzero(numbers).tolist(), key=lambda i: words[i])
    ]
    if len(table_rows) > 1:
        blocks += table(Table(["noise", "training images", "wrong label, %"], table_rows, "Known noise"))
    return blocks


def _reasons(work: Work) -> list[Block]:
    rows = []
    for item in work.of("select"):
        if item.path and not item.tried:
            counts = item.json("selection.json")["counts"]
            kept = counts.pop("kept", 0)
            left_out = ", ".join(f"{reason} {count(n)}" for reason, n in sorted(counts.items()))
            rows.append([item.name, count(kept), left_out or "–"])
    header = ["selection", "kept", "left out or changed, by reason"]
    return table(Table(header, rows, "What each selection keeps", words=header[2:]) if rows else None)


def _estimate(diagnosis: Mapping[str, Any]) -> list[Block]:
    """How many labels are wrong, or why that cannot be told."""
    found = diagnosis.get("noise") or {}
    if not found:
        return []
    hidden = f" {HIDDEN_NOTE}" if "rate" in found else ""
    return [paragraph(f"How many labels are wrong: {found['words']}.{hidden}")]


def _diagnosis(diagnosis: Mapping[str, Any]) -> list[Block]:
    """What mining says of sources, classes and pairs of classes."""
    blocks = []
    for name, what, title, note in (
        ("sources", "source", "Images with a negative AUM, by source", NEGATIVE_NOTE),
        ("classes", "class", "Images with a negative AUM, by class: those with surely the most", ""),
    ):
        rows = [
            [
                shown(row[what], NAME),
                count(row["images"]),
                _negative(row),
                between(row["median_aum"], None, 1, 3),
            ]
            for row in diagnosis.get(name, [])[:LISTED]
        ]
        if rows:
            blocks += table(Table([what, "images", "negative AUM, %", "median AUM"], rows, title, note))
    rows = [
        [shown(row["label"], NAME), shown(row["looks_like"], NAME), count(row["images"])]
        for row in diagnosis.get("pairs", [])[:LISTED]
    ]
    if rows:
        title = "What images with a negative AUM look like instead"
        note = "By the class that scored highest besides the label at the last visit."
        blocks += table(Table(["label", "looks like", "images"], rows, title, note, words=("looks like",)))
    return blocks


def _standing_out(diagnosis: Mapping[str, Any], judged: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Classes that training did not learn where it learnt comparable ones, and what validation (`judged`)
    says."""
    if "abstract" not in diagnosis:
        return []
    if why := diagnosis.get("abstract_why"):
        return [paragraph(f"Classes that no model learnt: {why}.")]
    if not diagnosis["abstract"]:
        return [paragraph("Classes that no model learnt: none that stands out from classes of like size.")]
    by_number = {row["number"]: row for row in judged}
    rows = []
    for row in diagnosis["abstract"][:LISTED]:
        seen = by_number.get(row["number"], {})
        mined = [
            shown(row["class"], NAME),
            count(row["images"]),
            _negative(row),
            percent(row["comparable"], 1),
        ]
        validated = [
            count(seen["images"]) if seen else UNKNOWN,
            between(seen.get("top1"), seen.get("top1_interval")),
            percent(seen.get("usual"), 1),
            seen.get("learnt", UNKNOWN),
        ]
        rows.append([*mined, *validated])
    header = ["class", "images", "negative AUM, %", "classes of like size, %"]
    header += ["validation images", "their top-1, %", "usual top-1, %", "learnt"]
    title = "Classes that no model learnt, though classes of like size were"
    return table(Table(header, rows, title, STANDING_OUT_NOTE, words=("learnt",)))


def _negative(row: Mapping[str, Any]) -> str:
    return between(row["negative"], (row["low"], row["high"]))


def _galleries(work: Work, mined: Mined) -> Section | None:
    """The most suspicious images of the classes with the most of them, with their crawled titles."""
    catalogue = mined.catalogue
    sizes = class_counts(catalogue, "train")
    other = _looks_like(work, mined.item)
    blocks = []
    for label, positions in _suspicious(catalogue, mined.ranking, mined.selection):
        cards = _cards(work, mined, positions, other)
        subtitle = f"{count(sizes[label])} training images; the {len(positions)} least clean"
        blocks.append(gallery(shown(catalogue.classes[label], NAME), subtitle, cards))
    intro = (
        "The least clean images of the classes that lost the largest share, with the titles they were "
        "crawled with. A coloured border: not learnt from in the next round."
    )
    return section("suspicious", "The most suspicious images", blocks, intro)


def _suspicious(
    catalogue: Catalogue, ranking: Ranking, selection: Selection | None
) -> list[tuple[int, NDArray[np.int64]]]:
    """(label, positions in the ranking of its least clean images) of the classes that lost the most."""
    labels = catalogue.labels_N[ranking.rows]
    score = np.where(np.isfinite(ranking.cleanness), ranking.cleanness, np.inf)
    seen = np.isfinite(score)
    classes = len(catalogue.classes)
    sizes = np.bincount(labels[seen], minlength=classes)
    if selection is not None:
        lost = np.bincount(labels[seen & ~selection.kept], minlength=classes) / np.maximum(sizes, 1)
    else:
        lost = -np.bincount(labels[seen], weights=score[seen], minlength=classes) / np.maximum(sizes, 1)
    worst = [c for c in np.argsort(-lost, kind="stable")[:GALLERY_CLASSES] if sizes[c]]
    found = []
    for label in worst:
        positions = np.flatnonzero((labels == label) & seen)
        positions = positions[np.argsort(score[positions], kind="stable")][:GALLERY_IMAGES]
        found.append((int(label), positions))
    return found


def _looks_like(work: Work, item: Item) -> Dynamics | None:
    """Dynamics of the first model of the round: they know what it took each row for instead."""
    for name in item.inputs.get("train", []):
        path = work.items[name].path
        if path and (path / "dynamics").is_dir():
            return Dynamics.open(path / "dynamics")
    return None


def _cards(
    work: Work, mined: Mined, positions: NDArray[np.int64], dynamics: Dynamics | None
) -> list[dict[str, Any]]:
    catalogue, ranking, selection = mined.catalogue, mined.ranking, mined.selection
    rows = ranking.rows[positions]
    titles = catalogue.strings("title", rows)
    noise = catalogue.strings("noise", rows)
    truth = catalogue.column("true_label")
    other = None if dynamics is None else dynamics.other(rows)
    cards = []
    for i, row in enumerate(rows.tolist()):
        source = shown(catalogue.sources[catalogue.source_codes_N[row]], BRIEF)
        meta = f"{source}, {ranking.cleanness[positions[i]]:.2f}"
        if other is not None and 0 <= other[i] < len(catalogue.classes):
            meta += f"; more like {shown(catalogue.classes[other[i]], BRIEF)}"
        cards.append(
            {
                "image": thumbnail(catalogue, work.image_root, row),
                "title": crawled(titles[i]) or shown(catalogue.path(row).rpartition("/")[2]),
                "meta": meta,
                "truth": _truth(catalogue, truth, row, noise[i]),
                "dropped": bool(selection is not None and not selection.kept[positions[i]]),
            }
        )
    return cards


def _truth(catalogue: Catalogue, truth: NDArray[Any] | None, row: int, noise: str) -> str:
    if truth is None or truth[row] == -2:
        return ""
    if truth[row] == catalogue.labels_N[row]:
        return "truth: right" + (f" ({noise})" if noise else "")
    real = "none of the classes" if truth[row] < 0 else shown(catalogue.classes[truth[row]], BRIEF)
    noise = shown(noise, BRIEF)
    return f"truth: {real}" + (f" ({noise})" if noise else "")
