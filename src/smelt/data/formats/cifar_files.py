"""The files of CIFAR-N: a `.npz` of sheets; or CIFAR's own batches with a `.pt` or `.npy` of people's labels.

The published are pickles, which can run anything when loaded by Python itself: `pickles` makes arrays and
nothing else. At most MOST_BYTES are read of a file, or unpacked.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.data.formats.containers.jsons import open_regular
from smelt.data.formats.containers.npz import DAMAGE, Arrays, open_zip, unpacked
from smelt.data.formats.containers.pickles import load
from smelt.data.formats.containers.standins import UnreadableError
from smelt.data.images.headers import probe
from smelt.errors import DataError, short

SIDE = 32
TILES = 50  # a sheet has 50 × 50 images
MOST_BYTES = 1 << 29  # CIFAR-100's training batch has 155 MB
MOST_PICKLES = 8  # that follow one another in a file
_HUMAN = (
    "CIFAR-10_human.pt", "CIFAR-100_human.pt", "CIFAR-10_human_ordered.npy", "CIFAR-100_human_ordered.npy",
)  # fmt: skip
_FOLDERS = ("", "data", "cifar-10-batches-py", "cifar-100-python", "cifar-10-batches-bin", "cifar-100-binary")
_TEN = [f"data_batch_{number}" for number in range(1, 6)]
# their key of each set of labels → ours
_NAMES = {
    "aggre_label": "noisy_aggre", "worse_label": "noisy_worst", "random_label1": "noisy_random1",
    "random_label2": "noisy_random2", "random_label3": "noisy_random3", "noisy_label": "noisy",
}  # fmt: skip


@dataclass(frozen=True)
class Cifar:
    """Images (N, 32, 32, 3) uint8 and labels of both parts; `noisy` by the name of its annotator set."""

    train_images: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    train_labels: NDArray[np.int32]
    test_labels: NDArray[np.int32]
    noisy: dict[str, NDArray[np.int32]]
    classes: list[str]


def read_npz(path: Path) -> Cifar:
    """CIFAR-10N from the one file; sheet s, tile k is image s · 2500 + k. Raises DataError."""
    with Arrays(path) as data:
        classes = [str(name) for name in data["class_names"].reshape(-1)]
        found = {
            name: as_labels(data[name], len(classes), f"{path}: {name}")
            for name in data.names
            if name.startswith("noisy") or name in ("train_labels_clean", "test_labels")
        }
        for name in ("train_labels_clean", "test_labels"):
            if name not in found:
                raise DataError(f"{path} is no file of CIFAR-N: it has no array {name!r}")
        clean, tested = found.pop("train_labels_clean"), found.pop("test_labels")
        return Cifar(_sheets(data, "train"), _sheets(data, "test"), clean, tested, found, classes)


def _sheets(data: Arrays, part: str) -> NDArray[np.uint8]:
    """(N, 32, 32, 3) pixels of all sheets of a part."""
    names = sorted(name for name in data.names if name.startswith(f"{part}_sheet_"))
    if not names:
        raise DataError(f"{data.path} is no file of CIFAR-N: it has no sheets {part}_sheet_00, …")
    sheets = []
    for name in names:
        sheet = _sheet(data[name].tobytes(), f"{data.path}: {name}")
        tiles = sheet.reshape(TILES, SIDE, TILES, SIDE, 3).transpose(0, 2, 1, 3, 4)
        sheets.append(tiles.reshape(-1, SIDE, SIDE, 3))
    return np.concatenate(sheets)


def _sheet(data: bytes, name: str) -> NDArray[np.uint8]:
    """(1600, 1600, 3) pixels of one sheet, its size compared before anything is decoded."""
    from PIL import Image

    try:
        found = probe(data)
        if (found.width, found.height) != (TILES * SIDE, TILES * SIDE):
            raise DataError(f"{found.width} × {found.height} pixels, not {TILES * SIDE} × {TILES * SIDE}")
        with Image.open(io.BytesIO(data), formats=["WEBP", "PNG", "JPEG"]) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is no sheet of images: {short(str(error))}") from error


def as_labels(values: NDArray[Any], classes: int, what: str) -> NDArray[np.int32]:
    """`values` as labels. Raises DataError, beginning with `what`, where they are none of 0..classes-1."""
    values = np.asarray(values)
    if values.size and not (
        values.dtype.kind in "iu" and int(values.min()) >= 0 and int(values.max()) < classes
    ):
        raise DataError(f"{what} are not all whole numbers of 0..{classes - 1}")
    return values.astype(np.int32)


def _find(root: Path, names: Sequence[str]) -> Path | None:
    places = (root / folder / name for name in names for folder in _FOLDERS)
    return next((path for path in places if path.is_file()), None)


def _batches(root: Path) -> tuple[list[Path], Path, Path | None]:
    """(training, test, class names) files of CIFAR-10 or -100, whichever is there."""
    ten = _find(root, _TEN[:1])
    if ten is not None:
        return [ten.parent / name for name in _TEN], ten.parent / "test_batch", ten.parent / "batches.meta"
    hundred = _find(root, ["train"])
    if hundred is not None:
        return [hundred], hundred.parent / "test", hundred.parent / "meta"
    raise DataError(
        f"{root} has neither cifar10n.npz nor CIFAR's python batches (cifar-10-batches-py/data_batch_1 … or "
        f"cifar-100-python/train)"
    )


def published(root: Path) -> list[Path]:
    """All files that are read."""
    train, test, meta = _batches(root)
    human = _find(root, _HUMAN)
    return [path for path in (*train, test, meta, human) if path is not None and path.is_file()]


def read_published(root: Path) -> Cifar:
    """Images, clean labels and people's labels; their order must be that of the batches (it is compared)."""
    train, test, meta = _batches(root)
    parts = [_load(path) for path in train]
    clean = np.concatenate([_labels(part, train[0]) for part in parts])
    tested = _load(test)
    found = _load(meta) if meta is not None and meta.is_file() else {}
    names = found.get("label_names") or found.get("fine_label_names")
    classes = names if isinstance(names, list) and all(isinstance(name, str | bytes) for name in names) else (
        range(10 if len(train) > 1 else 100)
    )  # fmt: skip
    return Cifar(
        np.concatenate([_images(part, train[0]) for part in parts]),
        _images(tested, test),
        clean,
        _labels(tested, test),
        _human_labels(root, clean),
        [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in classes],
    )


