"""One score file, of any form that people have, read as it is: scores, and whatever it knows about them.

    .npy          (N, C) scores, or (M, N, C) for M results at once
    .npz .pt      an array or tensor of scores, or several of them by name; beside them may stand labels, ids
                  (`ids`, `filenames`, …) and class names; integer `classes` and `scores` (N, K) are a top-K
                  result (`indices` and `values` too). A .pt is read without running anything in it
    .csv .txt     a header or none; an id and a score for each class, or an id and the best classes in order
    .parquet      an id column and a column for each class, or one column of lists
Beside A.npy, A.ids.npy or A.ids.txt may hold its ids, A.classes.txt its class names; smelt's own results
have their sidecars.
"""

from __future__ import annotations

import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import results
from smelt.errors import ArtifactError, ResultError, SmeltError
from smelt.fusion import textfiles
from smelt.fusion.identity import stripped
from smelt.fusion.meaning import Meaning
from smelt.fusion.textfiles import ID_NAMES, INDEX_NAMES, LABEL_NAMES, LEFT_NAMES, Text, plain

READ = ".npy, .npz, .pt, .csv, .tsv, .txt, .parquet"
TEXT = (".csv", ".txt", ".tsv")
CLASSES = ("class_names", "classnames", "classes", "class_list", "categories", "label_names")
TOPS = (
    ("classes", "scores"), ("indices", "values"),
    ("topk_classes", "topk_scores"), ("topk_indices", "topk_values"),
)  # fmt: skip
SAME = (
    ("logits", "logit"),
    ("log_probs", "logprobs", "log_probabilities"),
    ("probs", "probabilities", "softmax"),
)
LARGE, BOMB = 1 << 30, 500  # bytes; an archive's member larger and packed more tightly is not opened
POSITION = re.compile(
    r"(c|class|label|pred|prediction|top|rank|guess|k|choice|place)?_?\d+(st|nd|rd|th)?|"
    r"first|second|third|fourth|fifth|best|labels?|predictions?|prediction_?string|classes|top_?\d*"
)
DAMAGED = (
    ValueError, OSError, EOFError, KeyError, TypeError, MemoryError, RecursionError, OverflowError,
    SyntaxError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Raw:
    """One result as read, and what its file says of it.

    scores: dense (N, C) or a TopK. lists_NK: instead of them, the best K classes by number or by name.
    classes: names in the order of the columns; classes_hash: all that a sidecar keeps of them. kind: where
    the file says it, `why` says how. labels: (N,) numbers or names, where they stand beside the scores.
    known: the name of its own (model/view) that a sidecar gives. places: (C,) the column of each class,
    where they are in another order than is wanted. lines: their numbers in a text file. notes: what was
    left out.
    """

    name: str
    path: Path
    scores: NDArray[Any] | results.TopK | None = None
    lists_NK: NDArray[Any] | None = None
    ids: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    classes_hash: str | None = None
    kind: Meaning | None = None
    why: str = ""
    labels: NDArray[Any] | None = None
    num_classes: int | None = None
    known: bool = False
    places: NDArray[np.int64] | None = None
    lines: Sequence[int] | None = None
    notes: tuple[str, ...] = ()

    def at(self, row: int) -> str:
        """Where a row is, for a message."""
        if self.lines is not None:
            return f"{self.path}:{self.lines[row]}"
        return f"{self.path} ({self.name}): line {row}"

    def __len__(self) -> int:
        if self.lists_NK is not None:
            return len(self.lists_NK)
        assert self.scores is not None
        return len(self.scores)


def read_file(path: Path) -> list[Raw]:
    """The results in one file; ArtifactError where it is damaged or missing, ResultError if it has none."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ArtifactError(f"{path} is not there" if not path.exists() else f"{path} is not a file")
    if suffix == ".npy":
        return [_beside(raw) for raw in _stack(path.stem, path, load(path))]
    if suffix == ".npz":
        return [_beside(raw) for raw in _archive(path)]
    if suffix in (".pt", ".pth"):
        return [_beside(raw) for raw in _bundle(path, tensors(path))]
    if suffix in TEXT:
        return [_beside(_text(path))]
    if suffix == ".parquet":
        return [_beside(_parquet(path))]
    why = " (a pickle may run anything; save arrays instead)" if suffix in (".pkl", ".pickle") else ""
    raise ResultError(f"{path}: {suffix or 'a file without a suffix'} is not read{why}; {READ} are")


# Arrays


def load(path: Path) -> Any:
    """Map a .npy file or open an .npz; ArtifactError if it is damaged or holds objects."""
    if path.suffix == ".npz" and not zipfile.is_zipfile(path):
        raise ArtifactError(f"{path} is truncated or not a .npz file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's word on old headers
            return np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
    except DAMAGED as error:
        hint = (
            ": save it as numbers or as dtype=str, objects are never unpickled"
            if "object" in str(error).lower()
            else ""
        )
        reason = str(error).partition("\n")[0][:200]
        raise ArtifactError(f"{path} is truncated or not a {path.suffix} file: {reason}{hint}") from error


def arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz by name; ArtifactError if it is damaged, holds objects or is a bomb."""
    try:
        with load(path) as archive:
            for member in archive.zip.infolist():
                if member.file_size > max(LARGE, BOMB * member.compress_size):
                    raise ArtifactError(
                        f"{path}: {member.filename} would unpack to {member.file_size:,} bytes"
                    )
            return {name: archive[name] for name in archive.files}
    except SmeltError:
        raise
    except DAMAGED as error:
        reason = str(error).partition("\n")[0][:200]
        raise ArtifactError(f"{path} is truncated or not a .npz file: {reason}") from error


def tensors(path: Path) -> dict[str, Any]:
    """What a .pt holds by name, tensors as arrays; nothing in it is run. ArtifactError otherwise."""
    import pickle

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArtifactError(
            f"{path} holds more than tensors, or is damaged; nothing in it was run: save a dict of tensors"
        ) from error
    except (*DAMAGED, AttributeError, ImportError, IndexError, AssertionError) as error:
        raise ArtifactError(
            f"{path} is truncated or not a .pt file: {str(error).partition(chr(10))[0][:200]}"
        ) from error
    members = held if isinstance(held, Mapping) else {"": held}
    return {str(name): _plain_array(value, path) for name, value in members.items()}


def _plain_array(value: Any, path: Path) -> Any:
    """A tensor as an array (bfloat16 as float32), lists of words as an array of them, else the value."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ResultError(f"{path} holds a sparse or quantised tensor: save it dense")
        value = value.detach()
        return (
            (value.float() if value.dtype == torch.bfloat16 else value).resolve_conj().resolve_neg().numpy()
        )
    if isinstance(value, list | tuple) and value:
        if all(isinstance(one, torch.Tensor) and one.shape == value[0].shape for one in value):
            return np.stack([_plain_array(one, path) for one in value])
        if all(isinstance(one, str | int | float) for one in value):
            return np.array(value)
    return value


def _stack(name: str, path: Path, array: Any, **known: Any) -> list[Raw]:
    """One result, or those of a stack."""
    array = _as_scores(array, path)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ResultError(f"{path} has shape {array.shape}, not (N, C) or (M, N, C)")
    if array.shape[-1] == 1:
        raise ResultError(f"{path} has shape {array.shape}: one column; a score for each class is needed")
    if array.ndim == 2:
        return [Raw(name, path, array, num_classes=array.shape[1], **known)]
    return [
        Raw(f"{name}[{index}]", path, scores, num_classes=array.shape[2], **known)
        for index, scores in enumerate(array)
    ]


def _as_scores(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """Numbers that can be scores: floating point as it is, whole numbers as float32."""
    if array.dtype.kind in "iub" and array.size and (array == array.flat[0]).all():
        raise ResultError(f"{path} holds {array.dtype}, all {array.flat[0]}: these are no scores")
    if array.dtype.kind in "iub":
        return np.asarray(array, np.float32)
    if array.dtype.kind != "f":
        raise ResultError(f"{path} holds {array.dtype}, not scores")
    return array


def _archive(path: Path) -> list[Raw]:
    """The results in an .npz file; smelt's own top-K results stay mapped."""
    raws = _bundle(path, arrays(path))
    if path.name.endswith(results.TOPK) and len(raws) == 1 and isinstance(raws[0].scores, results.TopK):
        mapped = results.map_topk(path)
        return [replace(raws[0], scores=mapped)] if mapped.classes_NK.dtype.kind == "u" else raws
    return raws


def _bundle(path: Path, members: Mapping[str, Any]) -> list[Raw]:
    """The results among named arrays, with the labels, ids and class names that stand beside them."""
    left = {name: value for name, value in members.items() if isinstance(value, np.ndarray)}
    notes = [f"{path}: {name} is no array and is left out" for name in members if name not in left]
    top = _taken_top(path, left)
    known: dict[str, Any] = {
        "classes": _words(_taken(left, CLASSES, 1)), "ids": _words(_taken(left, ID_NAMES, 1)),
        "labels": _taken(left, LABEL_NAMES, None, scores=False),
    }  # fmt: skip
    stem = path.name.removesuffix(path.suffix).removesuffix(".topk")
    if top is not None:
        notes += [f"{path}: {name} is left out" for name in left if name not in ("floor", "tail")]
        return [Raw(stem, path, top, notes=tuple(notes), **known)]
    notes += _one_of_the_same(path, left)
    several = [name for name, value in left.items() if value.ndim in (2, 3)]
    if several:
        notes += [f"{path}: {name}, of shape {left.pop(name).shape}, is left out"
                  for name in list(left) if name not in several]  # fmt: skip
    found: list[Raw] = []
    for name, value in left.items():
        raws = _stack(stem if len(left) == 1 else f"{stem}:{name}", path, value, **known)
        found += [replace(raw, notes=tuple(notes), **_hinted(name)) for raw in raws]
    if not found:
        raise ResultError(f"{path} holds no scores (it has {', '.join(sorted(members)) or 'nothing'})")
    return found


def _taken(left: dict[str, Any], names: Iterable[str], ndim: int | None, scores: bool = True) -> Any:
    """The array under one of these names, taken out of `left`; None where there is none."""
    for name in list(left):
        array = left[name]
        if key(name) in names and array.ndim == (ndim or array.ndim) and array.size:
            if not scores and (array.ndim > 2 or (array.ndim == 2 and not _one_hot(array))):
                continue
            return left.pop(name)
    return None


def key(name: str) -> str:
    """An array's name as it is compared, without words for a split: `y_test` is `y`."""
    return plain(stripped(name)) or plain(name)


def _one_hot(array: NDArray[Any]) -> bool:
    """Whether every row has a single 1 and zeros, or is a single number."""
    if array.shape[1] == 1:
        return True
    return (
        array.dtype.kind in "iubf"
        and bool(((array != 0).sum(axis=1) <= 1).all())
        and bool((array <= 1).all())
    )


def _words(array: Any) -> tuple[str, ...] | None:
    """An array of words or numbers as words."""
    if array is None:
        return None
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", errors="replace")
    if array.dtype.kind == "f" and bool((array == np.round(array)).all()):
        array = array.astype(np.int64)
    return tuple(str(one).strip() for one in array.tolist())


def _one_of_the_same(path: Path, left: dict[str, Any]) -> list[str]:
    """Drop probabilities that stand beside the logits they were made from: one model must not vote twice."""
    groups = [[name for name in left if key(name) in names] for names in SAME]
    there = [group[0] for group in groups if group]
    same = [name for name in there[1:] if left[name].shape == left[there[0]].shape]
    for name in same:
        left.pop(name)
    return [f"{path}: {name} is left out, {there[0]} are of the same model" for name in same]


def _hinted(name: str) -> dict[str, Any]:
    """The kind that an array's name gives away."""
    if key(name) in SAME[0]:
        return {"kind": "logits", "why": f"the array is called {name}"}
    return {}


def _taken_top(path: Path, left: dict[str, Any]) -> results.TopK | None:
    """A top-K result among the arrays: whole numbers and scores of one shape (N, K)."""
    for classes, scores in TOPS:
        pair = left.get(classes), left.get(scores)
        if pair[0] is None or pair[1] is None or pair[0].ndim != 2 or pair[0].dtype.kind not in "iuf":
            continue
        if pair[0].shape != pair[1].shape or 0 in pair[0].shape:
            raise ArtifactError(f"{path} must hold `{classes}` and `{scores}` of one shape (N, K)")
        left.pop(classes), left.pop(scores)
        if pair[0].dtype.kind == "f" and not (pair[0] == np.round(pair[0])).all():
            raise ResultError(f"{path}: `{classes}` holds {pair[0].dtype}, not numbers of classes")
        numbers = pair[0].astype(np.int64) if pair[0].dtype.kind == "f" else pair[0]
        count, top = len(numbers), _as_scores(pair[1], path)
        low = top.min(initial=0) if top.dtype == np.float64 else 0
        floor = left.get("floor", np.full(count, min(-65504.0, float(low))).astype(top.dtype))
        return results.TopK(numbers, top, floor, left.get("tail", np.ones(count, np.float32)))
    return None


# Sidecars


def _beside(raw: Raw) -> Raw:
    """With the ids and class names that lie beside the file, and smelt's own sidecar."""
    raw = replace(raw, **_described(raw))
    stem = raw.path.name.removesuffix(raw.path.suffix).removesuffix(".topk")
    for suffix in (".ids.npy", ".ids.txt", ".ids.csv"):
        beside = raw.path.with_name(stem + suffix)
        if raw.ids is None and beside.exists():
            raw = replace(raw, ids=read_ids(beside))
    beside = raw.path.with_name(stem + ".classes.txt")
    if raw.classes is None and beside.exists():
        raw = replace(raw, classes=_lines(beside))
    return raw


def _described(raw: Raw) -> dict[str, Any]:
    """What smelt's own sidecar says of a result; nothing where a .json beside it is somebody else's."""
    if not results.is_described(raw.path):
        return {}
    info = results.read_info(raw.path)
    if len(raw) != info.num_rows or (raw.num_classes or info.num_classes) != info.num_classes:
        raise ArtifactError(
            f"{raw.path} holds {len(raw)} lines and {raw.num_classes} classes, its sidecar says "
            f"{info.num_rows} and {info.num_classes}"
        )
    return {
        "name": f"{info.model}/{info.view}", "known": True, "kind": info.kind, "why": "its sidecar says so",
        "ids": tuple(map(str, results.read_rows(raw.path).tolist())), "classes_hash": info.classes_hash,
        "num_classes": info.num_classes,
    }  # fmt: skip


def read_ids(path: Path) -> tuple[str, ...]:
    """Ids of images, from .npy or a text file with one a line (the id column, or the first, of a .csv)."""
    if path.suffix == ".npy":
        return _words(load(path).reshape(-1)) or ()
    lines = [line.strip() for line in re.split(r"\r\n|\n|\r", textfiles.decoded(path)) if line.strip()]
    if path.suffix in (".csv", ".tsv") and lines:
        text = textfiles.read(path)
        named = next((i for i, name in enumerate(text.header or []) if plain(name) in ID_NAMES), 0)
        return tuple(cells[min(named, len(cells) - 1)] for _, cells in text)
    if len(lines) > 1 and plain(lines[0]) in ID_NAMES:
        lines = lines[1:]
    return tuple(lines)


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in re.split(r"\r\n|\n|\r", textfiles.decoded(path)) if line.strip())


