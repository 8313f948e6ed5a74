"""Formats are modules: what they declare is read without importing them, and a new one costs its file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from formats_toy import PIXEL, put
from smelt.data.formats import registry
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.registry import formats, reader, used_by

TOY = '''"""A toy: `toy.list` has a class and a path a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.layout import Glimpse

FORMAT = Format(
    "a toy",
    order=5,
    takes="subset",
)


def recognise(glimpse: Glimpse) -> str:
    return "toy.list" if "toy.list" in glimpse.files() else ""


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    return [root / "toy.list"], []


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    rows = [line.split() for line in (root / "toy.list").read_bytes().splitlines()]
    writer.classes = sorted({name.decode() for name, _ in rows})
    labels = np.array([writer.classes.index(name.decode()) for name, _ in rows], np.int32)
    writer.add(Block("train", "toy", Paths.of([path for _, path in rows]), labels))
'''

RUN = """
import sys
from pathlib import Path
import smelt.data.formats
smelt.data.formats.__path__.append(sys.argv[1])  # as if the file lay in the folder
from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.tree.fingerprint import fingerprint
from smelt.stages.index import index
root, out = Path(sys.argv[2]), Path(sys.argv[3])
index(FormatSettings(), root, out)
catalogue = Catalogue.open(out / "catalogue")
print(catalogue.classes, catalogue.labels_N.tolist(), catalogue.path(2))
print(fingerprint(FormatSettings(), root).partition("-")[0], FormatSettings(format="toy", subset=3).subset)
print("`toy`: a toy." in FormatSettings.model_fields["format"].description)
"""


def test_a_new_format_costs_its_file(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"code/toytoy.py": "", "code/toy.py": TOY, "d/toy.list": "cat a.jpg\ndog b.jpg\ncat c.jpg\n"},
    )
    put(tmp_path / "d", {"a.jpg": PIXEL, "b.jpg": PIXEL, "c.jpg": PIXEL})
    arguments = [str(tmp_path / name) for name in ("code", "d", "out")]
    told = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=False
    )
    assert told.stdout.splitlines() == ["('cat', 'dog') [0, 1, 0] c.jpg", "toy 3", "True"], told.stderr


@pytest.mark.parametrize("name", formats())
def test_what_is_declared_is_what_the_module_has(name: str) -> None:
    module = reader(name)
    assert formats()[name] == module.FORMAT
    assert callable(module.read) and callable(module.outside)
    assert (
        set(module.FORMAT.takes.split()) | {*module.FORMAT.checked_if} <= FormatSettings.model_fields.keys()
    )


def test_recognition_goes_from_the_particular_to_the_plain() -> None:
    orders = [one.order for one in formats().values()]
    assert orders == sorted(set(orders), reverse=True)
    assert [*formats()][0 :: len(formats()) - 1] == ["imagefolder", "webvision"]


def test_who_takes_a_setting() -> None:
    assert used_by()["num_classes"] == ("webvision",)
    assert used_by()["header"] == ("csv",)
    assert "seed" not in used_by()


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({}, "crawled"),
        ({"format": "csv"}, "crawled"),
        ({"format": "webvision"}, "checked"),
        ({"format": "imagenet"}, "checked"),
        ({"format": "cifar_n"}, "crawled"),
        ({"format": "cifar_n", "val_labels": "clean"}, "checked"),
        ({"format": "cifar_n", "labels": "clean"}, "checked"),
        ({"format": "food101n"}, "crawled"),
        ({"format": "animal10n", "val_from": "test"}, "checked"),
    ],
)
def test_whether_people_looked_at_the_validation(fields: dict[str, str], labels: str) -> None:
    assert FormatSettings.model_validate(fields).validation_labels == labels


@pytest.mark.parametrize(
    "text",
    [
        'FORMAT = Format("of a line", order=3)\n',
        'FORMAT: Format = Format("of a line", 3)\n',
        'FORMAT = (\n    Format("of a line", order=3)\n)\n',
    ],
)
def test_a_declaration_counts_however_it_is_written(text: str) -> None:
    """One that was passed over would be a format that nobody finds."""
    assert registry._declared("m", text) == registry.Format("of a line", order=3)


@pytest.mark.parametrize(
    "text", ["FORMAT = 3\n", 'FORMAT = Format("x", order=FIRST)\n', 'FORMAT = Format("x")\n']
)
def test_a_declaration_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"toys\.m: FORMAT is read and not run"):
        registry._declared("toys.m", text)
