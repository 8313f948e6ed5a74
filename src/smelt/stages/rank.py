"""rank: one cleanness for every training row, from dynamics, features and texts.

Ports: catalogue; train (any number of train artefacts, each with `dynamics/`); selection (optional, for each
train the selection it was taught from, in the same order: rows taught under another label are not judged by
that model); features (any number); check and dedupe (optional: what is known of files). Without train it goes
by features and texts alone. Writes `ranking.parquet`, `rank.json`, `diagnosis.json` (tables for people) and,
with features, `kinds.parquet` (what is wrong with each row, and how surely) and `likely_classes.parquet` (the
likeliest classes of each row by a fit to the others).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.featurestore import Features
from smelt.artifacts.ranking import Ranking, write_ranking
from smelt.artifacts.results import find, open_dense, rows_hash
from smelt.artifacts.row_kinds import COPY, UNREADABLE, RowKinds, write_kinds
from smelt.artifacts.selection import read_selection
from smelt.artifacts.softlabels import LIKELY, SoftLabels, write_soft_labels
from smelt.errors import ArtifactError, RecipeError
from smelt.files.atomic import write_json
from smelt.metrics import hits_topk, per_class
from smelt.mining.class_findings import class_findings
from smelt.mining.config import RankSettings
from smelt.mining.diagnosis import diagnose
from smelt.mining.estimate import NO_FEATURES, Estimate, errors_on, estimated
from smelt.mining.filefacts import copies, unreadable
from smelt.mining.image_words import Worded
from smelt.mining.labelled_features import Labelled
from smelt.mining.noise_kinds import kinds
from smelt.mining.rankings import Grounds
from smelt.mining.textscore import TextEvidence, text_evidence, texts_of
from smelt.mining.wrong_tables import wrong_tables
from smelt.stages.context import Context


def run(context: Context[RankSettings]) -> None:
    """Write the ranking of the catalogue's training rows."""
    settings = context.settings
    catalogue = Catalogue.open(context.catalogue)
    grounds = grounds_of(context, catalogue)
    ranking = grounds.ranking(settings)
    noise = noise_of(context, catalogue, grounds)
    found = row_kinds(context, grounds, ranking, noise)
    tables = diagnose(ranking, grounds.models, catalogue, noise)
    if found is not None:
        write_kinds(context.out, found[0])
        write_soft_labels(context.out, found[1], LIKELY)
        tables |= wrong_tables(found[0], catalogue)
    tables |= findings_of(context, catalogue)
    write_ranking(context.out, ranking, summary(settings, grounds, ranking))
    write_json(context.out / "diagnosis.json", tables)


def grounds_of(context: Context[RankSettings], catalogue: Catalogue) -> Grounds:
    """All that rows can be ranked by; RecipeError where there is nothing."""
    rows = catalogue.rows("train")
    labels = catalogue.labels_N[rows]
    models = [dynamics_of(path, catalogue) for path in context.inputs.get("train", [])]
    relabelled = relabelled_rows(context, catalogue)
    models = [model.without(rows) for model, rows in zip(models, relabelled, strict=True)]
    spaces = spaces_of(context, catalogue, rows)
    texts = texts_of_rows(catalogue, rows, labels)
    if not models and not spaces and texts is None:
        raise RecipeError(
            "rank goes by training (port train), by features or by texts, and there is none of them: "
            "-o 'features=[{weights: FILE}]' has features written"
        )
    return Grounds(rows, labels, models, spaces, texts, words_of(context, catalogue, rows))


def findings_of(context: Context[RankSettings], catalogue: Catalogue) -> dict[str, Any]:
    """`whole_classes`: what is wrong with whole classes, by the first features; {} without any."""
    paths = context.inputs.get("features", [])
    if not paths:
        return {}
    one, rows = Features.open(paths[0], catalogue.num_rows), catalogue.rows("train")
    found = class_findings(
        one.values_ND, catalogue.labels_N[rows], catalogue.classes, known_N=one.known_N[rows],
        texts=texts_of(catalogue, rows), places_N=rows,
    )  # fmt: skip
    return {"whole_classes": {"features": one.name, **found}}


def words_of(context: Context[RankSettings], catalogue: Catalogue, rows: NDArray[np.int64]) -> list[Worded]:
    """The features of nets that read the classes' words, too."""
    opened = [Features.open(path, catalogue.num_rows) for path in context.inputs.get("features", [])]
    return [
        Worded(
            one.values_ND, one.text_CD, catalogue.labels_N[rows], float(one.info["scale"]), one.known_N[rows],
            rows,
        )
        for one in opened
        if one.text_CD is not None and len(one.text_CD) > 1
    ]  # fmt: skip


def spaces_of(
    context: Context[RankSettings], catalogue: Catalogue, rows: NDArray[np.int64]
) -> dict[str, Labelled]:
    """The features of these rows with their labels, by name; of rows that all of them know."""
    opened = [Features.open(path, catalogue.num_rows) for path in context.inputs.get("features", [])]
    if not opened:
        return {}
    known = np.logical_and.reduce([one.known_N[rows] for one in opened])
    return {
        one.name: Labelled(
            one.values_ND, catalogue.labels_N[rows], len(catalogue.classes), known_N=known, places_N=rows,
            threads=context.runtime.workers,
        )
        for one in opened
    }  # fmt: skip


