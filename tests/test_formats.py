"""Every format on a generated miniature of exactly its layout, and what must be refused."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from formats_toy import PIXEL, catalogue_of, put, read_back, refused, rows_of, tar, webvision
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.artifacts.longtexts import cut_name
from smelt.data.formats.base import Report, hold_out, list_folder, natural
from smelt.data.formats.config import DataSettings, FormatSettings
from smelt.data.formats.containers.tars import Members
from smelt.data.formats.lists.pathlists import line_of, read_list
from smelt.data.formats.tree import files as files_module
from smelt.data.formats.tree.files import Files, Part
from smelt.data.formats.tree.fingerprint import fingerprint, identity_of
from smelt.data.formats.tree.pathcolumns import find_paths
from smelt.errors import DataError, StorageError
from smelt.files import opening

# ---- WebVision


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_webvision(tmp_path: Path, version: int, packed: bool) -> None:
    root, pictures = webvision(tmp_path / "data", version, images=not packed)
    if packed:
        names = sorted(pictures)
        tar(root / "webvision_train_00.tar", {n: pictures[n] for n in names[:3]}, form=tarfile.GNU_FORMAT)
        tar(
            root / "webvision_train_01.tar",
            {f"./{n}": pictures[n] for n in names[3:]},
            form=tarfile.USTAR_FORMAT,
        )
    c = catalogue_of(root, tmp_path / "out")
    assert c.classes == ("tench, Tinca tinca", "goldfish, Carassius auratus")
    assert c.class_ids == ("n01440764", "n01443537") and c.sources[:2] == ("google", "flickr")
    assert [c.path(row) for row in range(7)] == list(pictures)
    assert c.labels_N.tolist() == [0, 1, 0, 1, 1, 0, -1]
    assert [len(c.rows(split)) for split in ("train", "val", "test")] == [4, 2, 1]
    assert c.strings("query", range(5)) == ["tench", "gold fish", "tench", "goldfish pet", ""]
    assert c.strings("title", range(5)) == ["A <b>tench</b>", "", "", "5", ""]
    assert c.strings("description", range(3)) == ["d", "é 😀", ""]
    assert c.strings("tags", range(4)) == ["", "", "", "two tags"]
    rank = c.column("rank")
    assert rank is not None and rank.tolist() == [7, -1, -1, -1, -1, -1, -1]
    assert not len(c.missing)
    for row in range(7):
        assert read_back(c, root, row) == pictures[c.path(row)]
        assert (c.location(row).shard is not None) == packed


def test_webvision_lists_inside_info_tar(tmp_path: Path) -> None:
    root, _ = webvision(tmp_path / "data", 1)
    plain = catalogue_of(root, tmp_path / "plain")
    lists = {f"info/{path.name}": path.read_bytes() for path in (root / "info").iterdir()}
    for path in (root / "info").iterdir():
        path.unlink()
    tar(root / "info.tar", lists)
    packed = catalogue_of(root, tmp_path / "packed")
    assert [rows_of(packed, s) for s in packed.splits] == [rows_of(plain, s) for s in plain.splits]
    assert packed.strings("title", range(7)) == plain.strings("title", range(7))


def test_webvision_below_a_training_root_and_other_names(tmp_path: Path) -> None:
    """Kits that put all below train_images_256/; 2.0 lists that say google/ for google_images_resized/."""
    root, pictures = webvision(tmp_path / "one", 1, images=False)
    moved = {
        f"train_images_256/{p}" if p.startswith(("google", "flickr")) else p: d for p, d in pictures.items()
    }
    c = catalogue_of(put(root, dict(moved)), tmp_path / "out1")
    assert [c.path(row) for row in range(7)] == list(moved) and not len(c.missing)
    root, pictures = webvision(tmp_path / "two", 2)
    for source in ("google", "flickr"):
        path = root / f"info/train_filelist_{source}.txt"
        path.write_text(path.read_text().replace(f"{source}_images_resized/", f"{source}/"))
    c = catalogue_of(root, tmp_path / "out2")
    assert [c.path(row) for row in range(7)] == list(pictures) and not len(c.missing)
    for old, new in (("google_images_resized", "g/all"), ("val_images_resized", "validation")):
        (root / new).parent.mkdir(exist_ok=True)
        (root / old).rename(root / new)
    c = catalogue_of(root, tmp_path / "out3", folders={"google": "g/all", "val": "validation"})
    assert not len(c.missing) and c.path(0) == "g/all/q00001/-aB_1.jpg"
    c = catalogue_of(root, tmp_path / "out4", sources=["flickr"], lists={"val": "val_filelist.txt"})
    assert c.sources[0] == "flickr" and len(c.rows("train")) == 1


def test_webvision_text_without_meta_lists(tmp_path: Path) -> None:
    """Where the meta list is not there, a record is found by its id."""
    root, _ = webvision(tmp_path / "data", 2)
    (root / "info/train_meta_list_google.txt").unlink()
    c = catalogue_of(root, tmp_path / "out")
    assert c.strings("title", range(3)) == ["A <b>tench</b>", "", ""]
    without = catalogue_of(root, tmp_path / "none", text=False)
    assert without.strings("title", range(3)) == ["", "", ""] and without.strings("query", [0]) == ["tench"]


def test_webvision_missing_files_are_listed(tmp_path: Path) -> None:
    root, pictures = webvision(tmp_path / "data", 2)
    gone = [name for name in pictures if "x.jpg" in name]
    for name in gone:
        (root / name).unlink()
    c = catalogue_of(root, tmp_path / "out")
    assert [c.path(row) for row in c.missing.tolist()] == gone and c.num_rows == 7
    summary = json.loads((tmp_path / "out/index.json").read_text())
    assert summary["missing"] == {"count": 2, "first": gone} and "2 of 7" in summary["warnings"][0]
    assert not len(catalogue_of(root, tmp_path / "quick", check_files=False).missing)


def test_mini_webvision(tmp_path: Path) -> None:
    """The first 50 classes, Google only, validation of the same classes."""
    labels = [0, 49, 50, 51, 7]
    root = put(tmp_path / "data", {
        "info/synsets.txt": "".join(f"n{i:08d} name {i}\n" for i in range(60)),
        "info/train_filelist_google.txt": "".join(f"google/q1/{i}.jpg {y}\n" for i, y in enumerate(labels)),
        "info/train_filelist_flickr.txt": "flickr/q0001/1.jpg 3\n",
        "info/val_filelist.txt": "val1.jpg 50\nval2.jpg 49\n",
        "info/test_filelist.txt": "test1.jpg\n",
    })  # fmt: skip
    c = catalogue_of(root, tmp_path / "out", format="mini_webvision", check_files=False)
    assert c.num_classes == 50 and [y for _, y in rows_of(c, "train")] == [0, 49, 7]
    assert rows_of(c, "val") == [("val_images_resized/val2.jpg", 49)]
    same = catalogue_of(root, tmp_path / "same", num_classes=50, sources=["google"], check_files=False)
    assert [rows_of(same, s) for s in same.splits] == [rows_of(c, s) for s in c.splits]


def test_webvision_truth_of_the_embedded_data_set(tmp_path: Path) -> None:
    from smelt.data.synthetic.config import SyntheticSettings
    from smelt.data.synthetic.generate import generate

    made = SyntheticSettings(classes=4, abstract_classes=1, train_images=60, val_images=8, test_images=8)
    generate(tmp_path / "data", made, workers=1)
    c = catalogue_of(tmp_path / "data", tmp_path / "out")
    truth = c.column("true_label")
    assert truth is not None and truth.dtype == np.int32 and len(c.missing) == 0
    assert [len(c.rows(split)) for split in c.splits] == [60, 8, 8]
    train, test = c.rows("train"), c.rows("test")
    noise = np.array(c.strings("noise", train))
    assert (truth[train][noise == ""] == c.labels_N[train][noise == ""]).all() and (noise == "").any()
    flipped = np.isin(noise, ("flip", "stray", "oov"))
    assert (truth[train][flipped] != c.labels_N[train][flipped]).all() and flipped.any()
    assert (truth >= -1).all() and (c.labels_N[test] == truth[test]).all()
    assert any(c.strings("title", train)) and all(c.strings("query", train))


# ---- what is refused


def test_webvision_refuses_what_cannot_be_right(tmp_path: Path) -> None:
    """All in one go, each with its file and line, blank lines counted."""
    root, _ = webvision(tmp_path / "data", 2)
    google = root / "info/train_filelist_google.txt"
    google.write_text(
        "google_images_resized/q00001/a.jpg 0\n\n"
        "google_images_resized/q00001/b.jpg 2\n"
        "google_images_resized/q00001/c.jpg -1\n"
        "google_images_resized/q00001/a.jpg 1\n"
        "val_images_resized/val000002.jpg 1\n"
        "google_images_resized/../../x/e.jpg 1\n"
        "/etc/passwd 0\n"
        "google_images_resized/q00001/nolabel.jpg\n"
        "google_images_resized/q00001/.. 1\n"
    )
    said = refused(root, tmp_path / "out")
    assert "has 8 problem(s)" in said
    for line, what in (
        (3, "label 2 is not one of 0..1"), (4, "label -1 is not"), (5, "listed twice"), (7, r"leads out"),
        (8, "absolute"), (9, "no label"), (10, "not the name of a file"),
    ):  # fmt: skip
        assert any(f"google.txt:{line}:" in x and what in x for x in said.splitlines()), (line, what, said)
    leak = next(x for x in said.splitlines() if "is in" in x)
    assert "val_filelist.txt:2:" in leak and "is in train and in val" in leak and "google.txt:6" in leak


def test_only_the_first_problems_are_shown(tmp_path: Path) -> None:
    root, _ = webvision(tmp_path / "data", 2)
    lines = "".join(f"google_images_resized/q00001/{i}.jpg {i + 2}\n" for i in range(500))
    (root / "info/train_filelist_google.txt").write_text(lines)
    said = refused(root, tmp_path / "out")
    assert "has 500 problem(s)" in said and "and 490 more" in said and len(said.splitlines()) == 12


def test_an_empty_class_is_a_warning(tmp_path: Path) -> None:
    root, _ = webvision(tmp_path / "data", 2)
    with open(root / "info/synsets.txt", "a") as file:
        file.write("n3 nobody\n")
    catalogue_of(root, tmp_path / "out")
    (warning,) = json.loads((tmp_path / "out/index.json").read_text())["warnings"]
    assert "1 classes have no training image: 2 (nobody)" in warning


def test_a_folder_that_is_no_webvision(tmp_path: Path) -> None:
    assert "synsets.txt" in refused(tmp_path, tmp_path / "out", format="webvision")
    assert "there is no folder" in refused(tmp_path / "nowhere", tmp_path / "out")
    root, _ = webvision(tmp_path / "data", 2)
    assert "lists.val" in refused(root, tmp_path / "out", lists={"val": "no.txt"})


def test_settings_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="`subset` says nothing to format webvision"):
        FormatSettings(format="webvision", subset=5)
    made = DataSettings(format="cifar_n", subset=5, root="/somewhere")
    assert "root" not in made.key_settings().model_dump() and made.key_settings().subset == 5
    assert DataSettings.model_validate(made.model_dump()) == made


# ---- file lists


PART = st.binary(min_size=1, max_size=90).filter(
    lambda b: not set(b) & set(b"\n\0/") and b not in (b".", b"..") and not b.startswith(b"\xef\xbb\xbf")
)
LISTED = st.lists(PART, min_size=1, max_size=3).map(b"/".join).filter(lambda b: b.rstrip() == b)


@given(
    st.lists(st.tuples(LISTED, st.integers(0, 999)), max_size=30),
    st.sampled_from([b"\n", b"\r\n", b" \n", b"\n\n"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.integers(1, 200),
)
@settings(max_examples=60, deadline=None)
def test_lists_of_any_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    clean: list[tuple[bytes, int]],
    end: bytes,
    mark: bytes,
    size: int,
) -> None:
    """What was written is read; blocks so small that lines are cut."""
    path = tmp_path_factory.mktemp("l") / "list.txt"
    path.write_bytes(mark + b"".join(p + b" %d" % y + end for p, y in clean))
    report = Report()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smelt.data.formats.lists.pathlists.BLOCK_BYTES", size)
        parts = list(read_list(Part(path), report, labelled=True, num_classes=1000))
        lines = [line_of(Part(path), i) for i in range(len(clean))]
    assert not report.problems
    found = [(part.paths[i], int(part.labels[i])) for part in parts for i in range(len(part))]
    assert found == clean
    assert lines == [1 + i * end.count(b"\n") for i in range(len(clean))]


@given(
    st.lists(st.sampled_from([b"a/1", b"a/2", b"b/1", b"1", b"a/12"])),
    st.lists(st.sampled_from([b"a/1", b"b/1", b"1", b"c/1"])),
)
def test_find_paths(wanted: list[bytes], known: list[bytes]) -> None:
    found = find_paths(Paths.of(wanted), Paths.of(known)).tolist()
    assert found == [known.index(path) if path in known else -1 for path in wanted]


def test_natural_order() -> None:
    assert sorted([b"c10", b"c2", b"c1", b"b", b"10", b"9"], key=natural) == [
        b"9",
        b"10",
        b"b",
        b"c1",
        b"c2",
        b"c10",
    ]


# ---- files


def broken(monkeypatch: pytest.MonkeyPatch, call: str, number: int, times: int) -> None:
    """Let `os.<call>` fail so many times."""
    original, left = getattr(os, call), [times]

    def failing(*args: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))
        return original(*args)

    monkeypatch.setattr(os, call, failing)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_a_name_of_a_megabyte_makes_a_short_message() -> None:
    report = Report()
    for number in range(10_000):
        report.problem(
            f"a.csv:{number}: {'x' * (1 << 20 if number < 12 else 1)!r} leads out of its folder (..)"
        )
    with pytest.raises(DataError, match=r"(?s)10000 problem.*a\.csv:0: 'xxx") as caught:
        report.refuse()
    text = str(caught.value)
    assert len(text) < 5000 and text.count("leads out of its folder (..)") == 10 and "9990 more" in text


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ESTALE])
def test_a_folder_that_cannot_be_listed_now_is_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "a.jpg").write_bytes(PIXEL)
    broken(monkeypatch, "listdir", number, 2)
    assert list_folder(tmp_path, b"") == {b"a.jpg"}
    broken(monkeypatch, "listdir", number, 99)
    with pytest.raises(StorageError, match=errno.errorcode[number]):
        list_folder(tmp_path, b"")
    broken(monkeypatch, "listdir", errno.ENOENT, 99)
    assert list_folder(tmp_path, b"") == set()


def test_a_file_that_cannot_be_looked_at_now_is_not_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.jpg").write_bytes(PIXEL)
    files = Files(tmp_path, [], Report())
    with monkeypatch.context() as patch:
        broken(patch, "stat", errno.EIO, 3)
        assert files.find(b"f/a.jpg") is not None
        broken(patch, "stat", errno.EIO, 99)
        for look in (files.find, files.has_folder):
            with pytest.raises(StorageError, match="EIO"):
                look(b"f")
    assert files.find(b"f/b.jpg") is None and files.find(b"f") is None
    assert files.has_folder(b"f") and not files.has_folder(b"f/a.jpg") and not files.has_folder(b"g")


def test_files_find_and_locate(tmp_path: Path) -> None:
    shard = tar(tmp_path / "s.tar", {"a/1.jpg": b"one", "a/2.jpg": b"two!"})
    put(tmp_path, {"a/3.jpg": b"three", "b/é 4.jpg": b""})
    files = Files(tmp_path, [shard], Report())
    fixed, missing = files.locate(
        Paths.of([b"a/2.jpg", b"b/\xc3\xa9 4.jpg", b"a/9.jpg", b"a/3.jpg", b"a/1.jpg"])
    )
    assert missing is not None and missing.tolist() == [False, False, True, False, False]
    assert fixed["size"].tolist() == [4, -1, -1, -1, 3] and fixed["shard"].tolist() == [
        0,
        65535,
        65535,
        65535,
        0,
    ]
    part = files.find(b"a/1.jpg")
    assert part is not None and part.read() == b"one" and str(part).endswith("s.tar:a/1.jpg")
    assert files.find(b"../x") is None and files.find(b"a/none") is None
    assert files.has_folder(b"a") and files.has_folder(b"b") and not files.has_folder(b"c")


# ---- image folders, tables


def test_imagefolder_with_splits(tmp_path: Path) -> None:
    root = put(tmp_path / "data", {
        f"{split}/{name}/{i}.{ext}": b"\xff\xd8\xff"
        for split, ext in (("train", "jpg"), ("Val", "PNG"), ("test", "jpeg"))
        for name in ("c2", "c10", "é 😀") for i in range(3)
    })  # fmt: skip
    put(
        root,
        {
            "train/c2/deep/er.webp": b"\xff\xd8\xff",
            "train/c2/notes.txt": b"x",
            "train/stray.jpg": b"\xff\xd8\xff",
        },
    )
    c = catalogue_of(root, tmp_path / "out", format="imagefolder")
    assert c.classes == ("c2", "c10", "é 😀")
    assert rows_of(c, "train")[:4] == [
        ("train/c10/0.jpg", 1),
        ("train/c10/1.jpg", 1),
        ("train/c10/2.jpg", 1),
        ("train/c2/0.jpg", 0),
    ]
    assert ("train/c2/deep/er.webp", 0) in rows_of(c, "train") and len(c.rows("train")) == 10
    assert len(c.rows("val")) == 9 and len(c.rows("test")) == 9
    files = json.loads((tmp_path / "out/index.json").read_text())["files"]
    assert files["left_out"] == [
        {"why": "an image in no class folder", "what": "files", "count": 1, "first": ["train/stray.jpg"]},
        {"why": "not an image (text)", "what": "files", "count": 1, "first": ["train/c2/notes.txt"]},
    ]


def test_imagefolder_holds_out(tmp_path: Path) -> None:
    root = put(tmp_path / "data", {f"{name}/{i}.jpg": b"\xff\xd8\xff" for name in "abc" for i in range(20)})
    fields = {"format": "imagefolder", "val_fraction": 0.2, "test_fraction": 0.1, "seed": 3}
    c = catalogue_of(root, tmp_path / "out", **fields)
    for split, count in (("train", 14), ("val", 4), ("test", 2)):
        assert np.bincount(c.labels_N[c.rows(split)]).tolist() == [count] * 3
    put(root, {"a/new.jpg": b"\xff\xd8\xff"})
    again = catalogue_of(root, tmp_path / "again", **fields)
    moved = set(rows_of(c, "val")) - set(rows_of(again, "val"))
    assert len(moved) <= 1, "a new image moves at most one other"
    other = catalogue_of(root, tmp_path / "other", **{**fields, "seed": 4})
    assert rows_of(other, "val") != rows_of(again, "val")


def test_imagefolder_refuses(tmp_path: Path) -> None:
    root = put(
        tmp_path / "data",
        {"train/a/1.jpg": b"\xff\xd8\xff", "train/c/1.jpg": b"\xff\xd8\xff", "val/b/1.jpg": b"\xff\xd8\xff"},
    )
    assert "class 'b' has 1 images of validation or test but none of training" in refused(
        root, tmp_path / "out", format="imagefolder"
    )
    assert "no images" in refused(
        put(tmp_path / "none", {"a/x.txt": b""}), tmp_path / "out", format="imagefolder"
    )


def numbered(root: Path, labels: list[str], **fields: Any) -> Catalogue:
    """The catalogue of a CSV with these labels, an image each."""
    lines = [f"{i:05d}.jpg,{label}\n" for i, label in enumerate(labels)]
    put(root, {"images.csv": "path,label\n" + "".join(lines)})
    return catalogue_of(root, root.parent / f"out {root.name}", format="csv", check_files=False, **fields)


def named(c: Catalogue) -> list[str]:
    """What class each image has, in the order of their paths."""
    found = {c.path(row): c.classes[c.labels_N[row]] for row in range(c.num_rows)}
    return [found[path] for path in sorted(found)]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["0", "1", "2", "1"], ["0", "1", "2"]),
        (["0", "2", "0", "2"], ["0", "1", "2"]),  # one of the numbers has no image
        (["57", "1104200", "9021", "57"], ["57", "9021", "1104200"]),
        (["1", "2", "3", "10"], ["1", "2", "3", "10"]),
        (["0", "1", "2000000000", "9" * 5000], ["0", "1", "2000000000", "9" * 5000]),
        (["007", "012", "003", "3000000000"], ["003", "007", "012", "3000000000"]),
        (["0", "1", "cat", "1"], ["0", "1", "cat"]),
    ],
)
@pytest.mark.parametrize("tars", [False, True])
def test_numbers_are_labels_or_names(
    tmp_path: Path, labels: list[str], classes: list[str], tars: bool
) -> None:
    if tars:
        members = {}
        for i, label in enumerate(labels):
            members |= {f"{i}.jpg": b"x", f"{i}.cls": label.encode()}
        tar(tmp_path / "a/train.tar", members)
        c = catalogue_of(tmp_path / "a", tmp_path / "o", format="webdataset")
    else:
        c = numbered(tmp_path / "a", labels)
    assert list(c.classes) == [cut_name(name) for name in classes]
    assert named(c) == [cut_name(name) for name in labels]


def test_numbers_that_are_no_labels_are_refused_with_their_lines(tmp_path: Path) -> None:
    put(tmp_path, {"images.csv": "path,label\na.jpg,1\nb.jpg,01\nc.jpg,-7\nd.jpg,0\ne.jpg,-1\n"})
    said = refused(tmp_path, tmp_path / "out", format="csv", check_files=False)
    assert "images.csv:3: label '01' is not one of the classes (it is the number of label '1'" in said
    assert (
        "images.csv:4: label '-7' is not one of the classes (labels are not below 0: -o data.label_is=name"
        in said
    )
    assert "2 problem(s)" in said  # -1 says that there is none


def test_a_nul_byte_in_a_folder_is_refused_like_any_mistake(tmp_path: Path) -> None:
    put(tmp_path, {"images.csv": b"path,label\na\0b/c.jpg,x\nd/e.jpg,y\n"})
    assert "has a NUL byte" in refused(tmp_path, tmp_path / "out", format="csv")


def test_names_of_a_list_that_are_numbers_are_names(tmp_path: Path) -> None:
    lists = {"all": "images.csv", "classes": "classes.txt"}
    put(tmp_path / "a", {"classes.txt": "3\n2\n1\n0\n"})
    c = numbered(tmp_path / "a", ["0", "1", "2", "3"], lists=lists)
    assert c.classes == ("3", "2", "1", "0") and named(c) == ["0", "1", "2", "3"]
    put(tmp_path / "a", {"classes.txt": "10\n20\ncat\n"})
    with pytest.raises(DataError, match=r"images\.csv:2: label '0' .*numbers are names, not places"):
        numbered(tmp_path / "a", ["0", "20", "cat"], lists=lists)
    put(tmp_path / "a", {"classes.txt": "x\ny\nz\n"})
    assert named(numbered(tmp_path / "a", ["2", "0", "y"], lists=lists)) == ["z", "x", "y"]
    for label in ("3", "-7", "9" * 5000):
        with pytest.raises(DataError, match=r"images\.csv:2: label"):
            numbered(tmp_path / "a", [label, "x"], lists=lists)
    put(tmp_path / "a", {"classes.txt": "x\ny\nx\n"})
    with pytest.raises(DataError, match=r"classes\.txt: class 'x' is there twice, as 0 and 2"):
        numbered(tmp_path / "a", ["x", "y"], lists=lists)


@pytest.mark.parametrize("count", [255, 256, 257, 65537])
def test_sources_have_room_or_are_refused_by_name(tmp_path: Path, count: int) -> None:
    lines = [f"{i}.jpg,{i % 2},site{i}.org\n" for i in range(count)]
    put(tmp_path, {"images.csv": "path,label,source\n" + "".join(lines)})
    fields = {"format": "csv", "check_files": False, "val_fraction": 0.0}
    if count > 65536:
        with pytest.raises(
            DataError, match=r"images\.csv:2: column 'source': there are 65537 different sources"
        ):
            catalogue_of(tmp_path, tmp_path / "o", **fields)
        return
    c = catalogue_of(tmp_path, tmp_path / "o", **fields)
    assert all(c.sources[c.source_codes_N[row]] == f"site{c.path(row)[:-4]}.org" for row in range(count))


@pytest.mark.parametrize("count", [65535, 65536, 65537])
def test_labels_have_room(tmp_path: Path, count: int) -> None:
    c = numbered(tmp_path / "a", [str(label) for label in range(count)], val_fraction=0.0)
    assert c.num_classes == count and c.classes[-1] == str(count - 1)
    assert np.array_equal(np.sort(c.labels_N), np.arange(count))
    last = int(np.argmax(c.labels_N))
    assert c.path(last) == f"{count - 1:05d}.jpg"


@pytest.mark.slow
@pytest.mark.parametrize("count", [65534, 65537])
def test_archives_have_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    one = np.ones(1, np.int64)
    empty = Members(Paths.of([]), one[:0], one[:0])
    last = {f"{count - 1}.tar": Members(Paths.of([b"a.jpg"]), one, one)}
    monkeypatch.setattr(files_module, "read_members", lambda path, report, shown: last.get(path.name, empty))
    files = Files(tmp_path, [tmp_path / f"{i}.tar" for i in range(count)], Report(), check=False)
    fixed, _ = files.locate(Paths.of([b"a.jpg", b"nowhere.jpg"]))
    with CatalogueWriter(tmp_path / "c") as writer:
        writer.shards = files.shards
        writer.add(Block("train", "s", Paths.of([b"a.jpg", b"nowhere.jpg"]), np.zeros(2, np.int32), fixed))
        writer.finish()
    c = Catalogue.open(tmp_path / "c")
    assert c.location(0).shard == f"{count - 1}.tar" and c.location(1).shard is None
    assert files.find(b"a.jpg") == Part(tmp_path / f"{count - 1}.tar", 1, 1, "a.jpg")


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.6, 0.99])
@given(st.lists(st.integers(-1, 5), max_size=40), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_a_hold_out_leaves_every_class_an_image(fraction: float, labels: list[int], seed: int) -> None:
    wanted = FormatSettings(format="imagefolder", val_fraction=fraction, test_fraction=fraction, seed=seed)
    given_ = np.zeros(len(labels), np.uint8)
    report = Report()
    found = hold_out(
        given_, np.array(labels, np.int32), np.arange(len(labels), dtype=np.uint64), wanted, report
    )
    for label in set(labels):
        splits = [int(split) for split, own in zip(found, labels) if own == label]
        assert 0 in splits, "no class loses its last image"
        assert label >= 0 or set(splits) == {0}, "an image without a label is no use there"
        assert label < 0 or len(splits) < 2 or 2 in splits


def test_a_hold_out_says_what_it_could_not_take() -> None:
    report = Report()
    wanted = FormatSettings(format="imagefolder", val_fraction=0.6)
    labels = np.array([0, 1, 1, 2], np.int32)
    found = hold_out(np.zeros(4, np.uint8), labels, np.arange(4, dtype=np.uint64), wanted, report)
    assert np.bincount(found).tolist() == [3, 1] and report.held_out == {"val": "train"}
    assert report.warnings == [
        "2 of 3 classes have one image in train, which stays there: nothing of them is held out for val"
    ]
    report = Report()
    hold_out(np.zeros(2, np.uint8), np.full(2, -1, np.int32), np.arange(2, dtype=np.uint64), wanted, report)
    assert report.warnings == ["no image of train has a label: nothing is held out for val"]
    report = Report()
    hold_out(found, labels, np.arange(4, dtype=np.uint64), wanted, report)
    assert not report.held_out and not report.warnings, "a split that is there is left as it is"


# ---- the neighbours


def test_clothing1m(tmp_path: Path) -> None:
    paths = [f"images/{i}/0{i}/n,{i}.jpg" for i in range(8)]
    root = put(tmp_path / "data", {
        "category_names_eng.txt": "".join(f"name {i}\n" for i in range(14)),
        "noisy_train_key_list.txt": "\n".join(paths[:4]),
        "clean_train_key_list.txt": "\n".join(paths[4:5]),
        "clean_val_key_list.txt": "\n".join(paths[5:6]) + "\n",
        "clean_test_key_list.txt": "\n".join(paths[6:]) + "\n",
        "noisy_label_kv.txt": "".join(f"{p} {i}\n" for i, p in reversed(list(enumerate(paths)))),
        "clean_label_kv.txt": "".join(f"{p} {13 - i}\n" for i, p in enumerate(paths) if i != 2),
        **dict.fromkeys(paths, b"x"),
    })  # fmt: skip
    c = catalogue_of(root, tmp_path / "out", format="clothing1m")
    assert rows_of(c, "train") == list(zip(paths[:4], range(4)))
    assert rows_of(c, "val") == [(paths[5], 8)] and rows_of(c, "test") == [(paths[6], 7), (paths[7], 6)]
    truth = c.column("true_label")
    assert truth is not None and truth.tolist() == [13, 12, -2, 10, 8, 7, 6] and c.num_classes == 14
    assert not len(c.missing)
    put(root, {"clean_label_kv.txt": ""})
    assert "clean_val_key_list.txt:1:" in refused(root, tmp_path / "bad", format="clothing1m")


@pytest.mark.parametrize("val_from", ["train", "test"])
def test_food101n(tmp_path: Path, val_from: str) -> None:
    keys = [f"{name}/{i}.jpg" for name in ("apple_pie", "waffles") for i in range(10)]
    tests = [f"{name}/{i}" for name in ("apple_pie", "waffles") for i in range(100, 104)]
    root = put(tmp_path / "data", {
        "Food-101N_release/meta/imagelist.tsv": "class_name/key\n" + "\n".join(keys) + "\n",
        "Food-101N_release/meta/verified_train.tsv": f"class_name/key\tlabel\n{keys[0]}\t1\n{keys[1]}\t0\n",
        "Food-101N_release/meta/verified_val.tsv": f"class_name/key\tverification_label\n{keys[12]}\t0\n",
        "food-101/meta/test.txt": "\n".join(tests) + "\n",
        **{f"Food-101N_release/images/{key}": b"x" for key in keys},
        **{f"food-101/images/{key}.jpg": b"x" for key in tests},
    })  # fmt: skip
    c = catalogue_of(root, tmp_path / "out", format="food101n", val_fraction=0.5, val_from=val_from)
    assert c.classes == ("apple_pie", "waffles") and not len(c.missing)
    sizes = [len(c.rows(split)) for split in c.splits]
    assert sizes == ([10, 10, 8] if val_from == "train" else [20, 4, 4])
    truth, by_path = c.column("true_label"), {c.path(row): row for row in range(c.num_rows)}
    rows = [by_path[f"Food-101N_release/images/{keys[i]}"] for i in (0, 1, 12, 13)]
    assert truth is not None and truth[rows].tolist() == [0, -2, -2, -2]
    assert c.strings("noise", rows) == ["", "wrong", "wrong", ""]
    assert truth[by_path["food-101/images/waffles/100.jpg"]] == 1


def test_animal10n(tmp_path: Path) -> None:
    files = {
        f"{split}/{y}_{i:04d}.jpg": b"x"
        for split in ("training", "testing")
        for y in range(10)
        for i in range(5)
    }
    c = catalogue_of(put(tmp_path / "data", files), tmp_path / "out", format="animal10n", val_fraction=0.2)
    assert [len(c.rows(split)) for split in c.splits] == [40, 10, 50] and c.classes[4] == "cheetah"
    assert all(int(path.split("/")[1].split("_")[0]) == y for s in c.splits for path, y in rows_of(c, s))
    put(tmp_path / "data", {"training/x.jpg": b"", "training/99_1.jpg": b""})
    assert "2 problem(s)" in refused(tmp_path / "data", tmp_path / "bad", format="animal10n")


# ---- the identity of what lies outside


def test_fingerprint(tmp_path: Path) -> None:
    """Content counts; time stamps and where the folder is do not; only what the format reads does."""
    root, _ = webvision(tmp_path / "data", 2)
    first = fingerprint(FormatSettings(), root)
    os.utime(root / "info/synsets.txt", (1, 1))
    moved = root.rename(tmp_path / "elsewhere")
    assert fingerprint(FormatSettings(), moved) == first
    put(moved, {"notes.md": b"nothing"})
    assert fingerprint(FormatSettings(), moved) == first
    text = (moved / "info/synsets.txt").read_text()
    put(moved, {"info/synsets.txt": text.replace("tench", "Tench")})
    changed = fingerprint(FormatSettings(), moved)
    assert changed != first
    tar(moved / "webvision_train_00.tar", {"a.jpg": b"x"})
    assert fingerprint(FormatSettings(), moved) != changed
    folder = put(tmp_path / "f", {"a/1.jpg": b"x", "b/2.jpg": b"y"})
    settings_ = FormatSettings(format="imagefolder")
    before = fingerprint(settings_, folder)
    (folder / "a/1.jpg").rename(folder / "a/3.jpg")
    renamed = fingerprint(settings_, folder)
    put(folder, {"a/3.jpg": b"longer"})
    assert len({before, renamed, fingerprint(settings_, folder)}) == 3
    with pytest.raises(DataError, match="there is no folder"):
        fingerprint(settings_, tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_what_a_list_names_counts_by_size(tmp_path: Path, suffix: str) -> None:
    root = put(tmp_path / "data", {"a/1, x.jpg": b"broken", "b.jpg": b"y"})
    title = "long" * 50_000
    if suffix == "parquet":
        table = pa.table({"path": ["a/1, x.jpg", "b.jpg", "c.jpg"], "label": ["p", "q", "p"]})
        pq.write_table(table, root / "images.parquet")
    else:
        tab = "," if suffix == "csv" else "\t"
        first = '"a/1, x.jpg"' if suffix == "csv" else "a/1, x.jpg"
        lines = [
            f"{title}{tab}{first}{tab}p",
            f"t{tab}b.jpg{tab}q",
            f"t{tab}c.jpg{tab}p",
            f"t{tab}../up.jpg{tab}p",
        ]
        put(root, {f"images.{suffix}": "\n".join([f"title{tab}path{tab}label", *lines]) + "\n"})
    by_size, blind = FormatSettings(format="csv"), FormatSettings(format="csv", check_files=False)
    first_seen, unseen = fingerprint(by_size, root), fingerprint(blind, root)
    put(tmp_path, {"up.jpg": b"outside"})
    put(root, {"other.jpg": b"not listed"})
    os.utime(root / "b.jpg", (1, 1))
    assert fingerprint(by_size, root) == first_seen
    put(root, {"a/1, x.jpg": b"mended, so longer"})
    mended = fingerprint(by_size, root)
    put(root, {"c.jpg": b"came later"})
    assert len({first_seen, mended, fingerprint(by_size, root)}) == 3
    assert fingerprint(blind, root) == unseen


def test_a_work_folder_among_the_images_is_no_data(tmp_path: Path) -> None:
    root = put(tmp_path / "data", {"a/1.jpg": b"\xff\xd8\xff", "b/1.jpg": b"\xff\xd8\xff"})
    wanted = FormatSettings(format="imagefolder")
    before = fingerprint(wanted, root)
    put(root, {"work/folder/events.jsonl": "", "work/folder/artifacts/index-0/x.jpg": b"\xff\xd8\xff"})
    assert fingerprint(wanted, root) == before
    assert catalogue_of(root, tmp_path / "o", format="imagefolder").classes == ("a", "b")
    told = json.loads((tmp_path / "o" / "index.json").read_text())
    assert not [text for text in told["warnings"] if "hold no image" in text]
    assert told["files"]["left_out"][0]["first"] == ["work/folder"]
    put(root, {"work/cat.jpg": b"\xff\xd8\xff"})
    assert catalogue_of(root, tmp_path / "o2", format="imagefolder").classes == ("a", "b", "work")


def test_a_passing_error_is_no_missing_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put(tmp_path / "data", {"images.csv": "path,label\na/1.jpg,0\nb/1.jpg,1\n", "a/1.jpg": b"x"})

    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(opening, "PAUSES", (0.0,))
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(StorageError, match="Input/output error"):
        Files(root, [], Report()).locate(Paths.of([b"a/1.jpg", b"b/1.jpg"]))
    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(StorageError, match="Input/output error"):
        identity_of(root, [], [], [b"a/1.jpg"])


def test_planning_imports_nothing_heavy() -> None:
    """Recipes are read without what reads images; that needs Arrow, in which catalogues are, and no more."""
    code = (
        "import sys\n"
        "from smelt.data.formats.config import DataSettings\n"
        "from smelt.data.formats.registry import formats, reader\n"
        "heavy = {'torch', 'torchvision', 'timm', 'PIL'}\n"
        "bad = (heavy | {'numpy', 'pyarrow'}) & set(sys.modules)\n"
        "assert not bad, bad\n"
        "import smelt.data.formats.tree.fingerprint\n"
        "for name in formats():\n"
        "    reader(name)\n"
        "bad = heavy & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
