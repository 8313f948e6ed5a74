"""img2dataset's output in its three forms: labels from fields, captions, what could not be loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from formats_toy import PIXEL, catalogue_of, put, refused, tar
from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.tree.fingerprint import fingerprint
from smelt.data.formats.tree.layout import recognise
from smelt.errors import DataError

PETS = ("cat", "dog", "fox")
FORMS = ("files", "tars", "parquet")


def record(i: int, **more: Any) -> dict[str, Any]:
    return {
        "url": f"https://site{i % 2}.org/{i}.jpg", "caption": f"a photo, {i}", "key": f"{i:09d}",
        "status": "success", "error_message": None, "width": 8, "height": 8, "class_name": PETS[i % 3],
        **more,
    }  # fmt: skip


def written(root: Path, form: str, shards: int = 2, rows: int = 6, at: str = "", **more: Any) -> Path:
    """Output of img2dataset in one of its forms; the last row of each shard could not be loaded."""
    for shard in range(shards):
        name = f"{at}{shard:05d}"
        records = [record(shard * 10000 + i, **more) for i in range(rows)]
        records[-1] |= {"status": "failed_to_download", "error_message": "404"}
        pictures = [PIXEL + row["key"].encode() for row in records]
        put(root, {f"{name}_stats.json": json.dumps({"count": rows, "successes": rows - 1})})
        if form == "parquet":
            table = pa.Table.from_pylist([{**row, "exif": "{}"} for row in records])
            table = table.append_column("jpg", pa.array([*pictures[:-1], None], pa.binary()))
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, root / f"{name}.parquet")
            continue
        members: dict[str, str | bytes] = {}
        for row, picture in zip(records[:-1], pictures):
            members |= {f"{row['key']}.jpg": picture, f"{row['key']}.json": json.dumps(row),
                        f"{row['key']}.txt": row["caption"]}  # fmt: skip
        if form == "tars":
            tar(
                root / f"{name}.tar",
                {k: v if isinstance(v, bytes) else v.encode() for k, v in members.items()},
            )
        else:
            put(root, {f"{name}/{key}": value for key, value in members.items()})
        pq.write_table(pa.Table.from_pylist(records), root / f"{name}.parquet")
    return root


def as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def indexed(root: Path, out: Path, **fields: Any) -> tuple[dict[str, str], Catalogue, dict[str, Any]]:
    c = catalogue_of(root, out, val_fraction=0.0, **fields)
    summary = json.loads((out / "index.json").read_text())
    return {c.path(row): c.classes[c.labels_N[row]] for row in range(c.num_rows)}, c, summary


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_recognised_and_read(tmp_path: Path, form: str) -> None:
    root = written(tmp_path / "data", form)
    assert recognise(root).format == "img2dataset"
    found, c, summary = indexed(root, tmp_path / "out")
    assert len(found) == 10 and summary["format"] == "img2dataset"
    for path, name in found.items():
        assert name == PETS[int(path.rpartition("/")[2][:9]) % 3], path
    said = "\n".join(summary["notes"])
    assert "labels are taken from class_name (10 samples)" in said and "10 of 12 images" in said
    assert c.sources[0] == "img2dataset"
    row = next(row for row in range(10) if c.path(row).endswith("000010002.jpg"))
    assert c.strings("title", [row]) == ["a photo, 10002"]
    place = c.location(row)
    base = c.folder if place.inside else root
    data = (base / str(place.shard or place.path)).read_bytes()
    assert (data[place.offset :][: place.size] if place.shard else data) == PIXEL + b"000010002"
    assert place.inside == (form == "parquet")
    left_out = {each["why"]: each["count"] for each in summary["files"]["left_out"]}
    assert left_out == ({"not loaded by img2dataset (failed_to_download)": 2} if form == "parquet" else {})


@pytest.mark.parametrize("form", FORMS)
def test_columns_and_hosts(tmp_path: Path, form: str) -> None:
    root = written(tmp_path / "data", form, kind={"of": {"pet": "same"}})
    columns = {"label": "url", "source": "url", "query": "kind.of.pet"}
    c = catalogue_of(root, tmp_path / "out", format="img2dataset", columns=columns, val_fraction=0.0)
    assert set(c.sources) >= {"site0.org", "site1.org"} and c.num_classes == 10
    assert c.strings("query", [0]) == ["same"]


@pytest.mark.parametrize("form", FORMS)
def test_without_a_label_the_fields_are_shown(tmp_path: Path, form: str) -> None:
    root = written(tmp_path / "data", form)
    text = refused(root, tmp_path / "out", columns={"label": "nothing"})
    assert "no sample has a 'nothing'" in text and "-o data.columns.label=class_name" in text
    shown = text.partition("class_name (")[2].partition(")")[0]
    assert sorted(shown.split(", ")) == ["'cat'", "'dog'", "'fox'"] and "caption (" in text


@pytest.mark.parametrize("form", FORMS)
def test_a_shard_is_no_class_and_folders_above_it_may_be(tmp_path: Path, form: str) -> None:
    root = tmp_path / "data"
    for name in ("wild cats", "tame dogs"):
        written(root, form, at=f"{name}/")
    fields: dict[str, Any] = {"columns": {"label": "none"}}
    assert "no sample has a 'none'" in refused(root, tmp_path / "bad", **fields)
    for how in ("leaf", "depth:1"):
        found, *_ = indexed(root, tmp_path / how, format="img2dataset", class_from=how)
        assert len(found) == 20 and all(path.startswith(name) for path, name in found.items())


def test_folders_are_classes_where_no_field_is(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("cat", "dog"):
        put(root, {f"{name}/0000{shard}/{i:09d}.jpg": PIXEL for shard in range(2) for i in range(3)})
        put(root, {f"{name}/0000{shard}/{i:09d}.txt": f"text {i}" for shard in range(2) for i in range(3)})
    assert recognise(root).format == "img2dataset"
    found, _, summary = indexed(root, tmp_path / "out")
    assert len(found) == 12 and all(path.startswith(name) for path, name in found.items())
    assert "'cat', 'dog'" in "".join(summary["notes"])


def test_splits_are_folders(tmp_path: Path) -> None:
    root = written(written(tmp_path / "data", "files", at="train/"), "files", at="val/")
    c = catalogue_of(root, tmp_path / "out")
    assert len(c.rows("train")) == len(c.rows("val")) == 10
    text = refused(root, tmp_path / "bad", format="img2dataset", lists={"train": "train/*"})
    assert "data.lists.train" in text and "where they are tars" in text


def test_what_lies_beside_the_images_is_accounted_for(tmp_path: Path) -> None:
    root = written(tmp_path / "data", "files")
    put(root, {"00000/000000099.json": "{}", "00000/._000000001.jpg": b"x", "notes.md": "text"})
    found, _, summary = indexed(root, tmp_path / "out")
    files = summary["files"]
    assert len(found) == files["images"] == 10
    assert files["read"] == 20 + 2 + 2, "JSON and text of each image, statistics and table of each shard"
    left_out = {each["why"]: each["count"] for each in files["left_out"]}
    assert left_out.pop("a sample without an image") == 1 and sum(left_out.values()) == 2


@pytest.mark.parametrize("text", ["{", "[" * 50_000, "[1]", '{"a":' + "9" * 5000 + "}", ""])
def test_json_that_cannot_be_read_is_counted(tmp_path: Path, text: str) -> None:
    root = put(written(tmp_path / "data", "files"), {"00000/000000001.json": text})
    put(root, {"00001_stats.json": text})
    found, _, summary = indexed(root, tmp_path / "out")
    said = "\n".join(summary["warnings"] + summary["notes"])
    assert len(found) == 9 and "00001_stats.json is no statistics" in said
    assert text == "[1]" or "00000/000000001.json" in said


def test_parquet_without_images_or_damaged_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    pq.write_table(pa.Table.from_pylist([record(0)]), root / "00000.parquet")
    text = refused(root, tmp_path / "out", format="img2dataset")
    assert "00000.parquet holds no images" in text and "class_name" in text
    whole = (written(tmp_path / "b", "parquet", shards=1) / "00000.parquet").read_bytes()
    rng = np.random.default_rng(0)
    ends = set()
    for _ in range(60):
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(0, len(data), 6)] = rng.integers(0, 256, 6)
        put(tmp_path / "c", {"00000.parquet": data.tobytes()})
        try:
            catalogue_of(tmp_path / "c", tmp_path / "out c", format="img2dataset")
            ends.add("read")
        except DataError as error:
            assert "00000.parquet" in str(error) or "problem" in str(error)
            ends.add("refused")
    assert "refused" in ends
    put(tmp_path / "c", {"00000.parquet": whole[:500]})
    assert "00000.parquet cannot be read" in refused(tmp_path / "c", tmp_path / "d", format="img2dataset")


def test_the_identity_is_that_of_shards_and_images(tmp_path: Path) -> None:
    for form in FORMS:
        root = written(tmp_path / form, form)
        before = fingerprint(FormatSettings(format="img2dataset"), root)
        name = {"files": "00001/000010001.jpg", "tars": "00001.tar", "parquet": "00001.parquet"}[form]
        with open(root / name, "ab") as file:
            file.write(bytes(512))
        assert fingerprint(FormatSettings(format="img2dataset"), root) != before
