"""Folders as people have them: what is a class, what is left out, what was probably meant instead."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.tree.layout import recognise
from smelt.data.formats.tree.names import alike, hidden, normalised, split_of
from smelt.errors import DataError, SmeltError
from smelt.stages.index import index

JPEG = b"\xff\xd8\xff\xe0" + bytes(12)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(12)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"


def tree(root: Path, *paths: str, data: bytes = JPEG) -> Path:
    """Files below `root`; `x/3` stands for x/0.jpg … x/2.jpg, and `x/` for an empty folder."""
    for path in paths:
        folder, _, last = path.rpartition("/")
        (root / folder).mkdir(parents=True, exist_ok=True)
        names = [f"{i}.jpg" for i in range(int(last))] if last.isdigit() else [last] * bool(last)
        for name in names:
            text = name.endswith((".md", ".txt", ".xml")) and data == JPEG
            (root / folder / name).write_bytes(b"some words" if text else data)
    return root


def read(root: Path, **fields: Any) -> tuple[Catalogue, dict[str, Any]]:
    out = root.parent / "out"
    index(FormatSettings(**fields), root, out)
    return Catalogue.open(out / "catalogue"), json.loads((out / "index.json").read_text())


def refused(root: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as error:
        read(root, **fields)
    return str(error.value)


def left_out(found: dict[str, Any]) -> dict[str, int]:
    return {item["why"]: item["count"] for item in found["files"]["left_out"]}


def counts(catalogue: Catalogue, split: str) -> dict[str, int]:
    rows = catalogue.rows(split)
    names = ["" if label < 0 else catalogue.classes[label] for label in catalogue.labels_N[rows]]
    return {name: names.count(name) for name in sorted(set(names))}


# ---- what is a class


def test_what_systems_leave_behind_is_no_class(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "d", "cat/5", "dog/5", ".ipynb_checkpoints/2", "__MACOSX/cat/._0.jpg", "cat/._1.jpg",
        ".DS_Store", "cat/.ipynb_checkpoints/1", "@eaDir/x/1", "dog/Thumbs.db", ".git/objects/ab/1",
        ".hidden.jpg",
    )  # fmt: skip
    catalogue, found = read(root)
    assert catalogue.classes == ("cat", "dog") and catalogue.num_rows == 10
    assert list(left_out(found).values()) == [10] and "hidden" in next(iter(left_out(found)))
    assert found["files"]["found"] == 20 and found["files"]["images"] == 10


def test_content_decides_what_an_image_is(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "d", "a/1", "b/1", "a/x.jfif", "a/y.jpe", "b/z.jpg_large", "b/noname", "b/photo.JPG"
    )
    tree(root, "a/chart.data", data=PNG)
    tree(root, "b/phone.HEIC", "b/IMG_1.jpeg~", data=HEIC)
    tree(root, "a/notes.txt", data=b"a kitten")
    tree(root, "a/page", data=b"<!doctype html><html>")
    tree(root, "a/scan.tif", data=b"II*\0" + bytes(60))
    tree(root, "a/empty", data=b"")
    catalogue, found = read(root, val_fraction=0)
    assert counts(catalogue, "train") == {"a": 4, "b": 5}
    assert left_out(found) == {
        "an image that is not read (TIFF)": 1, "not an image (empty)": 1, "not an image (html)": 1,
        "not an image (text)": 1, "half a download, or kept of another file by a program": 1,
    }  # fmt: skip


def test_folders_in_class_folders_are_told_and_can_be_chosen(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "animal/cat/4", "animal/dog/4", "vehicle/bus/4", "vehicle/car/4")
    catalogue, found = read(root)
    assert catalogue.classes == ("animal", "vehicle")
    (warning,) = found["warnings"]
    assert "class folders hold folders" in warning and "-o data.class_from=leaf" in warning
    assert "cat, dog, bus, car" in warning and "-o data.class_from=depth:1" in warning
    for rule, classes in (
        ("leaf", ("bus", "car", "cat", "dog")), ("depth:2", ("bus", "car", "cat", "dog")),
        ("depth:1", ("animal", "vehicle")),
        ("path", ("animal/cat", "animal/dog", "vehicle/bus", "vehicle/car")),
    ):  # fmt: skip
        catalogue, found = read(root, class_from=rule)
        assert catalogue.classes == classes and not found["warnings"]
    with pytest.raises(ValueError, match="takes leaf, path, name"):
        FormatSettings(class_from="deepest")


def test_one_folder_called_the_same_in_every_class_is_no_choice(tmp_path: Path) -> None:
    _, found = read(tree(tmp_path / "d", "n01/images/3", "n02/images/3", "n03/images/3"))
    assert found["warnings"] == []


@pytest.mark.parametrize(
    "paths, hint",
    [
        (["Images/cat/3", "Images/dog/3", "Images/fox/3"],
         "data.root=ROOT/Images has 3 classes (cat, dog, fox)"),
        (["a/b/c/cat/3", "a/b/c/dog/3", "a/readme.md"], "data.root=ROOT/a/b/c has 2 classes"),
        (["x/CLS/train/n1/3", "x/CLS/train/n2/3", "x/CLS/val/n1/3", "x/CLS/val/n2/1"],
         "data.root=ROOT/x/CLS has 2"),
        (["pets/images/3", "pets/annotations/a.xml"], "none in a folder of its class|one class only, 'pets'"),
        (["only/3"], "one class only, 'only' (3 of 3 images"),
        (["cat.1.jpg", "cat.2.jpg", "cat.3.jpg", "dog.1.jpg", "dog.2.jpg", "dog.3.jpg"],
         "data.class_from=name"),
        (["train/all/cat.1.jpg", "train/all/cat.2.jpg", "train/all/dog.1.jpg", "train/all/dog.2.jpg",
          "train/all/dog.3.jpg", "train/all/cat.7.jpg"], "data.class_from=name"),
        (["train/4", "val/4"], "none in a folder of its class"),
        (["images/3", "masks/3"], "called after kinds of files"),
        (["images_part_1/3", "images_part_2/3"], "called after kinds of files or parts"),
        (["cars_train/3", "cars_test/3"], "called as splits are"),
        (["box_train/3", "box_test/3", "query/3"], "box_test, box_train are called as splits are"),
        (["ham_part_1/3", "ham_part_2/3"], "called after kinds of files or parts"),
        (["JPEGImages/3", "Annotations/1.xml", "Annotations/2.xml", "Annotations/3.xml"], "VOC: boxes"),
        (["farm/cat/2", "farm/dog/2", "town/cat/2", "town/dog/2"], "which are the classes?"),
        (["a.jpg", "b.jpg", "c.jpg"], "3 images lie in the folder itself"),
        (["x/y/z/w/cat/2", "x/y/z/w/dog/2"], "data.root=ROOT/x/y/z/w has 2 classes"),
        (["val/3", "test/3"], "called as splits are, and none is known as training"),
        (["00000/000000001.jpg", "00000/000000001.json", "00001/000000002.jpg"], "data.format=img2dataset"),
        ([], "is empty"),
        (["notes.txt"], "it has notes.txt"),
        (["seg/train/seg/a/3", "seg/train/seg/b/3", "other/readme.txt"], "data.class_from=leaf|data.root="),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_what_was_meant(
    tmp_path: Path, paths: list[str], hint: str
) -> None:
    root = tree(tmp_path / "d", *paths)
    root.mkdir(exist_ok=True)
    for path in root.rglob("*.json"):
        path.write_text("{}")
    told = refused(root, **({"format": "imagefolder"} if paths and "notes.txt" not in paths else {}))
    assert any(part in told.replace(str(root), "ROOT") for part in hint.split("|")), told


def test_a_class_folder_given_as_the_root_is_led_to_the_one_above(tmp_path: Path) -> None:
    root = tree(tmp_path / "crawl", "cat/3", "dog/3", "fox/3")
    told = refused(root / "cat", format="imagefolder")
    assert f"-o data.root={root} has a folder for each of cat, dog, fox" in told


def test_what_was_proposed_works(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "d",
        "a/cat.1.jpg",
        "a/cat.2.jpg",
        "a/cat.3.jpg",
        "a/dog (1).jpg",
        "a/dog_22.jpg",
        "a/dog-3.jpg",
    )
    assert "data.class_from=name" in refused(root)
    catalogue, _ = read(root, class_from="name")
    assert catalogue.classes == ("cat", "dog")


def test_empty_and_single_classes_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/3", "dog/3", "fox/", "elk/notes.md")
    _, found = read(root)
    assert any("2 class folder(s) hold no image" in w and "elk, fox" in w for w in found["warnings"])
    assert left_out(found)["an empty folder"] == 1
    many = tree(tmp_path / "e", *(f"{i:03d}/1" for i in range(20)))
    _, found = read(many, val_fraction=0)
    assert any("20 of 20 classes have one image" in w for w in found["warnings"])
    split = tree(tmp_path / "f", "train/a/2", "train/b/2", "train/c/", "val/a/1", "val/b/1")
    _, found = read(split)
    assert any("train/c" in w for w in found["warnings"])


def test_names_that_a_person_takes_for_one_are_named(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "d", "Cat/3", "cat/3", "sea_lion/3", "sea lion/3", "caf\u00e9/3", "cafe\u0301/3", "dog/3"
    )
    _, found = read(root)
    told = [w for w in found["warnings"] if "differ only in case" in w]
    assert len(told) == 3 and any("'Cat', 'cat'" in w for w in told) and any("\\u0301" in w for w in told)
    assert alike(["a", "b", "ab", "a b", "A\u200bB", "straße", "STRASSE"]) == [
        ["ab", "a b", "A\u200bB"], ["straße", "STRASSE"]
    ]  # fmt: skip


def test_files_that_are_called_images_and_are_none(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    root = tree(tmp_path / "d", "cat/3", "dog/3")
    tree(root, "fox/3", data=b"")
    tree(root, "owl/2", "owl/7.jpg", data=b"<!doctype html><html>")
    _, found = read(root)
    (warning,) = found["warnings"]
    assert "2 class(es) hold no image, by content (3 × the file is empty, 3 × an HTML page" in warning
    assert "fox, owl" in warning
    told = refused(tree(tmp_path / "e", "cat/3", "dog/3", data=pointer))
    assert "none of the 6 files" in told and "git lfs pull" in told


@pytest.mark.parametrize("listed", ["predictions.csv", "licenses.csv", "bad_files.csv", "quality.csv"])
def test_a_file_beside_class_folders_is_not_their_list(tmp_path: Path, listed: str) -> None:
    root = tree(tmp_path / "d", "cat/3", "dog/3")
    (root / listed).write_text("path,label\ncat/0.jpg,a\ndog/0.jpg,b\n")
    assert read(root)[0].classes == ("cat", "dog")
    (root / "labels.csv").write_text("path,label\ncat/0.jpg,x\ndog/0.jpg,y\n")
    catalogue, found = read(root)
    assert catalogue.classes == ("x", "y") and "imagefolder" in found["notes"][0]


def test_an_archive_beside_class_folders_is_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "train/cat/3", "train/dog/3", "val/cat/1", "val/dog/1")
    tree(root, "train.tar", "code.tar.gz", data=b"\x1f\x8b")
    catalogue, found = read(root)
    assert found["format"] == "imagefolder" and catalogue.num_rows == 8


def test_a_listed_name_that_is_no_file_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "img/a/1", "img/b/1", "img/c.jpg", "img/d.jpg")
    (root / "labels.csv").write_text("path,label\nimg/a,x\nimg/b,y\n")
    assert "listed names are no files that can be read: folders" in refused(root, format="csv")
    (root / "labels.csv").write_text("path,label\nimg/a,x\nimg/c.jpg,x\nimg/d.jpg,y\n")
    assert any("1 of 3 listed names are no files" in w for w in read(root)[1]["warnings"])


def test_names_that_are_not_utf8_are_written_down(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/3", "dog/3", os.fsdecode(b"caf\xe9/3"), os.fsdecode(b"Caf\xe9/"))
    catalogue, found = read(root)
    assert list(catalogue.classes) == ["café", "cat", "dog"] and any("\\xe9" in w for w in found["warnings"])
    assert any("read as latin-1" in n for n in found["notes"])


# ---- splits


def test_splits_by_many_names(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "training_set/a/3", "training_set/b/3", "Validation/a/2", "Validation/b/2",
                "imgs-test/4", "extra/1")  # fmt: skip
    catalogue, found = read(root)
    assert counts(catalogue, "train") == {"a": 3, "b": 3} and counts(catalogue, "val") == {"a": 2, "b": 2}
    assert counts(catalogue, "test") == {"": 4}
    assert any("training_set/ is train" in note for note in found["notes"])
    assert left_out(found) == {"an image outside the folders of the splits": 1}
    names = {"train": "train", "Valid": "val", "seg_test": "test", "trainset": "train", "train2017": "train",
             "cat": "", "test_train": "", "trainstation": "", "train station": "", "dev": "val"}  # fmt: skip
    assert {name: split_of(name) for name in names} == names


@pytest.mark.parametrize("where", ["test", "test/images", "test/test", "test/unknown"])
def test_test_images_without_classes_have_no_label(tmp_path: Path, where: str) -> None:
    root = tree(tmp_path / "d", "train/a/3", "train/b/3", "val/a/1", "val/b/1", f"{where}/5")
    catalogue, found = read(root)
    assert counts(catalogue, "test") == {"": 5} and counts(catalogue, "train") == {"a": 3, "b": 3}
    assert any("5 images of test lie in no class folder" in note for note in found["notes"])


def test_splits_below_the_classes(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/train/3", "cat/test/2", "dog/train/3", "dog/test/2")
    catalogue, found = read(root, val_fraction=0)
    assert counts(catalogue, "train") == {"cat": 3, "dog": 3} and counts(catalogue, "test") == {
        "cat": 2,
        "dog": 2,
    }
    assert any("splits" in note for note in found["notes"])


def test_a_class_of_trains(tmp_path: Path) -> None:
    catalogue, found = read(tree(tmp_path / "d", "bus/3", "car/3", "train/3"))
    assert catalogue.classes == ("bus", "car", "train")
    assert any("'train'" in w or "train is taken as a class" in w for w in found["warnings"])


def test_images_without_a_class_folder(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/3", "dog/3", "stray.jpg")
    catalogue, found = read(root)
    assert left_out(found) == {"an image in no class folder": 1} and catalogue.num_rows == 6
    catalogue, _ = read(root, unlabelled="keep", val_fraction=0)
    assert counts(catalogue, "train") == {"": 1, "cat": 3, "dog": 3}
    assert "'stray.jpg' lies in no class folder" in refused(root, unlabelled="refuse")


# ---- links


def test_links_are_followed_inside_and_named_outside(tmp_path: Path) -> None:
    tree(tmp_path, "store/fox/3", "one.jpg")
    root = tree(tmp_path / "d", "cat/3", ".all/elk/3", "dog/3")
    (root / "elk").symlink_to(root / ".all/elk")
    (root / "fox").symlink_to(tmp_path / "store/fox")
    (root / "cat/out.jpg").symlink_to(tmp_path / "one.jpg")
    (root / "cat/in.jpg").symlink_to(root / "dog/0.jpg")
    (root / "cat/gone.jpg").symlink_to("nowhere.jpg")
    (root / "dog/again").symlink_to(root)
    (root / "dog/self").symlink_to("self")
    os.mkfifo(root / "dog/pipe.jpg")
    catalogue, found = read(root, val_fraction=0)
    assert counts(catalogue, "train") == {"cat": 4, "dog": 3, "elk": 3}
    told = {why.split(" (")[0]: n for why, n in left_out(found).items() if "hidden" not in why}
    assert told == {
        "a link that leads out of the folder": 2, "a link to nothing": 2,
        "a link to a folder that it lies in": 1,
        "no plain file: a pipe, a device or a socket": 1,
    }  # fmt: skip
    assert any("fox" in w and "data.links=anywhere" in w for w in found["warnings"])
    catalogue, found = read(root, val_fraction=0, links="anywhere")
    assert counts(catalogue, "train") == {"cat": 5, "dog": 3, "elk": 3, "fox": 3} and catalogue.follow


def test_images_behind_links_are_read_where_that_was_asked_for(tmp_path: Path) -> None:
    from smelt.data.images.store import ImageStore
    from smelt.errors import BadImageError

    tree(tmp_path, "store/fox/3")
    root = tree(tmp_path / "d", "cat/3")
    (root / "fox").symlink_to(tmp_path / "store/fox")
    catalogue, _ = read(root, links="anywhere")
    store = ImageStore(catalogue, root)
    assert all(store.read(row) == JPEG for row in range(catalogue.num_rows))
    catalogue.follow = False
    row = next(row for row in range(catalogue.num_rows) if catalogue.path(row).startswith("fox/"))
    with pytest.raises(BadImageError, match="outside_root"):
        ImageStore(catalogue, root).read(row)


# ---- every file accounted for


NAME = st.sampled_from(["a", "b", "c1", "train", "val", "test", ".x", "__MACOSX", "00000", "images", "é"])
FILE = st.sampled_from(["1.jpg", "2.PNG", "n", ".h.jpg", "._1.jpg", "t.txt", "x.json", "Thumbs.db", "m.mp4"])


FOLDER = st.lists(NAME, max_size=3).map("/".join)
ODD = st.tuples(FOLDER, st.sampled_from(["out", "nowhere", "file", "pipe"]))


@settings(max_examples=150, deadline=None)
@given(
    st.sets(st.tuples(FOLDER, FILE), max_size=25), st.sets(FOLDER, max_size=4), st.sets(ODD, max_size=3),
    st.booleans(),
)  # fmt: skip
def test_nothing_is_passed_over(
    files: set[tuple[str, str]], empty: set[str], odd: set[tuple[str, str]], keep: bool
) -> None:
    """Whatever lies there: refused with words, or images + read + left out are all the files there are, links
    that lead nowhere or out, and pipes among them."""
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "d"
        root.mkdir()
        for folder, name in files:
            tree(root, f"{folder}/{name}" if folder else name)
        for folder in {*empty, *(folder for folder, _ in odd)}:
            (root / folder).mkdir(parents=True, exist_ok=True)
        for folder, kind in odd:
            at = root / folder / f"x-{kind}"
            if kind == "pipe":
                os.mkfifo(at)
            else:
                at.symlink_to({"out": "/", "nowhere": "/none/at/all", "file": __file__}[kind])
        try:
            catalogue, found = read(root, format="imagefolder", unlabelled="keep" if keep else "leave_out")
        except SmeltError as error:
            assert len(str(error)) > 40
            return
        walked = ((at, (*folders, *names)) for at, folders, names in os.walk(root))
        paths = [os.path.join(at, name) for at, names in walked for name in names]
        total = sum(os.path.islink(path) or not os.path.isdir(path) for path in paths)
        left = sum(item["count"] for item in found["files"]["left_out"] if item["what"] == "files")
        there = found["files"]
        assert (there["found"], there["images"]) == (total, catalogue.num_rows)
        assert there["images"] + there["read"] + left == total


def test_a_list_leaves_out_what_it_does_not_name(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "img/4")
    (root / "images.csv").write_text("path,label\nimg/0.jpg,a\nimg/1.jpg,b\n")
    (root / "readme.md").write_text("about")
    _, found = read(root, val_fraction=0)
    assert found["format"] == "csv" and found["files"]["read"] == 1 and found["files"]["images"] == 2
    assert left_out(found) == {"an image that is not in the list": 2, "not an image (text)": 1}


# ---- the layout


def test_the_layout_is_recognised_and_said(tmp_path: Path) -> None:
    layout = recognise(tree(tmp_path / "f", "cat/2", "dog/2"))
    assert layout.format == "imagefolder" and "cat/" in str(layout) and "-o data.format=" in str(layout)
    with pytest.raises(DataError, match="it has notes/"):
        recognise(tree(tmp_path / "n", "notes/"))
    with pytest.raises(DataError, match="is a file; it takes the folder"):
        recognise(tree(tmp_path / "n", "x.csv") / "x.csv")
    with pytest.raises(DataError, match="has no 'b'"):
        recognise(tmp_path / "n/b/c")


def test_a_setting_that_the_layout_has_no_use_for_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "f", "cat/2", "dog/2")
    told = refused(root, subset=5)
    assert "looks like imagefolder" in told and "`subset` says nothing to format imagefolder" in told
    assert "has no list of images" in refused(root, columns={"label": "breed"})
    (root / "x.csv").write_text("id_code,breed\ncat/0,a\ndog/0,b\n")
    catalogue, found = read(root, columns={"path": "id_code", "label": "breed"}, suffix=".jpg")
    assert catalogue.classes == ("a", "b") and "as its settings are given" in found["notes"][0]


def test_names() -> None:
    assert [hidden(name) for name in (b".x", b"._a.jpg", b"__MACOSX", b"Thumbs.db", b"a.b", b"_x")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip
    forms = {b"./a//b.jpg": b"a/b.jpg", b"a/./b": b"a/b", b"a/b/": b"a/b", b"/x//y": b"/x/y",
             b"a/../b": b"a/../b", b"a.b/c.": b"a.b/c."}  # fmt: skip
    assert {path: normalised(path) for path in forms} == forms


# ---- what was told by strangers


def test_links_in_circles_are_left_out_of_any_layout(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/3", "dog/3")
    (root / "self").symlink_to("self")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    _, found = read(root)
    assert found["files"]["images"] == 6 and left_out(found) == {"a link to nothing": 3}


def test_folders_that_link_to_one_another_are_walked_in_bounded_time(tmp_path: Path) -> None:
    """Twelve folders that each link to all others: without a bound, half a thousand million paths."""
    names = [f"c{i:02d}" for i in range(12)]
    root = tree(tmp_path / "d", *(f"{name}/1" for name in names))
    for one in names:
        for other in names:
            if one != other:
                (root / one / f"to_{other}").symlink_to(root / other)
    _, found = read(root, class_from="depth:1", val_fraction=0)
    assert 12 <= found["files"]["images"] <= 12 + 8 * 12
    assert left_out(found)["a further link to a folder that others lead to"] > 0


def test_a_damaged_list_of_training_is_not_passed_over_for_folders(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/3", "dog/3")
    lines = [f'{{"path": "cat/{i}.jpg", "label": "{i % 2}"}}' for i in range(3)]
    (root / "train.jsonl").write_text("\n".join([*lines, '{"path": "dog/0.jpg", "lab']))
    assert "train.jsonl:4" in refused(root)
    (root / "train.jsonl").unlink()
    (root / "train.parquet").write_bytes(b"PAR1 and no more")
    assert "train.parquet" in refused(root)


def test_a_split_that_nothing_can_be_held_out_for_is_told(tmp_path: Path) -> None:
    _, found = read(tree(tmp_path / "d", "cat/3", "dog/3"), val_from="test")
    assert any("data.val_from" in warning and "no images" in warning for warning in found["warnings"])
