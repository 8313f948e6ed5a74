"""Exports of labelling tools and data sets on disk: read as they are, or refused by name."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers import jsons, unpack
from smelt.data.formats.tree import finder
from smelt.data.formats.tree.fingerprint import fingerprint
from smelt.data.formats.tree.layout import recognise
from smelt.errors import DataError, SmeltError
from smelt.files.atomic import read_json
from smelt.stages.index import index

PIXEL = b"\xff\xd8\xff not decoded when indexed"
PETS = ["cat", "dog", "fox"]


def put(root: Path, files: dict[str, Any]) -> Path:
    """Files below `root`: bytes and text as they are, all else as JSON."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes | str):
            content = json.dumps(content)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def pictures(*names: str) -> dict[str, Any]:
    return {name: PIXEL + name.encode() for name in names}


def indexed(root: Path, **fields: Any) -> tuple[Catalogue, dict[str, Any]]:
    """(catalogue, index.json) with the format left out, so that it has to be recognised."""
    out = root.parent / f"{root.name}-out"
    index(FormatSettings.model_validate(fields), root, out)
    return Catalogue.open(out / "catalogue"), read_json(out / "index.json")


def labels(c: Catalogue, split: str) -> dict[str, str]:
    """Path → name of the class, "" where there is none."""
    rows = c.rows(split).tolist()
    return {c.path(row): c.classes[c.labels_N[row]] if c.labels_N[row] >= 0 else "" for row in rows}


def said(summary: dict[str, Any]) -> str:
    return " | ".join([*summary["notes"], *summary["warnings"]])


