"""What `smelt audit` does with a work folder: draws the sample, keeps its verdicts, reckons with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smelt.errors import ArtifactError, DataError, SmeltError, short, some
from smelt.files import auditfolder
from smelt.files.atomic import keep_beside
from smelt.flowchart.work import Item, Work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from smelt.artifacts.catalogue import Catalogue
    from smelt.artifacts.verdicts import Asked, File, Given
    from smelt.mining.audited import Verdicts

BLOCK = 4096  # rows of a result that are looked at together


@dataclass(frozen=True)
class Sample:
    """A drawn sample. rows: all catalogue rows of the split that could be drawn, (N,) ascending. places:
    those that were, in the random order. given: verdicts by id, of this sample alone; strange: how many
    others the file holds."""

    split: str
    seed: int
    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    asked: Sequence[Asked]
    given: Mapping[str, Given]
    strange: int

    @property
    def judged(self) -> list[int]:
        """Numbers, from 0 in the random order, that have a verdict."""
        return [number for number, one in enumerate(self.asked) if one.id in self.given]


def draw(work: Work, split: str, count: int | None, seed: int | None) -> Sample:
    """The sample of `split`, with the verdicts that were given; its file is written or extended.

    count: rows to ask about; what was asked before stays asked, 200 where nothing was. seed: of the random
    order; that of the first call unless given. SmeltError where there is nothing to draw from, another seed
    would mix two samples, or the verdicts are of other images.
    """
    catalogue = _catalogue(work)
    rows, ids = _frame(work, catalogue, split)
    path = auditfolder.verdicts(work.folder, split)
    before = _before(work, split)
    old = _old(path)
    given = old.given
    if given and seed is not None and seed != before.get("seed", seed):
        raise SmeltError(
            f"{path} has verdicts on the sample of --seed {before['seed']}: leave --seed out to go on "
            f"with it, or "
            "move the file away to begin another one"
        )
    seed = int(before.get("seed", 0)) if seed is None or given else seed
    size = min(max(count or 0, int(before.get("rows", 0))) or 200, len(rows))
    places = _ordered(ids, seed)[:size]
    asked = _asked(catalogue, rows, ids, places)
    known = {one.id for one in asked}
    mine = {key: one for key, one in given.items() if key in known}
    if given and not mine:
        raise SmeltError(
            f"{path}: none of its {len(given)} verdicts is on an image of this catalogue under its "
            f"present label: "
            "it is of another data set. Move it away to begin anew"
        )
    _write(work, split, seed, asked, mine, old)
    return Sample(split, seed, rows, places, asked, mine, len(given) - len(mine))


def _write(
    work: Work, split: str, seed: int, asked: Sequence[Asked], mine: Mapping[str, Given], old: File
) -> None:
    """Write what was drawn. A file that has all lines, and no verdict but on them, stays as its owner saved
    it; one with verdicts that has to be written anew is kept beside."""
    from smelt.artifacts import verdicts
    from smelt.files.atomic import write_json

    folder = auditfolder.folder_of(work.folder)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot make {folder}: {error.strerror}") from error
    path, sample = auditfolder.verdicts(work.folder, split), auditfolder.sample(work.folder, split)
    note = {"seed": seed, "rows": len(asked)}
    if not ({one.id for one in asked} <= old.ids and len(mine) == len(old.given)):
        if old.given:
            keep_beside(path)
        verdicts.write(path, asked, mine)
    if _noted(sample) != note:
        write_json(sample, note)


def _noted(path: Path) -> dict[str, Any]:
    from smelt.files.atomic import read_json

    if not path.is_file():
        return {}
    found = read_json(path)
    return found if isinstance(found, dict) else {}


def _before(work: Work, split: str) -> dict[str, Any]:
    """Seed and size of the sample that was drawn before; empty where none was."""
    path = auditfolder.sample(work.folder, split)
    found = _noted(path)
    if found and not all(type(found.get(name)) is int and found[name] >= 0 for name in ("seed", "rows")):
        raise ArtifactError(f"{path} is damaged: delete it and give --rows and --seed again")
    return found


def _old(path: Path) -> File:
    from smelt.artifacts.verdicts import File, read

    return read(path) if path.exists() else File({}, frozenset())


def _catalogue(work: Work) -> Catalogue:
    if work.catalogue is None:
        raise work.not_done("index")
    return work.catalogue


def _frame(work: Work, catalogue: Catalogue, split: str) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Rows of a split that can be judged, and what identifies them."""
    import numpy as np

    from smelt.files.parquet import read_table
    from smelt.mining import drawn

    bad = np.zeros(0, np.int64)
    if path := work.one("check").path:
        bad = read_table(path / "images.parquet", ["row"], [("ok", "==", False)])["row"].to_numpy()
    rows = drawn.labelled(catalogue, split, bad)
    if not len(rows):
        there = [name for name in catalogue.splits if (catalogue.labels_N[catalogue.rows(name)] >= 0).any()]
        raise SmeltError(
            f"{split} has no labelled image to look at; splits that have: {', '.join(there) or 'none'}"
        )
    return rows, drawn.identities(catalogue, rows)


