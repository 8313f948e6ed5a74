"""Sections on mining: margins by source, what was dropped, noise by class and source, suspicious images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.dynamics import Dynamics, open_dynamics
from smelt.artifacts.tables import Ranking, Selection
from smelt.report import charts
from smelt.report.blocks import Block, Section, chart, count, gallery, paragraph, percent, section, table
from smelt.report.collect import Item, Run, class_counts, main_sources
from smelt.report.gallery import thumbnail
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
QUALITY_NOTE = "In brackets intervals of 95 %."
GALLERY_CLASSES = 12
GALLERY_IMAGES = 8
DROPPED_NOTE = "The dashed line is the highest score that was dropped."


def noise(run: Run) -> Section | None:
    """Histograms of the score by source, reasons of what is left out, noise by class, detection quality."""
    found, catalogue = run.mined, run.catalogue
    if found is None or catalogue is None:
        return None
    item, ranking, selection = found
    blocks = _estimate(item.json("diagnosis.json"))
    blocks.append(_histogram(catalogue, item, ranking, selection))
    truth = catalogue.column("true_label")
    if truth is not None:
        blocks += _against_truth(catalogue, truth, ranking)
    blocks += _reasons(run)
    blocks += _quality(run)
    blocks += _diagnosis(item.json("diagnosis.json"))
    blocks += _standing_out(item, run.one("evaluate").json("evaluate.json"))
    intro = (
        "The margin of an image is the score of its label less the highest other score; AUM is its mean over "
        "training. A wrong label is pulled down by the images of its true class, so its margin stays low; so "
        "does that of an image that is hard, or that training was too short for."
    )
    return section("noise", "What is wrong with the data", blocks, intro)


def _histogram(catalogue: Catalogue, item: Item, ranking: Ranking, selection: Selection | None) -> Block:
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
    title = f"Cleanness ({item.settings.get('score', 'aum')}) of the training images, by source"
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
        blocks.append(table(["noise", "training images", "wrong label, %"], table_rows, "Known noise"))
    return blocks


def _reasons(run: Run) -> list[Block]:
    rows = []
    for item in run.of("select"):
        if item.path:
            counts = item.json("selection.json")["counts"]
            kept = counts.pop("kept", 0)
            left_out = ", ".join(f"{reason} {count(n)}" for reason, n in sorted(counts.items()))
            rows.append([item.name, count(kept), left_out or "–"])
    header = ["selection", "kept", "left out or changed, by reason"]
    return [table(header, rows, "What each selection keeps", words=header[2:])] if rows else []


def _quality(run: Run) -> list[Block]:
    blocks = []
    rows = [
        [
            row["round"],
            count(row["rows"]),
            count(row["dropped"]),
            *(_between(row, name) for name in ("precision", "recall", "noise_left")),
        ]
        for row in run.ladder().get("selections", [])
        if row.get("precision") is not None and not row.get("selected_for")
    ]
    if rows:
        header = ["round", "images", "dropped as noise", "precision, %", "recall, %", "noise left, %"]
        blocks.append(table(header, rows, "What was dropped, against the known truth", QUALITY_NOTE))
    judged = [row for row in run.ladder().get("selections", []) if row.get("scores")]
    if judged:
        header = ["score", *(f"{row['round']}: {what}" for row in judged for what in ("AUROC", "P@k"))]
        table_rows = [[name, *_figures(judged, name)] for name in judged[0]["scores"]]
        note = (
            "P@k: share of wrong labels among the k least clean, k being the true number of wrong labels. "
            f"{QUALITY_NOTE} {_measured_on(judged)}"
        )
        blocks.append(table(header, table_rows, "How well each score finds wrong labels", note))
    return blocks


def _figures(judged: list[dict[str, Any]], score: str) -> list[str]:
    found = []
    for row in judged:
        ends = row.get("intervals", {}).get(score, {})
        for figure in ("auroc", "precision_at_k"):
            both = {figure: row["scores"][score][figure], f"{figure}_interval": ends.get(figure)}
            found.append(_between(both, figure, 1.0, 3))
    return found


def _measured_on(judged: list[dict[str, Any]]) -> str:
    """How many images with a known truth, and wrong ones among them, each round was judged on."""
    known = {row["round"]: next(iter(row["intervals"].values())) for row in judged if row.get("intervals")}
    counts = [
        f"{name} {count(found['images'])}, {count(found['wrong'])} of them wrong"
        for name, found in known.items()
    ]
    return f"Images with a margin and a known truth: {'; '.join(counts)}." if counts else ""


def _between(row: dict[str, Any], name: str, factor: float = 100.0, digits: int = 1) -> str:
    """A figure of `row` with its interval, `83.1 (80.2–85.6)`; a dash where it is not known."""
    value, ends = row.get(name), row.get(f"{name}_interval")
    if value is None:
        return "–"
    text = f"{factor * value:.{digits}f}"
    if not ends or None in ends:
        return text
    return f"{text} ({factor * ends[0]:.{digits}f}–{factor * ends[1]:.{digits}f})"


def _estimate(diagnosis: dict[str, Any]) -> list[Block]:
    """How many labels are wrong, or why that cannot be told."""
    found = diagnosis.get("noise") or {}
    if not found:
        return []
    hidden = f" {HIDDEN_NOTE}" if "rate" in found else ""
    return [paragraph(f"How many labels are wrong: {found['words']}.{hidden}")]


def _diagnosis(diagnosis: dict[str, Any]) -> list[Block]:
    """What mining says of sources, classes and pairs of classes."""
    blocks = []
    for name, what, title in (
        ("sources", "source", "Images with a negative AUM, by source"),
        ("classes", "class", "Images with a negative AUM, by class: those with surely the most"),
    ):
        rows = [
            [shown(row[what], NAME), count(row["images"]), _negative(row), _number(row["median_aum"])]
            for row in diagnosis.get(name, [])[:LISTED]
        ]
        if rows:
            header = [what, "images", "negative AUM, %", "median AUM"]
            blocks.append(table(header, rows, title, NEGATIVE_NOTE if name == "sources" else ""))
    pairs = [
        [shown(row["label"], NAME), shown(row["looks_like"], NAME), count(row["images"])]
        for row in diagnosis.get("pairs", [])[:LISTED]
    ]
    if pairs:
        header = ["label", "looks like", "images"]
        note = "By the class that scored highest besides the label at the last visit."
        blocks.append(
            table(
                header,
                pairs,
                "What images with a negative AUM look like instead",
                note,
                words=("looks like",),
            )
        )
    return blocks


def _standing_out(item: Item, evaluated: dict[str, Any]) -> list[Block]:
    """Classes that training did not learn where it learnt comparable ones, and what validation says."""
    diagnosis = item.json("diagnosis.json")
    if "abstract" not in diagnosis:
        return []
    if why := diagnosis.get("abstract_why"):
        return [paragraph(f"Classes that no model learnt: {why}.")]
    if not diagnosis["abstract"]:
        return [paragraph("Classes that no model learnt: none that stands out from classes of like size.")]
    judged = {row["number"]: row for row in evaluated.get("standing_out", {}).get(item.name, [])}
    rows = []
    for row in diagnosis["abstract"][:LISTED]:
        seen = judged.get(row["number"], {})
        rows.append(
            [
                shown(row["class"], NAME),
                count(row["images"]),
                _negative(row),
                percent(row["comparable"], 1),
                count(seen["images"]) if seen else "–",
                _between(seen, "top1"),
                percent(seen.get("usual"), 1),
                seen.get("learnt", "–"),
            ]
        )
    header = ["class", "images", "negative AUM, %", "classes of like size, %"]
    header += ["validation images", "their top-1, %", "usual top-1, %", "learnt"]
    title = "Classes that no model learnt, though classes of like size were"
    return [table(header, rows, title, STANDING_OUT_NOTE, words=("learnt",))]


def _negative(row: dict[str, Any]) -> str:
    return _between({"negative": row["negative"], "negative_interval": (row["low"], row["high"])}, "negative")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def galleries(run: Run) -> Section | None:
    """The most suspicious images of the classes with the most of them, with their crawled titles."""
    found, catalogue = run.mined, run.catalogue
    if found is None or catalogue is None:
        return None
    item, ranking, selection = found
    other = _looks_like(run, item)
    sizes = class_counts(catalogue, "train")
    blocks = []
    for label, positions in _suspicious(catalogue, ranking, selection):
        cards = _cards(run, catalogue, ranking, positions, selection, other)
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


def _looks_like(run: Run, item: Item) -> Dynamics | None:
    """Dynamics of the first model of the round: they know what it took each row for instead."""
    for name in item.inputs.get("train", []):
        path = run.items[name].path
        if path and (path / "dynamics").is_dir():
            return open_dynamics(path / "dynamics")[0]
    return None


def _cards(
    run: Run,
    catalogue: Catalogue,
    ranking: Ranking,
    positions: NDArray[np.int64],
    selection: Selection | None,
    dynamics: Dynamics | None,
) -> list[dict[str, Any]]:
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
                "image": thumbnail(catalogue, run.image_root, row),
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
