"""CIFAR-10N and CIFAR-100N (Wei et al. 2022): CIFAR's images with labels that people gave, truth known.

Either one `cifar10n.npz` (images as WebP sheets of 50 × 50 tiles, clean and noisy labels), or the published
files: CIFAR's batches beside `CIFAR-10_human.pt` or `CIFAR-100_human.pt` (see `cifar_files`). The 10,000
test images keep their clean labels; validation is held out of the training images (`val_fraction`), its
labels noisy unless `val_labels: clean`. Pixels go into the catalogue's folder as `images.npy`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.formats.base import Report
from smelt.data.formats.cifar_files import SIDE, Cifar, published, read_npz, read_published
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.layout import Glimpse
from smelt.errors import DataError
from smelt.files.arrays import new_array
from smelt.random import numbered

FORMAT = Format(
    "CIFAR-10N and CIFAR-100N: CIFAR's images with labels that people gave",
    order=20,
    takes="labels val_labels subset subset_balanced",
    checked_if={"val_labels": "clean", "labels": "clean"},
)

PIXELS = "images.npy"
_HOLD_OUT, _SUBSET = 1, 2  # streams of random numbers


def recognise(glimpse: Glimpse) -> str:
    """The labels of CIFAR-N, in one file with the images or beside CIFAR's batches."""
    names = ("cifar10n.npz", "cifar100n.npz", "CIFAR-10_human.pt", "CIFAR-100_human.pt",
             "CIFAR-10_human.npy", "CIFAR-100_human.npy")  # fmt: skip
    return next((name for name in names if name in glimpse.files()), "")


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The `.npz`, or the published files, by content."""
    archive = _archive(root)
    return ([archive] if archive else published(root)), []


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append training (a subset, if asked for), validation and test, with the pixels beside them."""
    archive = _archive(root)
    cifar = read_npz(archive) if archive else read_published(root)
    _check(cifar, root)
    clean = cifar.train_labels
    noisy = clean if settings.labels == "clean" else cifar.noisy.get(settings.labels)
    if noisy is None:
        raise DataError(f"{root} has no labels `{settings.labels}`; it has clean, {', '.join(cifar.noisy)}")
    train, val = _chosen(settings, noisy)
    val_labels = clean if settings.val_labels == "clean" else noisy
    parts = (
        ("train", train, noisy[train], clean[train]),
        ("val", val, val_labels[val], clean[val]),
        ("test", np.arange(len(cifar.test_labels)), cifar.test_labels, cifar.test_labels),
    )
    writer.classes = cifar.classes
    writer.shards, writer.raw_shape, writer.inside = [PIXELS], (SIDE, SIDE, 3), {PIXELS}
    start = _write_pixels(writer.folder / PIXELS, [cifar.train_images[train], cifar.train_images[val],
                                                   cifar.test_images])  # fmt: skip
    for split, rows, labels, truth in parts:
        if len(rows):
            _add(writer, split, rows, labels, truth, start)


def _add(
    writer: CatalogueWriter, split: str, rows: NDArray[Any], labels: NDArray[Any], truth: NDArray[Any],
    start: int,
) -> None:  # fmt: skip
    count, size = len(rows), SIDE * SIDE * 3
    part = "test" if split == "test" else "train"
    block = Block(
        split, "cifar", Paths.of(b"%s/%05d" % (part.encode(), row) for row in rows.tolist()), labels
    )
    block.fixed = {
        "true_label": truth,
        "shard": np.zeros(count, np.uint32),
        "offset": start + (writer.num_rows + np.arange(count)) * size,
        "size": np.full(count, size),
    }
    block.words["noise"] = ((labels != truth).astype(np.uint32), [b"", b"flip"])
    writer.add(block)


def _chosen(settings: FormatSettings, labels: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Training and validation images, ascending. Validation does not depend on the size of the subset."""
    order = np.argsort(numbered(np.arange(len(labels), dtype=np.uint64), settings.seed, _HOLD_OUT))
    held = round(len(labels) * settings.val_fraction)
    order = np.concatenate([np.sort(order[:held]), order[held:]])
    # a class never gives its last image: the last one drawn of it stays
    drawn = order[:held]
    alone = ~np.isin(labels[drawn], labels[order[held:]])
    stays = drawn[alone][np.unique(labels[drawn][alone], return_index=True)[1]]
    val, rest = np.setdiff1d(drawn, stays), np.sort(np.concatenate([order[held:], stays]))
    if settings.subset is None:
        return rest, val
    if settings.subset > len(rest):
        raise DataError(
            f"subset {settings.subset} is more than the {len(rest)} images that validation leaves"
        )
    keys = numbered(rest.astype(np.uint64), settings.seed, _SUBSET)
    order = np.argsort(keys, kind="stable")
    if settings.subset_balanced:
        order = order[np.argsort(_place_in_class(labels[rest[order]]), kind="stable")]
    return np.sort(rest[order[: settings.subset]]), val


def _place_in_class(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """For each element how many of its label come before it: taking the lowest of these is balanced."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    places = np.empty(len(labels), np.int64)
    places[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    return places


def _write_pixels(path: Path, images: list[NDArray[np.uint8]]) -> int:
    """Write (N, 32, 32, 3) as `.npy`; returns the offset of the first pixel."""
    pixels = new_array(path, (sum(map(len, images)), SIDE, SIDE, 3), np.uint8)
    np.concatenate(images, out=pixels)
    assert isinstance(pixels, np.memmap)
    return pixels.offset


def _archive(root: Path) -> Path | None:
    found = [root / name for name in ("cifar10n.npz", "cifar100n.npz") if (root / name).is_file()]
    return found[0] if found else None


def _check(cifar: Cifar, root: Path) -> None:
    """DataError where there is not one label of each set for every image."""
    counts = {"clean labels": len(cifar.train_labels)} | {
        name: len(labels) if labels.ndim == 1 else -1 for name, labels in cifar.noisy.items()
    }
    wrong = {name: count for name, count in counts.items() if count != len(cifar.train_images)}
    if len(cifar.test_labels) != len(cifar.test_images):
        wrong["test labels"] = len(cifar.test_labels)
    if wrong:
        shown = ", ".join(f"{name}: {count}" for name, count in wrong.items())
        raise DataError(
            f"{root}: there are {len(cifar.train_images)} training and {len(cifar.test_images)} test images, "
            f"and not as many labels ({shown})"
        )
