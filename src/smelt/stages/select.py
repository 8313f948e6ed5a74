"""select: which training rows a round learns from, at what weight, and why.

Ports: catalogue; check, dedupe, selection (an earlier round's) and ranking, each optional; for
`threshold_samples` train and threshold (the two trainings and, in the same order, the selections of
`threshold_runs` that they were taught from: what these left out stays out); results (predict artefacts) for
`worst_classes`, and for `noise_rate` where there are any.
Writes `selection.parquet` and `selection.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from smelt.errors import ArtifactError, RecipeError
from smelt.mining.config import SelectSettings
from smelt.stages.context import Context

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from smelt.artifacts.catalogue import Catalogue
    from smelt.artifacts.tables import Ranking
    from smelt.mining.selection import Draft


def run(context: Context[SelectSettings]) -> None:
    """Write the selection over the catalogue's training rows."""
    import numpy as np

    from smelt.artifacts.catalogue import Catalogue
    from smelt.artifacts.tables import read_selection, write_selection
    from smelt.mining.selection import Draft, down_weight, follow

    settings = context.settings
    catalogue = Catalogue.open(context.catalogue)
    rows = catalogue.rows("train")
    draft = Draft(rows, catalogue.labels_N[rows], len(catalogue.classes))
    draft.drop(draft.labels < 0, "unlabelled")
    ranking = ranking_of(context, rows)
    cleanness = ranking.cleanness if ranking else np.full(len(rows), np.nan)
    drop_evidence(context, draft, cleanness, settings)
    for earlier in (*context.inputs.get("selection", []), *context.inputs.get("threshold", [])):
        follow(draft, read_selection(earlier), ~np.isnan(cleanness), settings.revive)
    summary = METHODS[settings.method](context, catalogue, draft, ranking)
    if settings.down_weight:
        down_weight(draft, need(ranking, "down_weight").cleanness, settings.down_weight)
    write_selection(context.out, draft.selection(), {"method": settings.method, **summary})


def need(ranking: Ranking | None, what: str) -> Ranking:
    """The ranking, or RecipeError if the stage was not given one."""
    if ranking is None:
        raise RecipeError(f"select: {what} goes by a ranking, and none is connected")
    return ranking


def ranking_of(context: Context[SelectSettings], rows: NDArray[np.int64]) -> Ranking | None:
    """The ranking on the port, of exactly these rows; None where the port is not connected."""
    import numpy as np

    from smelt.artifacts.tables import read_ranking

    path = context.maybe("ranking")
    if path is None:
        return None
    ranking = read_ranking(path)
    if not np.array_equal(ranking.rows, rows):
        raise ArtifactError(f"{path} ranks other rows than the catalogue's training split")
    return ranking


# What is wrong whatever a model says


def drop_evidence(
    context: Context[SelectSettings], draft: Draft, cleanness_N: NDArray[np.float64], settings: SelectSettings
) -> None:
    """Drop what check and dedupe found: bad files (damaged ones if it is asked for), leaks, one picture under
    several labels, duplicates."""
    if path := context.maybe("check"):
        bad = columns(path / "images.parquet", ["row", "reason"], [("ok", "==", False)])
        for reason in sorted(set(bad["reason"])):
            draft.drop(draft.mask_of(bad["row"][bad["reason"] == reason]), f"bad:{reason}")
        if settings.damaged == "drop":
            damaged = columns(path / "images.parquet", ["row"], [("damaged", "!=", "")])
            draft.drop(draft.mask_of(damaged["row"]), "damaged")
    path = context.maybe("dedupe")
    if path is None:
        return
    table = columns(path / "duplicates.parquet", ["row", "group", "keep", "cross_label", "leak"])
    if settings.leaks == "drop":
        draft.drop(draft.mask_of(table["row"][table["leak"]]), "leak")
    drop_cross_label(draft, table, cleanness_N, settings)
    if settings.duplicates == "drop":
        draft.drop(draft.mask_of(table["row"][~table["keep"] & ~table["cross_label"]]), "duplicate")


