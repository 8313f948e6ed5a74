"""Trees of folders that make no sense as classes: what is told, and whether what is proposed is meant."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from smelt.data.formats.config import FormatSettings
from smelt.data.formats.tree.names import alike, aside, part_of_a_class, split_beside_classes
from smelt.data.images import kinds
from smelt.report.terminal import files
from smelt.stages.index import index
from test_folders import HEIC, counts, left_out, read, refused, tree


def proposed(told: str, root: Path) -> tuple[Path, dict[str, str]]:
    """The first option that a refusal gives, as the root to read and the fields to read it with."""
    found = re.search(r"-o data\.(\w+)=(\S+?)[.;,]?(?=\s|$)", told)
    assert found, told
    return (Path(found[2]), {}) if found[1] == "root" else (root, {found[1]: found[2]})


def shown_on(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def after_pasting(root: Path, told: str) -> dict[str, int]:
    at, fields = proposed(told, root)
    catalogue, _ = read(at, **fields, val_fraction=0)
    return counts(catalogue, "train")


def test_a_link_for_training_is_named_before_validation_is_taken_for_it(tmp_path: Path) -> None:
    tree(tmp_path, "disk/cat/5", "disk/dog/5")
    root = tree(tmp_path / "d", "val/cat/2", "val/dog/2")
    (root / "train").symlink_to(tmp_path / "disk")
    told = refused(root)
    assert "1 link(s) lead out" in told and "not followed: train." in told and "data.root=" not in told
    assert after_pasting(root, told) == {"cat": 5, "dog": 5}
    # the same where two folders are left, which would be two classes, and where the link leads nowhere
    assert "followed: train." in refused(tree(root, "extra/2"))
    (root / "train").unlink()
    (root / "train").symlink_to(tmp_path / "unmounted")
    assert "lead to nothing: train." in refused(root)


@pytest.mark.parametrize(
    "paths",
    [
        ["val/cat/2", "val/dog/2"],
        ["x/test/cat/2", "x/test/dog/2"],
        ["val/cat/2", "val/dog/2", "test/cat/2", "test/dog/2"],
        ["box_train/a/2", "box_train/b/2", "box_test/a/2", "box_test/b/2"],
    ],
)
def test_what_judges_is_never_proposed_to_learn_from(tmp_path: Path, paths: list[str]) -> None:
    told = refused(tree(tmp_path / "d", *paths))
    assert "Where is the folder of training? Call it train" in told or "Call box_test, box_train" in told
    assert "data.root=" not in told and "=leaf" not in told


@pytest.mark.parametrize("other", ["masks", "labels", "depth_maps", "SegmentationClass"])
def test_masks_are_no_images(tmp_path: Path, other: str) -> None:
    root = tree(tmp_path / "d", "images/cat/3", "images/dog/3", f"{other}/cat/3", f"{other}/dog/3")
    told = refused(root)
    assert "=leaf" not in told and after_pasting(root, told) == {"cat": 3, "dog": 3}
    beside = refused(tree(tmp_path / "e", "cat/3", "dog/3", f"{other}/cat/3", f"{other}/dog/3"))
    assert f"{other}/ is called after what is no image" in beside and "Move it out" in beside
    assert "=leaf" not in beside
    paths = [f"train/{kind}/{name}/2" for kind in ("images", other) for name in ("cat", "dog")]
    within = tree(tmp_path / "f", *paths)
    told = refused(within)
    assert f"train/{other}/ is called after what is no image: move it out" in told
    shutil.rmtree(within / "train" / other)
    assert after_pasting(within, told) == {"cat": 2, "dog": 2}


def test_thumbnails_in_class_folders_are_no_classes_to_choose(tmp_path: Path) -> None:
    _, found = read(tree(tmp_path / "d", "cat/3", "cat/thumbs/3", "dog/3", "dog/_thumb/3"))
    (warning,) = found["warnings"]
    assert "6 of 12 images lie in cat/thumbs, dog/_thumb" in warning and "move them out" in warning
    assert "leaf" not in warning


def test_dates_and_parts_are_no_classes(tmp_path: Path) -> None:
    for first, second in (("2019", "2020"), ("batch_1", "batch_2"), ("2020-01", "2020-02")):
        root = tree(tmp_path / first, *(f"{a}/{b}/2" for a in ("cat", "dog") for b in (first, second)))
        told = refused(root)
        assert after_pasting(root, told) == {"cat": 4, "dog": 4} and "=leaf" in told
    _, found = read(tree(tmp_path / "d", "cat/2019/2", "cat/2020/2", "dog/2020/2"))
    assert not found["warnings"] and any("class folders hold folders" in note for note in found["notes"])
    for outer in (("user0", "user1"), ("40X", "100X"), ("part1", "part2"), ("2019", "2020")):
        root = tree(tmp_path / f"of-{outer[0]}", *(f"{a}/{b}/2" for a in outer for b in ("cat", "dog")))
        assert after_pasting(root, refused(root)) == {"cat": 4, "dog": 4}
    fruit = refused(tree(tmp_path / "f", "apple/fresh/2", "apple/rotten/2", "pear/fresh/2", "pear/rotten/2"))
    assert "=depth:1 has 2 classes (apple, pear)" in fruit and "=leaf has 2" in fruit
    assert "=path has 4 classes (apple/fresh" in fruit


@pytest.mark.parametrize("name", ["test", "Test_images", "predict", "unlabeled", "inference", "submission"])
def test_a_folder_of_no_class_beside_classes_is_a_test_without_labels(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path / "d", "cat/3", "dog/3", f"{name}/2")
    catalogue, found = read(root, val_fraction=0)
    assert catalogue.classes == ("cat", "dog") and counts(catalogue, "test") == {"": 2}
    assert any(f"{name}/ is test by its name" in note for note in found["notes"])
    catalogue, _ = read(root, val_fraction=0, class_from="depth:1")
    assert counts(catalogue, "train") == {"cat": 3, "dog": 3, name: 2}
    catalogue, _ = read(tree(tmp_path / "e", "train/cat/3", "train/dog/3", f"{name}/2"), val_fraction=0)
    assert counts(catalogue, "test") == {"": 2}


def test_splits_beside_classes_keep_their_labels(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/3", "dog/3", "test/cat/2", "test/dog/1", "predict/4", "fox/")
    catalogue, found = read(root, val_fraction=0)
    assert counts(catalogue, "test") == {"cat": 2, "dog": 1} and counts(catalogue, "train") == {
        "cat": 3,
        "dog": 3,
    }
    assert left_out(found)["an image outside the folders of the splits"] == 4
    assert any("1 class folder(s) hold no image" in w and ": fox" in w for w in found["warnings"])


def test_validation_without_labels_is_told(tmp_path: Path) -> None:
    for paths in (["train/cat/5", "train/dog/5"], ["cat/5", "dog/5"]):
        catalogue, found = read(tree(tmp_path / paths[0][:2], *paths, "val/4"))
        assert catalogue.num_rows == 10 and left_out(found) == {"an image in no class folder": 4}
        (warning,) = found["warnings"]
        assert "4 images of val/ lie in no class folder and are left out" in warning
        assert "val/CLASS/" in warning


def test_shards_without_their_texts_are_no_classes(tmp_path: Path) -> None:
    shards = [f"{k:05d}/{k:05d}{i:04d}.jpg" for k in range(3) for i in range(3)]
    told = refused(tree(tmp_path / "d", *shards))
    assert "numbered as a downloader's shards" in told and "-o data.class_from=depth:1" in told
    signs = [f"{k:05d}/{i:05d}_00001.jpg" for k in range(3) for i in range(3)]  # as GTSRB calls its classes
    assert read(tree(tmp_path / "e", *signs))[0].num_classes == 3


def test_empty_class_folders_come_first(tmp_path: Path) -> None:
    told = refused(tree(tmp_path / "d", "cat/3", "dog/", "fox/"))
    assert "2 class folder(s) hold no image: dog, fox" in told and "data.lists.all" not in told
    assert "it has cat/, dog/. All 2 folders in it are empty" in refused(tree(tmp_path / "n", "cat/", "dog/"))
    told = refused(tree(tmp_path / "e", "train/cat/2", "train/dog/2", "train/owl/", "val/cat/1", "val/owl/1"))
    assert "train/owl/ holds no image, and val has such images" in told


def test_the_folder_of_the_class_folders_beside_others(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "Images/cat/3", "Images/dog/3", "samples/1")
    assert after_pasting(root, refused(root)) == {"cat": 3, "dog": 3}
    found = read(tree(tmp_path / "f", "cat/3", "dog/3", "samples/3"))[1]
    assert any("samples is taken as a class, though" in warning for warning in found["warnings"])
    _, found = read(tree(tmp_path / "e", "birds/owl/3", "birds/tit/3", "cat/3"))
    assert any("data.root=" in w and "=leaf" in w for w in found["warnings"])


def test_names_of_folders() -> None:
    assert all(map(aside, ["masks", "depth_maps", "GT", "mask-images"])) and not aside("images")
    assert not aside("mask_weared") and aside("samples", few=True) and not aside("samples")
    assert all(map(part_of_a_class, ["2019", "01", "batch3", "2020_jan"])) and not part_of_a_class("cat1")
    assert split_beside_classes("dev") == "" and split_beside_classes("val") == "val"


# ---- files that are none, and names of copies


def test_half_downloads_and_kept_copies_are_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/3", "dog/3", "cat/0.jpg~", "cat/1.jpg.part", "dog/a.jpg.crdownload",
                "dog/b.jpg.tmp", "dog/c.PNG.BAK", "dog/upload.tmp")  # fmt: skip
    catalogue, found = read(root, val_fraction=0)
    assert counts(catalogue, "train") == {"cat": 3, "dog": 4}  # upload.tmp has no other name, and is read
    assert left_out(found) == {"half a download, or kept of another file by a program": 5}


def test_copies_of_class_folders_are_named() -> None:
    copies = ["cat", "cat (copy)", "cat - Copy", "cat_backup", "cat (1)", "Cat - Copy (2)", "cat.old"]
    assert alike([*copies, "dog"]) == [copies]
    assert alike(["room (1)", "room (2)", "hardcopy", "hard", "old", "cat 2", "cat"]) == []


def test_index_counts_and_contents_agree(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/3", "dog/3")
    tree(root, "owl/2", "cat/00.jpg", data=b"<!doctype html><html>")
    _, found = read(root)
    assert found["files"]["no_images"] == 3 and found["files"]["images"] == 9
    assert any("1 of 7 files that were opened" in warning for warning in found["warnings"])
    console = Console(file=io.StringIO(), width=200)
    files(console, found["files"])
    assert "9 are images of the data set by their names (3 of those opened are none" in shown_on(console)
    files(console, read(tree(tmp_path / "e", "cat/3", "dog/3"))[1]["files"])
    assert "6 are images of the data set; none was left out" in shown_on(console)


def test_heic_that_is_not_read_here_is_told_at_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tree(tmp_path / "d", "cat/3", "dog/3"), "cat/a.heic", "dog/b.HEIF", data=HEIC)
    told: list[str] = []
    for reader in ("pi_heif", None):
        monkeypatch.setattr(kinds, "heif_reader", lambda reader=reader: reader)
        index(FormatSettings(), root, tmp_path / f"out{reader}", lambda event, text: told.append(text))
    assert len(told) == 1 and "2 images are HEIC" in told[0] and "pip install 'smelt[heic]'" in told[0]
    one, other = ((tmp_path / f"out{reader}/index.json").read_bytes() for reader in ("pi_heif", None))
    assert one == other  # what is installed changes no byte


def test_training_that_is_known_is_looked_into(tmp_path: Path) -> None:
    names = [f"{a}.{i}.jpg" for a in ("cat", "dog") for i in range(4)]
    root = tree(tmp_path / "d", *(f"train/{name}" for name in names), "test1/3")
    assert after_pasting(root, refused(root)) == {"cat": 4, "dog": 4}
    root = tree(
        tmp_path / "e", "seg_train/seg_train/cat/3", "seg_train/seg_train/dog/3", "seg_test/seg_test/4"
    )
    assert after_pasting(root, refused(root)) == {"cat": 3, "dog": 3}
    assert "move it out" not in refused(root) and not aside("seg_train")


def test_a_class_of_links_is_told_with_what_follows_them(tmp_path: Path) -> None:
    tree(tmp_path, "disk/2")
    root = tree(tmp_path / "d", "cat/3", "dog/3", "fox/")
    (root / "fox/0.jpg").symlink_to(tmp_path / "disk/0.jpg")
    (root / "cat/9.jpg").symlink_to(tmp_path / "gone.jpg")
    (warning,) = read(root)[1]["warnings"]
    assert ": fox. 1 link(s) lead out" in warning and "-o data.links=anywhere" in warning