def _ordered(ids: NDArray[np.uint64], seed: int) -> NDArray[np.int64]:
    from smelt.mining.drawn import random_order

    return random_order(ids, seed)


def _asked(
    catalogue: Catalogue, rows: NDArray[np.int64], ids: NDArray[np.uint64], places: NDArray[np.int64]
) -> list[Asked]:
    from smelt.artifacts.verdicts import Asked, name_of
    from smelt.report.shown import crawled, shown

    titles = catalogue.strings("title", rows[places])
    return [
        Asked(
            number + 1,
            name_of(int(ids[place])),
            shown(catalogue.classes[catalogue.labels_N[rows[place]]]),
            shown(catalogue.path(int(rows[place])), 1000),
            crawled(title),
        )
        for number, (place, title) in enumerate(zip(places.tolist(), titles))
    ]


def judged(work: Work, sample: Sample) -> Verdicts:
    """The verdicts that were given, in the random order; DataError by line for a class that there is not."""
    import numpy as np

    from smelt.artifacts.verdicts import RIGHT, WRONG
    from smelt.mining.audited import Verdicts
    from smelt.mining.given_audit import class_numbers
    from smelt.mining.rightlabels import NOT_SAID
    from smelt.report.shown import shown

    catalogue, numbers = _catalogue(work), sample.judged
    known = class_numbers(catalogue, shown)
    words, right, strange = [], [], []
    for number in numbers:
        one = sample.given[sample.asked[number].id]
        own = int(catalogue.labels_N[sample.rows[sample.places[number]]])
        name = one.right_class
        said = known.get(name, known.get(name.casefold(), NOT_SAID)) if name else NOT_SAID
        if one.right_class and said == NOT_SAID:
            strange.append(
                f"line {one.line}, column right_class: there is no class {short(one.right_class, 60)!r}"
            )
        elif said >= 0 and (said == own) != (one.verdict == RIGHT):
            strange.append(
                f"line {one.line}: the verdict is {one.verdict}, and the right class "
                f"{short(one.right_class, 60)!r} is {'the label' if said == own else 'another one'}"
            )
        words.append(one.verdict)
        right.append(said if one.verdict == WRONG else NOT_SAID)
    if strange:
        path = auditfolder.verdicts(work.folder, sample.split)
        raise DataError("\n  ".join([f"{path}:", *some(strange, len(strange))]))
    return Verdicts(sample.places[numbers], words, np.asarray(right, np.int64))


def taken_for(work: Work, sample: Sample) -> list[int]:
    """What each image of the sample was taken for: for training images by the first model that records it,
    for others by their list; −1 where nothing is known, or it is the label."""
    import numpy as np

    from smelt.artifacts.dynamics import Dynamics

    catalogue, rows = _catalogue(work), sample.rows[sample.places]
    labels = catalogue.labels_N[rows]
    if sample.split != "train":
        found = predictions(work, sample.split)
        if found is None:
            return [-1] * len(rows)
        first = found[0][np.searchsorted(catalogue.rows(sample.split), rows), 0]
        return [int(one) if one != label else -1 for one, label in zip(first, labels)]
    for item in work.of("train"):
        if item.path and (item.path / "dynamics").is_dir():
            dynamics = Dynamics.open(item.path / "dynamics")
            if dynamics.num_rows == catalogue.num_rows:
                return [int(one) for one in dynamics.other(rows)]
    return [-1] * len(rows)


def predictions(work: Work, split: str) -> tuple[NDArray[Any], str] | None:
    """(lists (N, K) of a split's rows, the best class first; of what they are); None where there are none.

    Of the chosen fusion; on validation, to which that was fitted, of the plain average. Before there is a
    fusion, of the result that is right most often by the labels as they are.
    """
    from smelt.files.arrays import map_array
    from smelt.files.atomic import read_json

    catalogue = _catalogue(work)
    size = len(catalogue.rows(split))
    if path := work.one("fuse").path:
        record = read_json(path / "fusion.json")
        method = record["plain"] if split == "val" else record["chosen"]
        lists = path / split / f"{method}.top5.npy"
        if lists.is_file():
            found = map_array(lists)
            if len(found) == size:
                return found, f"fusion, {str(method).replace('_', ' ')}"
    return _best_single(work, catalogue, split)