# Tables


def _text(path: Path) -> Raw:
    """Lists of classes or scores of classes, whichever the lines hold."""
    text = textfiles.read(path)
    if holds_lists(text):
        names, lists = _lists(text)
        return Raw(path.stem, path, lists_NK=lists, ids=names)
    return _columns_of_text(text)


def holds_lists(text: Text) -> bool:
    """Whether the lines are `id class class …`: whole numbers from 0, none twice in a line, or names.

    A ranking of all columns from 1 in every line is no list: it would name a class that is not there.
    """
    rows = [_list_cells(cells) for _, cells in text]
    if text.header is not None and not all(POSITION.fullmatch(plain(name)) for name in text.header[1:]):
        # names of classes above numbers: scores, even where all are whole
        return all(not textfiles.is_number(cell) for row in rows for cell in row) and len(text.header) > 2
    if any(not row for row in rows):
        return len({len(row) for row in rows}) == 1 or all(is_list(row) for row in rows if row)
    if all(map(is_list, rows)):
        size = len(rows[0])
        first = [str(place) for place in range(1, size + 1)]
        return not (size > 2 and len(rows) > 1 and all(sorted(row, key=int) == first for row in rows))
    if text.header is None or len(text.header) > 2 or plain(text.header[-1]) not in LABEL_NAMES:
        named = all(not textfiles.is_number(cell) for row in rows for cell in row)
        listed = sum(map(is_list, rows)) > len(rows) / 2
        return named or listed
    return False


