"""Tables of what looks wrong: by kind, by source, by class, and what wrong labels are likelier to be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import OUT_OF_VOCABULARY, UNKNOWN_TRUTH, Catalogue
from smelt.artifacts.row_kinds import KINDS, WRONG_CLASS, RowKinds

PAIRS = 200  # pairs of classes listed


def wrong_tables(found: RowKinds, catalogue: Catalogue) -> dict[str, Any]:
    """`kinds` (rows of each kind, and how many are expected), `wrong_sources`, `wrong_classes` (expected
    share of wrong labels, uncalibrated; the most first) and `wrong_pairs` (label → likelier class,
    images)."""
    labels = catalogue.labels_N[found.rows]
    sources = catalogue.source_codes_N[found.rows]
    by_class = _shares(found.p_wrong, labels, "class", catalogue.classes)
    taken = (found.kind == WRONG_CLASS) & (found.likely >= 0) & (labels >= 0)
    codes = labels[taken].astype(np.int64) * len(catalogue.classes) + found.likely[taken]
    pairs, counts = np.unique(codes, return_counts=True)
    order = np.lexsort((pairs, -counts))[:PAIRS]
    return {
        "kinds": [
            {"kind": name, "images": images, "mean_p": _mean(found.p_kind[found.kind == code])}
            for code, (name, images) in enumerate(zip(KINDS, found.counts().values()))
        ],
        "wrong_sources": _shares(found.p_wrong, sources, "source", catalogue.sources),
        "wrong_classes": sorted(by_class, key=lambda row: -row["wrong"]),
        "wrong_pairs": [
            {
                "label": catalogue.classes[int(pairs[i]) // len(catalogue.classes)],
                "likely": catalogue.classes[int(pairs[i]) % len(catalogue.classes)],
                "images": int(counts[i]),
            }
            for i in order
        ],
    }


def kinds_against_truth(found: RowKinds, catalogue: Catalogue) -> dict[str, Any]:
    """How kinds go with the hidden truth, `{}` where there is none: `confusion` (truth → kind → rows), of
    rows that are called wrong_class and are, the share whose likelier class is the true one (`named`), and
    the share of wrong labels that p_wrong claims and that there is (`expected`, `wrong`)."""
    column = catalogue.column("true_label")
    if column is None:
        return {}
    truth, labels = np.asarray(column[found.rows]), catalogue.labels_N[found.rows]
    known = (truth != UNKNOWN_TRUTH) & (labels >= 0)
    real = {
        "right": known & (truth == labels),
        "wrong_class": known & (truth >= 0) & (truth != labels),
        "outside": known & (truth == OUT_OF_VOCABULARY),
    }
    both = real["wrong_class"] & (found.kind == WRONG_CLASS)
    judged = known & ~np.isnan(found.p_wrong)
    return {
        "confusion": {
            name: {kind: int((mask & (found.kind == code)).sum()) for code, kind in enumerate(KINDS)}
            for name, mask in real.items()
        },
        "named": round(float((found.likely[both] == truth[both]).mean()), 6) if both.any() else None,
        "expected": _mean(found.p_wrong[judged]),
        "wrong": round(float((truth != labels)[judged].mean()), 6) if judged.any() else None,
        "images": int(judged.sum()),
    }


def _shares(
    p_wrong_N: NDArray[np.float64], groups_N: NDArray[Any], what: str, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Images and the mean probability of a wrong label of each group."""
    known = ~np.isnan(p_wrong_N) & (groups_N >= 0)
    images = np.bincount(groups_N[known], minlength=len(names))
    wrong = np.bincount(groups_N[known], weights=p_wrong_N[known], minlength=len(names))
    return [
        {what: names[int(i)], "images": int(images[i]), "wrong": round(float(wrong[i] / images[i]), 6)}
        for i in np.flatnonzero(images)
    ]


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 6) if len(known) else None
