"""rank: dynamics of one or several models → one cleanness for each training row.

Ports: catalogue; train (one or more, each with `dynamics/`); selection (optional, for each train the
selection it was taught from, in the same order: rows taught under another label are not judged by that
model). Writes `ranking.parquet`, `rank.json` and `diagnosis.json` (tables for people: see
mining.diagnosis.diagnose).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from smelt.errors import ArtifactError
from smelt.mining.config import RankSettings
from smelt.stages.base import Context

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from smelt.artifacts.catalogue import Catalogue
    from smelt.artifacts.dynamics import Dynamics

VERSION = 1


class StageSettings(RankSettings):
    """See RankSettings."""


def run(context: Context) -> None:
    """Write the ranking of the catalogue's training rows."""
    import numpy as np

    from smelt.artifacts.catalogue import Catalogue
    from smelt.artifacts.files import write_json
    from smelt.artifacts.tables import write_ranking
    from smelt.mining.diagnosis import diagnose
    from smelt.mining.rankings import rank, without

    settings = cast(StageSettings, context.settings)
    catalogue = Catalogue.open(context.one("catalogue") / "catalogue")
    rows = catalogue.rows("train")
    labels = catalogue.labels_N[rows]
    models = [dynamics_of(path, catalogue) for path in context.inputs["train"]]
    if taught := context.inputs.get("selection", []):
        if len(taught) != len(models):
            raise ArtifactError(f"rank: {len(models)} trainings (train) but {len(taught)} selections")
        models = [without(m, taught_otherwise(path, catalogue)) for m, path in zip(models, taught)]
    ranking = rank(models, rows, labels, settings)
    summary = {
        "score": settings.score,
        "models": len(models),
        "unseen": int(np.isnan(ranking.cleanness).sum()),
        "seen_mean": float(np.mean([model.seen[rows].mean() for model in models])),
    }
    write_ranking(context.out, ranking, summary)
    write_json(context.out / "diagnosis.json", diagnose(ranking, models, catalogue))


def dynamics_of(path: Path, catalogue: Catalogue) -> Dynamics:
    """The dynamics in a train artefact; ArtifactError if they are of another catalogue."""
    from smelt.artifacts.dynamics import open_dynamics

    dynamics, _ = open_dynamics(path / "dynamics")
    if dynamics.num_rows != catalogue.num_rows:
        raise ArtifactError(
            f"{path / 'dynamics'} has {dynamics.num_rows} rows, the catalogue {catalogue.num_rows}: "
            "they are of different data sets"
        )
    return dynamics


def taught_otherwise(path: Path, catalogue: Catalogue) -> NDArray[np.int64]:
    """Rows that the selection in `path` teaches under another label than the catalogue's."""
    from smelt.artifacts.tables import read_selection

    selection = read_selection(path)
    rows: NDArray[np.int64] = selection.rows[selection.labels != catalogue.labels_N[selection.rows]]
    return rows
