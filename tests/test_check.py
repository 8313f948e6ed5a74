"""Stage `check`: one record for every row, resumable, the same bytes whatever the workers."""

from __future__ import annotations

import csv
import errno
import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import xxhash
from PIL import Image

import heic_files
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.artifacts.selection import read_selection
from smelt.data.copies.hashes import perceptual_hashes
from smelt.data.images import kinds
from smelt.data.images.config import CheckSettings
from smelt.data.images.decode import decode
from smelt.errors import DataError, StorageError
from smelt.files.atomic import read_json
from smelt.settings import not_in_key
from smelt.stages import check
from smelt.stages.config import Runtime
from smelt.stages.context import Context
from smelt.stages.context import run as run_stage

COUNT = 30
BAD = {3: (b"", "empty"), 7: (b"<html>", "not_an_image"), 20: (b"%PDF-1.4", "unsupported_format")}
ODD = {9: b'line\nbreak, "quoted" \xff.jpg'}


def picture(number: int, format: str = "JPEG") -> bytes:
    rough = np.random.default_rng(number).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(rough).resize((60 + number, 50), Image.Resampling.BICUBIC).save(file, format)
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of images, the index artefact beside it: 25 training, 5 validation rows; 28 is absent."""
    folder = tmp_path / "images"
    folder.mkdir()
    names = [ODD.get(row, f"{row}.jpg".encode()) for row in range(COUNT)]
    names[12] = b"copy.png"
    for row, name in enumerate(names):
        content = (
            BAD[row][0] if row in BAD else picture(11 if row == 12 else row, "PNG" if row == 12 else "JPEG")
        )
        if row != 28:
            Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(content)
    with CatalogueWriter(tmp_path / "index" / "catalogue") as writer:
        writer.classes = ["one"]
        for split, rows in (("train", range(25)), ("val", range(25, COUNT))):
            labels = np.zeros(len(rows), np.int32)
            writer.add(Block(split, "", Paths.of(names[row] for row in rows), labels))
        writer.finish()
    return folder


def run(root: Path, out: str = "out", workers: int = 2, **context: Any) -> Path:
    folder = root.parent / out
    folder.mkdir(exist_ok=True)
    runtime = Runtime(root=str(root), workers=workers, log_every_seconds=0.0)
    inputs = {"catalogue": [root.parent / "index"]}
    check.run(Context(CheckSettings(), inputs, folder, folder / "scratch", runtime, **context))
    return folder


def test_every_row_has_its_record(root: Path) -> None:
    table = pq.read_table(run(root) / "images.parquet")
    assert table["row"].to_pylist() == list(range(COUNT))
    records = table.to_pylist()
    for record in records:
        row = record["row"]
        if row in BAD or row == 28:
            assert not record["ok"] and record["reason"] == ("missing" if row == 28 else BAD[row][1])
            assert (record["width"], record["pixel_hash"]) == (0, bytes(16))
            continue
        data = picture(11, "PNG") if row == 12 else picture(row)
        pixels = decode(data)
        assert record["ok"] and record["reason"] == ""
        assert (record["height"], record["width"]) == pixels.shape[:2]
        assert record["content_hash"] == xxhash.xxh3_128_digest(data)
        assert record["pixel_hash"] == xxhash.xxh3_128_digest(pixels.tobytes(), seed=pixels.shape[1])
        assert record["perceptual_hash"] == perceptual_hashes(pixels)[0]
        assert record["perceptual_hashes"] == perceptual_hashes(pixels).tolist()
    assert records[7]["content_hash"] == xxhash.xxh3_128_digest(b"<html>")
    assert len({record["pixel_hash"] for record in records if record["ok"]}) == COUNT - 4


def test_the_lists(root: Path) -> None:
    out = run(root)
    with open(out / "bad_files.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["file", "reason"]
    assert lines[1:] == [[f"{row}.jpg", BAD[row][1]] for row in BAD] + [["28.jpg", "missing"]]
    assert read_json(out / "check.json") == {
        "images": COUNT,
        "ok": COUNT - 4,
        "bad": {"empty": 1, "not_an_image": 1, "unsupported_format": 1, "missing": 1},
        "bad_by_split": {"train": 3, "val": 1},
        "damaged": {},
        "damaged_by_split": {},
    }


def test_a_bad_file_with_an_odd_name_is_listed_as_it_is_called(root: Path) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(root), ODD[9]))).write_bytes(b"damaged")
    with open(run(root) / "bad_files.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        names = [os.fsencode(name) for name, _ in csv.reader(file)]
    assert ODD[9] in names


def artefacts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_killed_run_goes_on_to_the_same_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "CHUNK", 8)
    monkeypatch.setattr(check, "TASK", 3)
    undisturbed = artefacts(run(root, "undisturbed", workers=1))
    assert set(undisturbed) == {"images.parquet", "bad_files.csv", "damaged_files.csv", "check.json"}
    original, checked = check._check_row, []

    def dies_at_20(store: Any, row: int, heic: bool) -> dict[str, Any]:
        checked.append(row)
        if row == 20:
            raise KeyboardInterrupt
        return original(store, row, heic)

    monkeypatch.setattr(check, "_check_row", dies_at_20)
    with pytest.raises(KeyboardInterrupt):
        run(root, "killed")
    monkeypatch.setattr(check, "_check_row", lambda *given: checked.append(given[1]) or original(*given))
    checked.clear()
    assert artefacts(run(root, "killed", workers=3)) == undisturbed
    assert sorted(checked) == list(range(16, COUNT)), "chunks that were done were done again"


def test_progress_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "CHUNK", 10)
    events: list[dict[str, Any]] = []
    run(root, emit=lambda event, **fields: events.append({"event": event, **fields}))
    done = [event["done"] for event in events if event["event"] == "progress"]
    assert done == sorted(done) and done[-1] == COUNT and len(done) > 3


def test_a_wrong_root_is_an_error_and_not_a_list_of_bad_files(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(DataError, match=r"none of the 30 images .*elsewhere.*0\.jpg"):
        run(elsewhere)
    assert not (root.parent / "out" / "images.parquet").exists()


def test_without_a_root_it_says_so(root: Path) -> None:
    out = root.parent / "rootless"
    out.mkdir()
    inputs = {"catalogue": [root.parent / "index"]}
    with pytest.raises(DataError, match="root"):
        check.run(Context(CheckSettings(), inputs, out, out / "scratch"))


def test_the_data_artefact_is_the_root_when_it_is_connected(root: Path) -> None:
    out = root.parent / "joined"
    out.mkdir()
    inputs = {"catalogue": [root.parent / "index"], "data": [root]}
    check.run(Context(CheckSettings(), inputs, out, out / "scratch", Runtime(root="/nowhere")))
    assert read_json(out / "check.json")["ok"] == COUNT - 4


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_a_fault_of_the_machine_stops_and_leaves_no_trace(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Rows before it are kept, it and what comes after are looked at by the next run."""
    monkeypatch.setattr(check, "CHUNK", 8)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    undisturbed = artefacts(run(root, "undisturbed"))
    original = os.open

    def failing(path: Any, *rest: Any) -> int:
        if str(path).endswith("/18.jpg"):
            raise OSError(number, os.strerror(number), path)
        return original(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        with pytest.raises(StorageError, match=rf"18\.jpg.*{errno.errorcode[number]}"):
            run(root)
    assert artefacts(run(root)) == undisturbed


def test_want_of_memory_is_no_property_of_an_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    undisturbed = artefacts(run(root, "undisturbed"))
    original, asked = check._check_row, []

    def hungry(store: Any, row: int, heic: bool) -> dict[str, Any]:
        asked.append(row)
        if row == 11 and asked.count(11) < 3:
            raise MemoryError
        return original(store, row, heic)

    monkeypatch.setattr(check, "_check_row", hungry)
    assert artefacts(run(root)) == undisturbed


LOST = 3  # the class whose training files are gone
PER_CLASS = 10


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """20 classes of 10 training and 2 validation images, which all can be read; the folder of them."""
    with CatalogueWriter(tmp_path / "index" / "catalogue") as writer:
        writer.classes = [f"class {label}" for label in range(20)]
        for split, count in (("train", PER_CLASS), ("val", 2)):
            labels = np.repeat(np.arange(20), count).astype(np.int32)
            names = [f"{split}/{label}/{i}.jpg".encode() for label in range(20) for i in range(count)]
            writer.add(Block(split, "", Paths.of(names), labels))
        writer.finish()
    for name in names_of(tmp_path):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(picture(0))
    return tmp_path / "images"


def names_of(folder: Path) -> list[str]:
    catalogue = Catalogue.open(folder / "index" / "catalogue")
    return [catalogue.path(row) for row in range(catalogue.num_rows)]


def warned(root: Path, unreadable: str = "stop") -> list[str]:
    """Run; the warnings."""
    out = root.parent / "out"
    out.mkdir(exist_ok=True)
    events: list[str] = []
    settings = CheckSettings.model_validate({"unreadable": unreadable})
    context = Context(
        settings, {"catalogue": [root.parent / "index"]}, out, out / "scratch", Runtime(root=str(root)),
        emit=lambda event, **fields: events.append(fields["text"]) if event == "warning" else None,
    )  # fmt: skip
    check.run(context)
    return events


@pytest.mark.parametrize("damage", [None, b"", b"<html>"])
def test_a_class_of_which_nothing_can_be_read_stops_the_run(classes: Path, damage: bytes | None) -> None:
    for i in range(PER_CLASS):
        path = classes / f"train/{LOST}/{i}.jpg"
        path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(DataError, match=r"train class 3 \(class 3\): 10 of 10") as caught:
        warned(classes)
    assert "check.unreadable=warn" in str(caught.value) and "class 4" not in str(caught.value)
    assert not (classes.parent / "out" / "images.parquet").exists()
    (told,) = warned(classes, "warn")
    assert "train class 3 (class 3): 10 of 10" in told
    assert read_json(classes.parent / "out" / "check.json")["ok"] == 230


def test_what_was_mended_after_the_stop_is_looked_at_again(
    classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "CHUNK", 16)
    (classes / "train" / str(LOST)).rename(classes / "away")
    with pytest.raises(DataError, match="class 3"):
        warned(classes)
    (classes / "away").rename(classes / "train" / str(LOST))
    original, checked = check._check_row, []
    monkeypatch.setattr(check, "_check_row", lambda *given: checked.append(given[1]) or original(*given))
    assert warned(classes) == []
    assert read_json(classes.parent / "out" / "check.json")["ok"] == 240
    assert set(range(30, 40)) <= set(checked) and len(checked) <= 48, "whole chunks of sound rows were kept"


def test_a_split_of_which_nothing_can_be_read_stops_the_run(classes: Path) -> None:
    (classes / "val").rename(classes / "unpacked later")
    with pytest.raises(DataError, match=r"split val: 40 images, such as 'val/0/0\.jpg'"):
        warned(classes)


def test_held_out_images_of_a_class_may_all_be_bad_and_many_bad_ones_are_told(classes: Path) -> None:
    for name in ("val/5/0.jpg", "val/5/1.jpg", "train/6/0.jpg", "train/6/1.jpg"):
        (classes / name).unlink()
    assert warned(classes) == []
    (classes / "train/6/2.jpg").unlink()
    assert warned_anew(classes) == [
        "of 1 class(es) more than 20% of the images cannot be read: train class 6 (class 6): 3 of 10"
    ]


def warned_anew(root: Path) -> list[str]:
    for path in (root.parent / "out" / "scratch").iterdir():
        path.unlink()
    return warned(root)


def test_very_many_lost_classes_make_a_short_message(classes: Path) -> None:
    for label in range(19):
        for i in range(PER_CLASS):
            (classes / f"train/{label}/{i}.jpg").unlink()
    with pytest.raises(DataError, match=r"(?s)19 whole part.*and 9 more") as caught:
        warned(classes)
    assert len(str(caught.value)) < 3000


def spoil(root: Path, row: int) -> str:
    """Put bytes between the pixels of an image and its end; its name."""
    path = root / f"{row}.jpg"
    data = path.read_bytes()
    path.write_bytes(data[:-2] + b"\x12\x34\x56\x78" * 5 + data[-2:])
    return path.name


def test_a_damaged_image_is_kept_and_counted(root: Path) -> None:
    names = [spoil(root, row) for row in (2, 5, 26)]
    out = run(root)
    records = pq.read_table(out / "images.parquet").to_pylist()
    assert [record["row"] for record in records if record["damaged"]] == [2, 5, 26]
    assert all(record["ok"] and record["damaged"] == "leftover" for record in (records[2], records[26]))
    assert records[2]["pixel_hash"] == xxhash.xxh3_128_digest(
        decode(picture(2)).tobytes(), seed=records[2]["width"]
    )
    counts = read_json(out / "check.json")
    assert counts["ok"] == COUNT - 4 and counts["damaged"] == {"leftover": 3}
    assert counts["damaged_by_split"] == {"train": 2, "val": 1}
    lines = (out / "damaged_files.csv").read_text().splitlines()
    assert lines == ["file,damage", *(f"{name},leftover" for name in names)]


def test_what_is_damaged_is_learnt_from_unless_it_is_dropped(root: Path) -> None:
    spoil(root, 2)
    ports = {"catalogue": [root.parent / "index"], "check": [run(root)]}
    for damaged, kept in (("keep", True), ("drop", False)):
        out = root.parent / damaged
        (out / "scratch").mkdir(parents=True)
        run_stage("select", {"damaged": damaged}, inputs=ports, out=out, scratch=out / "scratch")
        selection = read_selection(out)
        place = selection.rows.tolist().index(2)
        assert bool(selection.kept[place]) == kept
        assert selection.words[selection.reasons[place]] == ("" if kept else "damaged")


def test_heic_is_looked_at_again_once_it_can_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a flowchart holds of the setting is what it comes to here, so that its key says it."""
    (root / "4.jpg").write_bytes(heic_files.plain())
    monkeypatch.setattr(kinds, "heif_reader", lambda: None)
    without = CheckSettings().resolved()
    assert without.heic == "no"
    assert read_json(run(root) / "check.json")["bad"]["unsupported_format"] == 2
    with pytest.raises(DataError, match=r"pip install 'smelt\[heic\]'"):
        CheckSettings(heic="yes").resolved()
    monkeypatch.setattr(kinds, "heif_reader", lambda: "pi_heif")
    assert CheckSettings().resolved().heic == "yes"
    assert CheckSettings(heic="no").resolved() == without
    assert not_in_key(CheckSettings()) == ()


@pytest.mark.skipif(kinds.heif_reader() is None, reason="needs pi-heif or pillow-heif")
@pytest.mark.parametrize(("heic", "reason"), [("auto", ""), ("yes", ""), ("no", "unsupported_format")])
def test_heic_is_read_unless_it_is_not_to_be(root: Path, heic: str, reason: str) -> None:
    (root / "4.jpg").write_bytes(heic_files.plain())
    out = root.parent / "out"
    (out / "scratch").mkdir(parents=True)
    settings = {"heic": heic}
    run_stage(
        "check", settings, inputs={"catalogue": [root.parent / "index"]}, out=out, scratch=out / "scratch",
        runtime={"root": str(root)},
    )  # fmt: skip
    record = pq.read_table(out / "images.parquet").to_pylist()[4]
    assert record["reason"] == reason and record["ok"] == (not reason)
    assert (record["height"], record["width"]) == (
        (0, 0) if reason else (heic_files.HEIGHT, heic_files.WIDTH)
    )
