"""select: which training rows a round learns from, at what weight, and why.

Ports: catalogue; check, dedupe, selection (an earlier round's) and ranking, each optional; for
`threshold_samples` train and threshold (the two trainings and, in the same order, the selections of
`threshold_runs` that they were taught from: what these left out stays out); results (predict artefacts) for
`worst_classes`, and for `noise_rate` where there are any; for `auto` decision and tried (the selections that
were tried): the one that was chosen is taken over, or that of the round before.
Writes `selection.parquet` and `selection.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.ranking import read_ranking
from smelt.artifacts.row_kinds import read_kinds
from smelt.artifacts.selection import read_selection, write_selection
from smelt.artifacts.softlabels import LIKELY, read_soft_labels
from smelt.errors import ArtifactError, RecipeError
from smelt.files.atomic import read_json
from smelt.files.committed import MANIFEST
from smelt.mining import given_audit
from smelt.mining.choosing import choose
from smelt.mining.config import SelectSettings
from smelt.mining.draft import Known
from smelt.mining.filefacts import evidence
from smelt.mining.rankings import score_of
from smelt.stages.context import Context
from smelt.stages.decided import decision_of
from smelt.stages.rank import dynamics_of, taught_otherwise, validation_accuracy

OWN = ("num_classes", "counts")  # what writing a selection says of it anew


def run(context: Context[SelectSettings]) -> None:
    """Write the selection over the catalogue's training rows."""
    if context.settings.method == "auto":
        adopt(context)
        return
    catalogue = Catalogue.open(context.catalogue)
    rows = catalogue.rows("train")
    earlier = [*context.inputs.get("selection", []), *context.inputs.get("threshold", [])]
    selection, summary = choose(
        rows,
        catalogue.labels_N[rows],
        len(catalogue.classes),
        context.settings,
        known(context, catalogue, rows),
        evidence(context.maybe("check"), context.maybe("dedupe"), context.settings.damaged == "drop"),
        [read_selection(path) for path in earlier],
    )
    write_selection(context.out, selection, summary)


def adopt(context: Context[SelectSettings]) -> None:
    """Write the selection that was decided on."""
    decision = decision_of(context)
    if decision is None:
        raise RecipeError("select: auto takes what trainings decide, and no decision is connected")
    source = [context.one("selection"), *context.inputs["tried"]][decision["chosen"]]
    kept = {name: value for name, value in read_json(source / "selection.json").items() if name not in OWN}
    write_selection(context.out, read_selection(source), {**kept, "decided": decision["words"]})


def known(context: Context[SelectSettings], catalogue: Catalogue, rows: NDArray[np.int64]) -> Known:
    """What is connected, for the method to go by."""
    trains, taught = context.inputs.get("train", []), context.inputs.get("threshold", [])
    found: dict[str, Any] = {}
    if path := context.maybe("ranking"):
        ranking = read_ranking(path)
        if not np.array_equal(ranking.rows, rows):
            raise ArtifactError(f"{path} ranks other rows than the catalogue's training split")
        found = {"ranking": ranking, "score": read_json(path / "rank.json")["score"]}
        if (path / "diagnosis.json").is_file():
            found["noise"] = read_json(path / "diagnosis.json").get("noise", {})
        found |= {"kinds": read_kinds(path), "likely": read_soft_labels(path, LIKELY)}
    if context.settings.audit is not None and context.settings.method == "likely_wrong":
        manifest = context.catalogue.parent / MANIFEST
        key = str(read_json(manifest).get("key", "")) if manifest.is_file() else ""
        audit = given_audit.read(
            Path(context.settings.audit), catalogue, rows, found.get("ranking"), found.get("score", ""), key
        )
        found |= {"p_wrong": audit.p_wrong, "verdicts": audit.verdicts}
        if audit.p_wrong is None:
            context.emit(
                "warning",
                text=f"the verdicts of {context.settings.audit} do not tell which labels are wrong: there is "
                "no ranking, or its low scores are wrong no oftener. Features decide, as without an audit",
            )
    return Known(
        accuracy=lambda topk: validation_accuracy(context.inputs.get("results", []), catalogue, topk),
        aum_RN=[score_of(dynamics_of(path, catalogue), "aum")[rows] for path in trains],
        samples_RN=[np.isin(rows, taught_otherwise(path, catalogue)) for path in taught],
        warn=lambda text: context.emit("warning", text=text),
        **found,
    )
