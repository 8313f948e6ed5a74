"""Score files from anywhere, read, checked and brought into one order of images and classes.

What can be read: `scorefiles` (scores), `labels`. What scores mean is found (`meaning`) or said. Images are
joined by ids, classes by names, results go by names of their own (`identity`). Everything that cannot be
fused is refused by name before anything is computed; everything that was assumed is said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import results
from smelt.errors import ResultError
from smelt.fusion.scores import labels as labelling
from smelt.fusion.scores import meaning as meanings
from smelt.fusion.scores import suspects
from smelt.fusion.scores.arrayfiles import Raw, turned
from smelt.fusion.scores.arrowtables import is_frame
from smelt.fusion.scores.classorder import joined
from smelt.fusion.scores.holding import BLOCK, directed, hold
from smelt.fusion.scores.identity import Told, in_its_order, refuse_twice, unique
from smelt.fusion.scores.meaning import Found, Meaning
from smelt.fusion.scores.scorefiles import in_memory, read_file
from smelt.fusion.scores.sources import Held
from smelt.fusion.scores.usual import few


@dataclass
class Gathered:
    """Results in one order of images and classes, and all that was found out about them.

    names, paths, found: of each result. ids: of the images in their order, classes: names in the order of
    columns, None where unknown. labels_N: −1 for unknown. notes: what was done; alarms: what may be wrong.
    """

    sources: list[Held]
    paths: list[Path]
    found: list[Found]
    num_classes: int
    ids: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    labels_N: NDArray[np.int32] | None = None
    notes: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The results' names."""
        return [source.name for source in self.sources]

    @property
    def kinds(self) -> list[str]:
        """What the scores of each result mean."""
        return [one.meaning for one in self.found]

    def told(self) -> list[str]:
        """A line for each kind of scores: whose they are, and why they are taken for it."""
        lines: dict[tuple[str, str], list[str]] = {}
        for name, found in zip(self.names, self.found):
            lines.setdefault((found.meaning, found.why), []).append(name)
        return [
            f"{', '.join(of)}: {meaning.replace('_', ' ')} ({why})" for (meaning, why), of in lines.items()
        ]


def read_scores(
    scores: Any,
    *,
    labels: Any = None,
    ids: Sequence[str] | None = None,
    kinds: Sequence[str] = (),
    names: Sequence[str] = (),
    wanted: tuple[Sequence[str] | None, int | None, str] = (None, None, ""),
) -> Gathered:
    """Read results and labels, and bring them into one order of images and classes.

    scores: several of these, in a sequence, or in a mapping that names them: a path (see `scorefiles`), an
    array (N, C) or (M, N, C), arrays by name as in an .npz, a data frame (pandas, polars, pyarrow: an id
    and a column for each class). labels: a path (see `labels`), numbers or names (N,), one-hot (N, C) or a
    data frame; −1, NaN and nothing are unknown. ids: the images that are wanted, in their order. kinds:
    what scores mean, `FILE=KIND`, or `KIND` for all. names: what results are called, `NAME=FILE`. wanted:
    classes in their order, their number and who wants them, where that is given already.

    ResultError, ArtifactError and DataError (all of them ValueError) name the file, or `scores[0]`, and its
    shape: missing, damaged, not finite, other classes, other images, the same scores twice. TypeError where
    something is none of these.
    """
    raws, said = _read(scores, kinds, names)
    told = Told()
    told.note(*(note for raw in raws for note in raw.notes))
    raws, classes, num_classes = joined(raws, wanted, told)
    order = _order(raws, ids)
    orders = [_lines(raw, order, ids is not None, raws, told) for raw in raws]
    count = len(raws[0]) if orders[0] is None else len(orders[0])
    truth = _labels(raws, orders, labels, labelling.Images(count, num_classes, order, classes), told)
    both = [hold(raw, lines, num_classes, said.get(raw.path)) for raw, lines in zip(raws, orders)]
    held, found = directed([one for one, _ in both], [what for _, what in both], truth)
    _refuse_copies(held)
    told.alarm(*(f"{one.name}: {words}" for one, what in zip(held, found) for words in what.warnings))
    told.alarm(*suspects.warnings(held, truth, num_classes))
    paths = [raw.path for raw in raws]
    return Gathered(held, paths, found, num_classes, order, classes, truth, told.notes, told.alarms)


