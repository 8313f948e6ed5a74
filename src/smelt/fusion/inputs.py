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
from smelt.fusion import labels as labelling
from smelt.fusion import meaning as meanings
from smelt.fusion import suspects
from smelt.fusion.identity import columns, few, in_order, match, refuse_twice, unique
from smelt.fusion.labels import read_labels
from smelt.fusion.meaning import Found, Meaning, Stats
from smelt.fusion.scorefiles import Raw, load, read_file, read_ids, read_lists
from smelt.fusion.sources import Held

__all__ = ["Gathered", "gather", "load", "read", "read_file", "read_ids", "read_labels", "read_lists"]

BLOCK = 1 << 22  # scores looked at at once
LIMIT = 1e15  # beyond it, squares of differences leave float32: no score means that much


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


def read(paths: Sequence[Path], ids: Sequence[str] | None = None) -> tuple[list[Held], int]:
    """The results in `paths`, and C. `ids`: the order of images wanted, for inputs that know their ids.

    Raises ResultError or ArtifactError, naming the file: missing, truncated, not finite, other classes, other
    images, the same scores twice. `gather` also says what was found and assumed.
    """
    gathered = gather(paths, ids=ids)
    return gathered.sources, gathered.num_classes


def gather(
    paths: Sequence[Path],
    *,
    ids: Sequence[str] | None = None,
    labels: Path | None = None,
    kinds: Sequence[str] = (),
    names: Sequence[str] = (),
    wanted: tuple[Sequence[str] | None, int | None, str] = (None, None, ""),
) -> Gathered:
    """Read everything and bring it together.

    kinds: `FILE=KIND`, or `KIND` for all. names: `NAME=FILE`. wanted: classes, their number and who wants
    them (a `fusion.json`), where the order of columns is given already.
    """
    _refuse_twice(paths)
    given = _said_kinds(kinds, paths)
    raws = _named([raw for path in paths for raw in read_file(path)], _said_names(names, paths))
    if not raws:
        raise ResultError("no result to fuse")
    notes, alarms = list(dict.fromkeys(note for raw in raws for note in raw.notes)), list[str]()
    raws, classes, num_classes = _classes(raws, wanted, notes, alarms)
    order = _order(raws, ids, alarms)
    orders = [_lines(raw, order, ids is not None, raws, notes, alarms) for raw in raws]
    count = len(raws[0]) if orders[0] is None else len(orders[0])
    truth = _labels(raws, orders, labels, count, num_classes, order, classes, notes, alarms)
    held, found = [], []
    for raw, lines in zip(raws, orders):
        one, what = _held(raw, lines, num_classes, given.get(raw.path))
        held.append(one)
        found.append(what)
    held, found = _directed(held, found, truth)
    _refuse_copies(held)
    alarms += [f"{one.name}: {words}" for one, what in zip(held, found) for words in what.warnings]
    alarms += suspects.warnings(held, truth, num_classes)

    return Gathered(
        held, [raw.path for raw in raws], found, num_classes, order, classes, truth, notes, alarms
    )


# What the user says


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


# Classes


def _classes(
    raws: list[Raw], wanted: tuple[Sequence[str] | None, int | None, str], notes: list[str], alarms: list[str]
) -> tuple[list[Raw], tuple[str, ...] | None, int]:
    """The results with their columns in one order, the names of the classes, and C."""
    for raw in raws:
        if raw.classes is not None and raw.num_classes not in (None, len(raw.classes)):
            raise ResultError(
                f"{raw.path} has {raw.num_classes} columns but {len(raw.classes)} names of classes"
            )
    named = [raw for raw in raws if raw.classes is not None]
    if wanted[1] is not None:
        for raw in raws:
            if raw.num_classes not in (None, wanted[1]):
                raise ResultError(f"{raw.path} has {raw.num_classes} classes, {wanted[2]} has {wanted[1]}")
    order, whose = _class_order(named, wanted, notes)
    known = order is not None
    num_classes = _num_classes(
        raws, wanted[1] or (len(order) if order is not None else None), wanted[2] or whose
    )
    moved: dict[str, NDArray[np.int64] | None] = {}
    found: list[Raw] = []
    for raw in raws:
        if raw.classes is None or order is None:
            found.append(raw)
            continue
        places = columns(order, raw.classes, whose, str(raw.path))
        moved[results.classes_hash(raw.classes)] = places
        if places is not None and whose != str(raw.path):
            notes.append(_told_columns(raw, order, places, whose))
        found.append(_columns_moved(raw, places))
    if order is not None:
        moved.setdefault(results.classes_hash(order), None)
    found = [
        _by_hash(raw, moved, raws, whose) if raw.classes_hash and raw.classes is None else raw
        for raw in found
    ]
    if known:
        _tell_unnamed(found, whose, any(places is not None for places in moved.values()), notes, alarms)
    return [_numbered(raw, order, num_classes) for raw in found], order, num_classes


