"""Clothing1M (Xiao et al. 2015): a million noisy labels for training, clean ones for validation and test.

`noisy_train_key_list.txt`, `clean_val_key_list.txt`, `clean_test_key_list.txt` name images;
`noisy_label_kv.txt`, `clean_label_kv.txt` give `images/d/dd/name.jpg label`, 0–13. They lie in the root or
in `annotations/`. The clean training images (`clean_train_key_list.txt`) are not used: methods are compared
without them. Where an image of training also has a clean label, that becomes its `true_label`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, decode, offsets_of
from smelt.artifacts.catalogue import UNKNOWN, UNKNOWN_TRUTH
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.formats.base import SHOWN, Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.lists.pathlists import Entries, read_lines, read_list, where_in
from smelt.data.formats.tree.files import Files, Part
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.pathcolumns import find_paths
from smelt.errors import DataError

CLASSES = (
    "T-Shirt", "Shirt", "Knitwear", "Chiffon", "Sweater", "Hoodie", "Windbreaker", "Jacket", "Down Coat",
    "Suit", "Shawl", "Dress", "Vest", "Underwear",
)  # fmt: skip
_LISTS = {
    "train": "noisy_train_key_list.txt", "val": "clean_val_key_list.txt", "test": "clean_test_key_list.txt",
    "noisy": "noisy_label_kv.txt", "clean": "clean_label_kv.txt",
}  # fmt: skip


def _find(settings: FormatSettings, root: Path, name: str) -> Path:
    if name in settings.lists:
        return root / settings.lists[name]
    places = [root / folder / _LISTS[name] for folder in ("", "annotations")]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise DataError(f"{root} has no {_LISTS[name]}, nor has its folder annotations/: is it Clothing1M?")
    return found


def recognise(glimpse: Glimpse) -> str:
    """The list of noisy training images."""
    name = "noisy_train_key_list.txt"
    return next((f"{at}{name}" for at in ("", "annotations/") if name in glimpse.files(at.rstrip("/"))), "")


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The lists, by content."""
    names = [path for path in root.glob("**/category_names_eng.txt") if path.is_file()]
    return [*(_find(settings, root, name) for name in _LISTS), *names], []


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append training (noisy labels), validation and test (clean labels)."""
    named = next(iter(sorted(root.glob("**/category_names_eng.txt"))), None)
    names = [decode(line).strip() for line in read_lines(Part(named))] if named else list(CLASSES)
    writer.classes = names
    labels = {
        kind: _all(_find(settings, root, kind), report, labelled=True, classes=len(names))
        for kind in ("noisy", "clean")
    }
    files = Files(root, [], report, check=settings.check_files)
    base = settings.folders.get("images", "").encode()
    for split, kind in (("train", "noisy"), ("val", "clean"), ("test", "clean")):
        path = Part(_find(settings, root, split))
        keys = _all(path.path, report, labelled=False, classes=len(names))
        found = find_paths(keys.paths, labels[kind].paths)
        for entry in np.flatnonzero(found < 0)[:SHOWN].tolist():
            report.problem(
                f"{where_in(path)(entry)}: {decode(keys.paths[entry])!r} has no label in {_LISTS[kind]}"
            )
        report.num_problems += max(0, int((found < 0).sum()) - SHOWN)
        known = find_paths(keys.paths, labels["clean"].paths)
        truth = _at(labels["clean"].labels, known, UNKNOWN_TRUTH)
        report.refuse()  # before a path that leads out of the folder is looked for
        placed = keys.paths.below(base)
        fixed, missing = files.locate(placed)
        given = _at(labels[kind].labels, found, UNKNOWN)
        writer.add(
            Block(split, "web" if split == "train" else split, placed, given,
                  {**fixed, "true_label": truth}, missing=missing, listed_in=where_in(path))
        )  # fmt: skip


def _at(labels: NDArray[np.int32], places: NDArray[np.int64], missing: int) -> NDArray[np.int32]:
    """Labels at `places`; `missing` where the place is -1."""
    return np.append(labels, np.int32(missing))[places]


def _all(path: Path, report: Report, *, labelled: bool, classes: int) -> Entries:
    """A whole list at once; a million lines are small."""
    parts = list(read_list(Part(path), report, labelled=labelled, num_classes=classes))
    folders: dict[bytes, int] = {}
    codes, names, labels = [], [], []
    for part in parts:
        table = [folders.setdefault(folder, len(folders)) for folder in part.paths.folders]
        codes.append(np.array(table, np.uint32)[part.paths.folder_codes])
        names.append(part.paths.names)
        labels.append(part.labels)
    if not parts:
        return Entries(Paths.of([]), np.zeros(0, np.int32), 0)
    lengths = np.concatenate([part.lengths() for part in names])
    heap = np.concatenate([part.heap for part in names])
    paths = Paths(list(folders), np.concatenate(codes), ByteStrings(heap, offsets_of(lengths)))
    return Entries(paths, np.concatenate(labels), 0)
