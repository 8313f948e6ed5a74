"""CIFAR-10N and CIFAR-100N as published: CIFAR's own batches and a `.pt` or `.npy` of people's labels.

Both are pickles, which can run anything when loaded, so a loader is used that makes arrays and nothing else.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.data.formats.cifar_n import SIDE, Cifar, as_labels
from smelt.errors import DataError

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
    names = _load(meta) if meta is not None and meta.is_file() else {}
    classes = (
        names.get("label_names") or names.get("fine_label_names") or range(10 if len(train) > 1 else 100)
    )
    return Cifar(
        np.concatenate([_images(part, train[0]) for part in parts]),
        _images(tested, test),
        clean,
        _labels(tested, test),
        _human_labels(root, clean),
        [name.decode() if isinstance(name, bytes) else str(name) for name in classes],
    )


def _human_labels(root: Path, clean: NDArray[np.int32]) -> dict[str, NDArray[np.int32]]:
    path = _find(root, _HUMAN)
    if path is None:
        return {}
    found = _load(path)
    own = found.get("clean_label")
    if own is not None and not np.array_equal(np.asarray(own), clean):
        raise DataError(
            f"{path}: its clean_label is not that of CIFAR's batches: its labels are in another order "
            f"(the *_ordered.npy files are for another one; use the .pt file)"
        )
    noisy = {_NAMES[key]: np.asarray(value) for key, value in found.items() if key in _NAMES}
    for name, labels in noisy.items():
        if labels.shape != clean.shape or labels.min() < 0 or labels.max() > clean.max():
            raise DataError(f"{path}: {name} has not one label of 0..{clean.max()} for each of {len(clean)}")
    return {name: as_labels(labels, 100, f"{path}: {name}") for name, labels in noisy.items()}


def _images(batch: dict[str, Any], path: Path) -> NDArray[np.uint8]:
    data = np.asarray(batch.get("data"))
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE:
        raise DataError(f"{path} has no images of 32 × 32 pixels")
    return data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _labels(batch: dict[str, Any], path: Path) -> NDArray[np.int32]:
    labels = np.asarray(batch.get("labels", batch.get("fine_labels")))
    if labels.ndim != 1 or len(labels) != len(batch.get("data", ())):
        raise DataError(f"{path} has not one label for each image")
    return as_labels(labels, 100, f"{path}: its labels")


class _ArraysOnly(pickle.Unpickler):
    """Makes NumPy arrays, plain containers, and nothing else."""

    ALLOWED = frozenset(
        (module, name)
        for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric",
                       "numpy._core.numeric", "_codecs")
        for name in ("ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer", "encode")
        if (name == "encode") == (module == "_codecs")
    )  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it holds tensors, not arrays")


def _load(path: Path) -> dict[str, Any]:
    """The dict in a pickle, a `.npy` of one object or a torch `.pt` of arrays; keys as str."""
    try:
        data = path.read_bytes()
        if path.suffix == ".pt" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                data = archive.read(next(n for n in archive.namelist() if n.endswith("/data.pkl")))
        file = io.BytesIO(data)
        if data[:6] == b"\x93NUMPY":
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
        found = _unpickle(file)
    except (OSError, ValueError, EOFError, StopIteration, zipfile.BadZipFile, pickle.UnpicklingError,
            AttributeError, IndexError, KeyError, TypeError) as error:  # fmt: skip
        raise DataError(f"{path} cannot be read as a file of arrays: {error}") from error
    return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in found.items()}


def _unpickle(file: io.BytesIO) -> dict[Any, Any]:
    """The first dict among the pickles that follow one another (torch's older files begin with others)."""
    while True:
        value = _ArraysOnly(file, encoding="latin1").load()
        if isinstance(value, np.ndarray) and value.dtype == object:
            value = value.item()
        if isinstance(value, dict) and not value.keys() >= {"protocol_version"}:
            return value