def _told_columns(raw: Raw, order: Sequence[str], places: NDArray[np.int64], whose: str) -> str:
    """What is said of a file whose classes are in another order, or called by other words."""
    assert raw.classes is not None
    called = (
        ""
        if set(order) == set(raw.classes)
        else f", called otherwise ({raw.classes[places[0]]} is {order[0]})"
    )
    if np.array_equal(places, np.arange(len(places))):
        return f"{raw.path}: classes are those of {whose}{called}"
    return f"{raw.path}: classes are those of {whose}{called} in another order; its columns are moved"


def _class_order(
    named: list[Raw], wanted: tuple[Sequence[str] | None, int | None, str], notes: list[str]
) -> tuple[tuple[str, ...] | None, str]:
    """Names of classes in the common order, and whose they are."""
    if wanted[0] is not None:
        return tuple(wanted[0]), wanted[2]
    if not named:
        return None, ""
    names = named[0].classes
    assert names is not None
    order = in_order(names)
    if order != names:
        notes.append(
            f"{named[0].path}: classes are named by numbers; columns are put into the order of these"
        )
    return order, str(named[0].path)


def _num_classes(raws: Sequence[Raw], wanted: int | None, whose: str) -> int:
    """C, the same for all; files of lists and top-K results may stay below it."""
    dense = [raw for raw in raws if raw.num_classes is not None]
    for raw in dense:
        if raw.num_classes != dense[0].num_classes:
            raise ResultError(
                f"{raw.path} has {raw.num_classes} classes, {dense[0].path} has {dense[0].num_classes}"
            )
    tops = [(raw, *_ends(raw)) for raw in raws if isinstance(raw.scores, results.TopK) or _by_number(raw)]
    num_classes = dense[0].num_classes if dense else wanted
    if num_classes is None:
        if not tops:
            raise ResultError(
                f"{raws[0].path} names classes, and no file says in which order they are numbered"
            )
        num_classes = max(highest for _, _, highest in tops) + 1
    for raw, lowest, highest in tops:
        if highest >= num_classes or lowest < 0:
            of = f"{dense[0].path} has" if dense else f"{whose} has" if whose else "there are"
            odd, hint = (lowest, "") if lowest < 0 else (highest, "")
            if highest == num_classes and lowest == 1:
                hint = " (if its classes count from 1, subtract 1)"
            line = _line_of(raw, odd)
            raise ResultError(
                f"{raw.path} names class {odd} in line {line}, {of} {num_classes} classes{hint}"
            )
    return num_classes


def _by_number(raw: Raw) -> bool:
    return raw.lists_NK is not None and raw.lists_NK.dtype.kind in "iu"


def _numbers(raw: Raw) -> NDArray[Any]:
    """Numbers of classes (N, K) of a result that keeps some."""
    return np.asarray(raw.scores.classes_NK if isinstance(raw.scores, results.TopK) else raw.lists_NK)


def _ends(raw: Raw) -> tuple[int, int]:
    numbers = _numbers(raw)
    return int(numbers.min()), int(numbers.max())


def _line_of(raw: Raw, odd: int) -> int:
    return int((_numbers(raw) == odd).any(axis=1).argmax())


def _columns_moved(raw: Raw, places: NDArray[np.int64] | None) -> Raw:
    """The result with numbers of classes in the common order; dense ones are moved when they are read."""
    if places is None:
        return raw
    if isinstance(raw.scores, results.TopK):
        back = np.argsort(places)
        top = raw.scores
        numbers = back[np.asarray(top.classes_NK, np.int64)]
        return replace(raw, scores=replace(top, classes_NK=numbers))
    if _by_number(raw):
        assert raw.lists_NK is not None
        return replace(raw, lists_NK=np.argsort(places)[raw.lists_NK])
    return replace(raw, places=places)


