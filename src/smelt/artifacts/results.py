"""Results: the scores of one model under one view for one split, dense or cut to the best K.

    NAME.npy       (N, C) float16, mapped when read          NAME.json        ResultInfo
    NAME.topk.npz  classes uint16/uint32 (N, K), scores      NAME.topk.json   ResultInfo
                   float16 (N, K), floor float16 (N,),       NAME.rows.npy    (N,) int64: the catalogue row
                   tail float32 (N,)                                          of each line, for alignment

Scores are raw logits (or probabilities, see `kind`), the mean over the crops of the view. `floor` is the
lowest score of the line, `tail` the probability of all classes that were cut: with them a cut score is an
interval, and what is concluded from intervals is certain.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.errors import ArtifactError
from smelt.files.arrays import map_array, map_npz, read_array, save_array
from smelt.files.atomic import new_file, read_json, replacing, write_json

Kind = Literal["logits", "probabilities"]
TOPK = ".topk.npz"


@dataclass(frozen=True)
class ResultInfo:
    """What a result is of; two results can be fused when both hashes agree."""

    model: str
    view: str
    split: str
    num_rows: int
    num_classes: int
    kind: Kind
    rows_hash: str
    classes_hash: str


@dataclass(frozen=True)
class TopK:
    """The best K scores of each line.

    classes_NK: unsigned, best first. scores_NK: float16. floor_N: float16, no cut score is lower; no cut
    score is higher than the last kept one. tail_N: float32, upper bound of the probability of what was cut.
    """

    classes_NK: NDArray[Any]
    scores_NK: NDArray[np.float16]
    floor_N: NDArray[np.float16]
    tail_N: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.classes_NK)


def rows_hash(rows_N: ArrayLike) -> str:
    """Hash of row ids in their order."""
    return hashlib.sha256(np.ascontiguousarray(rows_N, dtype="<i8").tobytes()).hexdigest()[:32]


def classes_hash(names: Sequence[str]) -> str:
    """Hash of class names in their order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]


def describe(
    model: str, view: str, split: str, rows_N: ArrayLike, classes: Sequence[str], kind: Kind = "logits"
) -> ResultInfo:
    """The ResultInfo of scores for these rows and classes."""
    count = len(np.asarray(rows_N))
    return ResultInfo(model, view, split, count, len(classes), kind, rows_hash(rows_N), classes_hash(classes))


def write_dense(
    path: Path,
    scores: NDArray[Any] | Iterable[NDArray[Any]],
    info: ResultInfo,
    rows_N: NDArray[np.int64],
) -> None:
    """Write scores (N, C), whole or as consecutive blocks of lines, as float16; the sidecar comes last.

    ArtifactError when the blocks do not add up to (num_rows, num_classes) or a score is not finite in
    float16; nothing is left under `path` then.
    """
    assert path.suffix == ".npy" and info.rows_hash == rows_hash(rows_N)
    blocks = [scores] if isinstance(scores, np.ndarray) else scores
    with replacing(path) as temporary, new_file(temporary) as file:
        _write_blocks(file, blocks, info, path)
    _write_sidecars(path, info, rows_N)


def _write_blocks(file: IO[bytes], blocks: Iterable[NDArray[Any]], info: ResultInfo, path: Path) -> None:
    shape = (info.num_rows, info.num_classes)
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    done = 0
    for block in blocks:
        half = to_half(block, f"scores for {path}, line {done}")
        if half.ndim != 2 or half.shape[1] != info.num_classes:
            raise ArtifactError(f"{path}: a block of shape {half.shape} where (n, {shape[1]}) was announced")
        file.write(half.tobytes())
        done += len(half)
    if done != info.num_rows:
        raise ArtifactError(f"{path}: {done} lines where {info.num_rows} were announced")


def to_half(scores: ArrayLike, what: str) -> NDArray[np.float16]:
    """Scores as little-endian float16; ArtifactError names `what` if one is NaN or infinite there."""
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(scores, dtype="<f2")
    if not np.isfinite(half).all():
        raise ArtifactError(f"{what}: not finite in float16 (the largest is 65504)")
    return half


def open_dense(path: Path) -> tuple[NDArray[np.float16], ResultInfo]:
    """Map the dense result `path`, (N, C) float16; ArtifactError if it is not what its sidecar says."""
    info = read_info(path)
    scores = map_array(path)
    if scores.dtype != np.float16 or scores.shape != (info.num_rows, info.num_classes):
        raise ArtifactError(
            f"{path} holds {scores.dtype} {scores.shape}, its sidecar says float16 "
            f"({info.num_rows}, {info.num_classes})"
        )
    return scores, info