def _read(scores: Any, kinds: Sequence[str], names: Sequence[str]) -> tuple[list[Raw], dict[Path, Meaning]]:
    """All results as they are, by their names, and what the user says that scores mean."""
    inputs, called = _inputs(scores)
    _refuse_twice(path for path, value in inputs if value is None)
    paths = [path for path, _ in inputs]
    said = _said_kinds(kinds, paths)
    raws = [
        raw
        for path, value in inputs
        for raw in (read_file(path) if value is None else in_memory(str(path), value))
    ]
    if not raws:
        raise ResultError("no result to fuse")
    return _named(raws, {**called, **_said_names(names, paths)}), said


# What the user says


def _inputs(scores: Any) -> tuple[list[tuple[Path, Any]], dict[Path, str]]:
    """Paths, or names as paths with the values that are called so; and the names of paths in a mapping."""
    if isinstance(scores, str | Path) or hasattr(scores, "__array__") or is_frame(scores):
        scores = [scores]
    named = isinstance(scores, Mapping)
    pairs = scores.items() if named else [(f"scores[{place}]", one) for place, one in enumerate(scores)]
    files = {Path(one): str(name) for name, one in pairs if named and isinstance(one, str | Path)}
    return [
        (Path(one), None) if isinstance(one, str | Path) else (Path(str(name)), one) for name, one in pairs
    ], files


def _said_kinds(kinds: Sequence[str], paths: Sequence[Path]) -> dict[Path, Meaning]:
    """The kind of each file that the user says."""
    found: dict[Path, Meaning] = {}
    for text in kinds:
        file, sign, word = text.rpartition("=")
        meaning = meanings.named(word)
        for path in [_meant(file, paths, f"--kind {text}")] if sign else paths:
            if sign and found.get(path, meaning) != meaning and not _general(kinds, found[path]):
                raise ResultError(f"--kind {text}: {path} was said to hold {found[path]}")
            if sign or path not in found:
                found[path] = meaning
    return found


def _general(kinds: Sequence[str], meaning: Meaning) -> bool:
    """Whether a kind was said of all files, which a single one may then be excepted from."""
    return any("=" not in text and meanings.named(text) == meaning for text in kinds)


def _said_names(names: Sequence[str], paths: Sequence[Path]) -> dict[Path, str]:
    """The name of each file that the user says."""
    found: dict[Path, str] = {}
    for text in names:
        name, sign, file = text.partition("=")
        if not sign or not name or not file:
            raise ResultError(f"--as {text}: NAME=FILE is wanted")
        found[_meant(file, paths, f"--as {text}")] = name
    return found


def _meant(file: str, paths: Sequence[Path], option: str) -> Path:
    """The input that a word stands for: its path, its file's name or its stem, if only one is called so."""
    exact = [path for path in paths if str(path) == file or path.resolve() == Path(file).resolve()]
    found = exact or [path for path in paths if file in (path.name, path.stem)]
    if len(found) != 1:
        given = few([str(path) for path in paths])
        raise ResultError(
            f"{option}: {file} is {'more than one' if found else 'none'} of the inputs ({given})"
        )
    return found[0]


def _named(raws: list[Raw], said: Mapping[Path, str]) -> list[Raw]:
    """With names that tell them apart, those that the user says before all others."""
    for place, raw in enumerate(raws):
        if raw.path in said:
            stem = raw.path.name.removesuffix(raw.path.suffix).removesuffix(".topk")
            tail = raw.name.removeprefix(stem) if not raw.known else ""
            raws[place] = replace(raw, name=said[raw.path] + tail)
    names = unique([raw.name for raw in raws], [raw.path for raw in raws])
    return [replace(raw, name=name) for raw, name in zip(raws, names)]


# Images


