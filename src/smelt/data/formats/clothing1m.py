"""Clothing1M (Xiao et al. 2015): a million noisy labels for training, clean ones for validation and test.

`noisy_train_key_list.txt`, `clean_val_key_list.txt`, `clean_test_key_list.txt` name images;
`noisy_label_kv.txt`, `clean_label_kv.txt` give `images/d/dd/name.jpg label`, 0–13. They lie in the root or
in `annotations/`. The clean training images (`clean_train_key_list.txt`) are not used: methods are compared
without them. Where an image of training also has a clean label, that becomes its `true_label`.
"""

from __future__ import annotations

from pathlib import Path

from smelt.artifacts.bytestrings import decode, encode
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.classes import Classes
from smelt.data.formats.lists.exported import Rows
from smelt.data.formats.lists.listed import add_tables
from smelt.data.formats.lists.pathlists import read_lines, read_list
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.files import Part
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import joined
from smelt.errors import DataError

FORMAT = Format(
    "Clothing1M: noisy labels for training, clean ones for validation and test",
    order=30,
    takes="lists folders",
    draws=False,
    validation="checked",
)

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
    names = [line.strip() for line in read_lines(Part(named))] if named else [*map(encode, CLASSES)]
    labels = {kind: _labels(_find(settings, root, kind), len(names), report) for kind in ("noisy", "clean")}
    base = encode(settings.folders.get("images", ""))
    tables = []
    for split, kind in (("train", "noisy"), ("val", "clean"), ("test", "clean")):
        rows = Rows(_find(settings, root, split), split, lines=True)
        for line, text in enumerate(read_lines(Part(rows.path)), 1):
            key = text.strip()
            if key not in labels[kind]:
                report.problem(f"{rows.path}:{line}: {decode(key)!r} has no label in {_LISTS[kind]}")
            rows.add(key, (labels[kind].get(key, b""),), line)
        rows.columns["true_label"] = [labels["clean"].get(key, b"") for key in rows.names]
        rows.columns["source"] = [b"web" if split == "train" else encode(split)] * len(rows)
        tables.append(rows.table([joined(base, key) for key in rows.names]))
    report.refuse()
    numbers = {b"%d" % number: number for number in range(len(names))}
    given = settings.model_copy(update={"test_labels": "given"})  # people's, however few are there
    add_tables(tables, given, root, writer, report, known=Classes(names, numbers))


def _labels(path: Path, classes: int, report: Report) -> dict[bytes, bytes]:
    """Path of an image → its label; a million are small."""
    parts = read_list(Part(path), report, labelled=True, num_classes=classes)
    return {
        part.paths[row]: b"%d" % label for part in parts for row, label in enumerate(part.labels.tolist())
    }