def drop_cross_label(
    draft: Draft, table: dict[str, Any], cleanness_N: NDArray[np.float64], settings: SelectSettings
) -> None:
    """Drop rows of groups that carry several labels: at most one of the labels is right."""
    from smelt.mining.selection import cleanest_of_groups

    if settings.cross_label == "keep":
        return
    rows, groups = table["row"][table["cross_label"]], table["group"][table["cross_label"]]
    if settings.cross_label == "cleanest":
        rows = rows[~cleanest_of_groups(draft, rows, groups, cleanness_N)]
    draft.drop(draft.mask_of(rows), "cross_label")


def columns(path: Path, names: list[str], filters: list[Any] | None = None) -> dict[str, Any]:
    """These columns of a Parquet file as numpy arrays; ArtifactError if it has them not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=names, filters=filters)
        return {name: table[name].to_numpy() for name in names}
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


# Methods: each marks the draft and returns what selection.json should say


def keep_all(
    context: Context[SelectSettings], catalogue: Catalogue, draft: Draft, ranking: Ranking | None
) -> dict[str, Any]:
    """Flag nothing."""
    return {}


def lowest_fraction(
    context: Context[SelectSettings], catalogue: Catalogue, draft: Draft, ranking: Ranking | None
) -> dict[str, Any]:
    """Flag the least clean share of the rows that are left."""
    settings = context.settings
    flag(draft, need(ranking, settings.method), settings.fraction, context)
    return {"fraction": settings.fraction}


def noise_rate(
    context: Context[SelectSettings], catalogue: Catalogue, draft: Draft, ranking: Ranking | None
) -> dict[str, Any]:
    """Flag as large a share as the ranking's trainings say is wrong, or a safe one where they cannot tell."""
    settings = context.settings
    ranking = need(ranking, settings.method)
    noise = noise_of(context)
    told, error = noise.get("rate"), validation_error(context, catalogue)
    safe = min(settings.fraction, unexplained_share(ranking, draft, error or 0.0))
    safe = min(max(safe, noise.get("low", 0.0)), noise.get("high", 1.0))
    rate = min(safe if told is None else float(told), settings.maximum_rate)
    words = str(noise.get("words") or "no estimate in the ranking")
    if told is None:
        context.emit(
            "warning",
            text=f"noise_rate: {words}; flags {rate:.3f} of the rows instead: the least of `fraction` "
            f"({settings.fraction:g}) and of the share of negative AUMs beyond validation's error, within "
            "what is possible",
        )
    flag(draft, ranking, rate, context)
    return {
        "noise": words,
        "supported": told is not None,
        "validation_error": None if error is None else round(error, 6),
        "rate": round(rate, 6),
    }


def noise_of(context: Context[SelectSettings]) -> dict[str, Any]:
    """What the ranking on the port says of the noise; empty where it says nothing."""
    from smelt.files.atomic import read_json

    path = context.maybe("ranking")
    if path is None or not (path / "diagnosis.json").is_file():
        return {}
    found: dict[str, Any] = read_json(path / "diagnosis.json").get("noise", {})
    return found


def validation_error(context: Context[SelectSettings], catalogue: Catalogue) -> float | None:
    """Class-averaged error of the results on the port on validation; None without results or labels."""
    import numpy as np

    from smelt.stages.rank import validation_accuracy

    if not (catalogue.labels_N[catalogue.rows("val")] >= 0).any():
        return None
    accuracy = validation_accuracy(context.inputs.get("results", []), catalogue, 1)
    return None if accuracy is None else 1 - float(np.nanmean(accuracy))


def unexplained_share(ranking: Ranking, draft: Draft, error: float) -> float:
    """Share of the kept rows with a negative AUM beyond an error rate of the models, 0..1; 0 without any."""
    import numpy as np

    from smelt.mining import noise_rate as estimate

    return float(np.nan_to_num(estimate.noise_rate(ranking.scores["aum"][draft.kept], error)))


def flag(draft: Draft, ranking: Ranking, fraction: float, context: Context[SelectSettings]) -> None:
    """Mark the least clean `fraction` of the rows that are left, of all or within each class."""
    from smelt.mining.selection import lowest

    settings = context.settings
    groups = draft.labels if settings.within == "class" else None
    mark(draft, lowest(ranking.cleanness, draft.kept, fraction, groups), ranking.cleanness, context)


