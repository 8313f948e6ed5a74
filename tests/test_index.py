"""The stage `index`: root or artefact, summary, equal bytes, what an interrupted attempt leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.config import FormatSettings
from smelt.errors import DataError
from smelt.files.atomic import sha256_file
from smelt.files.committed import files_below
from smelt.stages.config import Runtime
from smelt.stages.context import Context
from smelt.stages.index import run
from smelt.stages.table import STAGES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 20 images."""
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "images" / name / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
    return tmp_path / "images"


def context(out: Path, root: Path | None = None, data: Path | None = None, **settings: Any) -> Context:
    out.mkdir(parents=True, exist_ok=True)
    chosen = FormatSettings.model_validate({"format": "imagefolder", **settings})
    inputs = {} if data is None else {"data": [data]}
    return Context(chosen, inputs, out, out / "scratch", Runtime(root=None if root is None else str(root)))


def test_summary(folder: Path, tmp_path: Path) -> None:
    run(context(tmp_path / "out", folder, val_fraction=0.25))
    summary = json.loads((tmp_path / "out/index.json").read_text())
    assert summary["rows"] == 40 and summary["num_classes"] == 2
    assert summary["splits"] == {"train": 30, "val": 10, "test": 0} and summary["sources"] == {"files": 40}
    assert summary["classes"] == {"train": [15, 15], "val": [5, 5], "test": [0, 0]}
    assert summary["missing"] == {"count": 0, "first": []} and summary["warnings"] == []
    table = pq.read_table(tmp_path / "out/catalogue/catalogue.parquet")
    catalogue = Catalogue.open(tmp_path / "out/catalogue")
    assert table["path"].to_pylist() == [catalogue.path(row) for row in range(40)]
    assert np.array_equal(table["label"].to_numpy(), catalogue.labels_N)


def test_an_artefact_goes_before_the_root(folder: Path, tmp_path: Path) -> None:
    run(context(tmp_path / "out", tmp_path / "nowhere", data=folder))
    assert Catalogue.open(tmp_path / "out/catalogue").num_rows == 40
    with pytest.raises(DataError, match=r"data\.root is not set"):
        run(context(tmp_path / "none"))


def test_equal_work_gives_equal_bytes(folder: Path, tmp_path: Path) -> None:
    """Also after an attempt that was killed left its files, and wherever the folder lies."""
    run(context(tmp_path / "one", folder))
    moved = folder.rename(tmp_path / "elsewhere")
    (tmp_path / "two/catalogue").mkdir(parents=True)
    (tmp_path / "two/catalogue/label.npy").write_bytes(b"half")
    (tmp_path / "two/catalogue/left.over").write_bytes(b"x")
    run(context(tmp_path / "two", moved))
    names = files_below(tmp_path / "one")
    assert names == files_below(tmp_path / "two") and "catalogue/catalogue.json" in names
    for name in names:
        assert sha256_file(tmp_path / "one" / name) == sha256_file(tmp_path / "two" / name), name
        assert str(tmp_path).encode() not in (tmp_path / "one" / name).read_bytes()


def test_warnings_are_told(tmp_path: Path) -> None:
    rows = "path,label\n" + "".join(f"{i}.jpg,{i % 2 * 2}\n" for i in range(8))
    (tmp_path / "images.csv").write_text(rows)
    (tmp_path / "0.jpg").write_bytes(b"\xff\xd8")
    told: list[str] = []
    base = context(tmp_path / "out", tmp_path, format="csv")
    run(
        Context(
            base.settings, {}, base.out, base.scratch, base.runtime, lambda event, **f: told.append(f["text"])
        )
    )
    assert len(told) == 3 and "7 of 8 listed files are not there" in told[0]
    assert "1 classes have no training image: 1 (1)" in told[1]
    assert "1 classes have no training image whose file is there: 2 (2)" in told[2]
    assert Catalogue.open(tmp_path / "out/catalogue").missing.tolist() == list(range(1, 8))


def test_the_stage_is_found_by_its_name() -> None:
    assert STAGES["index"].settings is FormatSettings
    assert "root" not in FormatSettings.model_fields


def test_one_class_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    from smelt.stages.config import Runtime
    from smelt.stages.context import Context
    from smelt.stages.index import run

    root = tmp_path / "data"
    for number in range(3):
        path = root / "only" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8")
    settings = FormatSettings(format="imagefolder", val_fraction=0.0)
    context = Context(settings, {}, tmp_path / "out", tmp_path / "s", Runtime(root=str(root)))
    with pytest.raises(DataError, match=r"two classes, and .* one class only, 'only' \(3 of 3 images"):
        run(context)