def _order(raws: Sequence[Raw], ids: Sequence[str] | None) -> tuple[str, ...] | None:
    """The order of images: the one that is asked for, else that of the first input which knows its ids.

    Ids that are the numbers of lines are put in order, so that files without ids have it too.
    """
    for raw in raws:
        if raw.ids is not None and len(raw.ids) != len(raw):
            raise ResultError(f"{raw.path} has {len(raw)} lines but {len(raw.ids)} ids")
        if raw.ids is not None:
            refuse_twice(raw.ids, str(raw.path))
    if ids is not None:
        refuse_twice(ids, "--ids")
        return tuple(ids)
    known = [raw.ids for raw in raws if raw.ids is not None]
    if not known:
        return None
    numbers = all(name.isdecimal() for name in known[0])
    if len(known) < len(raws) and numbers and sorted(map(int, known[0])) == list(range(len(known[0]))):
        return tuple(sorted(known[0], key=int))
    return known[0]


def _lines(
    raw: Raw, order: tuple[str, ...] | None, asked: bool, raws: Sequence[Raw], told: Told
) -> NDArray[np.int64] | None:
    """The line of each image; None where lines are in the common order. Without ids they must be."""
    first = next((str(one.path) for one in raws if one.ids is not None), "")
    whose = "--ids" if asked else first
    if raw.ids is not None and order is not None:
        return in_its_order(order, raw.ids, whose, raw.path, told, extras=asked)
    count = len(order) if order is not None else len(raws[0])
    if len(raw) != count:
        hint = f" (those of {whose})" if whose else f" (as in {raws[0].path})"
        hint += turned(raw, raws[0])
        raise ResultError(f"{raw.path} has {len(raw)} lines, {count} images are wanted{hint}")
    if first and list(order or ()) != [str(line) for line in range(count)]:
        told.alarm(f"{raw.path} has no ids, other files have: its lines are taken in the order of {whose}")
    return None


def _labels(
    raws: Sequence[Raw],
    orders: Sequence[NDArray[np.int64] | None],
    given: Any,
    images: labelling.Images,
    told: Told,
) -> NDArray[np.int32] | None:
    """Labels that are given, else those that stand beside scores."""
    if given is not None:
        is_path = isinstance(given, str | Path)
        held = labelling.read_file(Path(given), images.classes) if is_path else labelling.in_memory(given)
        moved = any(lines is not None for lines in orders)
        if moved and held.ids is None and images.ids is not None:
            told.alarm(f"{held.path} has no ids, and files of scores have different orders: check the order")
        return labelling.resolve(held, images, told)
    beside = next((raw for raw in raws if raw.labels is not None), None)
    if beside is None:
        return None
    held = labelling.of_result(beside)
    lines = tuple(map(str, range(len(beside))))
    own = lines if images.ids is None or beside.ids is None else images.ids
    truth = labelling.resolve(
        held if held.ids is not None else replace(held, ids=lines), replace(images, ids=own), told
    )
    for raw in raws:
        if raw.labels is not None and raw.path != beside.path:
            told.note(f"{raw.path}: its labels are not used, those of {beside.path} are")
    told.note(f"labels are those in {beside.path}")
    return truth


# Faults of the whole


def _refuse_twice(paths: Iterable[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in paths:
        real = path.resolve()
        if real in seen:
            raise ResultError(f"{path} is given twice" + (f" (also as {seen[real]})" * (seen[real] != path)))
        seen[real] = path


def _refuse_copies(held: Sequence[Held]) -> None:
    """ResultError for two results with the same scores: a model counted twice by mistake."""
    seen: dict[str, str] = {}
    for one in held:
        digest = hashlib.blake2b()
        if isinstance(one.scores, results.TopK):
            for array in (one.scores.classes_NK, one.scores.scores_NK):
                digest.update(np.ascontiguousarray(array).data)
        step = max(1, BLOCK // max(1, one.num_classes))
        for start in range(0, 0 if one.cut else len(one), step):
            lines = np.arange(start, min(start + step, len(one)))
            digest.update(np.ascontiguousarray(one.block(lines, "low")).data)
        key = digest.hexdigest()
        if key in seen:
            raise ResultError(f"{one.name} and {seen[key]} hold the same scores: leave one out")
        seen[key] = one.name