def _by_hash(raw: Raw, moved: Mapping[str, NDArray[np.int64] | None], raws: Sequence[Raw], whose: str) -> Raw:
    """A result of which only the hash of the class list is known."""
    if len(moved):
        if raw.classes_hash in moved:
            return _columns_moved(raw, moved[str(raw.classes_hash)])
        raise ResultError(f"{raw.path} and {whose} have different lists of classes, or in another order")
    first = next(one for one in raws if one.classes_hash is not None)
    if raw.classes_hash != first.classes_hash:
        raise ResultError(f"{raw.path} and {first.path} have different lists of classes")
    return raw


def _tell_unnamed(raws: Sequence[Raw], whose: str, moved: bool, notes: list[str], alarms: list[str]) -> None:
    """Say whose columns are only assumed to be in the common order."""
    dense = [raw for raw in raws if raw.num_classes is not None and raw.lists_NK is None]
    silent = [str(raw.path) for raw in dense if raw.classes is None and raw.classes_hash is None]
    if silent:
        of = few(list(dict.fromkeys(silent)))
        words = f"{of}: no names of classes; columns are taken in the order of {whose}"
        (alarms if moved else notes).append(words)


def _numbered(raw: Raw, order: tuple[str, ...] | None, num_classes: int) -> Raw:
    """Lists of names as lists of numbers; a class twice in a line is refused."""
    if raw.lists_NK is not None and not _by_number(raw):
        if order is None:
            raise ResultError(f"{raw.path} names classes, and no file says in which order they are numbered")
        places = {name: place for place, name in enumerate(order)}
        odd = list(dict.fromkeys(name for name in raw.lists_NK.ravel().tolist() if name not in places))
        if odd:
            raise ResultError(
                f"{raw.path} names {len(odd)} classes that are none of the others' ({few(odd)})"
            )
        numbers = np.array([[places[name] for name in row] for row in raw.lists_NK.tolist()], np.int64)
        raw = replace(raw, lists_NK=numbers)
    if isinstance(raw.scores, results.TopK):
        ordered = np.sort(np.asarray(raw.scores.classes_NK), axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if twice.any():
            line = int(twice.argmax())
            row = ordered[line]
            repeated = int(row[1:][row[1:] == row[:-1]][0])
            raise ResultError(f"{raw.path}: line {line} names class {repeated} twice")
        return replace(raw, num_classes=num_classes)
    return raw


# Images


def _order(raws: Sequence[Raw], ids: Sequence[str] | None, alarms: list[str]) -> tuple[str, ...] | None:
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
    raw: Raw, order: tuple[str, ...] | None, asked: bool, raws: Sequence[Raw], notes: list[str],
    alarms: list[str],
) -> NDArray[np.int64] | None:  # fmt: skip
    """The line of each image; None where lines are in the common order. Without ids they must be."""
    first = next((str(one.path) for one in raws if one.ids is not None), "")
    whose = "--ids" if asked else first
    if raw.ids is None or order is None:
        count = len(order) if order is not None else len(raws[0])
        if len(raw) != count:
            hint = f" (those of {whose})" if whose else f" (as in {raws[0].path})"
            raise ResultError(f"{raw.path} has {len(raw)} lines, {count} images are wanted{hint}")
        if first and not _counted(order):
            words = f"{raw.path} has no ids, other files have: its lines are taken in the order of {whose}"
            alarms += [words] * (words not in alarms)
        return None
    places, said = match(order, raw.ids, whose, str(raw.path), extras=asked)
    for words in (said, _moved(raw, places, whose)):
        notes += [words] * bool(words and words not in notes)
    return None if np.array_equal(places, np.arange(len(raw))) else places


def _counted(order: Sequence[str] | None) -> bool:
    return order is not None and list(order) == [str(line) for line in range(len(order))]


def _moved(raw: Raw, places: NDArray[np.int64], whose: str) -> str:
    """What is said of lines that are taken in another order, or not at all."""
    if len(places) < len(raw):
        return f"{raw.path}: {len(places):,} of its {len(raw):,} images are used, those of {whose}"
    if not np.array_equal(places, np.arange(len(raw))):
        return f"{raw.path}: lines are put into the order of {whose} by id"
    return ""


