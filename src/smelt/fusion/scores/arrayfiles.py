"""Arrays and tensors of scores by name, with what stands beside them; nothing in a file is run.

.npy          (N, C) scores, or (M, N, C) for M results at once
.npz .pt      one or several of them; labels, ids and class names under usual names; or a top-K result
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import results
from smelt.errors import ArtifactError, ResultError, SmeltError
from smelt.files.arrays import foreign_npy
from smelt.files.bounded import refuse_beyond
from smelt.fusion.scores import classnames
from smelt.fusion.scores.brokenfiles import DAMAGED, broken
from smelt.fusion.scores.meaning import Meaning
from smelt.fusion.scores.usual import ID_NAMES, LABEL_NAMES, key

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
ONE = "of two classes, save both columns, np.stack([1 - p, p], axis=1); labels go to --labels"


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


def load(path: Path) -> NDArray[Any]:
    """Map a .npy file; ArtifactError if it is damaged or holds objects."""
    try:
        return foreign_npy(path)
    except DAMAGED as error:
        raise broken(path, error) from error


def arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz by name; ArtifactError if it is damaged or holds objects, OutOfProportionError
    if it is a bomb."""
    if not zipfile.is_zipfile(path):
        raise broken(path)
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")
            refuse_bomb(path, archive)
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _member(archive, name) for name in names}
    except SmeltError:
        raise
    except DAMAGED as error:
        raise broken(path, error) from error


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    """OutOfProportionError where the members of an archive, together, unpack to more than its size speaks
    for."""
    members = archive.infolist()
    refuse_beyond(path, sum(one.file_size for one in members), f"unpacking its {len(members):,} members")


def tensors(path: Path) -> dict[str, Any]:
    """What a .pt holds by name, tensors as arrays; nothing in it is run. ArtifactError otherwise."""
    import pickle

    import torch

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                refuse_bomb(path, archive)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = torch.load(path, map_location="cpu", weights_only=True)
    except SmeltError:
        raise
    except pickle.UnpicklingError as error:
        raise ArtifactError(
            f"{path} holds more than tensors, or is damaged; nothing in it was run: save a dict of tensors"
        ) from error
    except (*DAMAGED, AttributeError, ImportError, IndexError, AssertionError) as error:
        raise broken(path, error) from error
    members = held if isinstance(held, Mapping) else {"": held}
    if isinstance(held, list | tuple) and not isinstance(_plain_array(held, path), np.ndarray):
        members = dict(enumerate(held))
    return {str(name): _plain_array(value, path) for name, value in members.items()}


def _plain_array(value: Any, path: Path) -> Any:
    """A tensor as an array (bfloat16 as float32), lists of words as an array of them, else the value."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ResultError(f"{path} holds a sparse or quantised tensor: save it dense")
        # one number may be shown as a tensor of any size
        refuse_beyond(path, value.numel() * value.element_size(), f"a tensor of {tuple(value.shape)}")
        value = value.detach().float() if value.dtype == torch.bfloat16 else value.detach()
        return value.resolve_conj().resolve_neg().numpy()
    if isinstance(value, list | tuple) and value:
        if all(isinstance(one, torch.Tensor) and one.shape == value[0].shape for one in value):
            return np.stack([_plain_array(one, path) for one in value])
        if all(isinstance(one, str | int | float) for one in value):
            return np.array(value)
    return value


def stacked(name: str, path: Path, array: Any, **known: Any) -> list[Raw]:
    """One result, or those of a stack."""
    array = _as_scores(array, path)
    if array.ndim not in (2, 3) or 0 in array.shape:
        hint = f": one number an image; {ONE}" if array.ndim == 1 else ""
        raise ResultError(f"{path} has shape {array.shape}, not (N, C) or (M, N, C){hint}")
    if array.shape[-1] == 1:
        raise ResultError(
            f"{path} has shape {array.shape}: one column; a score for each class is needed: {ONE}"
        )
    if array.ndim == 2:
        return [Raw(name, path, array, num_classes=array.shape[1], **known)]
    return [
        Raw(f"{name}[{index}]", path, scores, num_classes=array.shape[2], **known)
        for index, scores in enumerate(array)
    ]


def turned(one: Raw, other: Raw) -> str:
    """What to do where two arrays have their axes in different orders, for the end of a message; else ""."""
    shapes = _shape(one), _shape(other)
    if len(shapes[0]) == len(shapes[1]) == 2 and shapes[0] == shapes[1][::-1]:
        return f"; shapes are {shapes[0]} and {shapes[1]}: images come first, save the other one as scores.T"
    for raw, shape, images in ((one, shapes[0], len(other)), (other, shapes[1], len(one))):
        if len(shape) == 3 and shape[0] == images:
            return (
                f"; {raw.path} has shape {shape}: results or crops come first, then images: save "
                "np.moveaxis(scores, 1, 0)"
            )
    return ""


def _shape(raw: Raw) -> tuple[int, ...]:
    """The shape of the array in the file that a result is from, () where it is none."""
    if not isinstance(raw.scores, np.ndarray):
        return ()
    whole = raw.scores.base if raw.name.endswith("]") and raw.scores.base is not None else raw.scores
    return tuple(getattr(whole, "shape", raw.scores.shape))


def _as_scores(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """Numbers that can be scores: floating point as it is, whole numbers as float32."""
    if array.dtype.kind in "iub" and array.size and (array == array.flat[0]).all():
        raise ResultError(f"{path} holds {array.dtype}, all {array.flat[0]}: these are no scores")
    if array.dtype.kind in "iub":
        return np.asarray(array, np.float32)
    if array.dtype.kind != "f":
        raise ResultError(f"{path} holds {array.dtype}, not scores")
    return array


def archived(path: Path) -> list[Raw]:
    """The results in an .npz file; smelt's own top-K results stay mapped."""
    raws = bundled(path, arrays(path))
    if path.name.endswith(results.TOPK) and len(raws) == 1 and isinstance(raws[0].scores, results.TopK):
        mapped = results.map_topk(path)
        return [replace(raws[0], scores=mapped)] if mapped.classes_NK.dtype.kind == "u" else raws
    return raws