# ---- JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "it is empty"),
        (b" " * 3_000_000, "it is empty"),
        (b"[" * 3_000_000, r"\[0\]: it is nested too deep"),
        (b'{"a": [' + b'{"b":' * 100_000, r'\["a"\]: it is nested too deep'),
        (b"[1" + b"0" * 5000 + b"]", "5,001 digits"),
        (b'["' + b"a" * 20_000_000, "more than 8,388,608 bytes"),
        (b'[{"a": 1},\n{"a": 2, "a": 3}]', r":2: \[1\]: the key 'a' is there twice"),
        (b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (b'{"images": [{"id": 1}, {"id": ', r"images\[1\]: no JSON: the file ends: it was cut short"),
        (b'[{"a" 1}]', "Expecting ':'"),
        (b"[1,]", r"\[1\]: no JSON"),
        (b"{a: 1}", "a key in quotes"),
        (b'{"a": 1}\n{"a": 2}', ":2: more text after the end"),
        (b'"abc"', "neither a list nor an object"),
        (bytes(range(256)), "neither a list nor an object"),
    ],
)
def test_json_that_is_none_is_refused_by_name(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(DataError, match=message) as caught:
        list(jsons.walk(tmp_path / "x.json", ("images",)))
    assert "x.json" in str(caught.value) and len(str(caught.value)) < 500


def test_json_comes_as_python_reads_it_in_any_encoding_and_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(0)
    pick: Callable[[], Any] = lambda: rng.choice(  # noqa: E731
        [1, -2.5e-3, 'é\\"\n', None, True, [], {}, [1, [2, {"a": "}{"}]], {"k": "v" * rng.randrange(40)}]
    )
    for size in (1, 2, 7, 1 << 20):
        monkeypatch.setattr(jsons, "PIECE", size)
        value = {
            "images": [pick() for _ in range(20)],
            "x": pick(),
            "of": {f"k{i}": pick() for i in range(9)},
        }
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            text = json.dumps(value, ensure_ascii=False, indent=rng.choice([None, 2]))
            (tmp_path / "x.json").write_bytes(text.encode(encoding))
            found = list(jsons.walk(tmp_path / "x.json", ("images", "of")))
            assert found[0] == ("", "images", [])
            assert [v for at, _, v in found if at == "images"] == value["images"]
            assert {k: v for at, k, v in found if at == "of"} == value["of"]
            assert ("", "x", value["x"]) in found


def test_json_waits_for_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(DataError, match="a pipe or a device"):
        jsons.load(tmp_path / "x.json")


# ---- COCO


def coco(
    names: list[str], of: dict[int, list[int]], categories: dict[int, str] | None = None
) -> dict[str, Any]:
    """COCO annotations: images 10, 11, … with categories each; ids have gaps, supercategories are there."""
    categories = categories or {3: "cat", 18: "dog", 90: "fox"}
    images = [{"id": 10 + at, "file_name": name, "width": 4, "height": 4} for at, name in enumerate(names)]
    pairs = [(10 + at, category) for at, found in of.items() for category in found]
    return {
        "info": {"year": 2026},
        "images": images,
        "annotations": [
            {"id": at, "image_id": image, "category_id": category, "bbox": [0, 0, 2, 2], "area": 4,
             "segmentation": [[0, 0, 2, 0, 2, 2]], "iscrowd": 0}
            for at, (image, category) in enumerate(pairs)
        ],
        "categories": [{"id": at, "name": it, "supercategory": "animal"} for at, it in categories.items()],
    }  # fmt: skip


def test_coco_2017_with_folders_beside_the_annotations(tmp_path: Path) -> None:
    root = put(tmp_path / "coco", {
        "annotations/instances_train2017.json":
            coco(["a.jpg", "b.jpg", "c.jpg"], {0: [3, 3], 1: [18], 2: [18]}),
        "annotations/instances_val2017.json": coco(["a.jpg", "v.jpg"], {0: [18], 1: [3]}),
        "annotations/captions_train2017.json": coco(["a.jpg"], {}),
        "annotations/image_info_test2017.json": coco(["t.jpg"], {}),
        **pictures("train2017/a.jpg", "train2017/b.jpg", "train2017/c.jpg", "val2017/a.jpg", "val2017/v.jpg"),
    })  # fmt: skip
    c, summary = indexed(root)
    assert summary["format"] == "coco"
    assert labels(c, "train") == {
        "train2017/a.jpg": "cat",
        "train2017/b.jpg": "dog",
        "train2017/c.jpg": "dog",
    }
    assert labels(c, "val") == {"val2017/a.jpg": "dog", "val2017/v.jpg": "cat"}
    assert list(c.classes) == ["cat", "dog", "fox"] and list(c.class_ids) == ["3", "18", "90"]
    assert "1 classes have no training image: 2 (fox)" in said(summary)
    assert summary["missing"]["count"] == 0


def test_coco_of_roboflow_with_its_placeholder_category(tmp_path: Path) -> None:
    categories = {0: "animal", 1: "cat", 2: "dog"}
    made = {
        f"{split}/_annotations.coco.json": coco([f"{split}{i}.jpg" for i in range(4)],
                                                {i: [1 + i % 2] for i in range(4)}, categories)
        for split in ("train", "valid", "test")
    }  # fmt: skip
    files = [f"{split}/{split}{i}.jpg" for split in ("train", "valid", "test") for i in range(4)]
    c, summary = indexed(put(tmp_path / "rf", made | pictures(*files)))
    assert list(c.classes) == ["cat", "dog"] and "'animal' is only what others lie under" in said(summary)
    assert labels(c, "val")["valid/valid1.jpg"] == "dog" and len(labels(c, "test")) == 4


@pytest.mark.parametrize("rule", ["refuse", "first", "split"])
def test_coco_with_several_categories_an_image(tmp_path: Path, rule: str) -> None:
    made = coco(["a.jpg", "b.jpg", "c.jpg"], {0: [18, 3, 18], 1: [3], 2: [18]})
    root = put(
        tmp_path / "c", {"train.json": made, **pictures("images/a.jpg", "images/b.jpg", "images/c.jpg")}
    )
    fields = {"multi_label": rule, "val_fraction": 0}
    if rule == "refuse":
        with pytest.raises(DataError, match="multi_label"):
            indexed(root, **fields)
        return
    c, _ = indexed(root, **fields)
    found = sorted((c.path(row), c.classes[c.labels_N[row]]) for row in c.rows("train").tolist())
    more = [("images/a.jpg", "cat")] if rule == "split" else []
    assert found == sorted([("images/a.jpg", "dog"), *more, ("images/b.jpg", "cat"), ("images/c.jpg", "dog")])


def test_coco_without_annotations_of_some_images_and_with_those_of_none(tmp_path: Path) -> None:
    made = coco(["x/a.jpg", "x/b.jpg", "y/c.jpg"], {0: [3], 1: [18], 7: [3]})
    root = put(tmp_path / "c", {"data.json": made, **pictures("x/a.jpg", "x/b.jpg", "y/c.jpg")})
    c, summary = indexed(root, val_fraction=0)
    assert labels(c, "train") == {"x/a.jpg": "cat", "x/b.jpg": "dog"}
    assert "annotations of 1 images that it does not list" in said(summary) and "annotations[2]" in said(
        summary
    )
    c, _ = indexed(root, val_fraction=0, unlabelled="keep")
    assert labels(c, "train")["y/c.jpg"] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][1].update(id=10), r"images\[1\]: the id 10 is also that of images\[0\]"),
        (lambda c: c["images"][1].update(id=float("nan")), r"images\[1\]: `id` is the number nan"),
        (lambda c: c["images"][0].update(file_name=None), r"images\[0\]: `file_name` is null"),
        (lambda c: c["images"][0].update(file_name="../../etc/passwd"), "leads out of its folder"),
        (lambda c: c["annotations"][1].update(category_id=77), r"annotations\[1\]: there is no category 77"),
        (lambda c: c["annotations"][0].update(image_id=[1]), r"annotations\[0\]: `image_id` is a list"),
        (
            lambda c: c["categories"].append({"id": 3, "name": "eel"}),
            r"categories\[3\]: the id 3 is also that of",
        ),
        (lambda c: c.update(images={}), "`images` is an object, not a list"),
        (lambda c: c.pop("categories"), "no categories"),
    ],
)
def test_coco_that_is_wrong_is_refused_with_the_place(
    tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    made = coco(["a.jpg", "b.jpg"], {0: [3], 1: [18]})
    change(made)
    root = put(tmp_path / "c", {"train.json": made, **pictures("a.jpg", "b.jpg")})
    with pytest.raises(DataError, match=message):
        indexed(root, format="coco")


def test_what_is_wrong_a_thousand_times_ends_the_reading(tmp_path: Path) -> None:
    made = coco(["a.jpg", "b.jpg"], {0: [3], 1: [18]})
    text = json.dumps(made).replace('"annotations": [', '"annotations": [' + "{}," * 3_000_000)
    root = put(tmp_path / "c", {"train.json": text, **pictures("a.jpg", "b.jpg")})
    with pytest.raises(DataError, match=r"annotations\[0\]: `image_id` is null") as caught:
        indexed(root)
    assert "and 990 more" in str(caught.value)
    with pytest.raises(DataError, match=r"a list of more than 1,000 values"):
        indexed(root, format="csv", lists={"all": "train.json"})


# ---- FiftyOne


def test_fiftyone_classification_dataset(tmp_path: Path) -> None:
    root = put(tmp_path / "f", {
        "labels.json": {"classes": PETS, "labels": {"a": 0, "b": 1, "sub/c": "cat", "d": None, "e": 1}},
        **pictures("data/a.jpg", "data/b.png", "data/sub/c.jpg", "data/d.jpg", "data/e.webp"),
    })  # fmt: skip
    c, summary = indexed(root, val_fraction=0)
    assert summary["format"] == "fiftyone" and list(c.classes) == PETS
    assert labels(c, "train") == {
        "data/a.jpg": "cat", "data/b.png": "dog", "data/sub/c.jpg": "cat", "data/e.webp": "dog"
    }  # fmt: skip


def test_fiftyone_splits_in_folders_and_names_as_labels(tmp_path: Path) -> None:
    made = {
        f"{split}/labels.json": {
            "classes": None,
            "labels": {"a": "cat", "b": {"label": "dog", "confidence": 1}},
        }
        for split in ("train", "validation")
    }
    files = [f"{split}/data/{name}.jpg" for split in ("train", "validation") for name in "ab"]
    c, _ = indexed(put(tmp_path / "f", made | pictures(*files)))
    assert labels(c, "val") == {"validation/data/a.jpg": "cat", "validation/data/b.jpg": "dog"}


def samples(**more: Any) -> dict[str, Any]:
    tags = [["train"], ["train", "odd"], ["validation"], []]
    return {
        "samples": [
            {"filepath": f"/home/someone/set/data/{i}.jpg", "tags": tags[i],
             "ground_truth": {"_cls": "Classification", "label": PETS[i % 2]},
             **{name: made(i) for name, made in more.items()}}
            for i in range(4)
        ]
    }  # fmt: skip


def test_fiftyone_dataset_with_splits_in_tags_and_paths_of_another_machine(tmp_path: Path) -> None:
    root = put(tmp_path / "f", {
        "samples.json": samples(predictions=lambda i: {"label": "fox", "confidence": 0.5}),
        "metadata.json": {"classes": {"ground_truth": ["dog", "cat", "fox"]}, "default_classes": []},
        **pictures(*(f"data/{i}.jpg" for i in range(4))),
    })  # fmt: skip
    c, summary = indexed(root)
    assert list(c.classes) == ["dog", "cat", "fox"]
    assert labels(c, "train") == {"data/0.jpg": "cat", "data/1.jpg": "dog", "data/3.jpg": "dog"}
    assert labels(c, "val") == {"data/2.jpg": "cat"}
    assert "4 images of" in said(summary) and "by the end of its path" in said(summary)


def test_fiftyone_with_two_fields_of_labels_asks_which(tmp_path: Path) -> None:
    made = samples(weather=lambda i: {"classifications": [{"label": "sun"}, {"label": "rain"}][: 1 + i % 2]})
    for sample in made["samples"]:
        sample["breed"] = sample.pop("ground_truth")
    root = put(tmp_path / "f", {"samples.json": made, **pictures(*(f"data/{i}.jpg" for i in range(4)))})
    with pytest.raises(DataError, match=r"breed \(4\), weather \(4\).*data.columns.label=breed"):
        indexed(root)
    c, _ = indexed(root, columns={"label": "breed"})
    assert list(c.classes) == ["cat", "dog"]
    c, _ = indexed(root, columns={"label": "weather"}, multi_label="first")
    assert set(labels(c, "train").values()) == {"sun"}
    with pytest.raises(DataError, match=r"no sample has a field 'colour'.*breed, weather"):
        indexed(root, columns={"label": "colour"})


# ---- Label Studio


def task(number: int, image: str, *annotations: Any, key: str = "image") -> dict[str, Any]:
    """A task; an annotation is a list of choices, or (choices, what it is marked with)."""
    made = []
    for annotation in annotations:
        chosen, marks = annotation if isinstance(annotation, tuple) else (annotation, {})
        result = {
            "id": "x",
            "from_name": "pet",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": chosen},
        }
        made.append({"id": 1, "completed_by": 1, "result": [result], "was_cancelled": False,
                     "ground_truth": False, "lead_time": 1.5, **marks})  # fmt: skip
    return {"id": number, "annotations": made, "data": {key: image}, "predictions": []}


def test_label_studio_json_with_annotators_who_disagree_and_every_kind_of_url(tmp_path: Path) -> None:
    root = put(tmp_path / "l", {
        "project-1-at-2026.json": [
            task(1, "/data/upload/1/1a2b3c4d-one.jpg", ["cat"]),
            task(2, "/data/local-files/?d=pics/my%20two.jpg", ["dog"]),
            task(3, "http://host:8080/some/where/three.jpg?sig=1", ["dog"], ["cat"], ["cat"]),
            task(4, "s3://bucket/pics/four.jpg", ["dog"], (["cat"], {"was_cancelled": True})),
            task(5, "five.jpg", ["cat"], (["dog"], {"ground_truth": True}), ["cat"]),
            task(6, "six.jpg", ["cat"], ["dog"]),
            task(7, "seven.jpg"),
        ],
        **pictures("one.jpg", "pics/my two.jpg", "where/three.jpg", "pics/four.jpg", "five.jpg", "six.jpg",
                   "seven.jpg", "pics/unlisted.jpg"),
    })  # fmt: skip
    c, summary = indexed(root, val_fraction=0)
    assert summary["format"] == "labelstudio" and summary["missing"]["count"] == 0
    assert labels(c, "train") == {
        "one.jpg": "cat", "pics/my two.jpg": "dog", "where/three.jpg": "cat", "pics/four.jpg": "dog",
        "five.jpg": "dog", "six.jpg": "cat",
    }  # fmt: skip
    assert "annotators of 2 images disagree" in said(summary) and "of 1 of them, the first" in said(summary)


def test_label_studio_json_min_and_csv_say_the_same(tmp_path: Path) -> None:
    rows = [
        {"image": f"/data/upload/3/0a1b2c3d-{i}.jpg", "id": i, "choice": PETS[i % 2], "annotator": 1,
         "annotation_id": i, "created_at": "2026", "updated_at": "2026", "lead_time": 1.0}
        for i in range(5)
    ]  # fmt: skip
    rows += [rows[0] | {"choice": {"choices": ["cat", "dog"]}}, rows[0]]
    cells = [
        [json.dumps(v).replace('"', '""') if isinstance(v, dict) else v for v in row.values()] for row in rows
    ]
    found = []
    for name, sep in (("min.json", ""), ("x.csv", ","), ("x.tsv", "\t")):
        lines = [sep.join(rows[0]), *(sep.join(f'"{cell}"' for cell in row) for row in cells)]
        files = {name: "\n".join(lines) if sep else rows, **pictures(*(f"{i}.jpg" for i in range(5)))}
        c, summary = indexed(put(tmp_path / name.replace(".", "-"), files), val_fraction=0)
        assert summary["format"] == "labelstudio"
        found.append(labels(c, "train"))
    assert found[0] == {f"{i}.jpg": PETS[i % 2] for i in range(5)} and found[0] == found[1] == found[2]


def test_label_studio_asks_which_question_and_which_field(tmp_path: Path) -> None:
    made = [task(1, "a.jpg", ["cat"]), task(2, "b.jpg", ["dog"])]
    for one in made:
        one["annotations"][0]["result"].append(
            {"from_name": "light", "to_name": "image", "type": "choices", "value": {"choices": ["day"]}}
        )
    root = put(tmp_path / "l", {"x.json": made, **pictures("a.jpg", "b.jpg")})
    with pytest.raises(DataError, match=r"2 questions are answered: light, pet.*data.columns.label=light"):
        indexed(root)
    assert list(indexed(root, columns={"label": "pet"}, val_fraction=0)[0].classes) == ["cat", "dog"]
    made = [task(1, "a.jpg", ["cat"], key="left")]
    made[0]["data"]["right"] = "b.jpg"
    with pytest.raises(DataError, match=r"\[0\]: data: which of left .*right .* is the image"):
        indexed(put(root, {"x.json": made}))


def test_label_studio_names_what_could_be_several_files_and_what_is_one(tmp_path: Path) -> None:
    made = [task(1, "http://h/1/a.jpg", ["cat"]), task(2, "http://h/2/b.jpg", ["dog"])]
    root = put(tmp_path / "l", {"x.json": made, **pictures("p/a.jpg", "q/a.jpg", "b.jpg")})
    with pytest.raises(DataError, match=r"\[0\]: .*could be any of p/a.jpg, q/a.jpg"):
        indexed(root)
    made = [task(1, "http://h/1/b.jpg", ["cat"]), task(2, "http://h/2/b.jpg", ["dog"])]
    root = put(tmp_path / "m", {"x.json": made, **pictures("b.jpg")})
    with pytest.raises(DataError, match=r"\[1\]: .*2/b.jpg' can only be 'b.jpg', and so can .*1/b.jpg"):
        indexed(root)
    root = put(
        tmp_path / "n", {"x.json": [task(1, "data:image/png;base64,AAAA", ["cat"])], **pictures("b.jpg")}
    )
    with pytest.raises(DataError, match="holds the image itself"):
        indexed(root)


def test_paths_longer_than_any_are_refused_and_not_looked_for(tmp_path: Path) -> None:
    name = "a/" * 3_000_000 + "b.jpg"
    root = put(
        tmp_path / "l", {"x.json": [task(1, name, ["cat"]), task(2, "b.jpg", ["dog"])], "b.jpg": PIXEL}
    )
    with pytest.raises(DataError, match="has 6,000,005 bytes"):
        indexed(root)


def test_no_image_of_an_export_is_there(tmp_path: Path) -> None:
    root = put(tmp_path / "l", {"x.json": [task(1, "s3://b/one.jpg", ["cat"])], **pictures("b.jpg")})
    with pytest.raises(
        DataError, match=r"not one of its 1 images.*'s3://b/one.jpg', was looked for as 'one.jpg'"
    ):
        indexed(root)


# ---- ImageNet

SYNSETS = ["n01440764", "n02119789", "n03126707", "n02012849"]
WORDS = ["tench, Tinca tinca", "kit fox, Vulpes macrotis", "crane", "crane"]


def synset_folders(top: str, flat_val: bool = True) -> dict[str, Any]:
    train = [f"{top}train/{name}/{name}_{i}.JPEG" for name in SYNSETS for i in range(2)]
    val = [f"{top}val/ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(4)]
    if not flat_val:
        val = [f"{top}val/{name}/ILSVRC2012_val_{i + 1:08d}.JPEG" for i, name in enumerate(SYNSETS)]
    return pictures(*train, *val)


def val_synsets(c: Catalogue) -> list[str]:
    return [c.class_ids[c.labels_N[row]] for row in c.rows("val").tolist()]


def test_imagenet_as_kaggle_has_it(tmp_path: Path) -> None:
    solution = "".join(f"ILSVRC2012_val_{i + 1:08d},{s} 1 2 3 4 {s} 5 6 7 8\n" for i, s in enumerate(SYNSETS))
    root = put(tmp_path / "i", {
        "LOC_val_solution.csv": "ImageId,PredictionString\n" + solution,
        "LOC_synset_mapping.txt": "".join(f"{s} {w}\n" for s, w in zip(SYNSETS, WORDS)),
        "ILSVRC/ImageSets/CLS-LOC/val.txt": "".join(f"ILSVRC2012_val_{i:08d} {i}\n" for i in range(1, 5)),
        "ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_00000001.JPEG": PIXEL,
        **synset_folders("ILSVRC/Data/CLS-LOC/"),
    })  # fmt: skip
    c, summary = indexed(root)
    assert summary["format"] == "imagenet" and val_synsets(c) == SYNSETS
    assert list(c.class_ids) == sorted(SYNSETS)
    assert list(c.classes) == [
        "tench, Tinca tinca",
        "crane (n02012849)",
        "kit fox, Vulpes macrotis",
        "crane (n03126707)",
    ]
    assert list(labels(c, "test").values()) == [""] and len(c.rows("train")) == 8


def test_imagenet_with_the_devkit_needs_its_numbers_explained(tmp_path: Path) -> None:
    truth = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    root = put(tmp_path / "i", {
        truth: "2\n1\n4\n3\n",
        "synset_words.txt": "".join(f"{s} {w}\n" for s, w in zip(SYNSETS, WORDS)),
        **synset_folders(""),
    })  # fmt: skip
    with pytest.raises(DataError, match=r"order of the devkit's meta.mat.*map_clsloc.txt"):
        indexed(root)
    numbered = "".join(
        f"{s} {i} {w.split(',')[0].replace(' ', '_')}\n" for i, (s, w) in enumerate(zip(SYNSETS, WORDS), 1)
    )
    put(root, {"ILSVRC2012_devkit_t12/data/map_clsloc.txt": numbered})
    assert val_synsets(indexed(root)[0]) == [SYNSETS[1], SYNSETS[0], SYNSETS[3], SYNSETS[2]]
    put(root, {truth: "2\n1\n9\n3\n"})
    with pytest.raises(DataError, match=r"ground_truth.txt:3: '9' names no synset"):
        indexed(root)


def test_imagenet_flat_without_any_list_and_sorted_with_one(tmp_path: Path) -> None:
    root = put(tmp_path / "i", synset_folders(""))
    with pytest.raises(DataError, match=r"4 images in no folder of a synset.*data.lists.val=FILE"):
        indexed(root)
    put(
        root,
        {"mine.txt": "".join(f"val/ILSVRC2012_val_{i + 1:08d}.JPEG {s}\n" for i, s in enumerate(SYNSETS))},
    )
    assert val_synsets(indexed(root, format="imagenet", lists={"val": "mine.txt"})[0]) == SYNSETS
    index_json = {str(i): [s, w.replace(" ", "_")] for i, (s, w) in enumerate(zip(SYNSETS, WORDS))}
    root = put(
        tmp_path / "j", {"imagenet_class_index.json": index_json, **synset_folders("", flat_val=False)}
    )
    c, _ = indexed(root)
    assert sorted(val_synsets(c)) == sorted(SYNSETS) and c.classes[0] == "tench, Tinca tinca"


def test_tiny_imagenet(tmp_path: Path) -> None:
    order = [SYNSETS[2], SYNSETS[0]]
    root = put(tmp_path / "t", {
        "wnids.txt": "\n".join(order),
        "words.txt": "".join(f"{s}\t{w}\n" for s, w in zip(SYNSETS, WORDS)),
        "val/val_annotations.txt": f"val_0.JPEG\t{SYNSETS[0]}\t0\t0\t9\nval_1.JPEG\t{SYNSETS[2]}\t0\t0\t9\n",
        **{f"train/{s}/{s}_boxes.txt": "x" for s in order},
        **pictures(*(f"train/{s}/images/{s}_{i}.JPEG" for s in order for i in range(3)),
                   "val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_0.JPEG"),
    })  # fmt: skip
    c, summary = indexed(root)
    assert summary["format"] == "imagenet" and list(c.class_ids) == order
    assert list(c.classes) == ["crane", "tench, Tinca tinca"] and val_synsets(c) == [SYNSETS[0], SYNSETS[2]]
    assert len(c.rows("train")) == 6 and list(labels(c, "test").values()) == [""]


# ---- Hugging Face


def hf_schema(label: str = "label", names: list[str] | None = PETS, image: str = "image") -> pa.Schema:
    features: dict[str, Any] = {image: {"_type": "Image"}}
    if names:
        features[label] = {"names": names, "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    fields = [(image, pa.struct([("bytes", pa.binary()), ("path", pa.string())])), (label, pa.int64())]
    return pa.schema(fields, metadata)


def hf_table(tags: list[str], numbers: list[int | None], schema: pa.Schema | None = None) -> pa.Table:
    schema = schema or hf_schema()
    images = [{"bytes": PIXEL + tag.encode(), "path": f"{tag}.jpg"} for tag in tags]
    return pa.table([pa.array(images, schema.field(0).type), pa.array(numbers, schema.field(1).type)], schema)


def parquet(path: Path, table: pa.Table, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **how)


def arrow(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=2):
            writer.write_batch(batch)


def pixels(c: Catalogue, row: int) -> bytes:
    place = c.location(row)
    assert place.shard is not None
    with open(c.folder / place.shard if hasattr(c, "folder") else place.shard, "rb") as file:
        return os.pread(file.fileno(), place.size, place.offset)


def test_hub_parquet_in_several_files(tmp_path: Path) -> None:
    root = tmp_path / "h"
    parquet(
        root / "data/train-00000-of-00002.parquet", hf_table(["a", "b", "c"], [0, 1, -1]), row_group_size=2
    )
    parquet(root / "data/train-00001-of-00002.parquet", hf_table(["d", "e"], [2, 1]))
    parquet(root / "data/validation-00000-of-00001.parquet", hf_table(["v", "w"], [0, 1]))
    c, summary = indexed(root)
    assert summary["format"] == "huggingface" and list(c.classes) == PETS
    first, second = "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"
    assert labels(c, "train") == {
        f"{first}/0": "cat",
        f"{first}/1": "dog",
        f"{second}/0": "fox",
        f"{second}/1": "dog",
    }
    assert summary["missing"]["count"] == 0 and "copied into the catalogue" in said(summary)
    tags = [
        pixels(c, row).removeprefix(PIXEL) for row in [*c.rows("train").tolist(), *c.rows("val").tolist()]
    ]
    assert tags == [b"a", b"b", b"d", b"e", b"v", b"w"]


def test_saved_to_disk(tmp_path: Path) -> None:
    root = tmp_path / "h"
    for split, tags in (("train", ["a", "b", "c", "d"]), ("test", ["t"])):
        plain = hf_schema(names=None)
        arrow(
            root / split / "data-00000-of-00001.arrow",
            hf_table(tags, [i % 2 for i in range(len(tags))], plain),
        )
        arrow(root / split / "cache-123.arrow", hf_table(["x"], [0]))
        features = {"image": {"_type": "Image"}, "label": {"names": PETS, "_type": "ClassLabel"}}
        put(root, {f"{split}/state.json": {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]},
                   f"{split}/dataset_info.json": {"features": features}})  # fmt: skip
    put(root, {"dataset_dict.json": {"splits": ["train", "test"]}})
    c, summary = indexed(root, val_fraction=0)
    assert summary["format"] == "huggingface" and list(c.classes) == PETS
    assert list(labels(c, "train").values()) == ["cat", "dog", "cat", "dog"] and len(labels(c, "test")) == 1
    (root / "train/data-00000-of-00001.arrow").rename(root / "train/data-00000-of-00002.arrow")
    with pytest.raises(
        DataError, match=r"state.json: it lists 'data-00000-of-00001.arrow', which is not there"
    ):
        indexed(root, val_fraction=0)


def test_columns_of_cifar_and_words_and_numbers_without_names(tmp_path: Path) -> None:
    schema = pa.schema([("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                        ("fine_label", pa.int64()), ("coarse_label", pa.int64())],
                       {"huggingface": json.dumps({"info": {"features": {
                           "fine_label": {"names": PETS, "_type": "ClassLabel"},
                           "coarse_label": {"names": ["x", "y"], "_type": "ClassLabel"}}}})})  # fmt: skip
    images = pa.array([{"bytes": PIXEL + b"%d" % i, "path": None} for i in range(4)], schema.field(0).type)
    parquet(tmp_path / "h/train.parquet", pa.table([images, [0, 1, 2, 0], [0, 1, 1, 0]], schema))
    c, summary = indexed(tmp_path / "h", val_fraction=0)
    assert list(c.classes) == PETS and "data.columns.label=coarse_label" in said(summary)
    assert list(indexed(tmp_path / "h", columns={"label": "coarse_label"}, val_fraction=0)[0].classes) == [
        "x",
        "y",
    ]
    with pytest.raises(
        DataError, match=r"'colour' \(data.columns.label\) is not there; there are 'img', 'fine_label'"
    ):
        indexed(tmp_path / "h", columns={"label": "colour"})
    raw = pa.table({"jpg": [PIXEL + b"%d" % i for i in range(4)], "class": ["cat", "dog", "", "cat"]})
    parquet(tmp_path / "w/train.parquet", raw)
    c, _ = indexed(tmp_path / "w", val_fraction=0)
    assert list(labels(c, "train").values()) == ["cat", "dog", "cat"]
    parquet(tmp_path / "n/train.parquet", hf_table(["a", "b"], [57, 9021], hf_schema(names=None)))
    assert list(indexed(tmp_path / "n", val_fraction=0)[0].classes) == ["57", "9021"]


def test_rows_that_hold_a_path_or_nothing(tmp_path: Path) -> None:
    schema = hf_schema()
    images = [{"bytes": None, "path": "pics/a.jpg"}, {"bytes": PIXEL, "path": "z.jpg"},
              {"bytes": None, "path": None}, None,
              {"bytes": b"", "path": "/far/away/pics/b.jpg"}]  # fmt: skip
    table = pa.table([pa.array(images, schema.field(0).type), pa.array([0, 1, 2, 0, 1])], schema)
    parquet(tmp_path / "h/data/train-00000-of-00001.parquet", table)
    put(tmp_path / "h", pictures("pics/a.jpg", "pics/b.jpg"))
    c, summary = indexed(tmp_path / "h", val_fraction=0)
    assert list(labels(c, "train")) == ["pics/a.jpg", "data/train-00000-of-00001.parquet/1", "pics/b.jpg"]
    assert c.location(0).shard is None and c.location(1).shard is not None
    assert summary["missing"]["count"] == 0


def test_a_parquet_list_of_paths_is_no_data_set_of_hugging_face(tmp_path: Path) -> None:
    parquet(tmp_path / "l/images.parquet", pa.table({"path": ["a.jpg", "b.jpg"], "label": ["cat", "dog"]}))
    put(tmp_path / "l", pictures("a.jpg", "b.jpg"))
    assert recognise(tmp_path / "l").format == "csv"
    with pytest.raises(DataError, match=r"no column of images.*data.format=csv"):
        indexed(tmp_path / "l", format="huggingface")


def test_two_configurations_are_asked_about(tmp_path: Path) -> None:
    for name in ("plain", "noisy"):
        parquet(tmp_path / f"h/{name}/train-00000-of-00001.parquet", hf_table(["a", "b"], [0, 1]))
    with pytest.raises(DataError, match=r"files for train in 2 folders: noisy, plain.*data.lists.train="):
        indexed(tmp_path / "h")
    c, _ = indexed(tmp_path / "h", format="huggingface", lists={"train": "plain/*.parquet"}, val_fraction=0)
    assert c.path(0) == "plain/train-00000-of-00001.parquet/0"


def test_labels_that_no_class_has_and_damaged_files_are_refused_with_the_row(tmp_path: Path) -> None:
    path = tmp_path / "h/data/train-00000-of-00001.parquet"
    parquet(path, hf_table(["a", "b", "c"], [0, 1, 7]))
    with pytest.raises(
        DataError, match=r"00001.parquet row 2: label is 7, and its ClassLabel has the 3 names 0..2"
    ):
        indexed(tmp_path / "h")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"00001\.parquet cannot be read"):
        indexed(tmp_path / "h")


def test_no_room_for_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "h/train.parquet", hf_table(["a", "b"], [0, 1]))
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(SmeltError, match=r"to be unpacked into .* only 10 bytes left .*make room"):
        indexed(tmp_path / "h")
    assert not list((tmp_path / "h-out").rglob("*.pack"))


def test_images_are_read_in_bounded_memory(tmp_path: Path) -> None:
    """A file of 200 MB in groups of 100 rows, as `datasets` writes images: a few groups are held at once."""
    rng = np.random.default_rng(0)
    schema = hf_schema()
    path = tmp_path / "h/train.parquet"
    path.parent.mkdir()
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for _ in range(2):
            images = [{"bytes": rng.bytes(100_000), "path": None} for _ in range(1000)]
            table = pa.table([pa.array(images, schema.field(0).type), pa.array([0, 1] * 500)], schema)
            writer.write_table(table, row_group_size=100)
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from smelt.data.formats.config import FormatSettings\nfrom smelt.stages.index import index\n"
        "import pyarrow.parquet\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "index(FormatSettings(), Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "h"), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 << 10, f"{int(done.stdout) >> 10} MiB"


def test_labels_in_lists_dictionaries_and_other_kinds_of_arrow(tmp_path: Path) -> None:
    several = {"names": PETS, "_type": "ClassLabel"}
    metadata = {
        "huggingface": json.dumps({"info": {"features": {"label": {"feature": several, "_type": "List"}}}})
    }
    table = pa.table({
        "image": pa.array([PIXEL + b"a", PIXEL + b"b", PIXEL + b"c"], pa.large_binary()),
        "label": pa.array([[0], [2, 1], [1]], pa.list_(pa.int64())),
    }).replace_schema_metadata(metadata)  # fmt: skip
    parquet(tmp_path / "h/train.parquet", table)
    with pytest.raises(
        DataError, match=r"1 rows have several labels, such as .*train.parquet row 1 \(fox, dog\)"
    ):
        indexed(tmp_path / "h")
    c, _ = indexed(tmp_path / "h", multi_label="first", val_fraction=0)
    assert list(labels(c, "train").values()) == ["cat", "fox", "dog"]
    words = pa.table({
        "image": pa.array([PIXEL + b"a", PIXEL + b"b"]),
        "species": pa.array(["cat", "dog"]).dictionary_encode(),
        "title": ["one", "two"],
    })  # fmt: skip
    (tmp_path / "f").mkdir()
    with pa.ipc.new_file(str(tmp_path / "f/train.arrow"), words.schema) as writer:
        writer.write_table(words)
    with pytest.raises(
        DataError, match=r"no column is the label for sure; there are 'image', 'species', 'title'"
    ):
        indexed(tmp_path / "f")
    c, _ = indexed(tmp_path / "f", columns={"label": "species"}, val_fraction=0)
    assert list(labels(c, "train").values()) == ["cat", "dog"]


# ---- All of them


def test_prefix_suffix_and_the_folder_of_the_list_are_as_one_says(tmp_path: Path) -> None:
    made = coco(["a", "b"], {0: [3], 1: [18]})
    root = put(
        tmp_path / "c", {"lists/train.json": made, **pictures("pics/a.jpg", "pics/b.jpg", "lists/a.png")}
    )
    with pytest.raises(DataError, match="not one of its 2 images"):
        indexed(root)
    c, _ = indexed(root, format="coco", prefix="pics/", suffix=".jpg", val_fraction=0)
    assert set(labels(c, "train")) == {"pics/a.jpg", "pics/b.jpg"}
    c, summary = indexed(root, format="coco", paths_from="list", suffix=".png", val_fraction=0)
    assert set(labels(c, "train")) == {"lists/a.png", "lists/b.png"} and summary["missing"]["count"] == 1
    c, _ = indexed(root, format="coco", prefix="pics/", suffix=".jpg", val_fraction=0, check_files=False)
    assert set(labels(c, "train")) == {"pics/a.jpg", "pics/b.jpg"}


def test_two_lists_for_one_split_and_lists_that_are_not_there(tmp_path: Path) -> None:
    made = coco(["a.jpg", "b.jpg"], {0: [3], 1: [18]})
    files = {"train_a.json": made, "train_b.json": made, **pictures("a.jpg", "b.jpg")}
    root = put(tmp_path / "c", files)
    with pytest.raises(DataError, match=r"2 lists for train: train_a.json, .*data.lists.train=train_a.json"):
        indexed(root)
    c, _ = indexed(root, format="coco", lists={"train": "train_b.json"}, val_fraction=0)
    assert len(c.rows("train")) == 2
    with pytest.raises(
        DataError, match=r"data.lists.train: there is no file .*nope.json; there is train_a.json"
    ):
        indexed(root, format="coco", lists={"train": "nope.json"})
    with pytest.raises(DataError, match="format coco has all, train, val, test and classes, not trian"):
        indexed(root, format="coco", lists={"trian": "train_a.json"})


def test_planning_imports_nothing_that_computes(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from smelt.data.formats.config import FormatSettings\n"
        "from smelt.data.formats.tree.fingerprint import fingerprint\n"
        "fingerprint(FormatSettings(), Path(sys.argv[1]))\n"
        "print('torch' in sys.modules, 'PIL' in sys.modules)\n"
    )
    for name, root in every(tmp_path).items():
        arguments = [sys.executable, "-c", code, str(root)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False", "False"], name


def every(tmp_path: Path) -> dict[str, Path]:
    """A small data set of each kind."""
    made = coco(["a.jpg", "b.jpg", "c.jpg"], {0: [3], 1: [18], 2: [3]})
    images = pictures("a.jpg", "b.jpg", "c.jpg")
    roots = {
        "coco": put(tmp_path / "coco", {"all.json": made, **images}),
        "fiftyone": put(tmp_path / "fiftyone", {
            "samples.json": samples(), "metadata.json": {"default_classes": PETS},
            **pictures(*(f"data/{i}.jpg" for i in range(4)))}),
        "fiftyone labels": put(tmp_path / "fiftyone labels", {
            "labels.json": {"classes": PETS, "labels": {"a": 0, "b": "dog", "c": {"label": "cat"}}},
            **pictures("data/a.jpg", "data/b.jpg", "data/c.jpg")}),
        "labelstudio": put(tmp_path / "labelstudio", {
            "x.json": [task(1, "a.jpg", ["cat"]), task(2, "/data/upload/1/0a1b2c3d-b.jpg", ["dog"], ["cat"])],
            **images}),
        "labelstudio min": put(tmp_path / "labelstudio min", {
            "x.json": [{"image": "a.jpg", "choice": "cat", "annotator": 1, "lead_time": 1},
                       {"image": "b.jpg", "choice": {"choices": ["dog"]}, "annotator": 1, "lead_time": 1}],
            **images}),
        "imagenet": put(tmp_path / "imagenet", {
            "imagenet_class_index.json": {str(i): [s, s] for i, s in enumerate(SYNSETS)},
            **synset_folders("", flat_val=False)}),
    }  # fmt: skip
    features = {"image": {"_type": "Image"}, "label": {"names": PETS, "_type": "ClassLabel"}}
    roots["huggingface"] = put(tmp_path / "huggingface", {
        "train/state.json": {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]},
        "train/dataset_info.json": {"features": features}})  # fmt: skip
    table = hf_table(["a", "b", "c", "d"], [0, 1, 0, 1], hf_schema(names=None))
    arrow(roots["huggingface"] / "train/data-00000-of-00001.arrow", table)
    return roots


def test_the_command_line_recognises_each(tmp_path: Path) -> None:
    for name, root in every(tmp_path).items():
        arguments = ["index", "folder", "-o", f"data.root={root}", "-o", "data.val_fraction=0.3"]
        done = subprocess.run(
            [sys.executable, "-m", "smelt", *arguments, "--work", str(tmp_path / "work" / name)],
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, (name, done.stdout[-2000:], done.stderr[-2000:])
        [summary] = (tmp_path / "work" / name).rglob("index.json")
        assert read_json(summary)["format"] == name.split()[0], name


def test_the_fingerprint_knows_labels_and_images(tmp_path: Path) -> None:
    for name, root in every(tmp_path).items():
        before = fingerprint(FormatSettings(), root)
        assert fingerprint(FormatSettings(), root) == before
        if name != "huggingface":
            put(root, {"data/new.jpg" if "fiftyone" in name else "train/n01440764/new.JPEG": PIXEL})
            assert fingerprint(FormatSettings(), root) != before, name
            before = fingerprint(FormatSettings(), root)
        [path] = [p for p in sorted(root.rglob("*.json")) if p.name not in ("metadata.json", "state.json")]
        text = path.read_text()
        path.write_text(text.replace("cat", "cow", 1) if "cat" in text else text + " ")
        assert fingerprint(FormatSettings(), root) != before, name


ODD = [
    None,
    [],
    {},
    "",
    "x",
    -1,
    1.5,
    True,
    float("nan"),
    10**30,
    "../../x",
    "\ud800",
    ["a", ["b"]],
    {"a": {}},
]


def mutants(value: Any) -> Iterator[Any]:
    """`value` with each of its parts left out, and with each in turn replaced by what it should not be."""
    for place in list(places_of(value)):
        changed = copy.deepcopy(value)
        at = changed
        for key in place[:-1]:
            at = at[key]
        del at[place[-1]]
        yield changed
        for odd in ODD:
            changed = copy.deepcopy(value)
            at = changed
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = odd
            yield changed
    yield from ODD


def places_of(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*before, key)
        yield from places_of(item, (*before, key))


def test_exports_with_anything_left_out_or_of_another_type_are_read_or_refused(tmp_path: Path) -> None:
    tried = 0
    for name, root in every(tmp_path).items():
        for path in sorted(root.rglob("*.json")):
            whole = path.read_text()
            for number, changed in enumerate(mutants(json.loads(whole))):
                path.write_text(json.dumps(changed))
                settings = FormatSettings.model_validate({"format": name.split()[0]})
                tried += 1
                try:
                    index(settings, root, tmp_path / "out")
                except SmeltError as error:
                    assert len(str(error)) < 6000
                except Exception as error:
                    raise AssertionError(
                        f"{path.name} of {name}, mutant {number}: {changed!r:.500}"
                    ) from error
            path.write_text(whole)
    assert tried > 2000


def test_damaged_arrow_and_parquet_are_read_or_refused(tmp_path: Path) -> None:
    root = tmp_path / "h"
    table = hf_table([c * 50 for c in "abcdefgh"], [i % 3 for i in range(8)])
    arrow(root / "train/data-00000-of-00001.arrow", table)
    parquet(tmp_path / "p/data/train-00000-of-00001.parquet", table)
    rng = random.Random(5)
    for path in (root / "train/data-00000-of-00001.arrow", tmp_path / "p/data/train-00000-of-00001.parquet"):
        whole = path.read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(rng.choice((1, 2, 8))):
                at = rng.randrange(len(data))
                data[at : at + rng.choice((1, 4, 8))] = rng.choice(
                    (b"\xff" * 4, b"\x00", b"\x7f\xff\xff\xff", rng.randbytes(2))
                )
            path.write_bytes(data if rng.random() < 0.8 else data[: rng.randrange(len(data))])
            try:
                index(FormatSettings(format="huggingface"), path.parent.parent, tmp_path / "out")
            except SmeltError:
                continue
        path.write_bytes(whole)


def test_paths_of_urls_and_other_systems_have_one_form() -> None:
    local = finder.local
    assert local(b"s3://bucket/a/b%20c.jpg") == b"a/b c.jpg"
    assert local(b"C:\\Users\\me\\a.jpg") == b"Users/me/a.jpg"
    assert local(b"/home/me//./a.jpg") == b"home/me/a.jpg"
    assert local(b"file:///home/me/a.jpg") == b"home/me/a.jpg"
    assert local(b"http://host") == b"" and local(b"a%20b.jpg") == b"a%20b.jpg"
