"""Score files from anywhere, read, checked and brought into one order.

    .npy    (N, C) scores, or (M, N, C) for M results at once
    .npz    `classes` and `scores` (N, K) is a top-K result; else every array in it is one, as in .npy;
            `ids` (N,) and `class_names` (C,) may stand beside
    .csv .txt   a line for each image: id, then classes from the most confident on (a submission will do)
Beside A.npy, A.ids.npy or A.ids.txt may hold its ids, A.classes.txt its class names; smelt's own results
have their sidecars. Probabilities are told from logits by their sums. Everything that cannot be fused is
refused by name before anything is computed.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import results
from smelt.errors import ArtifactError, ResultError
from smelt.fusion.sources import Held

BLOCK = 1 << 22  # scores looked at at once


@dataclass(frozen=True)
class Raw:
    """One result as read: dense scores, a TopK, or lists (N, K) of classes; and its order, if it tells."""

    name: str
    path: Path
    scores: NDArray[Any] | results.TopK | None = None
    lists_NK: NDArray[np.int64] | None = None
    ids: tuple[str, ...] | None = None
    class_names: str | None = None  # their hash
    kind: results.Kind | None = None
    num_classes: int | None = None

    def __len__(self) -> int:
        if self.lists_NK is not None:
            return len(self.lists_NK)
        assert self.scores is not None
        return len(self.scores)


def read(paths: Sequence[Path], ids: Sequence[str] | None = None) -> tuple[list[Held], int]:
    """The results in `paths`, and C. `ids`: the order of images wanted, for inputs that know their ids.

    Raises ResultError or ArtifactError, naming the file: missing, truncated, not finite, other classes, other
    images, the same scores twice.
    """
    _refuse_twice(paths)
    raws = [raw for path in paths for raw in read_file(path)]
    if not raws:
        raise ResultError("no result to fuse")
    num_classes = _num_classes(raws)
    order = ids if ids is not None else _common(raws)
    count = len(raws[0]) if order is None else len(order)
    lines = None if order is None else {name: place for place, name in enumerate(order)}
    held = [_held(_aligned(raw, lines, count), num_classes) for raw in raws]
    for one, raw in zip(held, raws):
        _refuse_bad(one, raw)
    _refuse_copies(held)
    return held, num_classes


def read_file(path: Path) -> list[Raw]:
    """The results in one file."""
    if not path.is_file():
        raise ArtifactError(f"{path} is not there")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _stack(path.stem, path, load(path), ids=_ids_beside(path), class_names=_classes_beside(path))
    if suffix == ".npz":
        return _archive(path)
    if suffix in (".csv", ".txt", ".tsv"):
        names, lists = read_lists(path)
        return [Raw(path.stem, path, lists_NK=lists, ids=names, kind="logits")]
    raise ResultError(
        f"{path}: {suffix or 'a file without a suffix'} is not read; .npy, .npz, .csv, .txt are"
    )


def load(path: Path) -> Any:
    """Map a .npy file or open an .npz; ArtifactError if it is damaged or holds objects."""
    if path.suffix == ".npz" and not zipfile.is_zipfile(path):
        raise ArtifactError(f"{path} is truncated or not a .npz file")
    try:
        return np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ArtifactError(f"{path} is truncated or not a {path.suffix} file: {error}") from error


def _stack(name: str, path: Path, array: NDArray[Any], **known: Any) -> list[Raw]:
    """One result, or those of a stack."""
    if not np.issubdtype(array.dtype, np.floating):
        raise ResultError(f"{path} holds {array.dtype}, not scores in floating point")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ResultError(f"{path} has shape {array.shape}, not (N, C) or (M, N, C)")
    known = {**known, **_described(path)}
    if array.ndim == 2:
        return [Raw(name, path, array, num_classes=array.shape[1], **known)]
    return [
        Raw(f"{name}[{index}]", path, scores, num_classes=array.shape[2], **known)
        for index, scores in enumerate(array)
    ]


def _described(path: Path) -> dict[str, Any]:
    """What smelt's own sidecar says of a result."""
    try:
        info = results.read_info(path)
        rows = results.read_rows(path)
    except (ArtifactError, TypeError):
        return {}
    return {"ids": tuple(map(str, rows)), "class_names": info.classes_hash, "kind": info.kind}