def bundled(path: Path, members: Mapping[str, Any]) -> list[Raw]:
    """The results among named arrays, with the labels, ids and class names that stand beside them."""
    mapped = classnames.taken(members, path)
    if mapped is not None:
        members = {name: value for name, value in members.items() if name != mapped[0]}
    left = {name: value for name, value in members.items() if isinstance(value, np.ndarray)}
    notes = [f"{path}: {name} is no array and is left out" for name in members if name not in left]
    top = _taken_top(path, left)
    known: dict[str, Any] = {
        "classes": words(_taken(left, CLASSES, 1)), "ids": words(_taken(left, ID_NAMES, 1)),
        "labels": _taken(left, LABEL_NAMES, None, scores=False),
    }  # fmt: skip
    if known["classes"] is None and mapped is not None:
        known["classes"] = mapped[1]
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
        raws = stacked(stem if len(left) == 1 else f"{stem}:{name}", path, value, **known)
        found += [replace(raw, notes=tuple(notes), **hinted(name)) for raw in raws]
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


def _one_hot(array: NDArray[Any]) -> bool:
    """Whether every row has a single 1 and zeros, or is a single number."""
    if array.shape[1] == 1:
        return True
    return (
        array.dtype.kind in "iubf"
        and bool(((array != 0).sum(axis=1) <= 1).all())
        and bool((array <= 1).all())
    )


def words(array: Any) -> tuple[str, ...] | None:
    """An array of words or numbers as words."""
    if array is None:
        return None
    if array.dtype.kind == "S":
        array = decoded_words(array)
    if array.dtype.kind == "f" and bool((array == np.round(array)).all()):
        array = array.astype(np.int64)
    return tuple(str(one).strip() for one in array.tolist())


def decoded_words(array: NDArray[Any]) -> NDArray[Any]:
    """Words of bytes as text; ResultError where they are not UTF-8."""
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise ResultError(
            f"words such as {bytes(error.object)[:40]!r} are not UTF-8: save them as text (dtype=str)"
        ) from error


def _one_of_the_same(path: Path, left: dict[str, Any]) -> list[str]:
    """Drop probabilities that stand beside the logits they were made from: one model must not vote twice."""
    groups = [[name for name in left if key(name) in names] for names in SAME]
    there = [group[0] for group in groups if group]
    same = [name for name in there[1:] if left[name].shape == left[there[0]].shape]
    for name in same:
        left.pop(name)
    return [f"{path}: {name} is left out, {there[0]} are of the same model" for name in same]


def hinted(name: str) -> dict[str, Any]:
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
