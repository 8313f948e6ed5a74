"""rank: dynamics of one or several models → one cleanness for each training row.

Ports: catalogue; train (one or more, each with `dynamics/`, and `metrics.csv` to estimate the noise by);
selection (optional, for each train the selection it was taught from, in the same order: rows taught under
another label are not judged by that model). Writes `ranking.parquet`, `rank.json` and `diagnosis.json`
(tables for people: see mining.diagnosis.diagnose).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.ranking import write_ranking
from smelt.artifacts.results import find, open_dense, rows_hash
from smelt.artifacts.selection import read_selection
from smelt.errors import ArtifactError
from smelt.files.atomic import read_json, write_json
from smelt.files.committed import MANIFEST
from smelt.files.opening import open_text
from smelt.metrics import hits_topk, per_class
from smelt.mining.config import RankSettings
from smelt.mining.diagnosis import diagnose
from smelt.mining.estimate import CRAWLED, Curve, Estimate, class_average_over_mean, noise_rate
from smelt.mining.rankings import rank
from smelt.stages.context import Context


def run(context: Context[RankSettings]) -> None:
    """Write the ranking of the catalogue's training rows."""
    settings = context.settings
    catalogue = Catalogue.open(context.catalogue)
    rows = catalogue.rows("train")
    labels = catalogue.labels_N[rows]
    models = [dynamics_of(path, catalogue) for path in context.inputs["train"]]
    relabelled = relabelled_rows(context, catalogue)
    models = [model.without(rows) for model, rows in zip(models, relabelled, strict=True)]
    ranking = rank(
        models, labels, rows, score=settings.score, combine=settings.combine, per_class=settings.per_class
    )
    noise = estimated_noise(context, catalogue, models, [len(rows) > 0 for rows in relabelled])
    summary = {
        "score": settings.score,
        "models": len(models),
        "unseen": int(np.isnan(ranking.cleanness).sum()),
        "seen_mean": float(np.mean([model["seen"][rows].mean() for model in models])),
    }
    write_ranking(context.out, ranking, summary)
    write_json(context.out / "diagnosis.json", diagnose(ranking, models, catalogue, noise))


def relabelled_rows(context: Context[RankSettings], catalogue: Catalogue) -> list[NDArray[np.int64]]:
    """For each training the rows that it was taught under another label than the catalogue's."""
    trained, taught = context.inputs["train"], context.inputs.get("selection", [])
    if not taught:
        return [np.empty(0, np.int64)] * len(trained)
    if len(taught) != len(trained):
        raise ArtifactError(f"rank: {len(trained)} trainings (train) but {len(taught)} selections")
    return [taught_otherwise(path, catalogue) for path in taught]


def estimated_noise(
    context: Context[RankSettings], catalogue: Catalogue, models: list[Dynamics], relabelled: list[bool]
) -> Estimate:
    """The share of wrong labels by the trainings that began afresh and were taught the catalogue's labels."""
    settings = context.settings
    rows = catalogue.rows("train")
    seen = int(np.any([np.asarray(model["seen"][rows]) > 0 for model in models], axis=0).sum())
    labels = catalogue.labels_N[catalogue.rows("val")]
    validation = np.bincount(labels[labels >= 0], minlength=len(catalogue.classes))
    if settings.validation_labels == "crawled" and validation.any():
        return Estimate(seen, int(validation.sum()), len(models), why=CRAWLED)
    curves = [
        curve
        for path, model, other in zip(context.inputs["train"], models, relabelled, strict=True)
        if not other and (curve := curve_of(path, model, rows, catalogue.labels_N[rows], validation))
    ]
    return noise_rate(curves, seen, validation)


def curve_of(
    path: Path, model: Dynamics, rows: NDArray[np.int64], labels_N: NDArray[np.int32],
    validation_C: NDArray[np.int64],
) -> Curve | None:  # fmt: skip
    """Accuracies by epoch of a train artefact, the visits' averaged over classes as validation is; None
    without a record, and for a fine-tuned model, which knew its rows before."""
    manifest = path / MANIFEST
    if not (path / "metrics.csv").is_file():
        return None
    if manifest.is_file() and read_json(manifest).get("inputs", {}).get("start"):
        return None
    with open_text(path / "metrics.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    train, val = (
        np.array([float(line.get(name) or "nan") for line in lines]) for name in ("train_top1", "val_top1")
    )
    ratio = class_average_over_mean(model["seen"][rows], model["correct"][rows], labels_N, validation_C)
    return Curve(train * ratio, val)


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