def _archive(path: Path) -> list[Raw]:
    """The results in an .npz file."""
    try:
        with load(path) as archive:
            names = set(archive.files)
            known: dict[str, Any] = {
                "ids": tuple(map(str, archive["ids"])) if "ids" in names else None,
                "class_names": results.classes_hash([str(name) for name in archive["class_names"]])
                if "class_names" in names
                else _classes_beside(path),
            }
            if not {"classes", "scores"} <= names:
                found = sorted(names - {"ids", "class_names"})
                stem = path.stem
                stacks = [
                    _stack(stem if len(found) == 1 else f"{stem}:{name}", path, archive[name], **known)
                    for name in found
                ]
                return [raw for stack in stacks for raw in stack]
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError) as error:
        if isinstance(error, ArtifactError | ResultError):
            raise
        raise ArtifactError(f"{path} is truncated or not a .npz file: {error}") from error
    known.update(_described(path))
    top = results.map_topk(path)
    return [Raw(path.name.removesuffix(".npz").removesuffix(".topk"), path, top, **known)]


def read_lists(path: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Ids and classes (N, K) of a file of lists; a first line without numbers is a header."""
    names: list[str] = []
    rows: list[list[int]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = [field for field in re.split(r"[,;\s]+", line.strip()) if field]
        if not fields:
            continue
        try:
            classes = [int(field) for field in fields[1:]]
        except ValueError:
            if number == 1:
                continue
            raise ResultError(f"{path}:{number}: {line.strip()!r} is not `id class class …`") from None
        if not classes or (rows and len(classes) != len(rows[0])):
            raise ResultError(f"{path}:{number}: {len(classes)} classes where the lines before have others")
        if min(classes) < 0 or len(set(classes)) < len(classes):
            raise ResultError(f"{path}:{number}: a class is below 0 or there twice")
        names.append(fields[0])
        rows.append(classes)
    if not rows:
        raise ResultError(f"{path} holds no lists of classes")
    return tuple(names), np.array(rows, np.int64)


def read_ids(path: Path) -> tuple[str, ...]:
    """Ids of images, from .npy or a text file with one a line."""
    if path.suffix == ".npy":
        return tuple(map(str, load(path).reshape(-1)))
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def read_labels(path: Path, count: int, num_classes: int) -> NDArray[np.int32]:
    """Labels (N,) from .npy or text, one a line (the last field of it); −1 for unknown.

    ResultError names what is wrong: another number of them, none known, out of range.
    """
    if path.suffix == ".npy":
        values = np.asarray(load(path)).reshape(-1)
    else:
        try:
            values = np.array([int(re.split(r"[,;\s]+", line)[-1]) for line in read_ids(path)], np.int64)
        except ValueError as error:
            raise ResultError(f"{path}: a line does not end in a class number ({error})") from error
    if not np.issubdtype(values.dtype, np.integer):
        raise ResultError(f"{path} holds {values.dtype}, not class numbers")
    if len(values) != count:
        raise ResultError(f"{path} holds {len(values)} labels for {count} images")
    if values.max() >= num_classes or values.min() < -1:
        place = int(np.flatnonzero((values >= num_classes) | (values < -1))[0])
        raise ResultError(
            f"{path}: label {values[place]} of image {place} is not among {num_classes} classes"
        )
    return values.astype(np.int32)


def _ids_beside(path: Path) -> tuple[str, ...] | None:
    for suffix in (".ids.npy", ".ids.txt"):
        beside = path.with_name(path.stem + suffix)
        if beside.exists():
            return read_ids(beside)
    return None


def _classes_beside(path: Path) -> str | None:
    beside = path.with_name(path.stem + ".classes.txt")
    return results.classes_hash(read_ids(beside)) if beside.exists() else None


def _num_classes(raws: Sequence[Raw]) -> int:
    """C, the same for all; files of lists and top-K results may stay below it."""
    dense = [raw for raw in raws if raw.num_classes is not None]
    for raw in dense:
        if raw.num_classes != dense[0].num_classes:
            raise ResultError(
                f"{raw.path} has {raw.num_classes} classes, {dense[0].path} has {dense[0].num_classes}"
            )
    named = [raw for raw in raws if raw.class_names is not None]
    for raw in named:
        if raw.class_names != named[0].class_names:
            raise ResultError(f"{raw.path} and {named[0].path} have different lists of classes")
    tops = [(raw, _highest(raw)) for raw in raws if raw.num_classes is None]
    num_classes = (dense[0].num_classes or 0) if dense else max(highest for _, highest in tops) + 1
    for raw, highest in tops:
        if highest >= num_classes:
            raise ResultError(f"{raw.path} names class {highest}, {dense[0].path} has {num_classes} classes")
    return num_classes


def _highest(raw: Raw) -> int:
    classes = raw.lists_NK if raw.lists_NK is not None else raw.scores.classes_NK  # type: ignore[union-attr]
    return int(np.max(classes))


def _common(raws: Sequence[Raw]) -> tuple[str, ...] | None:
    """The order of images: that of the first input which knows its ids."""
    return next((raw.ids for raw in raws if raw.ids is not None), None)


def _aligned(raw: Raw, lines: dict[str, int] | None, count: int) -> Raw:
    """The result in the common order; one without ids must have the right number of lines already."""
    if raw.ids is None or lines is None:
        if len(raw) != count:
            raise ResultError(f"{raw.path} has {len(raw)} lines, {count} images are wanted")
        return raw
    if len(raw.ids) != len(raw):
        raise ResultError(f"{raw.path} has {len(raw)} lines but {len(raw.ids)} ids")
    place = dict(zip(raw.ids, range(len(raw.ids))))
    if len(place) < len(raw.ids):
        twice = next(name for index, name in enumerate(raw.ids) if place[name] != index)
        raise ResultError(f"{raw.path} has image {twice} twice")
    missing = next((name for name in lines if name not in place), None)
    if missing is not None:
        raise ResultError(f"{raw.path} lacks image {missing}")
    order = np.array([place[name] for name in lines], np.int64)
    if np.array_equal(order, np.arange(len(raw))):
        return raw
    if raw.lists_NK is not None:
        return replace(raw, lists_NK=raw.lists_NK[order])
    if isinstance(raw.scores, results.TopK):
        top = raw.scores
        moved = results.TopK(
            top.classes_NK[order], top.scores_NK[order], top.floor_N[order], top.tail_N[order]
        )
        return replace(raw, scores=moved)
    assert raw.scores is not None
    return replace(raw, scores=raw.scores[order])


def _held(raw: Raw, num_classes: int) -> Held:
    """The result as fusion reads it. Lists become scores K … 1, all other classes share what is below."""
    scores = raw.scores
    if raw.lists_NK is not None:
        count, kept = raw.lists_NK.shape
        scores = np.zeros((count, num_classes), np.float16)
        np.put_along_axis(scores, raw.lists_NK, np.arange(kept, 0, -1, dtype=np.float16)[None], axis=1)
        return Held(raw.name, "logits", scores, num_classes)
    if isinstance(scores, results.TopK):
        return Held(raw.name, raw.kind or "logits", scores, num_classes)
    assert scores is not None
    if scores.dtype not in (np.float16, np.float32):
        scores = np.asarray(scores, np.float32)  # what fusion computes in
    return Held(raw.name, raw.kind or _kind(scores), scores, num_classes)


def _kind(scores_NC: NDArray[Any]) -> results.Kind:
    """Probabilities are between 0 and 1 and sum to 1 in all of a sample of lines."""
    sample = scores_NC[np.unique(np.linspace(0, len(scores_NC) - 1, 256).astype(np.int64))].astype(np.float64)
    sums = sample.sum(axis=1)
    inside = sample.min() >= 0 and sample.max() <= 1.001
    return "probabilities" if inside and bool((np.abs(sums - 1) < 0.02).all()) else "logits"


def _refuse_bad(one: Held, raw: Raw) -> None:
    """ResultError for scores that are not finite."""
    scores = one.scores.scores_NK if isinstance(one.scores, results.TopK) else one.scores
    step = max(1, BLOCK // max(1, scores.shape[1]))
    for start in range(0, len(scores), step):
        wrong = ~np.isfinite(scores[start : start + step]).all(axis=1)
        if wrong.any():
            raise ResultError(
                f"{raw.path} ({one.name}): line {start + int(wrong.argmax())} is not finite (NaN or inf)"
            )


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
        arrays = (one.scores.classes_NK, one.scores.scores_NK) if isinstance(one.scores, results.TopK) else (
            one.scores,
        )  # fmt: skip
        digest = hashlib.blake2b()
        for array in arrays:
            step = max(1, BLOCK // max(1, array.shape[1]))
            for start in range(0, len(array), step):
                digest.update(np.ascontiguousarray(array[start : start + step]).data)
        key = digest.hexdigest()
        if key in seen:
            raise ResultError(f"{one.name} and {seen[key]} hold the same scores: leave one out")
        seen[key] = one.name