def _labels(
    raws: Sequence[Raw], orders: Sequence[NDArray[np.int64] | None], path: Path | None, count: int,
    num_classes: int, ids: tuple[str, ...] | None, classes: tuple[str, ...] | None, notes: list[str],
    alarms: list[str],
) -> NDArray[np.int32] | None:  # fmt: skip
    """Labels from their file, else those that stand beside scores."""
    if path is not None:
        truth = read_labels(path, count, num_classes, ids=ids, classes=classes, notes=notes, alarms=alarms)
        moved = any(lines is not None for lines in orders)
        if moved and any(f"{path} has no ids" in note for note in notes):
            alarms.append(f"{path} has no ids, and files of scores have different orders: check the order")
        return truth
    beside = next((raw for raw in raws if raw.labels is not None), None)
    if beside is None:
        return None
    held = labelling.of_result(beside)
    own = tuple(map(str, range(len(beside)))) if ids is None or beside.ids is None else ids
    held = held if held.ids is not None else replace(held, ids=tuple(map(str, range(len(held.values)))))
    truth = labelling.resolve(held, count, num_classes, own, classes, notes, alarms)
    for raw in raws:
        if raw.labels is not None and raw.path != beside.path:
            notes.append(f"{raw.path}: its labels are not used, those of {beside.path} are")
    notes.append(f"labels are those in {beside.path}")
    return truth


# Scores


def _held(
    raw: Raw, lines: NDArray[np.int64] | None, num_classes: int, said: Meaning | None
) -> tuple[Held, Found]:
    """The result as fusion reads it, and what it means. Lists become scores K … 1, 0 for the others."""
    if raw.lists_NK is not None:
        kept = raw.lists_NK.shape[1]
        found = Found("lists", f"the best {kept} classes of each image, without scores")
        scores = np.zeros((len(raw), num_classes), np.float16)
        np.put_along_axis(scores, raw.lists_NK, np.arange(kept, 0, -1, dtype=np.float16)[None], axis=1)
        return Held(raw.name, "logits", scores, num_classes, order=lines), found
    if isinstance(raw.scores, results.TopK):
        return _held_top(raw, raw.scores, lines, num_classes, said)
    assert raw.scores is not None
    stats = examine(raw, raw.scores)
    found = _found(raw, stats, said)
    _refuse_minus_inf(raw, stats, found)
    scores = raw.scores
    if scores.dtype not in (np.float16, np.float32) or not scores.dtype.isnative:
        scores = np.asarray(scores, np.float32)  # what fusion computes in
    kept_as_it_is = found.meaning in ("logits", "log_probabilities", "probabilities") and not found.rescaled
    convert = None if kept_as_it_is and found.floor is None else found
    return Held(raw.name, found.kind, scores, num_classes, lines, raw.places, convert), found


def _found(raw: Raw, stats: Stats, said: Meaning | None) -> Found:
    if said is not None:
        return meanings.said(said, stats, str(raw.path), "as --kind says")
    if raw.kind is not None:
        return meanings.said(raw.kind, stats, str(raw.path), raw.why)
    return meanings.find(stats)


