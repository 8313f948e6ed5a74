"""One score file, of any form that people have, read as it is: scores, and whatever it knows about them.

    .npy          (N, C) scores, or (M, N, C) for M results at once
    .npz .pt      an array or tensor of scores, or several of them by name; beside them may stand labels, ids
                  (`ids`, `filenames`, …) and class names; integer `classes` and `scores` (N, K) are a top-K
                  result (`indices` and `values` too). A .pt is read without running anything in it
    .csv .txt     a header or none; an id and a score for each class, or an id and the best classes in order
    .parquet      an id column and a column for each class, or one column of lists
Beside A.npy, A.ids.npy or A.ids.txt may hold its ids, A.classes.txt or A.classes.json its class names
(a list, or a map of names to columns); smelt's own results have their sidecars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from smelt.artifacts import results
from smelt.errors import ArtifactError, ResultError
from smelt.fusion.scores import arrayfiles, arrowtables, classnames, tablescores, textfiles
from smelt.fusion.scores.arrayfiles import Raw
from smelt.fusion.scores.usual import ID_NAMES, plain


def _text(path: Path) -> list[Raw]:
    return [tablescores.read(textfiles.read(path))]


READERS: dict[str, Callable[[Path], list[Raw]]] = {
    ".npy": lambda path: arrayfiles.stacked(path.stem, path, arrayfiles.load(path)),
    ".npz": arrayfiles.archived,
    ".pt": lambda path: arrayfiles.bundled(path, arrayfiles.tensors(path)),
    ".csv": _text, ".tsv": _text, ".txt": _text,
    ".parquet": lambda path: [tablescores.read(arrowtables.read(path))],
}  # fmt: skip


def read_file(path: Path) -> list[Raw]:
    """The results in one file; ArtifactError where it is damaged or missing, ResultError if it has none."""
    suffix = path.suffix.lower().replace(".pth", ".pt")
    if not path.is_file():
        what = "is a folder: name the files in it" if path.is_dir() else "is not a file"
        raise ArtifactError(f"{path} {what if path.exists() else 'is not there'}")
    if suffix in READERS:
        return [_beside(raw) for raw in READERS[suffix](path)]
    why = " (a pickle may run anything; save arrays instead)" if suffix in (".pkl", ".pickle") else ""
    raise ResultError(
        f"{path}: {suffix or 'a file without a suffix'} is not read{why}; {', '.join(READERS)} are"
    )


def in_memory(name: str, value: Any) -> list[Raw]:
    """The results in an array or tensor (N, C) or (M, N, C), arrays by name as in an .npz, or a data frame.

    ResultError with the shape of what cannot be scores, TypeError for what is none of these.
    """
    if arrowtables.is_frame(value):
        return [tablescores.read(arrowtables.of_frame(name, value))]
    if isinstance(value, Mapping):
        return arrayfiles.bundled(Path(name), {key: np.asarray(one) for key, one in value.items()})
    if hasattr(value, "__array__") or isinstance(value, list | tuple):
        return arrayfiles.stacked(name, Path(name), np.asarray(value))
    raise TypeError(
        f"{name} is of type {type(value).__name__}: a path, an array (N, C) or (M, N, C), arrays by name or "
        f"a data frame is wanted"
    )


def _beside(raw: Raw) -> Raw:
    """With the ids and class names that lie beside the file, and smelt's own sidecar."""
    raw = replace(raw, **_described(raw))
    stem = raw.path.name.removesuffix(raw.path.suffix).removesuffix(".topk")
    for suffix in (".ids.npy", ".ids.txt", ".ids.csv"):
        beside = raw.path.with_name(stem + suffix)
        if raw.ids is None and beside.exists():
            raw = replace(raw, ids=read_ids(beside))
    for suffix, read in ((".classes.txt", _lines), (".classes.json", classnames.from_json)):
        beside = raw.path.with_name(stem + suffix)
        if raw.classes is None and beside.exists():
            raw = replace(raw, classes=read(beside))
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
        return arrayfiles.words(arrayfiles.load(path).reshape(-1)) or ()
    lines = _lines(path)
    if path.suffix in (".csv", ".tsv") and lines:
        text = textfiles.read(path)
        named = next((i for i, name in enumerate(text.header or []) if plain(name) in ID_NAMES), 0)
        return tuple(cells[min(named, len(cells) - 1)] for cells in text)
    return lines[1:] if len(lines) > 1 and plain(lines[0]) in ID_NAMES else lines


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for _, line in textfiles.filled_lines(path))