def cut(scores_NC: ArrayLike, k: int) -> TopK:
    """The best `k` of finite logits (N, C) float16; among equals the lower class is kept."""
    half = to_half(scores_NC, "scores")
    order = np.argsort(-half.astype(np.float32), axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(half, order, axis=1)
    exp = np.exp(half.astype(np.float64) - kept[:, :1])
    tail = 1.0 - np.take_along_axis(exp, order, axis=1).sum(axis=1) / exp.sum(axis=1)
    upper = np.nextafter(np.clip(tail, 0.0, 1.0).astype(np.float32), np.float32(2))
    ids = np.uint16 if half.shape[1] <= 1 << 16 else np.uint32
    return TopK(order.astype(ids), kept, half.min(axis=1), np.minimum(upper, np.float32(1)))


def write_topk(path: Path, top: TopK, info: ResultInfo, rows_N: NDArray[np.int64]) -> None:
    """Write a top-K result, uncompressed so that it can be mapped; the sidecar comes last."""
    assert path.name.endswith(TOPK) and info.rows_hash == rows_hash(rows_N) and len(top) == info.num_rows
    members = {"classes": top.classes_NK, "scores": top.scores_NK, "floor": top.floor_N, "tail": top.tail_N}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            # a fixed time, so that equal scores give equal bytes
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    _write_sidecars(path, info, rows_N)


def open_topk(path: Path) -> tuple[TopK, ResultInfo]:
    """Map the top-K result `path`; ArtifactError if it is damaged or not what its sidecar says."""
    info = read_info(path)
    top = map_topk(path)
    if len(top) != info.num_rows:
        raise ArtifactError(f"{path} holds {len(top)} lines, its sidecar says {info.num_rows}")
    if len(top) and int(top.classes_NK.max()) >= info.num_classes:
        raise ArtifactError(f"{path} names class {int(top.classes_NK.max())} of {info.num_classes}")
    return top, info


def map_topk(path: Path) -> TopK:
    """Map the arrays of a top-K file without looking for a sidecar.

    Files from elsewhere may lack `floor` and `tail`: a cut score is then anything down to -65504.
    """
    arrays = map_npz(path)
    if not {"classes", "scores"} <= arrays.keys() or arrays["classes"].shape != arrays["scores"].shape:
        raise ArtifactError(f"{path} must hold `classes` and `scores` of one shape (N, K)")
    count = len(arrays["classes"])
    floor = arrays.get("floor", np.full(count, -65504, np.float16))
    return TopK(arrays["classes"], arrays["scores"], floor, arrays.get("tail", np.ones(count, np.float32)))


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def rows_path(path: Path) -> Path:
    """Where the row ids of a result are."""
    return path.with_name(path.name.removesuffix(TOPK).removesuffix(".npy") + ".rows.npy")


def read_info(path: Path) -> ResultInfo:
    """The sidecar of a result; ArtifactError if missing or not one."""
    value = read_json(_sidecar(path))
    if not isinstance(value, dict) or value.keys() != {field.name for field in fields(ResultInfo)}:
        raise ArtifactError(f"{_sidecar(path)} does not describe a result")
    counts = [value["num_rows"], value["num_classes"]]
    words = [value[name] for name in ("model", "view", "split", "rows_hash", "classes_hash")]
    if not all(type(count) is int and count >= 0 for count in counts) or not all(
        isinstance(word, str) for word in words
    ):
        raise ArtifactError(f"{_sidecar(path)} is damaged: a number or a word of it is none")
    if value["kind"] not in get_args(Kind):
        raise ArtifactError(f"{_sidecar(path)}: kind is {value['kind']!r}, not {' or '.join(get_args(Kind))}")
    return ResultInfo(**value)


def is_described(path: Path) -> bool:
    """Whether a result has a sidecar of ours, damaged or not, and not somebody else's .json beside it."""
    if rows_path(path).exists():
        return True
    try:
        value = read_json(_sidecar(path))
    except ArtifactError:
        return False
    return isinstance(value, dict) and {"rows_hash", "classes_hash"} <= value.keys()


def read_rows(path: Path) -> NDArray[np.int64]:
    """Row ids (N,) of the result `path`, checked against the hash in its sidecar."""
    rows: NDArray[np.int64] = read_array(rows_path(path))
    if rows_hash(rows) != read_info(path).rows_hash:
        raise ArtifactError(f"{rows_path(path)} holds other rows than {path} was written for")
    return rows


def find(folder: Path, split: str) -> list[Path]:
    """Result files of `split` in the artefact of `predict`, sorted by view."""
    files = [*(folder / split).glob("*.npy"), *(folder / split).glob(f"*{TOPK}")]
    return sorted(file for file in files if not file.name.endswith(".rows.npy"))


def _write_sidecars(path: Path, info: ResultInfo, rows_N: NDArray[np.int64]) -> None:
    save_array(rows_path(path), np.ascontiguousarray(rows_N, dtype="<i8"))
    write_json(_sidecar(path), asdict(info))