def _best_single(work: Work, catalogue: Catalogue, split: str) -> tuple[NDArray[Any], str] | None:
    import numpy as np

    from smelt.artifacts import results
    from smelt.metrics import top_lists

    rows = catalogue.rows(split)
    labels, wanted = catalogue.labels_N[rows], results.rows_hash(rows)
    best: tuple[float, NDArray[Any], str] | None = None
    for item in (one for one in work.of("predict") if not one.tried):
        for path in results.find(item.path, split) if item.path else ():
            if path.suffix != ".npy":
                continue
            scores, info = results.open_dense(path)
            if info.rows_hash != wanted:
                continue
            parts = [top_lists(scores[start : start + BLOCK], 5) for start in range(0, len(scores), BLOCK)]
            lists = np.concatenate(parts)
            right = float((lists[:, 0] == labels).mean())
            if best is None or right > best[0]:
                best = right, lists, f"{item.name}, {info.view}"
    return None if best is None else best[1:]


def reckon(work: Work, sample: Sample, trade: str, round_: str) -> tuple[dict[str, Any], NDArray[Any] | None]:
    """(what the verdicts say, for JSON; for training, how likely each label of `sample.rows` is wrong)."""
    from smelt.mining import audited

    verdicts = judged(work, sample)
    numbers = sample.judged
    record: dict[str, Any] = {
        "rows": len(sample.rows),
        "seed": sample.seed,
        "asked": len(sample.asked),
        "judged": len(numbers),
        "first": numbers == list(range(len(numbers))),
        "catalogue": _catalogue_item(work).key,
    }
    if sample.split != "train":
        return record | _held_out(work, sample, verdicts), None
    item = _ranked(work, round_)
    calibration = None
    if item is not None:
        from smelt.artifacts.ranking import read_ranking

        work.require_whole(item)
        assert item.path is not None
        scores = audited.scores_of(read_ranking(item.path), sample.rows, str(item.settings.get("score", "")))
        calibration = audited.calibrated(scores, verdicts)
        record["ranking"] = {"id": item.id, "key": item.key}
    record |= audited.shares(verdicts, len(sample.rows), calibration)
    record["mined"] = audited.cuts(calibration, verdicts, trade) if calibration else None
    record["selections"] = [
        {"name": one.name, **found} for one, found in _selections(work, sample, verdicts, calibration)
    ]
    return record, calibration.p_wrong_N if calibration else None


def _catalogue_item(work: Work) -> Item:
    """The node whose catalogue is read."""
    from smelt.files.workfolder import catalogue_of

    index, dedupe = work.one("index"), work.one("dedupe")
    assert index.path is not None
    return dedupe if dedupe.path and catalogue_of(index.path, dedupe.path).parent == dedupe.path else index


def _ranked(work: Work, round_: str) -> Item | None:
    """The ranking to go by: of the round that was asked for, else the first, it saw the data as they came."""
    found = work.of("rank", round_)
    if round_ and not any(item.path for item in found):
        names = [item.round for item in work.of("rank") if item.path]
        raise SmeltError(f"there is no ranking of a round {round_!r}; there are {', '.join(names) or 'none'}")
    return next((item for item in found if item.path), None)


def _selections(work: Work, sample: Sample, verdicts: Verdicts, calibration: Any) -> list[tuple[Item, Any]]:
    """What each selection of the run dropped for its score, each selection once."""
    from smelt.artifacts.selection import read_selection
    from smelt.mining import audited

    found, seen = [], set()
    for item in work.of("select"):
        if item.path and item.key not in seen:
            seen.add(item.key)
            found.append(
                (item, audited.selected(read_selection(item.path), sample.rows, verdicts, calibration))
            )
    return found


def _held_out(work: Work, sample: Sample, verdicts: Verdicts) -> dict[str, Any]:
    """Shares of wrong labels of validation or test, and the accuracy that right ones would give."""
    import numpy as np

    from smelt.mining import audited

    found = predictions(work, sample.split)
    if found is None:
        return audited.shares(verdicts, len(sample.rows), None)
    catalogue = _catalogue(work)
    labels = catalogue.labels_N[sample.rows]
    lists = np.asarray(found[0])[np.searchsorted(catalogue.rows(sample.split), sample.rows)]
    scores = {"how high the run's lists have the label": audited.place_in_list(lists, labels)}
    record = audited.shares(verdicts, len(sample.rows), audited.calibrated(scores, verdicts))
    accuracy = audited.accuracy(lists, labels, verdicts)
    return record | {"accuracy": None if accuracy is None else {**accuracy, "by": found[1]}}
