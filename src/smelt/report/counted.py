"""Counts by class and source, and lists of artefacts, as the sections need them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.files.opening import open_text
from smelt.flowchart.work import Item, Work
from smelt.report.shown import NAME, shown

MOST_SOURCES = 8  # that tables and charts tell apart; there may be as many as sites were crawled


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, as text; empty where it is missing."""
    if not path.is_file():
        return []
    with open_text(path, errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def number(text: str | None) -> float:
    """A figure of a CSV file; NaN where there is none."""
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return float("nan")


def main_sources(catalogue: Catalogue) -> tuple[list[str], NDArray[np.int64]]:
    """Names to show of the sources, and the place of each source among them, (S,): in the catalogue's order,
    and where there are many the largest ones, then all others together."""
    names = list(catalogue.sources)
    if len(names) <= MOST_SOURCES:
        return [shown(name, NAME) for name in names], np.arange(len(names))
    sizes = np.bincount(catalogue.source_codes_N, minlength=len(names))
    largest = np.sort(np.argsort(-sizes, kind="stable")[: MOST_SOURCES - 1])
    place = np.full(len(names), len(largest))
    place[largest] = np.arange(len(largest))
    others = f"{len(names) - len(largest)} other sources"
    return [*(shown(names[code], NAME) for code in largest), others], place


def class_counts(catalogue: Catalogue, split: str) -> NDArray[np.int64]:
    """Images of each class in a split, (C,)."""
    labels = catalogue.labels_N[catalogue.rows(split)]
    return np.bincount(labels[labels >= 0], minlength=len(catalogue.classes))


def trainings(work: Work) -> list[Item]:
    """The trainings of the rounds: none of what was only tried, none of a step that is not used, whose models
    are those of the round before."""
    handed_on = {one.round for one in work.of("decide") if one.json("decision.json").get("chosen") == 0}
    return [item for item in work.of("train") if not item.tried and item.round not in handed_on]
