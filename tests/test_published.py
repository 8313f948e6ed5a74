"""Published data sets and exports as they are laid out: read rightly, or what they are is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from formats_toy import PIXEL, catalogue_of, put, refused, told
from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.tree.fingerprint import fingerprint

Files = dict[str, str | bytes]
WORDS = ["cat", "dog", "fox"]
MAT = b"MATLAB 5.0 MAT-file".ljust(128, b"\0")


def lines(rows: list[str]) -> str:
    return "\n".join(rows) + "\n"


def images(names: list[str]) -> Files:
    return dict.fromkeys(names, PIXEL)


def splits_of(c: Catalogue) -> dict[str, dict[str, str]]:
    """Split → path → class ("" for none)."""
    return {
        split: {
            c.path(row): c.classes[c.labels_N[row]] if c.labels_N[row] >= 0 else ""
            for row in c.rows(split).tolist()
        }
        for split in c.splits
    }


def read(tmp_path: Path, files: Files, **fields: object) -> dict[str, dict[str, str]]:
    settings = FormatSettings.model_validate({"val_fraction": 0.0, **fields})
    root = put(tmp_path / "d", files)
    fingerprint(settings, root)
    return splits_of(catalogue_of(root, tmp_path / "out", **{"val_fraction": 0.0, **fields}))


# ---- files joined by an id


def cub(order: list[str] = WORDS) -> tuple[Files, list[str]]:
    names = [f"{place + 1:03d}.{word}/{word}_{k}.jpg" for place, word in enumerate(order) for k in range(4)]
    files: Files = {
        "images.txt": lines([f"{n} {name}" for n, name in enumerate(names, 1)]),
        "image_class_labels.txt": lines([f"{n} {(n - 1) // 4 + 1}" for n in range(1, len(names) + 1)]),
        "train_test_split.txt": lines([f"{n} {int(n % 4 < 2)}" for n in range(1, len(names) + 1)]),
        "classes.txt": lines([f"{place} {place:03d}.{word}" for place, word in enumerate(order, 1)]),
        "bounding_boxes.txt": lines([f"{n} 60.0 27.0 325.0 304.0" for n in range(1, len(names) + 1)]),
        "README": "text",
    }
    return files | images([f"images/{name}" for name in names]), names


def test_cub(tmp_path: Path) -> None:
    files, names = cub()
    found = read(tmp_path, files)
    of = {f"images/{name}": name.partition("/")[0] for name in names}
    training = {path for n, path in enumerate(of, 1) if n % 4 < 2}
    assert found["train"] == {path: word for path, word in of.items() if path in training}
    assert found["test"] == {path: word for path, word in of.items() if path not in training}
    assert "1 is train" in told(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("image_class_labels.txt", "\n12 3\n", "\n", "images.txt:12: the id '12' is not in"),
        ("images.txt", "3 001", "2 001", "images.txt:3: the id '2' is also that of line 2"),
        ("train_test_split.txt", "\n5 1", "\n5", "train_test_split.txt:5: '5' has nothing behind its id"),
    ],
)
def test_joined_files_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, old: str, new: str, said: str
) -> None:
    files, _ = cub()
    text = files[name]
    assert isinstance(text, str) and old in text
    root = put(tmp_path / "d", files | {name: text.replace(old, new, 1)})
    lists = {"all": "images.txt", "labels": "image_class_labels.txt", "split": "train_test_split.txt"}
    assert said in refused(root, tmp_path / "o", format="joined", lists=lists)


def test_classes_of_one_name_stay_apart(tmp_path: Path) -> None:
    files, names = cub()
    files["classes.txt"] = lines(["0 birds", "1 crow", "2 crow", "3 owl"])
    found = read(tmp_path, files)
    assert found["train"][f"images/{names[0]}"] == "crow (1)"
    assert set(found["test"].values()) == {"crow (1)", "crow (2)", "owl"}
    assert "'crow'" in told(tmp_path / "out")


def test_two_tables_with_names_of_columns_are_joined(tmp_path: Path) -> None:
    files: Files = {
        "images.csv": lines(["image_id,file_name", *(f"{n},im/{n}.jpg" for n in range(9))]),
        "labels.csv": lines(["image_id,label", *(f"{n},{WORDS[n % 3]}" for n in reversed(range(9)))]),
    }
    found = read(tmp_path, files | images([f"im/{n}.jpg" for n in range(9)]))
    assert found["train"] == {f"im/{n}.jpg": WORDS[n % 3] for n in range(9)}


def test_labels_and_splits_by_the_names_of_images(tmp_path: Path) -> None:
    names = [f"{n:06d}.jpg" for n in range(1, 13)]
    files: Files = {
        "identity_CelebA.txt": lines([f"{name} {n % 3 + 10}" for n, name in enumerate(names)]),
        "list_eval_partition.txt": lines(
            [f"{name} {0 if n < 9 else n // 10 + 1}" for n, name in enumerate(names)]
        ),
    }
    found = read(tmp_path, files | images([f"img_align_celeba/{name}" for name in names]))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 9, "val": 1, "test": 2}
    assert found["train"]["img_align_celeba/000002.jpg"] == "11"


# ---- lists of names, one a split


def food() -> tuple[Files, Files]:
    names = [f"{word}/{n}" for word in WORDS for n in range(6)]
    lists: Files = {
        "meta/train.txt": lines([name for name in names if name[-1] < "4"]),
        "meta/test.txt": lines([name for name in names if name[-1] >= "4"]),
        "meta/classes.txt": lines(WORDS),
        "README.txt": "text",
    }
    return lists, images([f"images/{name}.jpg" for name in names])


def sun() -> tuple[Files, Files]:
    names = [f"{word[0]}/{word}/sun_{n}.jpg" for word in WORDS for n in range(4)]
    lists: Files = {}
    for number in (1, 2):
        lists[f"Partitions/Training_{number:02d}.txt"] = lines(
            [f"/{name}" for name in names if name[-5] < "2"]
        )
        lists[f"Partitions/Testing_{number:02d}.txt"] = lines(
            [f"/{name}" for name in names if name[-5] >= "2"]
        )
    return lists, images([f"SUN397/{name}" for name in names])


def pets() -> tuple[Files, Files]:
    names = [
        (f"{word}_{n}", place + 1) for place, word in enumerate(["Fox", "bull_dog", "Cat"]) for n in range(6)
    ]
    lists: Files = {
        "annotations/trainval.txt": lines(
            [f"{name} {number} 1 2" for name, number in names if name[-1] < "4"]
        ),
        "annotations/test.txt": lines([f"{name} {number} 1 2" for name, number in names if name[-1] >= "4"]),
        "annotations/list.txt": "#Image CLASS-ID\n"
        + lines([f"{name} {number} 1 2" for name, number in names]),
    }
    masks = images([f"annotations/trimaps/{name}.png" for name, _ in names])
    return lists, images([f"images/{name}.jpg" for name, _ in names]) | masks


def aircraft() -> tuple[Files, Files]:
    lists: Files = {}
    names = []
    for place, split in enumerate(("train", "val", "test")):
        own = [f"{place}{n:05d}" for n in range(8)]
        names += own
        lists[f"data/images_variant_{split}.txt"] = lines(
            [f"{name} F-{n % 4} A/B" for n, name in enumerate(own)]
        )
        lists[f"data/images_family_{split}.txt"] = lines([f"{name} F {n % 2}" for n, name in enumerate(own)])
        lists[f"data/images_{split}.txt"] = lines(own)
    return lists, images([f"data/images/{name}.jpg" for name in names])


def places() -> tuple[Files, Files]:
    train = [(f"/{word[0]}/{word}/{n}.jpg", place) for place, word in enumerate(WORDS) for n in range(3)]
    lists: Files = {
        "places365_train_standard.txt": lines([f"{name} {label}" for name, label in train]),
        "places365_val.txt": lines([f"Places365_val_{n}.jpg {n % 3}" for n in range(6)]),
        "places365_test.txt": lines(["Places365_test_0.jpg"]),
    }
    names = [f"data_256{name}" for name, _ in train] + [f"val_256/Places365_val_{n}.jpg" for n in range(6)]
    return lists, images([*names, "test_256/Places365_test_0.jpg"])


@pytest.mark.parametrize(
    ("made", "counts", "one", "label"),
    [
        (food, (12, 0, 6), "images/cat/0.jpg", "cat"),
        (sun, (6, 0, 6), "SUN397/c/cat/sun_1.jpg", "c/cat"),
        (pets, (12, 0, 6), "images/bull_dog_0.jpg", "bull_dog"),
        (aircraft, (8, 8, 8), "data/images/000003.jpg", "F-3 A/B"),
        (places, (9, 6, 1), "data_256/d/dog/0.jpg", "d/dog"),
    ],
)
def test_lists_of_names_for_each_split(
    tmp_path: Path, made: Callable[[], tuple[Files, Files]], counts: tuple[int, ...], one: str, label: str
) -> None:
    lists, pictures = made()
    found = read(tmp_path, lists | pictures)
    assert tuple(len(found[split]) for split in ("train", "val", "test")) == counts
    assert found["train"][one] == label
    assert "read as splitlists" in told(tmp_path / "out")


def test_numbers_named_by_training_name_validation_as_well(tmp_path: Path) -> None:
    lists, pictures = places()
    found = read(tmp_path, lists | pictures)
    assert found["val"]["val_256/Places365_val_4.jpg"] == "d/dog"
    assert found["test"] == {"test_256/Places365_test_0.jpg": ""}


def test_another_set_of_lists_is_named_and_can_be_taken(tmp_path: Path) -> None:
    lists, pictures = sun()
    read(tmp_path, lists | pictures)
    assert "Partitions/Training_02.txt" in told(tmp_path / "out")
    lists["Partitions/Training_02.txt"] = lists["Partitions/Testing_01.txt"]
    other = {"train": "Partitions/Training_02.txt", "test": "Partitions/Training_01.txt"}
    found = read(tmp_path / "2", lists | pictures, format="splitlists", lists=other)
    assert "SUN397/c/cat/sun_1.jpg" in found["test"]
    put(tmp_path / "d", {"Partitions/other.txt": "a\nb\nc\n"})
    for name, why in (("none", "there is no file"), ("other", "names no images")):
        lists = {"train": f"Partitions/{name}.txt"}
        assert why in refused(tmp_path / "d", tmp_path / "o", format="splitlists", lists=lists)


def test_lists_of_a_part_of_folders_of_splits_are_left_alone(tmp_path: Path) -> None:
    names = [f"{split}/{word}/{n}.jpg" for split in ("train", "val") for word in WORDS for n in range(4)]
    few = [name for name in names if name[:5] == "train" and "0" in name]
    files: Files = {"splits/train_few.txt": lines(few)} | dict.fromkeys(names, b"\xff\xd8\xff\xe0")
    found = read(tmp_path, files)
    assert len(found["train"]) == len(found["val"]) == 12
    lists = {"train": "splits/train_few.txt"}
    found = read(tmp_path / "2", files, format="splitlists", lists=lists)
    assert found["train"] == {f"train/{word}/0.jpg": word for word in WORDS}


def test_bare_names_in_deep_folders_are_found(tmp_path: Path) -> None:
    rows = [f"{n:04x},{WORDS[n % 3]}" for n in range(9)]
    names = [f"train/{n}/a/b/{n:04x}.jpg" for n in range(9)]
    found = read(tmp_path, {"train.csv": lines(["id,label", *rows])} | images(names))
    assert found["train"] == {name: WORDS[n % 3] for n, name in enumerate(names)}


def test_lists_of_one_class_each_are_no_split(tmp_path: Path) -> None:
    files: Files = {f"Annotations/{n}.xml": "<annotation/>" for n in range(6)}
    files |= {"ImageSets/Main/train.txt": lines([str(n) for n in range(6)])}
    files |= {
        f"ImageSets/Main/{w}_train.txt": lines([f"{n} {1 - 2 * (n % 2)}" for n in range(6)]) for w in WORDS
    }
    root = put(tmp_path / "d", files | images([f"JPEGImages/{n}.jpg" for n in range(6)]))
    assert "XML file for each image (Pascal VOC: boxes) are not read: write a list" in refused(
        root, tmp_path / "o"
    )


# ---- exports


def manifest() -> tuple[str, str]:
    rows = [
        {"source-ref": f"s3://b/images/{n}.jpg", "job": n % 3,
         "job-metadata": {"class-name": WORDS[n % 3], "type": "groundtruth/image-classification"}}
        for n in range(9)
    ]  # fmt: skip
    return "output.manifest", lines([json.dumps(row) for row in rows])


def vertex() -> tuple[str, str]:
    rows = [
        {"imageGcsUri": f"gs://b/images/{n}.jpg", "classificationAnnotation": {"displayName": WORDS[n % 3]},
         "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"}}
        for n in range(9)
    ]  # fmt: skip
    return "import.jsonl", lines([json.dumps(row) for row in rows])


def automl(word: str) -> Callable[[], tuple[str, str]]:
    rows = [f"{word}gs://b/images/{n}.jpg,{WORDS[n % 3]}" for n in range(9)]
    return lambda: ("import.csv", lines(rows))


def via() -> tuple[str, str]:
    of = {
        f"{n}.jpg9": {"filename": f"{n}.jpg", "size": 9, "file_attributes": {"class": WORDS[n % 3]}}
        for n in range(9)
    }
    return "via.json", json.dumps(of)


def cleanlab() -> tuple[str, str]:
    rows = [f"{n}.jpg,{WORDS[n % 3]},False,0.9,{WORDS[n % 3]}" for n in range(9)]
    return "issues.csv", lines(["image,given_label,is_label_issue,label_score,predicted_label", *rows])


@pytest.mark.parametrize(
    "made", [manifest, vertex, automl(""), automl("TRAIN,"), automl("UNASSIGNED,"), via, cleanlab]
)
def test_exports_are_read(tmp_path: Path, made: Callable[[], tuple[str, str]]) -> None:
    name, text = made()
    found = read(tmp_path, {name: text} | images([f"images/{n}.jpg" for n in range(9)]))
    assert found["train"] == {f"images/{n}.jpg": WORDS[n % 3] for n in range(9)}


def test_addresses_without_files_are_refused(tmp_path: Path) -> None:
    name, text = automl("")()
    root = put(tmp_path / "d", {name: text.replace("images/", "elsewhere/x"), "images/a.jpg": PIXEL})
    assert "is an address of the web" in refused(root, tmp_path / "o", format="csv", lists={"all": name})


def test_images_in_numbered_parts_are_found_by_their_names(tmp_path: Path) -> None:
    rows = [f"H{n},I{n},{WORDS[n % 3]}" for n in range(9)]
    files: Files = {"HAM10000_metadata.csv": lines(["lesion_id,image_id,dx", *rows])}
    found = read(tmp_path, files | images([f"HAM10000_images_part_{n % 2 + 1}/I{n}.jpg" for n in range(9)]))
    assert found["train"] == {f"HAM10000_images_part_{n % 2 + 1}/I{n}.jpg": WORDS[n % 3] for n in range(9)}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({f"{n}.json": "{}" for n in range(9)}, "JSON file for each image (LabelMe, Supervisely)"),
        ({"annotations.xml": "<annotations/>"}, "annotations.xml (CVAT"),
        ({"imagelabels.mat": MAT, "setid.mat": MAT}, "MATLAB's .mat files"),
        ({f"{n}.txt": "0 0.5 0.5 0.1 0.1\n" for n in range(9)}, "text file for each image (YOLO"),
    ],
)
def test_labels_that_are_not_read_are_named_with_what_to_write(
    tmp_path: Path, files: Files, said: str
) -> None:
    root = put(tmp_path / "d", files | images([f"{n}.jpg" for n in range(9)]))
    text = refused(root, tmp_path / "o")
    assert said in text and "write a list, images.csv" in text


@pytest.mark.parametrize(
    "name",
    ["MNIST/raw/train-images-idx3-ubyte", "stl10_binary/train_X.bin", "train_32x32.mat", "a/x.tfrecord"],
)
def test_files_of_images_that_are_not_read_are_named(tmp_path: Path, name: str) -> None:
    text = refused(put(tmp_path / "d", {name: b"\0\1\2" * 50}), tmp_path / "o")
    assert name in text and "write the images as PNG" in text


def test_images_of_a_kind_that_is_not_read_are_named(tmp_path: Path) -> None:
    tiff = b"II*\0\x08\0\0\0" + b"\0" * 64
    rows = [f"{n},{WORDS[n % 3]}" for n in range(9)]
    pictures = {f"train/{n}.tif": tiff for n in range(9)}
    root = put(tmp_path / "d", {"train_labels.csv": lines(["id,label", *rows]), **pictures})
    assert "the listed files are TIFF, which is not read" in refused(root, tmp_path / "o")
    deep = put(tmp_path / "e", {f"UCMerced/Images/{word}/1.tif": tiff for word in WORDS})
    assert "TIFF is not read" in refused(deep, tmp_path / "o")