def mark(
    draft: Draft,
    flagged_N: NDArray[np.bool_],
    cleanness_N: NDArray[np.float64],
    context: Context[SelectSettings],
) -> None:
    """Drop or weigh down flagged rows, as many as the classes can spare."""
    from smelt.files.atomic import read_json
    from smelt.mining.selection import spare

    settings = context.settings
    path = context.maybe("ranking")
    score = read_json(path / "rank.json")["score"] if path else "aum"
    flagged_N = spare(flagged_N, draft.kept, cleanness_N, draft.labels, settings.minimum_per_class)
    draft.weigh(flagged_N, settings.flagged_weight, f"low_{score}")


def threshold_runs(
    context: Context[SelectSettings], catalogue: Catalogue, draft: Draft, ranking: Ranking | None
) -> dict[str, Any]:
    """Give the rows of one of two disjoint random sets an extra class."""
    from smelt.mining.selection import THRESHOLD_SAMPLE, threshold_rows

    settings = context.settings
    sets = threshold_rows(draft.rows[draft.kept], draft.num_classes, settings.seed)
    draft.relabel(draft.mask_of(sets[settings.part]), draft.num_classes, THRESHOLD_SAMPLE)
    return {"part": settings.part, "threshold_samples": len(sets[settings.part])}


def threshold_samples(
    context: Context[SelectSettings], catalogue: Catalogue, draft: Draft, ranking: Ranking | None
) -> dict[str, Any]:
    """Flag the rows whose AUM is not above that of the threshold samples."""
    import numpy as np

    from smelt.mining.ranks import score_of
    from smelt.mining.selection import below_threshold
    from smelt.stages.rank import dynamics_of, taught_otherwise

    settings = context.settings
    trains, selections = context.inputs.get("train", []), context.inputs.get("threshold", [])
    if not trains or len(trains) != len(selections):
        raise RecipeError(
            f"select: threshold_samples needs the trainings (train: {len(trains)}) and as many selections "
            f"that they were taught from (threshold: {len(selections)})"
        )
    aum = [score_of(dynamics_of(path, catalogue), "aum")[draft.rows] for path in trains]
    samples = [draft.mask_of(taught_otherwise(path, catalogue)) for path in selections]
    flagged, thresholds = below_threshold(aum, samples, settings.percentile, settings.agreement)
    cleanness = ranking.cleanness if ranking else np.nanmean(np.array(aum), axis=0)
    mark(draft, flagged & draft.kept, cleanness, context)
    counts = [int((sample & ~np.isnan(one)).sum()) for sample, one in zip(samples, aum)]
    if min(counts) * (100 - settings.percentile) < 100:
        context.emit(
            "warning",
            text=f"threshold_samples: {min(counts)} samples are too few for a percentile of "
            f"{settings.percentile:g}: the threshold hangs on the largest of them",
        )
    return {"thresholds": thresholds, "threshold_samples": counts}


def worst_classes(
    context: Context[SelectSettings], catalogue: Catalogue, draft: Draft, ranking: Ranking | None
) -> dict[str, Any]:
    """Keep only the classes in which the results on the port `results` do worst on validation."""
    import numpy as np

    from smelt.mining import selection
    from smelt.stages.rank import validation_accuracy

    settings = context.settings
    accuracy = validation_accuracy(context.inputs.get("results", []), catalogue, settings.worst_topk)
    if accuracy is None:
        raise RecipeError("select: worst_classes needs dense results of the validation split (port results)")
    worst = selection.worst_classes(accuracy, settings.worst_classes)
    draft.drop(~np.isin(draft.labels, worst), selection.OTHER_CLASS)
    return {"worst_classes": worst.tolist()}


METHODS = {
    "all": keep_all,
    "lowest_fraction": lowest_fraction,
    "noise_rate": noise_rate,
    "threshold_runs": threshold_runs,
    "threshold_samples": threshold_samples,
    "worst_classes": worst_classes,
}
