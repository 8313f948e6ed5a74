"""What `smelt look` found, on the terminal."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from smelt.report.findings import Table, count
from smelt.report.looking import WORDS, Looked
from smelt.report.shown import NAME, shown
from smelt.report.terminal import console, table

MOST_CLASSES = 20
WORST, LONGEST = 15, 60  # suspicious images that are listed, and characters of their paths


def show(found: Looked) -> None:
    """Print how many labels look wrong, the worst of them, and what else there is."""
    out, told = console(), found.summary()
    out.print(f"{count(told['images'])} images in {count(told['classes'])} classes", soft_wrap=True)
    if found.noise:
        out.print(found.noise, soft_wrap=True)
    classes = [
        [shown(found.catalogue.classes[label], NAME), count(len(places)), _mostly(found, places)]
        for label, places in found.by_class()[:MOST_CLASSES]
    ]
    header = ["class", "in doubt", "look mostly like"]
    table(out, Table(header, classes, "Labels in doubt", words=header[2:]) if classes else None)
    worst = [
        [shown(path, LONGEST), shown(label, NAME), shown(other or WORDS[kind], NAME), score]
        for path, label, other, kind, score, _ in islice(found.lines(), min(WORST, len(found.suspects)))
    ]
    header = ["file", "label", "looks like", "wrong with probability"]
    table(out, Table(header, worst, "The worst of them", words=header[:3]) if worst else None)
    out.print(
        f"odd ones out: {count(told['kinds']['outside'])}; copies: {count(told['exact_copies'])} exact, "
        f"{count(told['near_copies'])} near, {count(told['cross_label_groups'])} groups of them under more "
        f"than one label; very much alike: {count(told['look_alike'])} pairs; cannot be read: "
        f"{count(told['unreadable'])}; damaged: {count(told['damaged'])}",
        soft_wrap=True,
    )
    out.print(
        f"these probabilities are uncalibrated; verdicts calibrate them: smelt audit {found.work.folder}",
        soft_wrap=True,
    )


def _mostly(found: Looked, places: NDArray[np.int64]) -> str:
    """The classes that most of these rows look like."""
    names = Counter(name for place in places.tolist() if (name := found.looks_like(place)))
    return ", ".join(f"{shown(name, NAME)} ({number})" for name, number in names.most_common(3))