def is_list(row: Sequence[str]) -> bool:
    """Whole numbers from 0 on, none twice."""
    return all(cell.isdecimal() for cell in row) and len({int(cell) for cell in row}) == len(row)


def _list_cells(cells: Sequence[str]) -> list[str]:
    """The cells behind the id; one that holds several numbers between blanks is several."""
    found: list[str] = []
    for cell in cells[1:]:
        parts = cell.split()
        found += parts if all(part.lstrip("-").isdecimal() for part in parts) else [cell]
    return found


def read_lists(path: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Ids and classes (N, K) of a file of lists of class numbers; a header is skipped."""
    try:
        text = textfiles.read(path)
    except ResultError:
        raise ResultError(f"{path} holds no lists of classes") from None
    names, lists = _lists(text, only_numbers=True)
    return names, lists.astype(np.int64)


def _lists(text: Text, only_numbers: bool = False) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Ids and classes (N, K), numbers or names; ResultError with the line that is wrong."""
    names: list[str] = []
    rows: list[list[str]] = []
    numbers = only_numbers or any(
        cell.lstrip("-").isdecimal() for _, cells in text for cell in _list_cells(cells)
    )
    for line, cells in text:
        row = _list_cells(cells)
        where = f"{text.path}:{line}"
        if numbers and not all(cell.lstrip("-").isdecimal() for cell in row):
            raise ResultError(f"{where}: {' '.join(cells)[:80]!r} is not `id class class …`")
        if not row or (rows and len(row) != len(rows[0])):
            raise ResultError(f"{where}: {len(row)} classes where the lines before have others")
        if (numbers and min(map(int, row)) < 0) or len(set(row)) < len(row):
            raise ResultError(f"{where}: a class is below 0 or there twice")
        names.append(cells[0])
        rows.append(row)
    return tuple(names), np.array(rows, np.int64) if numbers else np.array(rows)


def _columns_of_text(text: Text) -> Raw:
    """A score for each class in a line."""
    roles = _roles(text.path, text.header, text.first, _sampled(text))
    ids, labels, rows = [], [], []
    wide = len(text.header or text.first)
    for line, cells in text:
        if len(cells) != wide:
            raise ResultError(f"{text.path}:{line} has {len(cells)} columns where {wide} are expected")
        rows.append(_numbers(text, line, [cells[place] for place in roles.scores]))
        ids += [cells[roles.ids]] if roles.ids is not None else []
        labels += [cells[roles.labels]] if roles.labels is not None else []
    scores = np.stack(rows)
    raw = _tabled(text.path, text.header, roles, scores, tuple(ids), np.array(labels))
    return replace(raw, lines=[line for line, _ in text.lines])


def _sampled(text: Text, most: int = 200) -> list[list[str]]:
    return [cells for (_, cells), _ in zip(text, range(most))]


def _numbers(text: Text, line: int, cells: Sequence[str]) -> NDArray[np.float64]:
    try:
        return np.array(cells, np.float64)  # an array of words: much quicker than one by one
    except ValueError:
        pass
    values = [textfiles.number(cell) for cell in cells]
    if None in values:
        odd = cells[values.index(None)]
        raise ResultError(f"{text.path}:{line}: {odd[:40]!r} is not a number")
    return np.array(values, np.float64)


@dataclass(frozen=True)
class Roles:
    """Which columns are which."""

    ids: int | None
    labels: int | None
    scores: list[int]
    left: list[int]


def _roles(path: Path, header: list[str] | None, first: list[str], rows: list[list[str]]) -> Roles:
    """The roles of columns from their names and from what is in them."""
    names = [plain(name) for name in header] if header else []
    if header is not None and len(first) != len(header):
        raise ResultError(f"{path} has {len(header)} names of columns and {len(first)} columns")
    places = range(len(first))
    words = [place for place in places if not textfiles.is_number(first[place])]
    ids = next((place for place in places if names and names[place] in ID_NAMES), None)
    if ids is None:
        ids = words[0] if words else _numbered(names, rows)
    labels = next((p for p in places if names and names[p] in LABEL_NAMES and p != ids), None)
    others = [place for place in places if place not in (ids, labels)]
    idle = [p for p in others if names and (names[p] in LEFT_NAMES or (p == 0 and names[p] in INDEX_NAMES))]
    left = sorted({*idle, *(place for place in others if place in words)})
    scores = [place for place in places if place not in (ids, labels, *left)]
    if len(scores) < 2:
        raise ResultError(
            f"{path} holds neither `id class class …` nor an id and a score for each class: "
            f"its first line is {' '.join(first)[:60]!r}"
        )
    return Roles(ids, labels, scores, left)


def _numbered(names: list[str], rows: list[list[str]]) -> int | None:
    """The first column, where it holds different whole numbers and the others do not."""
    firsts = [row[0] for row in rows]
    if not all(map(textfiles.is_whole, firsts)) or len(set(firsts)) < len(firsts):
        return None
    others = all(textfiles.is_whole(cell) for row in rows for cell in row[1:])
    return 0 if not others or (names and names[0] in INDEX_NAMES) else None


def _tabled(
    path: Path, header: list[str] | None, roles: Roles, scores: NDArray[Any],
    ids: tuple[str, ...], labels: NDArray[Any],
) -> Raw:  # fmt: skip
    """The result of a table."""
    names = tuple(header[place] for place in roles.scores) if header else None
    notes = tuple(f"{path}: column {header[place] or 'without a name'} is left out"
                  for place in roles.left) if header else ()  # fmt: skip
    (raw,) = _stack(path.stem, path, scores)
    return replace(raw, ids=ids or None, classes=names, labels=labels if len(labels) else None, notes=notes)


def _parquet(path: Path) -> Raw:
    """The result of a .parquet: a column for each class, or one that holds lists."""
    table = parquet(path)
    header = table.column_names
    if len(table) == 0:
        raise ResultError(f"{path} is empty")
    lists = [place for place, field in enumerate(table.schema) if _is_list(field.type)]
    if lists:
        return _list_column(path, table, lists)
    first = [str(table.column(place)[0].as_py()) for place in range(len(header))]
    rows = [[str(value) for value in row.values()] for row in table.slice(0, 200).to_pylist()]
    if len(set(header)) < len(header):
        raise ResultError(f"{path} has two columns of one name")
    roles = _roles(path, header, first, rows)
    columns = [_column(path, table, place) for place in roles.scores]
    ids = () if roles.ids is None else _texts(table, roles.ids)
    labels = np.array([] if roles.labels is None else _texts(table, roles.labels))
    return _tabled(path, header, roles, np.stack(columns, axis=1), ids, labels)


def parquet(path: Path) -> Any:
    """The table of a .parquet; ArtifactError where it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise ArtifactError(
            f"{path} is not a readable .parquet: {str(error).partition(chr(10))[0][:200]}"
        ) from error


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind))


def _column(path: Path, table: Any, place: int) -> NDArray[Any]:
    name = table.column_names[place]
    try:
        values = table.column(place).to_numpy()
        return np.asarray(values, np.float64 if values.dtype.kind != "f" else values.dtype)
    except (ValueError, TypeError) as error:
        raise ResultError(
            f"{path}: column {name} holds {table.schema.field(place).type}, not scores"
        ) from error


def _texts(table: Any, place: int) -> tuple[str, ...]:
    return tuple("" if value is None else str(value) for value in table.column(place).to_pylist())


def _list_column(path: Path, table: Any, lists: list[int]) -> Raw:
    """Rows of scores in one column."""
    header = [plain(name) for name in table.column_names]
    if len(lists) > 1:
        raise ResultError(f"{path} has several columns of lists: keep one, of scores")
    column = table.column(lists[0]).combine_chunks()
    sizes = {len(row) if row is not None else 0 for row in table.column(lists[0]).to_pylist()}
    if len(sizes) != 1:
        raise ResultError(
            f"{path}: lists of {min(sizes)} to {max(sizes)} scores in column {header[lists[0]]}"
        )
    (size,) = sizes
    flat = column.flatten().to_numpy(zero_copy_only=False)
    (raw,) = _stack(path.stem, path, flat.reshape(len(table), size))
    others = [place for place in range(len(header)) if place not in lists]
    ids = next((p for p in others if header[p] in ID_NAMES), None)
    if ids is None:
        ids = next((p for p in others if isinstance(table.column(p)[0].as_py(), str)), None)
    labels = next((p for p in others if header[p] in LABEL_NAMES and p != ids), None)
    return replace(
        raw, ids=None if ids is None else _texts(table, ids),
        labels=None if labels is None else np.array(_texts(table, labels)),
        notes=tuple(f"{path}: column {header[p]} is left out" for p in others if p not in (ids, labels)),
        **_hinted(header[lists[0]]),
    )  # fmt: skip