def _human_labels(root: Path, clean: NDArray[np.int32]) -> dict[str, NDArray[np.int32]]:
    path = _find(root, _HUMAN)
    if path is None:
        return {}
    found = _load(path)
    own = found.get("clean_label")
    if own is not None and not np.array_equal(_numbers(own), clean):
        raise DataError(
            f"{path}: its clean_label is not that of CIFAR's batches: its labels are in another order "
            f"(the *_ordered.npy files are for another one; use the .pt file)"
        )
    noisy = {_NAMES[key]: _numbers(value) for key, value in found.items() if key in _NAMES}
    for name, labels in noisy.items():
        if labels.shape != clean.shape or labels.dtype.kind not in "iu" or not _within(labels, clean):
            raise DataError(
                f"{path}: {name} has not one label of 0..{clean.max(initial=0)} for each of {len(clean)}"
            )
    return {name: as_labels(labels, 100, f"{path}: {name}") for name, labels in noisy.items()}


def _within(labels: NDArray[Any], clean: NDArray[Any]) -> bool:
    return not labels.size or bool(labels.min() >= 0 and labels.max() <= clean.max())


def _images(batch: dict[str, Any], path: Path) -> NDArray[np.uint8]:
    data = _numbers(batch.get("data"))
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE:
        raise DataError(f"{path} has no images of 32 × 32 pixels")
    return data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _labels(batch: dict[str, Any], path: Path) -> NDArray[np.int32]:
    labels = _numbers(batch.get("labels", batch.get("fine_labels")))
    if labels.ndim != 1 or len(labels) != len(_numbers(batch.get("data"))):
        raise DataError(f"{path} has not one label for each image")
    return as_labels(labels, 100, f"{path}: its labels")


def _load(path: Path) -> dict[str, Any]:
    """The dict in a pickle, a `.npy` of one object or a torch `.pt` of arrays; keys as str."""
    try:
        found = _dictionary(_pickled(path))
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as a file of arrays: {short(str(error))}") from error
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in found.items()
    }


def _pickled(path: Path) -> bytes:
    """The pickle in a file, in its envelope or without one."""
    with open_regular(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UnreadableError(f"it has more than {MOST_BYTES:,} bytes")
    if data[:6] == b"\x93NUMPY":
        size = 10 + int.from_bytes(data[8:10], "little") if data[6:7] == b"\1" else (
            12 + int.from_bytes(data[8:12], "little")
        )  # fmt: skip
        return data[size:]
    if data[:4] != b"PK\3\4":
        return data
    with open_zip(io.BytesIO(data)) as archive:
        inside = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if inside is None:
            raise UnreadableError("it is a zip without data.pkl, so not what torch.save writes")
        return unpacked(archive, inside)


def _dictionary(data: bytes) -> dict[Any, Any]:
    """The first dict among the pickles that follow one another (torch's older files begin with others)."""
    at = 0
    for _ in range(MOST_PICKLES):
        value, at = load(data, at)
        if isinstance(value, list) and len(value) == 1:  # an array of one object
            value = value[0]
        if isinstance(value, dict) and "protocol_version" not in value:
            return value
    raise UnreadableError("it holds no dictionary")


def _numbers(values: Any) -> NDArray[Any]:
    """An array, or a flat list of whole numbers as one; else an empty one of objects, which nothing takes."""
    if isinstance(values, list) and all(type(value) is int and abs(value) < 1 << 31 for value in values):
        return np.array(values, np.int64)
    return values if isinstance(values, np.ndarray) else np.zeros(0, object)
