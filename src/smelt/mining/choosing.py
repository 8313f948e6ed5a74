"""Which rows a round learns from: evidence, earlier rounds, and one of the ways in `mining/selections`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.artifacts.ranking import Ranking
from smelt.artifacts.selection import Selection
from smelt.mining.config import DownWeightSettings, SelectSettings, selection_module
from smelt.mining.draft import Draft, Floats, Known, follow
from smelt.mining.evidence import Evidence, drop_evidence
from smelt.mining.scales import whole_numbers
from smelt.mining.selections.lowest_fraction import lowest

DOWN_WEIGHTED = "down_weighted"


def choose(
    rows_N: NDArray[np.int64],
    labels_N: NDArray[np.int32],
    num_classes: int,
    settings: SelectSettings,
    known: Known,
    evidence: Evidence,
    earlier: Sequence[Selection] = (),
) -> tuple[Selection, dict[str, Any]]:
    """The selection of these rows, and what selection.json says of how it came about.

    What is wrong whatever a model says is dropped first, then what `earlier` selections dropped; a method
    flags among the rows that are left. DataError if none is left then, RecipeError if something is not known
    that the method goes by.
    """
    module, share = selection_module(settings.method), settings.minimum_share
    draft = Draft(
        rows_N, labels_N, num_classes, score=known.score,
        flagged_weight=settings.flagged_weight, minimum_per_class=settings.minimum_per_class,
        minimum_share=getattr(module, "MINIMUM_SHARE", 0.0) if share is None else share,
    )  # fmt: skip
    draft.drop(draft.labels < 0, "unlabelled")
    cleanness = known.ranking.cleanness if known.ranking else np.full(len(rows_N), np.nan)
    drop_evidence(draft, evidence, settings, cleanness)
    for one in earlier:
        follow(draft, one, ~np.isnan(cleanness), settings.revive)
    read = {name: getattr(settings, name) for name in module.READS}
    summary = module.select(draft, known, **read)
    if settings.down_weight:
        down_weight(draft, known.cleanness("down_weight"), settings.down_weight)
    return draft.selection(), {"method": settings.method, **summary}


def down_weight(draft: Draft, cleanness_N: Floats, band: DownWeightSettings) -> None:
    """Give the rows whose rank lies in the band its weight; ranks go over all rows with a score, from the
    cleanest (the 2020 winners' trial: ranks 70–90 %). Rows that are marked already keep what they have."""
    scored = ~np.isnan(cleanness_N)
    above = lowest(cleanness_N, scored, 1 - band.start) & ~lowest(cleanness_N, scored, 1 - band.stop)
    draft.weigh(above & (draft.reasons == 0), band.weight, DOWN_WEIGHTED)


def select(
    labels_N: ArrayLike,
    cleanness: Ranking | ArrayLike | None = None,
    *,
    method: str = "lowest_fraction",
    num_classes: int | None = None,
    known: Known | None = None,
    evidence: Evidence | None = None,
    earlier: Sequence[Selection] = (),
    **settings: Any,
) -> Selection:
    """What to learn from, of images with labels (N,), −1 where there is none.

    cleanness: a ranking of them, or one number for each, (N,), NaN where there is none: higher is cleaner.
    method and settings: those of `SelectSettings` (`fraction=0.2`, `within="class"`, `minimum_per_class=…`).
    num_classes: one more than the highest label unless given. known: what methods beside lowest_fraction go
    by. evidence: bad files, leaks, copies. earlier: selections whose dropped rows stay out.

    Raises ValueError or TypeError for arrays of other shapes or types and settings that are none, RecipeError
    if the method goes by something that is not given, DataError if nothing is left.
    """
    labels = whole_numbers("labels", labels_N).astype(np.int32)
    ranking = cleanness if isinstance(cleanness, Ranking | None) else _ranking(cleanness)
    if ranking is not None and len(ranking.rows) != len(labels):
        raise ValueError(
            f"labels ({len(labels)},) and the ranking ({len(ranking.rows)},) must be of one length"
        )
    rows = np.arange(len(labels)) if ranking is None else ranking.rows
    classes = int(labels.max(initial=-1)) + 1 if num_classes is None else num_classes
    if classes <= labels.max(initial=-1):
        raise ValueError(f"a label is {labels.max()}, and num_classes {num_classes}: labels are 0..C−1")
    chosen = SelectSettings.model_validate({"method": method, **settings})
    known = known or Known()
    known = known if ranking is None else replace(known, ranking=ranking)
    return choose(rows, labels, classes, chosen, known, evidence or Evidence(), earlier)[0]


def _ranking(cleanness: ArrayLike) -> Ranking:
    """Numbers from elsewhere as a ranking of all rows."""
    numbers = np.asarray(cleanness)
    if numbers.dtype.kind not in "fiu":
        raise TypeError(f"cleanness must be numbers, not {numbers.dtype}")
    if numbers.ndim != 1:
        raise ValueError(f"cleanness must have the shape (N,), not {numbers.shape}")
    numbers = numbers.astype(np.float64)
    return Ranking(np.arange(len(numbers)), {}, numbers)