def texts_of_rows(
    catalogue: Catalogue, rows: NDArray[np.int64], labels: NDArray[np.int32]
) -> TextEvidence | None:
    """What the texts of the rows say; None where the data set has none."""
    texts = texts_of(catalogue, rows)
    if not texts or len(catalogue.classes) < 2:
        return None
    found = text_evidence(texts, labels, catalogue.classes)
    return None if np.isnan(found.score_N).all() else found


def noise_of(context: Context[RankSettings], catalogue: Catalogue, grounds: Grounds) -> Estimate:
    """The share of wrong labels by the features, narrowed by validation where its labels were checked."""
    if not grounds.spaces or (next(iter(grounds.spaces.values())).counts > 0).sum() < 2:
        return Estimate(len(grounds.rows), why=NO_FEATURES)
    others = list(spaces_of(context, catalogue, catalogue.rows("val")).values())
    if context.settings.validation_labels == "crawled" or not others or not others[0].num_rows:
        return estimated(grounds.posterior)
    return estimated(grounds.posterior, *errors_on(grounds.posterior, others))


def row_kinds(
    context: Context[RankSettings], grounds: Grounds, ranking: Ranking, noise: Estimate
) -> tuple[RowKinds, SoftLabels] | None:
    """What is wrong with each row, and which classes it is likely of; None without features. Where no rate
    is claimed, the least that is possible is taken."""
    rate = noise.low if noise.rate is None else noise.rate
    if rate is None:
        return None
    files = {
        COPY: np.isin(ranking.rows, copies(context.maybe("dedupe"))),
        UNREADABLE: np.isin(ranking.rows, unreadable(context.maybe("check"))),
    }
    return kinds(grounds.posterior, ranking, rate, files)


def summary(settings: RankSettings, grounds: Grounds, ranking: Ranking) -> dict[str, Any]:
    """What rank.json says of how the ranking came about."""
    found: dict[str, Any] = {
        "score": settings.score,
        "models": len(grounds.models),
        "unseen": int(np.isnan(ranking.cleanness).sum()),
    }
    if grounds.models:
        found["seen_mean"] = float(np.mean([model["seen"][grounds.rows].mean() for model in grounds.models]))
    if settings.score == "fused":
        found["fused"] = grounds.fused(settings)
    if grounds.spaces:
        shares = grounds.posterior.shares.tolist()
        found["features"] = {name: round(share, 6) for name, share in zip(grounds.spaces, shares)}
    if grounds.texts is not None:
        texts = grounds.texts
        found["texts"] = {
            "informative": texts.informative,
            "accuracy": round(texts.accuracy, 6),
            "chance": round(texts.chance, 6),
        }
    return found


def relabelled_rows(context: Context[RankSettings], catalogue: Catalogue) -> list[NDArray[np.int64]]:
    """For each training the rows that it was taught under another label than the catalogue's."""
    trained, taught = context.inputs.get("train", []), context.inputs.get("selection", [])
    if not taught:
        return [np.empty(0, np.int64)] * len(trained)
    if len(taught) != len(trained):
        raise ArtifactError(f"rank: {len(trained)} trainings (train) but {len(taught)} selections")
    return [taught_otherwise(path, catalogue) for path in taught]


def dynamics_of(path: Path, catalogue: Catalogue) -> Dynamics:
    """The dynamics in a train artefact; ArtifactError if they are of another catalogue."""
    dynamics = Dynamics.open(path / "dynamics")
    if dynamics.num_rows != catalogue.num_rows:
        raise ArtifactError(
            f"{path / 'dynamics'} has {dynamics.num_rows} rows, the catalogue {catalogue.num_rows}: "
            "they are of different data sets"
        )
    return dynamics


def taught_otherwise(path: Path, catalogue: Catalogue) -> NDArray[np.int64]:
    """Rows that the selection in `path` teaches under another label than the catalogue's."""
    selection = read_selection(path)
    rows: NDArray[np.int64] = selection.rows[selection.labels != catalogue.labels_N[selection.rows]]
    return rows


def validation_accuracy(paths: list[Path], catalogue: Catalogue, topk: int) -> NDArray[np.float64] | None:
    """Accuracy of each class (C,) on validation, NaN without images, averaged over all dense results in the
    predict artefacts; None where there is none."""
    rows = catalogue.rows("val")
    labels, expected = catalogue.labels_N[rows], rows_hash(rows)
    found = []
    for path in (file for folder in paths for file in find(folder, "val") if file.suffix == ".npy"):
        scores, info = open_dense(path)
        if info.rows_hash != expected:
            raise ArtifactError(f"{path} is of other rows than the catalogue's validation split")
        blocks = range(0, len(labels), 4096)
        hits = np.concatenate([hits_topk(scores[i : i + 4096], labels[i : i + 4096], topk) for i in blocks])
        found.append(per_class(hits, labels, len(catalogue.classes)))
    return np.asarray(np.mean(found, axis=0)) if found else None
