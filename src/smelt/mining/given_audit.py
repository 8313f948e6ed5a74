"""An audit that a selection is given: people's verdicts, or the probabilities that were learnt from them.

What `smelt audit` writes into WORK/audit: `verdicts-train.csv`, from which the probabilities are learnt anew
under the ranking at hand, and `p_wrong.parquet`. Either file may be given by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import likelywrong, verdicts
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.ranking import Ranking
from smelt.artifacts.verdicts import UNSURE, WRONG
from smelt.errors import DataError
from smelt.files import auditfolder
from smelt.files.opening import read_bytes
from smelt.mining.audited import Verdicts, calibrated, scores_of
from smelt.mining.drawn import identities
from smelt.mining.rightlabels import NOT_SAID

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PARQUET = b"PAR1"


@dataclass(frozen=True)
class Given:
    """p_wrong: how likely the label of each row is wrong, (N,), NaN where nothing tells; None where the
    verdicts do not show that lower scores are wrong more often. verdicts: by place among the rows."""

    p_wrong: Floats | None
    verdicts: Verdicts | None = None


def file_of(path: Path) -> Path:
    """The file that is read: `path` itself, or of a folder the verdicts before the probabilities. DataError
    where there is neither."""
    if not path.is_dir():
        return path
    for folder in (path, path / auditfolder.FOLDER):
        for name in (auditfolder.verdicts(Path(), "train").name, likelywrong.FILE):
            if (folder / name).is_file():
                return folder / name
    raise DataError(
        f"{path} is no audit: it has neither verdicts-train.csv nor {likelywrong.FILE}; "
        "smelt audit WORK writes them into WORK/audit"
    )


def read(
    path: Path, catalogue: Catalogue, rows_N: Ints, ranking: Ranking | None, score: str = "", key: str = ""
) -> Given:
    """What an audit says of training rows. key: of the artefact that the catalogue is in, where it is known.

    DataError where the audit is of another catalogue or says nothing.
    """
    file = file_of(path)
    if is_parquet(file):
        return Given(_probabilities(file, rows_N, key))
    found = of_rows(file, catalogue, rows_N)
    if ranking is None:
        return Given(None, found)
    learnt = calibrated(scores_of(ranking, rows_N, score), found)
    return Given(learnt.p_wrong_N if learnt is not None and learnt.orders else None, found)


def is_parquet(file: Path) -> bool:
    """By its first bytes; DataError where it cannot be read."""
    try:
        return read_bytes(file)[:4] == PARQUET
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def refuse_other(file: Path, key: str, catalogues: tuple[str, ...]) -> None:
    """DataError where probabilities are of a catalogue with another key; one that nobody knows is let be."""
    if key and catalogues and key not in catalogues:
        raise DataError(
            f"{file} is of another catalogue ({key}, not {catalogues[-1]}): its rows are other images. Give "
            "the verdicts (verdicts-train.csv), which go by image, or run smelt audit on this work folder"
        )


def _probabilities(file: Path, rows_N: Ints, key: str) -> Floats:
    found = likelywrong.read_likely_wrong(file.parent, file.name)
    refuse_other(file, found.catalogue, (key,) if key else ())
    p_wrong = found.of(rows_N)
    if np.isnan(p_wrong).all():
        raise DataError(f"{file} says nothing of any training row: it is of another data set")
    return p_wrong


def of_rows(file: Path, catalogue: Catalogue, rows_N: Ints) -> Verdicts:
    """The verdicts of a CSV on these rows, in the random order. A right class that is none is not said.

    DataError where none of them is on an image of the catalogue under its present label.
    """
    given = verdicts.read(file).given
    labelled = np.flatnonzero(catalogue.labels_N[rows_N] >= 0)
    ids = identities(catalogue, rows_N[labelled])
    wanted = np.array([int(name[1:], 16) for name in given], np.uint64)
    order = np.argsort(ids, kind="stable")
    at = order[np.minimum(np.searchsorted(ids[order], wanted), max(len(ids) - 1, 0))] if len(ids) else order
    there = ids[at] == wanted if len(at) else np.zeros(len(wanted), bool)
    if not there.any():
        raise DataError(
            f"{file}: none of its {len(given)} verdicts is on a training image of this catalogue under its "
            "present label: it is of another data set, or has no verdict yet (fill the column verdict)"
        )
    said = list(given.values())
    numbers = class_numbers(catalogue)
    chosen = np.flatnonzero(there)
    # ids are hashes, so that their order is a random one, whatever was sorted in a spreadsheet
    chosen = chosen[np.argsort(wanted[chosen], kind="stable")]
    right = [
        numbers.get(said[n].right_class, NOT_SAID)
        if said[n].verdict == WRONG and said[n].right_class
        else NOT_SAID
        for n in chosen
    ]
    words = [said[n].verdict or UNSURE for n in chosen]
    return Verdicts(labelled[at[chosen]], words, np.array(right, np.int64))


def class_numbers(catalogue: Catalogue, shown: Callable[[str], str] = str) -> dict[str, int]:
    """Number of each class by its name, as it is and as it is `shown`, in other capitals where that is one
    class only, by its id, and by its number where no class is called so."""
    found = {str(number): number for number in range(len(catalogue.classes))}
    for names in (catalogue.class_ids, [shown(name) for name in catalogue.classes], catalogue.classes):
        folded: dict[str, set[int]] = {}
        for number, name in enumerate(names):
            folded.setdefault(name.strip().casefold(), set()).add(number)
        found |= {name: numbers.pop() for name, numbers in folded.items() if len(numbers) == 1}
        found |= {name.strip(): number for number, name in enumerate(names)}
    return found
