"""WebDataset as people have it: labels in every place, odd names, packed and damaged shards."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from formats_toy import PIXEL, catalogue_of, put, read_back, refused, rows_of, tar
from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers import unpack
from smelt.data.formats.containers.patterns import expanded
from smelt.data.formats.tree.census import HIDDEN
from smelt.data.formats.tree.fingerprint import fingerprint
from smelt.data.formats.tree.layout import recognise
from smelt.errors import ArtifactError, DataError

PETS = ("cat", "dog", "fox")


def jpeg(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def wds(root: Path, out: Path, **fields: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """(path → class, index.json) of a folder of tars, nothing held out."""
    c = catalogue_of(root, out, format="webdataset", val_fraction=0.0, **fields)
    classes = {
        c.path(row): c.classes[y] if (y := int(c.labels_N[row])) >= 0 else "" for row in range(c.num_rows)
    }
    return classes, json.loads((out / "index.json").read_text())


def samples(count: int = 6, image: str = "jpg", **parts: Any) -> dict[str, bytes]:
    """Members 000.jpg, … with further parts: text with {pet} and {i} in it, or a function that makes JSON."""
    made = {}
    for i in range(count):
        made[f"{i:03d}.{image}"] = PIXEL + bytes([i])
        for suffix, part in parts.items():
            value = json.dumps(part(i)) if callable(part) else part.format(pet=PETS[i % 3], i=i)
            made[f"{i:03d}.{suffix.replace('_', '.')}"] = value.encode()
    return made


def pets(found: dict[str, str]) -> list[str]:
    return [found[path] for path in sorted(found)]


def said(summary: dict[str, Any]) -> str:
    return "\n".join(summary["notes"] + summary["warnings"])


# ---- where the label is


def test_webdataset(tmp_path: Path) -> None:
    def sample(key: str, label: str | None, meta: dict[str, Any] | None = None) -> dict[str, bytes]:
        found = {f"{key}.jpg": PIXEL + key.encode()}
        found |= {f"{key}.cls": label.encode()} if label is not None else {}
        return found | ({f"{key}.json": json.dumps(meta).encode()} if meta else {})

    root = tmp_path / "data"
    tar(
        root / "wds-train-000000.tar",
        sample("000", "1") | sample("001", "0\n", {"title": "t", "tags": ["x", "y"]}),
    )
    tar(root / "wds-train-000001.tar", sample("000", None, {"label": 2, "query": "q", "source": "flickr"}))
    tar(root / "val/0.tar", sample("a/b", "2"))
    c = catalogue_of(root, tmp_path / "out", format="webdataset")
    assert c.num_classes == 3
    train = {c.path(row): row for row in c.rows("train").tolist()}
    assert {path: int(c.labels_N[row]) for path, row in train.items()} == {
        "wds-train-000000.tar/000.jpg": 1, "wds-train-000000.tar/001.jpg": 0,
        "wds-train-000001.tar/000.jpg": 2,
    }  # fmt: skip
    row = train["wds-train-000000.tar/001.jpg"]
    assert c.strings("title", [row]) == ["t"] and c.strings("tags", [row]) == ["x y"]
    row = train["wds-train-000001.tar/000.jpg"]
    assert c.strings("query", [row]) == ["q"] and c.sources[c.source_codes_N[row]] == "flickr"
    assert read_back(c, root, row) == PIXEL + b"000"
    assert rows_of(c, "val") == [("val/0.tar/a/b.jpg", 2)]
    tar(root / "train-2.tar", {"no.jpg": b"x"})
    assert "'train-2.tar/no.jpg'" in refused(root, tmp_path / "bad", format="webdataset", unlabelled="refuse")
    names = catalogue_of(
        tmp_path,
        tmp_path / "o2",
        format="webdataset",
        lists={"train": "data/val/*.tar", "val": "data/wds*1.tar"},
    )
    assert len(names.rows("train")) == 1 and len(names.rows("val")) == 1


def test_sources_in_tars_have_room(tmp_path: Path) -> None:
    members = {}
    for i in range(257):
        meta = {"label": i % 2, "source": f"site{i}.org"}
        members |= {f"{i}.jpg": b"x", f"{i}.json": json.dumps(meta).encode()}
    tar(tmp_path / "a/train.tar", members)
    c = catalogue_of(tmp_path / "a", tmp_path / "o", format="webdataset")
    assert len(c.sources) == 257
    names = {c.path(row): c.sources[c.source_codes_N[row]] for row in range(257)}
    assert all(names[f"train.tar/{i}.jpg"] == f"site{i}.org" for i in range(257))


@pytest.mark.parametrize(
    ("parts", "columns", "note"),
    [
        ({"cls": "{pet}"}, {}, ""),
        ({"CLS": "{pet}\n"}, {}, ""),
        ({"label": " {pet} "}, {}, ""),
        ({"class": "{pet}"}, {}, ""),
        ({"json": lambda i: {"label": PETS[i % 3]}}, {}, ""),
        ({"json": lambda i: PETS[i % 3]}, {}, ""),
        ({"json": lambda i: {"class_name": PETS[i % 3], "class_id": i % 3}}, {}, "taken from class_name (6"),
        ({"json": lambda i: {"category": PETS[i % 3], "caption": "c"}}, {}, "taken from category (6"),
        ({"json": lambda i: {"kind": PETS[i % 3], "label": i}}, {"label": "kind"}, ""),
        ({"json": lambda i: {"a": {"b": {"c": PETS[i % 3]}}}}, {"label": "a.b.c"}, ""),
        ({"json": lambda i: {"a.b": PETS[i % 3]}}, {"label": "a.b"}, ""),
        ({"json": lambda i: {"label": [PETS[i % 3]]}}, {}, ""),
        ({"kind_txt": "{pet}", "cls": "{i}"}, {"label": "kind.txt"}, ""),
        ({"txt": "{pet}"}, {}, "taken from the .txt parts: 3 texts ('cat', 'dog', 'fox') of 6 samples"),
        ({"txt": "{pet}", "cls": "{i}"}, {"label": "txt"}, ""),
        ({"orig_cls": "{pet}"}, {}, "taken from .orig.cls (6 samples)"),
        ({"orig_cls": "{pet}"}, {"label": ".orig.cls"}, ""),
        ({"label_txt": "{pet}", "id": "{i}"}, {}, "taken from .label.txt (6 samples)"),
        ({"json": lambda i: {"labels": [PETS[i % 3]], "width": i}}, {}, "taken from labels (6 samples)"),
        ({"id": "{pet}"}, {"label": ".id"}, ""),
    ],
)
def test_the_label_is_found_where_it_is(
    tmp_path: Path, parts: dict[str, Any], columns: dict[str, str], note: str
) -> None:
    tar(tmp_path / "data/train-0.tar", samples(**parts))
    found, summary = wds(tmp_path / "data", tmp_path / "out", columns=columns)
    assert pets(found) == [PETS[i % 3] for i in range(6)]
    assert note in said(summary) and (note or "labels are taken" not in said(summary))


@pytest.mark.parametrize(
    ("parts", "offered"),
    [
        ({"id": "{i}"}, "label: -o data.columns.label=id; where"),
        ({"a_cls": "{i}", "b_cls": "{pet}"}, "columns.label=a.cls or -o data.columns.label=b.cls; where"),
        ({"json": lambda i: {"labels": [PETS[i % 3]], "classes": [i]}}, "-o data.columns.label=labels"),
        ({"txt": "a {pet} number {i}"}, "label: -o data.columns.label=txt; where"),
        ({}, "no fields of JSON. Where folders or archives are the classes"),
    ],
)  # fmt: skip
def test_what_may_be_the_label_is_offered_by_name(
    tmp_path: Path, parts: dict[str, Any], offered: str
) -> None:
    tar(tmp_path / "data/train-0.tar", samples(**parts))
    message = refused(tmp_path / "data", tmp_path / "out", format="webdataset")
    assert offered in message and "FIELD" not in message


@pytest.mark.parametrize("key", ["{i:04d}.orig", "photo_{i}.2020.01.{i}"])
@pytest.mark.parametrize("part", ["cls", "json", "txt"])
def test_dots_that_no_key_shares(tmp_path: Path, key: str, part: str) -> None:
    members = {}
    for i in range(6):
        name, pet = key.format(i=i), PETS[i % 3]
        text = json.dumps({"label": pet}) if part == "json" else pet
        members |= {f"{name}.jpg": PIXEL + bytes([i]), f"{name}.{part}": text.encode()}
    tar(tmp_path / "data/a.tar", members)
    found, summary = wds(tmp_path / "data", tmp_path / "out")
    assert pets(found) == [PETS[i % 3] for i in range(6)]
    assert "up to the last dot" in said(summary) and "leaves no image with a label" in said(summary)


def test_the_first_dot_stays_where_it_pairs(tmp_path: Path) -> None:
    """One sample that is as it should be is enough, and so is a name of a part that has dots."""
    pair = {"a.x.jpg": PIXEL, "a.x.cls": b"dog", "b.x.jpg": PIXEL + b"b", "b.x.cls": b"cat"}
    tar(tmp_path / "data/a.tar", pair | {"c.v1.jpg": PIXEL + b"c", "c.cls": b"fox"})
    found, summary = wds(tmp_path / "data", tmp_path / "out", unlabelled="keep")
    assert pets(found) == ["", "", "fox"] and "last dot" not in said(summary)
    tar(tmp_path / "b/a.tar", pair)
    found, summary = wds(tmp_path / "b", tmp_path / "out b", columns={"label": "x.cls"})
    assert pets(found) == ["dog", "cat"] and "last dot" not in said(summary)


def test_members_that_a_later_one_stands_for_are_accounted_for(tmp_path: Path) -> None:
    path = tmp_path / "data/a.tar"
    tar(path, samples(4, cls="{pet}"))
    with tarfile.open(path, "a") as file:
        for data in (b"cat", b"dog"):
            info = tarfile.TarInfo("000.cls")
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    found, summary = wds(tmp_path / "data", tmp_path / "out")
    assert pets(found)[0] == "dog"
    (left_out,) = summary["files"]["left_out"]
    assert (left_out["what"], left_out["count"]) == ("members", 2) and "a later one of its name" in left_out[
        "why"
    ]


def test_one_hot_lists_are_labels(tmp_path: Path) -> None:
    tar(tmp_path / "data/a.tar", samples(json=lambda i: {"label": [int(i % 3 == k) for k in range(3)]}))
    found, summary = wds(tmp_path / "data", tmp_path / "out")
    assert pets(found) == [str(i % 3) for i in range(6)] and "one-hot" in said(summary)


@pytest.mark.parametrize("rule", ["refuse", "first", "split"])
@pytest.mark.parametrize("where", ["json", "cls"])
def test_several_labels_go_by_the_rule(tmp_path: Path, rule: str, where: str) -> None:
    labels = [["cat"], ["dog", "cat"], ["dog"], ["cat"]]
    part = {"json": lambda i: {"label": labels[i]}} if where == "json" else {}
    members = samples(4, **part)
    if where == "cls":
        members |= {f"{i:03d}.cls": "\n".join(labels[i]).encode() for i in range(4)}
    tar(tmp_path / "data/a.tar", members)
    if rule == "refuse":
        said_ = refused(tmp_path / "data", tmp_path / "out", format="webdataset")
        assert "1 rows have several labels, such as 'a.tar/001.jpg' (dog, cat)" in said_
        assert "data.multi_label=first" in said_
        return
    c = catalogue_of(
        tmp_path / "data", tmp_path / "out", format="webdataset", multi_label=rule, val_fraction=0.0
    )
    found = sorted((c.path(row), c.classes[c.labels_N[row]]) for row in range(c.num_rows))
    assert len(found) == (4 if rule == "first" else 5)
    assert ("a.tar/001.jpg", "dog") in found and (("a.tar/001.jpg", "cat") in found) == (rule == "split")
    assert all(read_back(c, tmp_path / "data", row)[: len(PIXEL)] == PIXEL for row in range(c.num_rows))


def test_without_any_label_the_fields_are_shown_and_one_is_proposed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    meta = {"json": lambda i: {"kind": PETS[i % 3], "caption": f"photo {i}", "width": 48, "in": {"x": i % 2}}}
    tar(root / "a-000.tar", samples(12, **meta))
    message = refused(root, tmp_path / "out", format="webdataset")
    assert "no sample has a label" in message and "kind ('cat', 'dog', 'fox')" in message
    assert "in.x (0, 1)" in message and "parts .json" in message
    assert "-o data.columns.label=kind" in message or "-o data.columns.label=in.x" in message
    wrong = refused(root, tmp_path / "out", format="webdataset", columns={"label": "kin"})
    assert "data.columns.label: no sample has a 'kin'" in wrong and "kind ('cat', " in wrong
    found, _ = wds(root, tmp_path / "out", columns={"label": "kind"})
    assert set(found.values()) == set(PETS)
    assert "path" in refused(root, tmp_path / "bad", format="webdataset", columns={"path": "key"})


def test_captions_are_no_labels(tmp_path: Path) -> None:
    tar(tmp_path / "data/a.tar", samples(txt="a photo of {pet} number {i}"))
    text = refused(tmp_path / "data", tmp_path / "out", format="webdataset")
    assert "parts .txt (.txt: 'a photo of cat number 0', " in text and "and 3 more" in text
    tar(tmp_path / "data/a.tar", samples(txt="a photo of {pet} number {i}", cls="{pet}"))
    c = catalogue_of(tmp_path / "data", tmp_path / "out", format="webdataset")
    assert c.strings("title", [0])[0].startswith("a photo of")


def test_further_columns_by_their_names(tmp_path: Path) -> None:
    def record(i: int) -> dict[str, Any]:
        url = f"http://user@site{i % 2}.org:80/p/{i}.jpg"
        return {"y": PETS[i % 2], "q": {"text": f"query {i}"}, "from": url,
                "set": "val" if i > 3 else "train", "truth": "dog", "alt": f"alt {i}"}  # fmt: skip

    tar(tmp_path / "data/a.tar", samples(json=record))
    columns = {"query": "q.text", "source": "from", "split": "set", "true_label": "truth", "title": "alt"}
    c = catalogue_of(tmp_path / "data", tmp_path / "out", format="webdataset", columns=columns)
    by_path = {c.path(row): row for row in range(c.num_rows)}
    row = by_path["a.tar/005.jpg"]
    assert c.strings("query", [row]) == ["query 5"] and c.strings("title", [row]) == ["alt 5"]
    assert c.sources[c.source_codes_N[row]] == "site1.org" and len(c.rows("val")) == 2
    truth = c.column("true_label")
    assert truth is not None and (truth == c.classes.index("dog")).all()


@pytest.mark.parametrize("rule", ["leave_out", "keep", "refuse"])
def test_some_samples_without_a_label(tmp_path: Path, rule: str) -> None:
    members = samples(8, cls="{pet}")
    for i in (2, 5):
        del members[f"{i:03d}.cls"]
    members["002.json"] = b'{"label": null}'
    tar(tmp_path / "data/train.tar", members)
    if rule == "refuse":
        text = refused(tmp_path / "data", tmp_path / "out", format="webdataset", unlabelled=rule)
        assert "train.tar/002.jpg" in text and "train.tar/005.jpg" in text
        return
    found, summary = wds(tmp_path / "data", tmp_path / "out", unlabelled=rule)
    assert len(found) == (6 if rule == "leave_out" else 8)
    assert rule == "keep" or "2 rows without a label are left out" in said(summary)


def test_test_shards_need_no_labels(tmp_path: Path) -> None:
    tar(tmp_path / "data/train-0.tar", samples(cls="{pet}"))
    tar(tmp_path / "data/test-0.tar", samples(3))
    c = catalogue_of(tmp_path / "data", tmp_path / "out", format="webdataset")
    assert c.labels_N[c.rows("test")].tolist() == [-1] * 3


# ---- classes that are archives or folders


@pytest.mark.parametrize(
    "shards",
    [
        {f"{pet}.tar": "{i}" for pet in PETS},
        {f"{pet}-000{n}.tar": "{i}" for pet in PETS for n in (0, 1)},
        {f"{pet}/000{n}.tar": "{i}" for pet in PETS for n in (0, 1)},
        {f"train/{pet}.tar": "{i}" for pet in PETS},
        {"train-000.tar": "{pet}/{i}", "train-001.tar": "{pet}/{i}"},
        {"all.tar": "./images/{pet}/{i}"},
        {"all.tar": "{pet}/0000{i}/{i}"},
    ],
)
def test_archives_and_folders_are_classes_where_nothing_else_is(
    tmp_path: Path, shards: dict[str, str]
) -> None:
    for shard, name in shards.items():
        own = next((pet for pet in PETS if pet in shard), None)
        tar(
            tmp_path / "data" / shard,
            {name.format(pet=pet, i=i) + ".jpg": PIXEL for pet in ([own] if own else PETS) for i in range(2)},
        )
    found, summary = wds(tmp_path / "data", tmp_path / "out")
    assert set(found.values()) == set(PETS) and all(found[path] in path for path in found)
    assert "classes are taken from the archives and folders" in said(summary)


def test_imagenet_as_tars_in_a_tar(tmp_path: Path) -> None:
    """Each class an archive in the archive, read in place."""
    inner = {}
    for synset in ("n01440764", "n01443537"):
        tar(tmp_path / "inner.tar", {f"{synset}_{i}.JPEG": PIXEL + synset.encode() for i in range(3)})
        inner[f"{synset}.tar"] = (tmp_path / "inner.tar").read_bytes()
    root = tmp_path / "data"
    tar(root / "ILSVRC2012_img_train.tar", inner)
    found, _ = wds(root, tmp_path / "out")
    assert found["ILSVRC2012_img_train.tar/n01440764.tar/n01440764_0.JPEG"] == "n01440764" and len(found) == 6
    c = Catalogue.open(tmp_path / "out/catalogue")
    for row in range(6):
        assert read_back(c, root, row) == PIXEL + c.path(row).split("/")[1][:9].encode()
    tar(root / "ILSVRC2012_img_train.tar", {**inner, "broken.tar": b"no tar" * 200})
    assert "train.tar:broken.tar" in refused(root, tmp_path / "bad", format="webdataset")


def test_shards_by_number_are_no_classes(tmp_path: Path) -> None:
    for number in range(3):
        tar(tmp_path / f"data/part{number}.tar", samples(4))
    text = refused(tmp_path / "data", tmp_path / "out", format="webdataset")
    assert "no sample has a label" in text and "-o data.class_from=leaf" in text
    found, _ = wds(tmp_path / "data", tmp_path / "out", class_from="leaf")
    assert set(found.values()) == {"part0", "part1", "part2"}


def test_class_from_says_which_folder_it_is(tmp_path: Path) -> None:
    names = [f"{kind}/{pet}/{i}.jpg" for kind in ("wild", "tame") for pet in PETS for i in range(2)]
    tar(tmp_path / "data/train.tar", dict.fromkeys(names, PIXEL))
    for how, classes in (
        ("depth:1", {"wild", "tame"}), ("leaf", set(PETS)), ("depth:2", set(PETS)),
        ("path", {f"{kind}/{pet}" for kind in ("wild", "tame") for pet in PETS}),
    ):  # fmt: skip
        found, _ = wds(tmp_path / "data", tmp_path / how, class_from=how)
        assert set(found.values()) == classes, how
    assert "no sample has a label" in refused(
        tmp_path / "data", tmp_path / "bad", format="webdataset", class_from="depth:3"
    )


@pytest.mark.parametrize("name", ["classnames.txt", "classes.txt", "own/list.txt"])
def test_numbers_get_the_names_of_a_list_beside_the_shards(tmp_path: Path, name: str) -> None:
    root = put(tmp_path / "data", {name: "\n".join(PETS) + "\n"})
    tar(root / "train/0.tar", {k: str(PETS.index(v.decode())).encode() if k.endswith("cls") else v
                               for k, v in samples(cls="{pet}").items()})  # fmt: skip
    lists = {"classes": name} if "/" in name else {}
    found, summary = wds(root, tmp_path / "out", lists=lists)
    assert pets(found) == [PETS[i % 3] for i in range(6)]
    assert not summary.get("left_out") or name not in str(summary["left_out"])
    before = fingerprint(FormatSettings(format="webdataset", lists=lists), root)
    put(root, {name: "\n".join(PETS).upper()})
    assert fingerprint(FormatSettings(format="webdataset", lists=lists), root) != before


# ---- names


def test_names_with_dots(tmp_path: Path) -> None:
    members = {}
    for i in range(6):
        members |= {f"img.v1.{i}.jpg": PIXEL + bytes([i]), f"img.v1.{i}.cls": PETS[i % 3].encode()}
    tar(tmp_path / "data/a.tar", members)
    found, summary = wds(tmp_path / "data", tmp_path / "out")
    assert pets(found) == [PETS[i % 3] for i in range(6)]
    assert "'img.v1.0.jpg': keys are taken up to the last dot, not to the first" in said(summary)
    tar(tmp_path / "b/cat.tar", {f"a.{i}.jpg": PIXEL for i in range(3)})
    tar(tmp_path / "b/dog.tar", {f"a.{i}.jpg": PIXEL for i in range(3)})
    assert len(wds(tmp_path / "b", tmp_path / "out b")[0]) == 6, "without any other part too"


def test_several_images_of_a_sample(tmp_path: Path) -> None:
    members = samples(4, image="left.jpg", right_jpg="x{i}", cls="{pet}")
    tar(tmp_path / "data/a.tar", members)
    found, summary = wds(tmp_path / "data", tmp_path / "out")
    assert sorted(found) == [f"a.tar/{i:03d}.left.jpg" for i in range(4)]
    assert "samples have several images, such as '000: left.jpg, right.jpg'" in said(summary)
    tar(tmp_path / "b/a.tar", samples(4, seg_png="mask{i}", cls="{pet}", png="y"))
    assert sorted(wds(tmp_path / "b", tmp_path / "out b")[0]) == [f"a.tar/{i:03d}.jpg" for i in range(4)]


@pytest.mark.parametrize("suffix", ["img", "jpeg_large", "JPG", "jfif", ""])
def test_an_image_is_told_by_its_content(tmp_path: Path, suffix: str) -> None:
    members = {}
    for i in range(4):
        members |= {f"{i}.cls": b"%d" % (i % 2), f"{i}.bin": b"\0" * 50, f"{i}.{suffix}".rstrip("."): jpeg(i)}
    tar(tmp_path / "data/a.tar", members)
    found, _ = wds(tmp_path / "data", tmp_path / "out")
    assert len(found) == 4 and all(path.endswith(f"{i}.{suffix}".rstrip(".")) for i, path in enumerate(found))


def test_what_is_no_sample_is_accounted_for(tmp_path: Path) -> None:
    members = samples(4, cls="{pet}") | {
        "README.md": b"read me", "9.cls": b"cat", "__MACOSX/000.jpg": PIXEL, "._001.jpg": PIXEL,
        ".DS_Store": b"x", "a/.hidden/7.jpg": PIXEL,
    }  # fmt: skip
    root = tmp_path / "data"
    tar(root / "a-0.tar", members)
    put(root, {"a-0.idx": "0 1", "a-0.json": "{}", "a-0_stats.json": "{}", "dir.tar/notes.txt": "x"})
    found, summary = wds(root, tmp_path / "out")
    files = summary["files"]
    left_out = {each["why"]: each["count"] for each in files["left_out"]}
    assert len(found) == 4 and files["read"] == 4 and files["found"] == 5
    assert left_out == {"a sample without an image": 2, HIDDEN: 4, "not an image (text)": 1}


def test_the_same_key_in_two_shards_is_two_images(tmp_path: Path) -> None:
    tar(tmp_path / "data/a.tar", samples(3, cls="{pet}"))
    tar(tmp_path / "data/sub/b.tar", samples(3, cls="{pet}"))
    assert len(wds(tmp_path / "data", tmp_path / "out")[0]) == 6


# ---- shards


def test_damaged_shards_are_all_named(tmp_path: Path) -> None:
    root = tmp_path / "data"
    whole = tar(root / "a.tar", samples(9, cls="{pet}")).read_bytes()
    put(root, {"b.tar": b"<html>404</html>", "c.tar": b"\1" * 2000})
    text = refused(root, tmp_path / "out", format="webdataset")
    assert (
        "2 problem(s)" in text and "b.tar is no tar but a web page" in text and "c.tar has no valid" in text
    )
    put(root, {"b.tar": b"", "c.tar": whole[:4000]})
    found, summary = wds(root, tmp_path / "out")
    assert "b.tar is empty" in said(summary) and "cut short" in said(summary) and 9 < len(found) < 18
    shutil.rmtree(root)
    put(root, {"a.tar": bytes(10240)})
    assert "no sample of its shards has an image" in refused(root, tmp_path / "none", format="webdataset")


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": pa.Codec("zstd").compress}


def packed(data: bytes, how: str) -> bytes:
    return bytes(PACKERS[how](data))


@pytest.mark.parametrize("how", PACKERS)
@pytest.mark.parametrize("suffix", ["own", ".tar"])
def test_a_packed_shard_is_unpacked_into_the_catalogue(tmp_path: Path, how: str, suffix: str) -> None:
    """By its content: also where it is called `.tar`."""
    root = tmp_path / "data"
    plain = tar(tmp_path / "p.tar", samples(6, cls="{pet}")).read_bytes()
    name = f"train-0.tar.{how}" if suffix == "own" else "train-0.tar"
    put(root, {name: packed(plain, how)})
    tar(root / "train-1.tar", samples(3, cls="{pet}"))
    found, summary = wds(root, tmp_path / "out")
    assert found[f"{name}/001.jpg"] == "dog" and len(found) == 9
    assert f"{name} is compressed" in said(summary) and "MiB" in said(summary)
    c = Catalogue.open(tmp_path / "out/catalogue")
    for row in range(9):
        place = c.location(row)
        base = c.folder if place.inside else root
        data = (base / str(place.shard)).read_bytes()[place.offset : place.offset + place.size]
        assert data == PIXEL + bytes([int(place.path[-7:-4])])
        assert place.inside == place.path.startswith(name)
    assert recognise(root).format == "webdataset"


def test_a_packed_shard_beside_the_plain_one_is_left_out(tmp_path: Path) -> None:
    whole = tar(tmp_path / "data/a.tar", samples(6, cls="{pet}")).read_bytes()
    put(tmp_path / "data", {"a.tar.gz": packed(whole, "gz")})
    assert len(wds(tmp_path / "data", tmp_path / "out")[0]) == 6


@pytest.mark.parametrize("how", PACKERS)
def test_a_bomb_is_refused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(unpack, "SPARE", 1 << 20)
    put(tmp_path / "data", {f"a.tar.{how}": packed(bytes(64 << 20), how)})
    text = refused(tmp_path / "data", tmp_path / "out", format="webdataset")
    assert f"a.tar.{how}" in text and "taken for a bomb" in text
    assert sum(path.stat().st_size for path in (tmp_path / "out/catalogue").iterdir()) < 8 << 20


@pytest.mark.parametrize("how", PACKERS)
def test_damage_in_a_packed_shard_is_told(tmp_path: Path, how: str) -> None:
    root = tmp_path / "data"
    members = {name: os.urandom(50_000) if name.endswith("jpg") else data
               for name, data in samples(40, cls="{pet}").items()}  # fmt: skip
    plain = tar(tmp_path / "p.tar", members).read_bytes()
    whole = packed(plain, how)
    flipped = bytearray(whole)
    flipped[len(whole) // 2 : len(whole) // 2 + 40] = bytes(40)
    if how != "zst":  # which has no checksum unless it is asked for one
        put(root, {f"a.tar.{how}": bytes(flipped)})
        assert f"a.tar.{how} is damaged" in refused(root, tmp_path / "out", format="webdataset")
    put(root, {f"a.tar.{how}": whole[: len(whole) // 2]})
    if how == "zst":
        assert "cut short" in refused(root, tmp_path / "out", format="webdataset")
    else:
        found, summary = wds(root, tmp_path / "out")
        assert f"a.tar.{how} was cut short" in said(summary) and len(found) < 40
    put(root, {f"a.tar.{how}": whole + packed(tar(tmp_path / "q.tar", {"z/1.jpg": PIXEL, "z/1.cls": b"cat"})
                                              .read_bytes(), how)})  # fmt: skip
    assert len(wds(root, tmp_path / "out")[0]) == 41, "streams, and tars, one behind the other"


def test_xz_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 29}]
    data = lzma.compress(bytes(1000), filters=filters)
    put(tmp_path / "data", {"a.tar.xz": data})
    assert "a.tar.xz is damaged, or no xz: Memory usage limit" in refused(
        tmp_path / "data", tmp_path / "out", format="webdataset"
    )


def test_a_disk_without_room_is_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tar(tmp_path / "p.tar", samples(6, cls="{pet}")).read_bytes()
    put(tmp_path / "data", {"a.tar.gz": packed(whole, "gz")})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 1 << 40, 1 << 20))
    with pytest.raises(ArtifactError, match=r"a\.tar\.gz has to be unpacked .* only 1,048,576 bytes left"):
        catalogue_of(tmp_path / "data", tmp_path / "out", format="webdataset")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{0..2}.tar", ["a-0", "a-1", "a-2"]), ("a-*.tar", ["a-0", "a-1", "a-2", "a-3"]),
        ("./a-[01].tar", ["a-0", "a-1"]), ("{a-1,sub/b}.tar", ["a-1", "sub/b"]), ("*/*.tar", ["sub/b"]),
        ("**/*.tar", ["a-0", "a-1", "a-2", "a-3", "sub/b"]), ("a-{2..9}.tar", ["a-2", "a-3"]),
    ],
)  # fmt: skip
def test_patterns_of_shards(pattern: str, names: list[str]) -> None:
    root = Path("/data")
    there = [root / f"{name}.tar" for name in ("a-0", "a-1", "a-2", "a-3", "sub/b")]
    assert expanded("lists.train", pattern, root, there) == [root / f"{name}.tar" for name in names]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("/etc/*.tar", "is absolute"), ("../*.tar", "leads out"), ("b*.tar", "matches no archive"),
        ("{0..999999999}.tar", "no range of at most"), ("{0..9999}{0..9999}.tar", "more than 100,000 names"),
        ("{9..1}.tar", "no range"), ("[", "matches no archive"), ("a\0.tar", "NUL"),
    ],
)  # fmt: skip
def test_patterns_that_cannot_be_right_are_refused(pattern: str, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        expanded("data.lists.train", pattern, Path("/data"), [Path("/data/a.tar")])
    assert str(caught.value).startswith("data.lists.train: ")


def test_links_stay_inside_unless_it_is_said(tmp_path: Path) -> None:
    root = tmp_path / "data"
    tar(root / "a.tar", samples(3, cls="{pet}"))
    tar(tmp_path / "elsewhere/b.tar", samples(3, cls="{pet}"))
    (root / "b.tar").symlink_to(tmp_path / "elsewhere/b.tar")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    (root / "gone.tar").symlink_to(tmp_path / "nowhere.tar")
    (root / "circle").symlink_to(root)
    assert len(wds(root, tmp_path / "out")[0]) == 3
    found, _ = wds(root, tmp_path / "out", links="anywhere")
    assert len(found) == 9
    (root / "a.tar").unlink()
    text = refused(root, tmp_path / "bad", format="webdataset")
    assert "its archives are links that lead out" in text and "data.links=anywhere" in text


# ---- JSON that is none


@pytest.mark.parametrize(
    "text",
    [b"{", b"[" * 100_000, b'{"label": ' + b"9" * 5000 + b"}", b'{"a": 1, "a": 2}', b"\xff\xfe\xfd", b"nope",
     b'{"x": "' + b"y" * (5 << 20) + b'"}'],
)  # fmt: skip
def test_json_that_cannot_be_read_counts_as_empty(tmp_path: Path, text: bytes) -> None:
    members = samples(6, cls="{pet}", json=lambda i: {"title": "t"})
    members |= {"001.json": text, "004.json": text}
    tar(tmp_path / "data/a.tar", members)
    found, summary = wds(tmp_path / "data", tmp_path / "out")
    assert len(found) == 6
    assert "the JSON of 2 samples cannot be read and counts as empty; the first: a.tar:001.json" in said(
        summary
    )


@pytest.mark.parametrize("value", [{"name": "cat"}, [["cat"]], [{"a": 1}], "x" * 20_000])
def test_a_label_that_is_none_is_told_and_counts_as_none(tmp_path: Path, value: Any) -> None:
    members = samples(6, json=lambda i: {"label": PETS[i % 3]})
    members["001.json"] = json.dumps({"label": value}).encode()
    tar(tmp_path / "data/a.tar", members)
    found, summary = wds(tmp_path / "data", tmp_path / "out")
    assert len(found) == 5 and "1 samples, such as 'a.tar/001.jpg': the label (label) is" in said(summary)


def test_fields_of_every_type_do_no_harm(tmp_path: Path) -> None:
    values = [None, True, 1.5, 1e308, -0.0, [], {}, [None], [{"a": [1]}], "x\ud800", "\0", {"a": {"b": {}}}]
    members = samples(len(values), cls="{pet}")
    for i, value in enumerate(values):
        record = dict.fromkeys(("title", "description", "tags", "query", "source", "extra"), value)
        members[f"{i:03d}.json"] = json.dumps(record).encode()
    tar(tmp_path / "data/a.tar", members)
    found, _ = wds(tmp_path / "data", tmp_path / "out")
    assert len(found) == len(values)


def test_rows_keep_their_place_whatever_is_left_out(tmp_path: Path) -> None:
    members = samples(30, cls="{pet}")
    for i in range(0, 30, 7):
        del members[f"{i:03d}.cls"]
    tar(tmp_path / "data/a.tar", members)
    c = catalogue_of(tmp_path / "data", tmp_path / "out", format="webdataset", val_fraction=0.3)
    for row in range(c.num_rows):
        number = int(c.path(row)[-7:-4])
        assert c.classes[c.labels_N[row]] == PETS[number % 3]
        assert read_back(c, tmp_path / "data", row) == PIXEL + bytes([number])
    assert np.unique([c.path(row) for row in range(c.num_rows)]).size == 25


def test_a_tar_is_recognised_and_an_unpacked_folder_is_not(tmp_path: Path) -> None:
    tar(tmp_path / "a/deep/x.TAR.GZ", {})
    assert recognise(tmp_path / "a").format == "webdataset"
    with tarfile.open(tmp_path / "a/deep/y.tgz", "w:gz"):
        pass
    assert "x.TAR.GZ" in recognise(tmp_path / "a").seen