def examine(raw: Raw, scores_NC: NDArray[Any]) -> Stats:
    """Ends and sums of all scores; ResultError with the line where one is not finite or beyond all sense."""
    step = max(1, BLOCK // scores_NC.shape[1])
    sums, low, high, cut = [], np.inf, -np.inf, -1
    for start in range(0, len(scores_NC), step):
        block = np.asarray(scores_NC[start : start + step])
        whole = block if block.dtype.itemsize >= 4 else block.astype(np.float32)
        wrong = np.isnan(whole) | (np.abs(whole) > LIMIT)
        if wrong.any():
            minus = np.isneginf(whole)
            if bool((wrong & ~minus).any()) or bool(minus.all(axis=1).any()):
                worst = (wrong & ~minus).any(axis=1) | minus.all(axis=1)
                _refuse_line(raw, start + int(worst.argmax()), whole[int(worst.argmax())])
            cut = cut if cut >= 0 else start + int(minus.any(axis=1).argmax())
            whole = np.where(minus, np.nan, whole)
        sums.append(np.nansum(whole, axis=1, dtype=np.float64))
        low, high = min(low, float(np.nanmin(whole))), max(high, float(np.nanmax(whole)))
    sample = np.unique(np.linspace(0, len(scores_NC) - 1, meanings.SAMPLE).astype(np.int64))
    picked = np.asarray(scores_NC[sample]).astype(np.float64)
    return Stats(low, high, np.concatenate(sums), picked, minus_inf=cut >= 0, cut_line=cut)


def _refuse_line(raw: Raw, line: int, row: NDArray[Any]) -> None:
    if np.isfinite(row).all():
        place = int(np.abs(row).argmax())
        raise ResultError(
            f"{raw.at(line)} holds {row[place]:.3g} (class {place}): "
            f"nothing can be computed with scores beyond {LIMIT:.0e}; clip or scale them"
        )
    raise ResultError(f"{raw.at(line)} is not finite (NaN or inf)")


def _refuse_minus_inf(raw: Raw, stats: Stats, found: Found) -> None:
    """−inf is the logarithm of nothing, and in other scores a fault."""
    if stats.minus_inf and found.floor is None:
        raise ResultError(
            f"{raw.at(stats.cut_line)} is not finite (−inf, which only log-probabilities may have)"
        )


def _held_top(
    raw: Raw, top: results.TopK, lines: NDArray[np.int64] | None, num_classes: int, said: Meaning | None
) -> tuple[Held, Found]:
    """A top-K result, the best first, in the common order, with bounds of what was cut."""
    examine(raw, np.asarray(top.scores_NK))
    found = meanings.of_topk(top)
    if said is not None or raw.kind is not None:
        found = Found(said or raw.kind or "logits", "as --kind says" if said else raw.why)
    if found.meaning not in ("logits", "log_probabilities", "probabilities", "percentages"):
        raise ResultError(
            f"{raw.path}: a top-K result cannot hold {found.meaning}: too much of a row is missing"
        )
    top = _sorted(top if found.meaning != "percentages" else _percent(top))
    if found.kind == "probabilities" and raw.kind is None:
        top = _bounded(top)
    if lines is not None:
        top = results.TopK(top.classes_NK[lines], top.scores_NK[lines], top.floor_N[lines], top.tail_N[lines])
    return Held(raw.name, found.kind, top, num_classes), found


def _percent(top: results.TopK) -> results.TopK:
    return replace(top, scores_NK=(np.asarray(top.scores_NK, np.float32) / 100).astype(np.float32))


def _sorted(top: results.TopK) -> results.TopK:
    """The best class first, among equals the lower number; scores as float16 or float32."""
    scores = top.scores_NK
    if scores.dtype not in (np.float16, np.float32):
        scores = np.asarray(scores, np.float32)
        top = replace(top, scores_NK=scores, floor_N=np.asarray(top.floor_N, np.float32))
    if not (scores[:, 1:] > scores[:, :-1]).any():
        return top
    numbers = np.asarray(top.classes_NK)
    order = np.lexsort((numbers, -np.asarray(scores, np.float32)), axis=1)
    return replace(
        top, classes_NK=np.take_along_axis(numbers, order, axis=1),
        scores_NK=np.take_along_axis(np.asarray(scores), order, axis=1),
    )  # fmt: skip


def _bounded(top: results.TopK) -> results.TopK:
    """Cut probabilities are not below 0, and share what the kept ones leave."""
    left = 1 - np.asarray(top.scores_NK, np.float64).sum(axis=1)
    floor = np.zeros(len(top), np.asarray(top.scores_NK).dtype)
    return replace(top, floor_N=floor, tail_N=np.clip(left + 1e-3, 0, 1).astype(np.float32))


def _directed(
    held: list[Held], found: list[Found], labels_N: NDArray[np.int32] | None
) -> tuple[list[Held], list[Found]]:
    """Rankings with the end that labels, or else the other results, show to be the best."""
    sure = [one for one, what in zip(held, found) if not what.unsure]
    for place, what in enumerate(found):
        if not what.unsure:
            continue
        ends: dict[Meaning, float] = {}
        for meaning in ("ranks", "points"):
            told = replace(what, meaning=meaning, unsure=False)
            ends[meaning] = suspects.worth(replace(held[place], found=told), sure, labels_N)
        best: Meaning = "ranks" if ends["ranks"] > ends["points"] else "points"
        if ends["ranks"] == ends["points"]:
            raise ResultError(
                f"{held[place].name}: {what.why}, and nothing tells which end is the best: say --kind "
                f"{held[place].name}=ranks (the lowest is the best) or =points (the highest is)"
            )
        by = "labels" if labels_N is not None and (labels_N >= 0).any() else "the other results"
        end = "lowest" if best == "ranks" else "highest"
        found[place] = Found(best, f"{what.why}; by {by} the {end} is the best")
        held[place] = replace(held[place], found=found[place])
    return held, found


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
